//! `[[app]]`, key for key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::one_or_many::OneOrMany;
use crate::scalar::{text_or_table, words};

/// A host, the app behind it, and who may open what.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields, extend("required" = ["host", "upstream"]))]
pub(crate) struct App {
    /// The host that visitors ask for: one name, or `*.` and a name for exactly one label in front.
    #[schemars(example = "app.example.com", example = "*.example.com")]
    pub(crate) host: Option<String>,
    /// Where the app listens, once or several times: `http://host:port`, `https://host:port`,
    /// `h2c://host:port` or `unix:/path`.
    #[schemars(example = "http://127.0.0.1:3000", example = json!(["http://10.0.0.7:3000", "http://10.0.0.8:3000"]))]
    pub(crate) upstream: Option<OneOrMany<String>>,
    /// A PEM file: the authorities that an https upstream is checked against, in place of the
    /// system's.
    #[schemars(example = "/etc/tls/internal-ca.pem")]
    pub(crate) upstream_ca: Option<String>,
    /// What a path needs that no rule names: `public` nothing, `session` a session; `deny` refuses
    /// everybody. Not together with `matcher`.
    pub(crate) access: Access,
    /// `/Admin` is another page than `/admin`, for every server behind the gate.
    pub(crate) case_sensitive: bool,
    /// On public paths a visitor's own Authorization reaches the app, if there is no session.
    pub(crate) pass_authorization: bool,
    /// Next.js' `basePath`. Patterns are written without it.
    #[schemars(example = "/docs")]
    pub(crate) base_path: String,
    /// Next.js' `i18n.locales`. Patterns are written without them.
    #[schemars(example = json!(["en", "de"]))]
    pub(crate) locales: Vec<String>,
    /// Next.js' `i18n.defaultLocale`.
    #[schemars(example = &"en")]
    pub(crate) default_locale: String,
    /// What the app sees of the session cookie: the `refreshed` one, or nothing.
    pub(crate) cookie: CookieMode,
    /// Identity headers for the app, and the claim that each is made from. A visitor's own headers of
    /// these names are taken out.
    #[schemars(example = json!({ "X-User-Id": "session.sub" }))]
    pub(crate) headers: BTreeMap<String, String>,
    /// Who may open what: the first rule that names path and method decides.
    pub(crate) rule: Vec<Rule>,
    /// `config.matcher` of a Next.js middleware: these paths need a session, all others are public.
    /// Not together with `rule`.
    #[schemars(example = json!(["/dashboard/:path*", "/admin/:path*"]))]
    pub(crate) matcher: Option<OneOrMany<Matcher>>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            host: None,
            upstream: None,
            upstream_ca: None,
            access: Access::Session,
            case_sensitive: false,
            pass_authorization: false,
            base_path: String::new(),
            locales: Vec::new(),
            default_locale: String::new(),
            cookie: CookieMode::Refreshed,
            headers: BTreeMap::new(),
            rule: Vec::new(),
            matcher: None,
        }
    }
}

words! {
    /// Who may open a path.
    Access { Public = "public", Session = "session", Deny = "deny" }
}

words! {
    /// What an app sees of the session cookie.
    CookieMode { Refreshed = "refreshed", Strip = "strip" }
}

/// Who may open which paths.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields, extend("required" = ["path"]))]
pub(crate) struct Rule {
    /// path-to-regexp patterns, as Next.js reads them.
    #[schemars(example = "/admin/:path*", example = json!(["/", "/about"]))]
    pub(crate) path: Option<OneOrMany<String>>,
    /// Methods in upper case; `GET` names HEAD as well. Absent: any.
    #[schemars(example = json!(["GET", "POST"]))]
    pub(crate) method: Option<OneOrMany<String>>,
    /// As `access` of the app. Absent: a session.
    pub(crate) access: Option<Access>,
    /// Any one of them. They imply a session.
    #[schemars(example = json!(["admin"]))]
    pub(crate) roles: Option<OneOrMany<String>>,
}

/// An entry of Next.js' `config.matcher`: a pattern, or a table.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Matcher {
    Source(String),
    Full(MatcherTable),
}

/// An entry with conditions.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields, extend("required" = ["source"]))]
pub(crate) struct MatcherTable {
    /// The pattern.
    #[schemars(example = "/preview/:path*")]
    pub(crate) source: Option<String>,
    /// What a request must have. Only conditions on `host` ever lift the guard.
    #[schemars(example = json!([{ "type": "host", "value": "staff\\..*" }]))]
    pub(crate) has: Vec<Condition>,
    /// What it must not have.
    #[schemars(example = json!([{ "type": "host", "value": "staff\\..*" }]))]
    pub(crate) missing: Vec<Condition>,
    /// `false`: the pattern carries its locale itself.
    #[schemars(example = false)]
    pub(crate) locale: Option<bool>,
}

/// What a request must have, or lack.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields, extend("required" = ["type"]))]
pub(crate) struct Condition {
    /// Which part of a request it looks at.
    #[serde(rename = "type")]
    pub(crate) kind: Option<ConditionKind>,
    /// The name of the header, the cookie or the query parameter.
    #[schemars(example = "x-preview")]
    pub(crate) key: Option<String>,
    /// An expression that the value must match as a whole. Absent: any value.
    #[schemars(example = "staff\\..*")]
    pub(crate) value: Option<String>,
}

words! {
    /// Which part of a request a condition looks at.
    ConditionKind { Header = "header", Cookie = "cookie", Query = "query", Host = "host" }
}

text_or_table!(
    Matcher,
    "a path or a table with source, has and missing",
    |text: &str| Matcher::Source(text.to_owned()),
    Matcher::Full
);
