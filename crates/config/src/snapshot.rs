//! What requests use: compiled, checked, immutable. Only this crate makes a [`Snapshot`], so
//! whoever holds one has nothing left to validate.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foregate_policy::Rules;
use foregate_refresh::{Backend, LedgerAddress};
use foregate_session::{ClaimPath, Keyring, Session};
use http::HeaderName;
use ipnet::IpNet;
use url::Url;

use crate::tls::Tls;
use crate::upstream::Upstream;

/// One generation of the whole configuration. A request loads it once and keeps it to its end.
pub struct Snapshot {
    pub server: Server,
    /// `Some` exactly where [`Server::https`] is.
    pub tls: Option<Tls>,
    pub limits: Limits,
    /// Opens and seals session cookies; knows the cookie's name, domain and life.
    pub keyring: Keyring,
    /// Decides. Its app numbers are indices into `apps`.
    pub rules: Rules,
    pub apps: Vec<App>,
    /// The names of every app's identity headers, [`folded`].
    pub identity_headers: HashSet<String>,
    /// In the order of the file; see [`Snapshot::backend_for`]. Empty: nothing is ever refreshed.
    pub backends: Vec<BackendChoice>,
    pub refresh: Refresh,
    /// `None`: whoever lacks a session gets a 401 page.
    pub login: Option<Login>,
    /// Where a visitor without the role is sent; `None`: a 403 page. Absolute, http or https.
    pub forbidden_url: Option<Url>,
    /// How long a re-sealed session lives, and how long spent tokens are remembered.
    pub session_max_age: Duration,
}

impl Snapshot {
    /// Who refreshes this session: the first backend whose `when` agrees with its claims. `None`
    /// when none does: an ended access token then ends the session.
    pub fn backend_for(&self, session: &Session) -> Option<&Arc<Backend>> {
        let choice = self.backends.iter().find(|choice| choice.agrees(session))?;
        Some(&choice.backend)
    }
}

/// A header's name as the laxest server reads it, for which whatever is no letter and no digit is the same
/// (CGI variables of some servers, PHP). `name` is in lower case.
pub fn folded(name: &str) -> Cow<'_, str> {
    let is_odd = |letter: char| !letter.is_ascii_alphanumeric() && letter != '-';
    if name.contains(is_odd) { Cow::Owned(name.replace(is_odd, "-")) } else { Cow::Borrowed(name) }
}

/// The process around the requests.
#[derive(Debug, Clone)]
pub struct Server {
    /// The plain listener; `None`: switched off with an empty string, and `https` is there.
    pub http: Option<Listen>,
    pub https: Option<SocketAddr>,
    /// Health, metrics, status; `None`: switched off with an empty string.
    pub admin: Option<Listen>,
    /// `admin` was asked for, so it must be had; else it is the default.
    pub admin_is_set: bool,
    /// At least 1; the CPUs of this machine where the file says 0.
    pub workers: usize,
    pub trusted_proxies: TrustedProxies,
    /// A second process may listen on the same ports.
    pub reuse_port: bool,
    /// `/.foregate/auth` answers `trusted_proxies`; else there is nothing.
    pub decision_endpoint: bool,
    /// After SIGTERM: how long readiness fails before the listeners close.
    pub drain_delay: Duration,
    /// Then: how long requests in flight may take.
    pub shutdown_grace: Duration,
}

/// Where a listener stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// Short enough for a socket's address.
    Unix(PathBuf),
}

/// As in the file.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The peers whose `X-Forwarded-*` are believed. Nobody, unless the file names them.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    pub(crate) networks: Vec<IpNet>,
    pub(crate) unix: bool,
}

impl TrustedProxies {
    /// An IPv4 peer on an IPv6 socket (`::ffff:192.0.2.1`) counts as the IPv4 address it is.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Who is believed and was not `before`, as the file would name it.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let is_known = |new: &&IpNet| before.networks.iter().any(|known| known.contains(*new));
        let networks = self.networks.iter().filter(|new| !is_known(new)).map(IpNet::to_string);
        let unix = (self.unix && !before.unix).then(|| "unix".to_owned());
        networks.chain(unix).collect()
    }

    /// Whether a peer on a unix socket is believed.
    pub fn contains_unix(&self) -> bool {
        self.unix
    }
}

/// What one visitor may cost. All of them are positive.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of one request head: the request line and all header lines.
    pub header_bytes: usize,
    /// Header lines in one request.
    pub headers: usize,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Keep-alive, and a body or a stream that stands still.
    pub idle_timeout: Duration,
    pub upstream_connect_timeout: Duration,
    /// From the last byte sent to the app to the head of its answer.
    pub upstream_header_timeout: Duration,
    /// Open at once in the whole process; `None`: what the file limit allows.
    pub connections: Option<usize>,
}

/// One `[[app]]`, as far as forwarding needs it; its rules are in [`Snapshot::rules`].
#[derive(Debug, Clone)]
pub struct App {
    /// As rules match it: lower case, ASCII; `*.` in front stands for one label.
    pub host: String,
    /// At least one.
    pub upstreams: Vec<Arc<Upstream>>,
    /// A stranger's own `Authorization` passes on public paths.
    pub pass_authorization: bool,
    /// What the app sees of the session cookie.
    pub cookie: CookieMode,
    /// Headers made from claims. No hop-by-hop header, none that frames a message, and none that
    /// the proxy sets by itself.
    pub identity: Vec<(HeaderName, ClaimPath)>,
    /// Its `[[app.rule]]`s, or the items of its `matcher`, by the numbers that the rules know.
    pub rules: Vec<RuleText>,
    /// Some rule names a method, so method overrides in headers must not reach the app.
    pub names_a_method: bool,
}

/// A rule as the file has it, for people.
#[derive(Debug, Clone)]
pub struct RuleText {
    /// Its patterns, joined by a comma.
    pub path: String,
    /// Where it begins, from 1; `None` where a variable set it.
    pub line: Option<u32>,
}

/// `the rule on line 31 (/admin/:path*)`, since nobody counts rules, least of all from 0.
impl fmt::Display for RuleText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match self.line {
            Some(line) => write!(f, "the rule on line {line} ({path})"),
            None => write!(f, "the rule for {path}"),
        }
    }
}

/// What the app sees of the session cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieMode {
    /// One session, refreshed.
    Refreshed,
    /// Nothing.
    Strip,
}

/// One `[[backend]]` and the sessions that are its own.
pub struct BackendChoice {
    /// Claims and the text they must have, all of them; none: any session.
    pub(crate) when: Vec<(ClaimPath, String)>,
    pub backend: Arc<Backend>,
}

impl BackendChoice {
    /// A number or a boolean agrees with its JSON text, so `when` needs strings alone.
    fn agrees(&self, session: &Session) -> bool {
        self.when.iter().all(|(path, wanted)| {
            session.claim(path).is_some_and(|claim| match claim.as_str() {
                Some(text) => text == wanted.as_str(),
                None => !claim.is_null() && claim.text() == wanted,
            })
        })
    }
}

/// `[refresh]`.
#[derive(Debug, Clone)]
pub struct Refresh {
    /// Refresh once less than this is left of an access token.
    pub ahead: Duration,
    pub ledger: LedgerAddress,
    pub ledger_entries: usize,
    /// A 401 from the app brings one refresh and one replay.
    pub on_upstream_401: bool,
}

/// `[login]`.
#[derive(Debug, Clone)]
pub struct Login {
    /// Absolute, http or https, no fragment.
    pub url: Url,
    /// The query parameter that brings the visitor back.
    pub callback_param: String,
}
