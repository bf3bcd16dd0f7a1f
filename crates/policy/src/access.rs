//! Who may pass: what a rule asks for, and the words of a refusal.

use std::fmt;

use crate::path::PathFault;

/// What a rule, or an app for the paths that no rule names, asks of a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Anybody passes.
    Public,
    /// Whoever has a session, and one of the rule's roles where it names any.
    Session,
    /// Nobody passes.
    Deny,
}

impl Access {
    /// The word for it in proxy.toml.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Session => "session",
            Self::Deny => "deny",
        }
    }
}

/// Why a request does not pass. A refusal is an outcome, not a failure: each has one stable word,
/// the same in the answer, the log, the metric and `explain`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The path has no canonical form: two servers could read it differently. 400.
    BadPath(PathFault),
    /// The request target is no path (`*`, or no `/` in front), or its query cannot travel. 400.
    BadTarget,
    /// Not a method token, or one with a lower-case letter. 400.
    BadMethod,
    /// TRACE, or CONNECT without a WebSocket. 405.
    MethodNotAllowed,
    /// No host, one that is no host name, or two that disagree. 400.
    BadHost,
    /// A header that may stand once only came twice; its name in lower case. 400.
    RepeatedHeader(&'static str),
    /// The target is longer than [`crate::TARGET_LIMIT`] bytes. 414.
    TargetTooLong,
    /// No app has this host. 404.
    UnknownHost,
    /// A session is needed and there is none. 401, or to the login.
    NoSession,
    /// There is a session, but it lacks the role. 403.
    RoleMissing,
    /// The path is closed to everybody. 403.
    Denied,
    /// A write or a WebSocket from a foreign site, on the strength of a cookie alone. 403.
    CrossSite,
}

impl Refusal {
    /// The stable word for it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadPath(_) => "bad_path",
            Self::BadTarget => "bad_target",
            Self::BadMethod => "bad_method",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BadHost => "bad_host",
            Self::RepeatedHeader(_) => "repeated_header",
            Self::TargetTooLong => "target_too_long",
            Self::UnknownHost => "unknown_host",
            Self::NoSession => "no_session",
            Self::RoleMissing => "role_missing",
            Self::Denied => "denied",
            Self::CrossSite => "cross_site",
        }
    }
}

/// For people: what was wrong, without a byte of the request in it.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadPath(fault) => fault.fmt(f),
            Self::BadTarget => f.write_str("the request target is not a path"),
            Self::BadMethod => f.write_str("the method is not a token in upper case"),
            Self::MethodNotAllowed => f.write_str("this method is not served"),
            Self::BadHost => f.write_str("the host is missing, malformed or contradicts itself"),
            Self::RepeatedHeader(name) => write!(f, "the header {name} came more than once"),
            Self::TargetTooLong => f.write_str("the request target is too long"),
            Self::UnknownHost => f.write_str("no app has this host"),
            Self::NoSession => f.write_str("a session is needed"),
            Self::RoleMissing => f.write_str("the session lacks the role"),
            Self::Denied => f.write_str("nobody may open this path"),
            Self::CrossSite => f.write_str("the request comes from another site"),
        }
    }
}

/// Leave to pass, and as whom. Only a [`crate::Route`] gives one, so that nothing is forwarded
/// which no rule has looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    app: usize,
    rule: Option<usize>,
    as_session: bool,
}

impl Pass {
    pub(crate) fn stranger(app: usize, rule: Option<usize>) -> Self {
        Self { app, rule, as_session: false }
    }

    pub(crate) fn with_session(app: usize, rule: Option<usize>) -> Self {
        Self { app, rule, as_session: true }
    }

    /// Index of the app among those of the specification.
    pub fn app(&self) -> usize {
        self.app
    }

    /// The rule that decided, as in [`crate::Route::rule`].
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }

    /// Whether the visitor's session speaks for the request. If not, the app must see neither a
    /// bearer token nor a session cookie: there is none, or a foreign site sent the request.
    pub fn as_session(&self) -> bool {
        self.as_session
    }
}
