//! The file, key for key, with the defaults. Text is still text here: `compile` turns it into
//! types. Nothing of this leaves the crate but its JSON Schema, which the comments describe.
//!
//! Keys whose feature does not exist yet are in `later`, not here.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use foregate_session::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::one_or_many::OneOrMany;
use crate::scalar::{Count, Size, Span, words};

/// Foregate's configuration.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(rename = "proxy.toml", deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) server: Server,
    pub(crate) limits: Limits,
    pub(crate) tls: Tls,
    pub(crate) session: Session,
    pub(crate) tokens: Tokens,
    /// One `[backend]`; or several `[[backend]]`, each with a `name` and a `when`: the first
    /// whose claims agree refreshes the session, one without `when` is the default.
    pub(crate) backend: OneOrMany<Backend>,
    pub(crate) refresh: Refresh,
    pub(crate) login: Login,
    pub(crate) csrf: Csrf,
    pub(crate) roles: Roles,
    /// The apps behind the gate, one `[[app]]` per host.
    pub(crate) app: Vec<App>,
}

/// The process: listeners, threads, shutdown.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Server {
    /// The plain listener, as address and port or as "unix:/path". Empty: off, where https is set.
    pub(crate) http: String,
    /// The listener for https, as address and port; it needs [tls]. Empty: off.
    pub(crate) https: String,
    /// Health, readiness, metrics and status page: an address that visitors cannot reach, or
    /// "unix:/path". Empty: off.
    pub(crate) admin: String,
    /// Threads that serve requests. 0: one per CPU.
    pub(crate) workers: Count,
    /// CIDRs, or "unix", whose `X-Forwarded-*` are believed. Nobody by default, not even loopback.
    pub(crate) trusted_proxies: Vec<String>,
    /// A second process may share the ports, to take over; else a second start fails clearly.
    pub(crate) reuse_port: bool,
    /// After SIGTERM: how long readiness fails before the listeners close.
    pub(crate) drain_delay: Span,
    /// Then: how long requests in flight may take.
    pub(crate) shutdown_grace: Span,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            http: "0.0.0.0:8080".to_owned(),
            https: String::new(),
            admin: "127.0.0.1:9901".to_owned(),
            workers: Count(0),
            trusted_proxies: Vec::new(),
            reuse_port: false,
            drain_delay: seconds(0),
            shutdown_grace: seconds(30),
        }
    }
}

/// What one visitor may cost.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Of a request's head. At least 8KiB.
    pub(crate) header_bytes: Size,
    /// Header lines in a request.
    pub(crate) headers: Count,
    /// From the first byte of a request to the end of its head.
    pub(crate) header_timeout: Span,
    /// Keep-alive, and a body or a stream that stands still.
    pub(crate) idle_timeout: Span,
    pub(crate) upstream_connect_timeout: Span,
    /// How long an app may take to begin its answer.
    pub(crate) upstream_header_timeout: Span,
    /// Open at once. 0: what the file limit allows.
    pub(crate) connections: Count,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: Size(64 << 10),
            headers: Count(128),
            header_timeout: seconds(15),
            idle_timeout: seconds(75),
            upstream_connect_timeout: seconds(5),
            upstream_header_timeout: seconds(60),
            connections: Count(0),
        }
    }
}

/// The https listener's certificates.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Tls {
    /// Chosen by the name that a visitor asks for; the first serves whoever names none.
    pub(crate) certificates: Vec<CertificateFiles>,
}

/// Two PEM files.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct CertificateFiles {
    /// The certificate, and behind it those that lead to its authority.
    pub(crate) cert: Option<String>,
    /// Its private key.
    pub(crate) key: Option<String>,
}

/// The session cookie.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Session {
    /// "auto" re-seals what it opened in the form it came.
    pub(crate) format: Format,
    /// The first seals, every one opens.
    pub(crate) secrets: Vec<SecretSource>,
    /// Take secrets of fewer than 16 bytes, and such as everybody knows.
    pub(crate) allow_weak_secret: bool,
    /// The cookie's name. Empty: the libraries' names, plain and `__Secure-`.
    pub(crate) cookie: String,
    /// Domain of re-issued cookies, such as ".example.com". Empty: each host keeps its own.
    pub(crate) domain: String,
    pub(crate) secure: bool,
    pub(crate) same_site: SameSite,
    /// How long a re-issued session lives.
    pub(crate) max_age: Span,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            secrets: Vec::new(),
            allow_weak_secret: false,
            cookie: String::new(),
            domain: String::new(),
            secure: true,
            same_site: SameSite::Lax,
            max_age: seconds(30 * 86_400),
        }
    }
}

words! {
    /// The library whose cookies these are.
    Format { Auto = "auto", NextAuthV4 = "next-auth-v4", AuthjsV5 = "authjs-v5" }
}

words! {
    /// As in a Set-Cookie.
    SameSite { Lax = "lax", Strict = "strict", None = "none" }
}

/// Where the session payload keeps its tokens, as dotted paths; the defaults know the usual names.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Tokens {
    pub(crate) access_token: Option<String>,
    /// Seconds or milliseconds since the epoch, told apart by size; else the JWT's own exp.
    pub(crate) expires_at: Option<String>,
    pub(crate) refresh_token: Option<String>,
    pub(crate) refresh_expires_at: Option<String>,
}

/// Who trades a refresh token for a new pair.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Backend {
    /// For logs and metrics; required where there are several.
    pub(crate) name: Option<String>,
    /// Claims and the text they must have, for this backend to be the session's own.
    pub(crate) when: BTreeMap<String, String>,
    /// Fills the defaults of [backend.refresh].
    pub(crate) dialect: Dialect,
    pub(crate) refresh_url: Option<String>,
    /// oauth2: endpoints by discovery, at first use.
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<SecretSource>,
    pub(crate) client_auth: ClientAuth,
    /// For one call.
    pub(crate) timeout: Span,
    /// Redemptions at once.
    pub(crate) max_in_flight: Count,
    pub(crate) refresh: Redemption,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            name: None,
            when: BTreeMap::new(),
            dialect: Dialect::Json,
            refresh_url: None,
            issuer: None,
            client_id: None,
            client_secret: None,
            client_auth: ClientAuth::Post,
            timeout: seconds(5),
            max_in_flight: Count(64),
            refresh: Redemption::default(),
        }
    }
}

words! {
    /// What the backend's refresh endpoint speaks.
    Dialect { Json = "json", Oauth2 = "oauth2", Simplejwt = "simplejwt" }
}

words! {
    /// Where the client's secret stands: in the body, or in Authorization.
    ClientAuth { Post = "post", Basic = "basic" }
}

/// For backends that speak no dialect: any JSON or form body, any answer. What is absent comes
/// from the dialect.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Redemption {
    pub(crate) method: Option<String>,
    pub(crate) encoding: Option<Encoding>,
    /// `{refresh_token}`, `{client_id}` and `{client_secret}` in its values are filled in.
    pub(crate) body: Option<serde_json::Map<String, serde_json::Value>>,
    /// A key of the backend's own may stand here, as any secret.
    pub(crate) headers: BTreeMap<String, SecretSource>,
    /// A dotted path into the answer, as the four below.
    pub(crate) access_token: Option<String>,
    pub(crate) expires_at: Option<String>,
    pub(crate) expires_in: Option<String>,
    /// Absent in the answer: the old one stays.
    pub(crate) refresh_token: Option<String>,
    pub(crate) refresh_expires_at: Option<String>,
    pub(crate) refresh_expires_in: Option<String>,
    pub(crate) id_token: Option<String>,
    /// The statuses that end a session; no other does.
    pub(crate) refused: Option<Vec<Count>>,
}

words! {
    /// Of a request's body.
    Encoding { Json = "json", Form = "form" }
}

/// When tokens are refreshed, and who remembers it.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Refresh {
    /// Refresh once less than this is left. Nobody waits while the old token is still good.
    pub(crate) ahead: Span,
    /// Where the outcome of a refresh is remembered.
    pub(crate) ledger: Ledger,
    /// Oldest out first.
    pub(crate) ledger_entries: Count,
    /// A 401 from the app for a safe, bodyless request: one refresh, one replay.
    pub(crate) on_upstream_401: bool,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            ahead: seconds(60),
            ledger: Ledger::Memory,
            ledger_entries: Count(1_000_000),
            on_upstream_401: true,
        }
    }
}

words! {
    /// The ledgers that exist.
    Ledger { Memory = "memory" }
}

/// Where visitors go who may not pass.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Login {
    /// Visitors without a session go here. Empty: they get a 401 page.
    pub(crate) url: String,
    /// The query parameter that brings them back.
    pub(crate) callback_param: String,
    /// Visitors without the role go here. Empty: they get a 403 page.
    pub(crate) forbidden_url: String,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            url: String::new(),
            callback_param: "callbackUrl".to_owned(),
            forbidden_url: String::new(),
        }
    }
}

/// A cookie alone never authenticates a cross-site write or a cross-site WebSocket.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Csrf {
    pub(crate) enabled: bool,
    /// Beside the app hosts, such as "https://partner.example".
    pub(crate) allowed_origins: Vec<String>,
}

impl Default for Csrf {
    fn default() -> Self {
        Self { enabled: true, allowed_origins: Vec::new() }
    }
}

/// What makes a role.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Roles {
    /// Claims that name roles: a string is one, a list several.
    pub(crate) claims: Vec<String>,
    /// Roles, and the boolean claim that grants each.
    pub(crate) flags: BTreeMap<String, String>,
}

impl Default for Roles {
    fn default() -> Self {
        let claims = [
            "session.role",
            "session.roles",
            "session.user.role",
            "session.user.roles",
            "access_token.realm_access.roles",
        ];
        Self {
            claims: claims.map(str::to_owned).into(),
            flags: BTreeMap::from([("admin".to_owned(), "session.isAdmin".to_owned())]),
        }
    }
}

/// One app behind the gate.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct App {
    /// Exact, or "*.example.com" for one label.
    pub(crate) host: Option<String>,
    /// Where the app listens, once or several times: `http://host:port`, `https://host:port`,
    /// `h2c://host:port` or `unix:/path`.
    pub(crate) upstream: Option<OneOrMany<String>>,
    /// A PEM file: the authorities that an https upstream is checked against, in place of the
    /// system's.
    pub(crate) upstream_ca: Option<String>,
    /// For paths that no rule names.
    pub(crate) access: Access,
    /// Whether a rule's path must agree in upper and lower case.
    pub(crate) case_sensitive: bool,
    /// On public paths a visitor's own Authorization reaches the app, if there is no session.
    pub(crate) pass_authorization: bool,
    /// Next.js' basePath.
    pub(crate) base_path: String,
    /// Next.js' i18n.locales.
    pub(crate) locales: Vec<String>,
    /// Next.js' i18n.defaultLocale.
    pub(crate) default_locale: String,
    /// What the app sees of the session cookie.
    pub(crate) cookie: CookieMode,
    /// Identity headers, and the claim that each is made from.
    pub(crate) headers: BTreeMap<String, String>,
    /// The first that matches decides.
    pub(crate) rule: Vec<Rule>,
    /// Next.js' middleware meaning: only these paths need a session. Not together with `rule`.
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

/// One line of an app's policy.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Rule {
    /// path-to-regexp, as Next.js reads it.
    pub(crate) path: Option<OneOrMany<String>>,
    /// Absent: any. GET names HEAD as well.
    pub(crate) method: Option<OneOrMany<String>>,
    pub(crate) access: Option<Access>,
    /// Any one of them; implies a session.
    pub(crate) roles: Option<OneOrMany<String>>,
}

/// An item of Next.js' `config.matcher`.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Matcher {
    Source(String),
    Full(MatcherTable),
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct MatcherTable {
    pub(crate) source: Option<String>,
    pub(crate) has: Vec<Condition>,
    pub(crate) missing: Vec<Condition>,
    /// `false`: the source carries its locale itself.
    pub(crate) locale: Option<bool>,
}

/// What a request must have, or lack.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: Option<ConditionKind>,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
}

words! {
    /// Which part of a request a condition looks at.
    ConditionKind { Header = "header", Cookie = "cookie", Query = "query", Host = "host" }
}

/// Where a secret comes from.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(crate) enum SecretSource {
    Literal(#[schemars(with = "String")] Secret),
    Reference(SecretReference),
}

/// Exactly one of the two.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct SecretReference {
    /// The name of an environment variable.
    pub(crate) env: Option<String>,
    /// A path. One line end at the end of the file is not part of the secret.
    pub(crate) file: Option<String>,
}

macro_rules! text_or_table {
    ($type:ident, $expected:literal, $text:expr, $table:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> Visitor<'de> for Either {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        Ok($text(text))
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        Deserialize::deserialize(MapAccessDeserializer::new(map)).map($table)
                    }
                }
                deserializer.deserialize_any(Either)
            }
        }
    };
}

text_or_table!(
    SecretSource,
    "a string, { env = \"NAME\" } or { file = \"/path\" }",
    |text| SecretSource::Literal(Secret::new(text)),
    SecretSource::Reference
);
text_or_table!(
    Matcher,
    "a path or a table with source, has and missing",
    |text: &str| Matcher::Source(text.to_owned()),
    Matcher::Full
);

fn seconds(count: u64) -> Span {
    Span(Duration::from_secs(count))
}
