//! The file, key for key, with the defaults. Text is still text here: `compile` turns it into
//! types. Nothing of this leaves the crate but its JSON Schema, which the comments describe.
//!
//! Keys whose feature does not exist yet are in `later`, not here.

mod app;

use std::collections::BTreeMap;
use std::time::Duration;

use foregate_session::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::one_or_many::OneOrMany;
use crate::scalar::{Count, Size, Span, text_or_table, words};

pub(crate) use app::{Access, App, Condition, ConditionKind, CookieMode, Matcher};

/// Foregate's configuration. `session.secrets` and one `[[app]]` are required, nothing else is.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(rename = "proxy.toml", deny_unknown_fields, extend("required" = ["session", "app"]))]
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
    /// The plain listener: address and port, or `unix:/path`. Empty: off, where `https` is set.
    #[schemars(example = "127.0.0.1:8080", example = "unix:/run/foregate.sock")]
    pub(crate) http: String,
    /// The listener for https: address and port. It needs `tls.certificates`. Empty: off.
    #[schemars(example = "0.0.0.0:8443")]
    pub(crate) https: String,
    /// Health, readiness, metrics and the status page: an address that visitors cannot reach, or
    /// `unix:/path`. Empty: off.
    #[schemars(example = "unix:/run/foregate-admin.sock")]
    pub(crate) admin: String,
    /// Threads that serve requests. 0: one per CPU.
    pub(crate) workers: Count,
    /// The proxies in front of Foregate: networks and addresses, or `unix` for whoever comes over
    /// the socket. Their `X-Forwarded-*` are believed. Nobody's by default, not even loopback's.
    #[schemars(example = json!(["10.0.0.0/8", "192.0.2.7"]))]
    pub(crate) trusted_proxies: Vec<String>,
    /// A second process may share the ports, to take over. Otherwise a second start fails clearly.
    pub(crate) reuse_port: bool,
    /// Whether `/.foregate/auth` answers `trusted_proxies`. Where a trusted proxy passes visitors' requests on and nobody asks
    /// there, `false` keeps pages from asking for their own token.
    pub(crate) decision_endpoint: bool,
    /// After SIGTERM: how long readiness fails before the listeners close.
    pub(crate) drain_delay: Span,
    /// After SIGTERM and `drain_delay`: how long requests in flight may take.
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
            decision_endpoint: true,
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
    /// The size of a request's head, from 8KiB to 1MiB. Beyond it: 431.
    pub(crate) header_bytes: Size,
    /// Header lines in a request. Beyond them: 431.
    pub(crate) headers: Count,
    /// From the first byte of a request to the end of its head.
    pub(crate) header_timeout: Span,
    /// Keep-alive, and a body or a stream that stands still.
    pub(crate) idle_timeout: Span,
    /// Connecting to an app. Beyond it: 502, or the next upstream of the list.
    pub(crate) upstream_connect_timeout: Span,
    /// How long an app may take to begin its answer. Beyond it: 504.
    pub(crate) upstream_header_timeout: Span,
    /// Visitors' connections at once. 0: half of what the limit of open files allows.
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
    /// Chosen by the name that a visitor asks for; the first serves whoever names none. Read again
    /// when the files change.
    #[schemars(example = json!([{ "cert": "/etc/tls/example.com.crt", "key": "/etc/tls/example.com.key" }]))]
    pub(crate) certificates: Vec<CertificateFiles>,
}

/// Two PEM files.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields, extend("required" = ["cert", "key"]))]
pub(crate) struct CertificateFiles {
    /// The certificate, and behind it those that lead to its authority.
    #[schemars(example = "/etc/tls/example.com.crt")]
    pub(crate) cert: Option<String>,
    /// Its private key.
    #[schemars(example = "/etc/tls/example.com.key")]
    pub(crate) key: Option<String>,
}

/// The session cookie.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields, extend("required" = ["secrets"]))]
pub(crate) struct Session {
    /// The library that writes the cookie. `auto`: both are read, and what was opened is sealed again
    /// in the form in which it came.
    pub(crate) format: Format,
    /// The secrets that the apps seal their sessions with, `NEXTAUTH_SECRET` or `AUTH_SECRET`.
    /// The first seals, every one opens: to rotate, add the new one behind, put it in front once
    /// every app reads it, and take the old one out when its sessions have ended.
    #[schemars(example = json!([{ "env": "NEXTAUTH_SECRET" }]))]
    pub(crate) secrets: Vec<SecretSource>,
    /// Takes secrets of fewer than 16 bytes, and such as everybody knows. For tests.
    pub(crate) allow_weak_secret: bool,
    /// The cookie's name, where the apps have one of their own. Empty: the libraries' names, plain
    /// and with `__Secure-`.
    #[schemars(example = "acme.session")]
    pub(crate) cookie: String,
    /// `Domain` of the cookies that Foregate sets: the domain that all apps share, exactly as the
    /// site that signs in writes it. Empty: each host keeps a session of its own.
    #[schemars(example = ".example.com")]
    pub(crate) domain: String,
    /// Whether the cookies that Foregate sets are `Secure`. `false` is for plain http on a machine of
    /// one's own.
    pub(crate) secure: bool,
    /// `SameSite` of the cookies that Foregate sets.
    pub(crate) same_site: SameSite,
    /// How long a session lives from the moment it is sealed again, as `session.maxAge` in the apps.
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
    /// The access token. Absent: `accessToken`, `token` or `access_token`, whichever is there.
    #[schemars(example = "user.accessToken")]
    pub(crate) access_token: Option<String>,
    /// When it ends, in seconds or milliseconds since 1970, told apart by size. Absent:
    /// `accessTokenExpiry`, `accessTokenExpires` or `expires_at`; else the token's own `exp`, where it is a JWT.
    #[schemars(example = "user.accessTokenExpires")]
    pub(crate) expires_at: Option<String>,
    /// The refresh token. Absent: `refreshToken` or `refresh_token`.
    #[schemars(example = "user.refreshToken")]
    pub(crate) refresh_token: Option<String>,
    /// When the refresh token ends. Absent: `refreshTokenExpires`.
    #[schemars(example = "user.refreshTokenExpires")]
    pub(crate) refresh_expires_at: Option<String>,
}

/// Who trades a refresh token for a new pair. Without one, sessions last as long as their access
/// tokens.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Backend {
    /// For logs and metrics. Required where there are several.
    #[schemars(example = &"keycloak")]
    pub(crate) name: Option<String>,
    /// Claims and the text that each must have, for this backend to be the session's own. Empty:
    /// every session's.
    #[schemars(example = json!({ "session.provider": "keycloak" }))]
    pub(crate) when: BTreeMap<String, String>,
    /// What the refresh endpoint speaks; it fills the defaults of `[backend.refresh]`. `json`: a
    /// home-made endpoint that takes `{"token"}` and answers `{accessToken, accessTokenExpiry,
    /// refreshToken}`. `oauth2`: RFC 6749, as Keycloak does. `simplejwt`:
    /// djangorestframework-simplejwt.
    pub(crate) dialect: Dialect,
    /// Where refresh tokens are traded in. Required, unless `issuer` leads there.
    #[schemars(example = "https://api.example.com/auth/refreshToken")]
    pub(crate) refresh_url: Option<String>,
    /// `oauth2` only: the endpoint is found by discovery, at first use.
    #[schemars(example = "https://id.example.com/realms/main")]
    pub(crate) issuer: Option<String>,
    /// The client's id at the backend. `oauth2` needs one.
    #[schemars(example = "my-app")]
    pub(crate) client_id: Option<String>,
    /// The client's secret, where it has one.
    #[schemars(example = json!({ "env": "CLIENT_SECRET" }))]
    pub(crate) client_secret: Option<SecretSource>,
    /// Where the client's secret stands: in the request's body, or in `Authorization`.
    pub(crate) client_auth: ClientAuth,
    /// How long one call may take.
    pub(crate) timeout: Span,
    /// Calls at once. Others wait in line.
    pub(crate) max_in_flight: Count,
    /// What differs from the dialect.
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

/// For backends that speak no dialect: any JSON or form body, any answer. What is absent here comes
/// from the dialect.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Redemption {
    /// `GET`, `POST`, `PUT` or `PATCH`.
    #[schemars(example = &"PUT")]
    pub(crate) method: Option<String>,
    /// Of the request's body.
    pub(crate) encoding: Option<Encoding>,
    /// The request's body. `{refresh_token}`, `{access_token}`, `{client_id}` and `{client_secret}` in
    /// its texts are filled in.
    #[schemars(example = json!({ "token": "{refresh_token}" }))]
    pub(crate) body: Option<Map<String, Value>>,
    /// Headers of the request, each a secret: a key of the backend's own may stand here. Filled in as
    /// the body is.
    #[schemars(example = json!({ "X-Api-Key": { "env": "API_KEY" } }))]
    pub(crate) headers: BTreeMap<String, SecretSource>,
    /// Where the new access token stands in the answer: a dotted path.
    #[schemars(example = "data.accessToken")]
    pub(crate) access_token: Option<String>,
    /// Where the answer tells when the access token ends, in seconds or milliseconds since 1970.
    #[schemars(example = "data.accessTokenExpiry")]
    pub(crate) expires_at: Option<String>,
    /// Or where it tells how many seconds the access token lives.
    #[schemars(example = "data.expires_in")]
    pub(crate) expires_in: Option<String>,
    /// Where the next refresh token stands in the answer. If the answer has none, the old one stays.
    #[schemars(example = "data.refreshToken")]
    pub(crate) refresh_token: Option<String>,
    /// Where the answer tells when the refresh token ends, in seconds or milliseconds since 1970.
    #[schemars(example = "data.refreshTokenExpiry")]
    pub(crate) refresh_expires_at: Option<String>,
    /// Or where it tells how many seconds the refresh token lives.
    #[schemars(example = "data.refresh_expires_in")]
    pub(crate) refresh_expires_in: Option<String>,
    /// Where the new id token stands in the answer. It is kept only in a session that had one.
    #[schemars(example = "data.id_token")]
    pub(crate) id_token: Option<String>,
    /// The statuses that end a session; no other does. Not with `oauth2`, where `error =
    /// invalid_grant` alone does.
    #[schemars(example = json!([401, 403]))]
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
    /// Tokens are refreshed once less than this is left of them, or less than half of their life,
    /// where that is known and shorter. Nobody waits while the old one is still good.
    pub(crate) ahead: Span,
    /// Where the outcome of a refresh is remembered, for late copies of the old cookie. `memory`
    /// lasts as long as the process, and serves it alone; `file:` and an absolute path survives it;
    /// Redis serves any number of processes: `redis://user:password@host:6379/0`,
    /// `redis+sentinel://host,host/master`, `redis+cluster://host,host`, with `rediss` for TLS.
    #[schemars(example = "file:/var/lib/foregate/ledger.redb")]
    pub(crate) ledger: String,
    /// How many outcomes are remembered. The oldest goes first.
    pub(crate) ledger_entries: Count,
    /// An app's 401 to a safe request without a body: one refresh, and the request once more.
    pub(crate) on_upstream_401: bool,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            ahead: seconds(60),
            ledger: "memory".to_owned(),
            ledger_entries: Count(1_000_000),
            on_upstream_401: true,
        }
    }
}

/// Where visitors go who may not pass.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Login {
    /// Visitors without a session go here. Empty: they get a 401 page. Must be open to everybody.
    #[schemars(example = "https://auth.example.com/login")]
    pub(crate) url: String,
    /// The query parameter that holds the URL they came from.
    pub(crate) callback_param: String,
    /// Visitors without the role go here. Empty: they get a 403 page.
    #[schemars(example = "https://app.example.com/forbidden")]
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

/// The same-site check: a cookie alone never authenticates a cross-site write or a cross-site
/// WebSocket.
#[derive(Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields)]
pub(crate) struct Csrf {
    /// `false`: any site may write in a visitor's name.
    pub(crate) enabled: bool,
    /// Sites that may write in a visitor's name, beside the hosts of the apps.
    #[schemars(example = json!(["https://partner.example"]))]
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
    /// Claims that name roles: a string is one, a list several. They begin with `session.` (the
    /// cookie's payload) or `access_token.` (the payload of the JWT in it).
    pub(crate) claims: Vec<String>,
    /// Roles, and the claim that grants each by being `true`.
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

/// A literal text, of which `check` warns, or the place where the secret stands.
#[derive(JsonSchema)]
#[schemars(untagged, title = "secret")]
pub(crate) enum SecretSource {
    Literal(#[schemars(with = "String")] Secret),
    Reference(SecretReference),
}

/// Where a secret stands: exactly one of the two.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, expecting = "a table")]
#[schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(crate) struct SecretReference {
    /// The name of an environment variable.
    #[schemars(example = &"NEXTAUTH_SECRET")]
    pub(crate) env: Option<String>,
    /// A file's path. One line end at the end of the file is not part of the secret. Read again when
    /// the file changes.
    #[schemars(example = "/run/secrets/nextauth")]
    pub(crate) file: Option<String>,
}

text_or_table!(
    SecretSource,
    "a string, { env = \"NAME\" } or { file = \"/path\" }",
    |text| SecretSource::Literal(Secret::new(text)),
    SecretSource::Reference
);
fn seconds(count: u64) -> Span {
    Span(Duration::from_secs(count))
}
