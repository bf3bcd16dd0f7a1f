//! What the rules are made from, and what is said about it.

use std::fmt;

use foregate_session::ClaimPath;

use crate::access::Access;

/// Everything that [`crate::Rules`] are compiled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySpec {
    /// The apps, in the order of the file.
    pub apps: Vec<AppSpec>,
    /// Claims that name roles.
    pub role_claims: Vec<ClaimPath>,
    /// A role, and the claim that grants it by being `true`.
    pub role_flags: Vec<(String, ClaimPath)>,
    /// Whether writes and WebSockets must come from our own site.
    pub csrf: bool,
    /// Origins (`https://host[:port]`) that count as our own site.
    pub allowed_origins: Vec<String>,
}

/// One app: a host and who may open what under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// `app.example.com`, or `*.example.com` for one label in front.
    pub host: String,
    /// For paths that no rule names. With a `matcher` it is not looked at: what no entry matches
    /// is public.
    pub access: Access,
    /// First match wins. Not together with `matcher`.
    pub rules: Vec<RuleSpec>,
    /// Next.js' `config.matcher`: what an entry matches needs a session.
    pub matcher: Option<Vec<MatcherSpec>>,
    /// Whether paths that differ in letter case alone are different pages.
    pub case_sensitive: bool,
    /// Next.js' `basePath`, or empty.
    pub base_path: String,
    /// Next.js' `i18n.locales`.
    pub locales: Vec<String>,
    /// Next.js' `i18n.defaultLocale`; one of `locales` where there are any.
    pub default_locale: Option<String>,
}

/// One `[[app.rule]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleSpec {
    /// Path patterns, any of which makes the rule speak.
    pub paths: Vec<String>,
    /// Methods in upper case; none means any. GET names HEAD as well.
    pub methods: Vec<String>,
    /// None: a session.
    pub access: Option<Access>,
    /// Any one of these is enough; none means that a session alone will do.
    pub roles: Vec<String>,
}

/// One entry of `config.matcher`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatcherSpec {
    /// The path pattern.
    pub source: String,
    /// Conditions that all hold.
    pub has: Vec<ConditionSpec>,
    /// Conditions none of which holds.
    pub missing: Vec<ConditionSpec>,
    /// Only `false` may be written: the pattern then names the locale itself.
    pub locale: Option<bool>,
}

/// One `has` or `missing` condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConditionSpec {
    /// `header`, `cookie`, `query` or `host`.
    pub kind: String,
    /// Name of the header, cookie or query key; none for `host`.
    pub key: Option<String>,
    /// A regular expression for the value.
    pub value: Option<String>,
}

/// Something wrong (an error) or risky (a warning) in a specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What, in one sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A place in a specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Index into [`PolicySpec::apps`]; none for what stands outside the apps.
    pub app: Option<usize>,
    /// Index into [`AppSpec::rules`].
    pub rule: Option<usize>,
    /// The key as proxy.toml calls it: `host`, `base_path`, `locales`, `default_locale`,
    /// `matcher`, `rule`, `path`, `method`, `access`, `roles`; outside of the apps
    /// `allowed_origins`.
    pub key: &'static str,
    /// Index into the key's list, where it is one.
    pub item: Option<usize>,
}
