//! A gate with a backend and an app behind it, and visitors with sessions.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use foregate_stage::{
    Backend, BackendSettings, Grant, Origin, SECRET, cookie_header, random, seal_v4,
};
use foregate_tests::{Browser, Gate};

pub(crate) const APP: &str = "http://app.example.com";
pub(crate) const SHOP: &str = "http://shop.example.com";
pub(crate) const COOKIE: &str = "next-auth.session-token";

/// Any free port of loopback.
pub(crate) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Two apps on one origin, and the backend that renews their tokens.
pub(crate) struct World {
    pub(crate) backend: Backend,
    pub(crate) origin: Origin,
    pub(crate) gate: Gate,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// With more tables at the end of the configuration.
    pub(crate) async fn with(more: &str) -> Self {
        Self::with_backend(json_backend, more).await
    }

    /// With these `[backend]` tables, made from the backend's address.
    pub(crate) async fn with_backend(tables: impl Fn(&Backend) -> String, more: &str) -> Self {
        let settings = BackendSettings { access_life: LIFE, ..BackendSettings::default() };
        let backend = Backend::start(ANY, settings).await.unwrap();
        let origin = Origin::start(ANY).await.unwrap();
        let config = [&config(&tables(&backend), &origin.url()), more].concat();
        let gate = Gate::start_with(&config, &[("FOREGATE_LOG", "trace")]).await;
        Self { backend, origin, gate }
    }

    /// Somebody without a session.
    pub(crate) fn stranger(&self) -> Browser {
        Browser::new(self.gate.address())
    }

    /// Ada, who is an admin, or Bob, who is not, with an access token that is good for `life`.
    pub(crate) fn visitor(&self, name: &str, life: Duration) -> (Browser, Grant) {
        let grant = self.backend.grant(&format!("{name}@example.com"), life).unwrap();
        let browser = self.stranger();
        browser.set_cookies("example.com", &session_cookie(&grant));
        (browser, grant)
    }

    /// What reached the app of the last request.
    pub(crate) fn last_seen(&self) -> foregate_stage::Seen {
        self.origin.seen().pop().expect("a request reached the app")
    }
}

/// Every test that ends well ends with a search: at trace level, nothing that the gate said may hold
/// the secret, a token or a cookie that it handled.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = self.gate.log();
        assert!(!log.contains(SECRET), "the secret is in the log");
        for seen in self.origin.seen() {
            let told = |(name, _): &&(String, String)| {
                name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("cookie")
            };
            for (name, value) in seen.headers.iter().filter(told) {
                let words = value.split([' ', ';', '=']).filter(|word| word.len() >= WORTH_HIDING);
                for word in words {
                    assert!(!log.contains(word), "a word of {name} is in the log: {}", seen.target);
                }
            }
        }
    }
}

/// Tokens and sealed cookies are longer; names and the like are not.
const WORTH_HIDING: usize = 24;

/// How long the backend's access tokens are good: no test that does not ask for it sees one end.
pub(crate) const LIFE: Duration = Duration::from_secs(600);

/// A session as a NextAuth.js v4 site seals it.
pub(crate) fn session_cookie(grant: &Grant) -> String {
    let claims = grant.session_claims(Duration::from_secs(30 * 24 * 3600)).to_string();
    cookie_header(COOKIE, &seal_v4(SECRET, &claims, random()))
}

fn json_backend(backend: &Backend) -> String {
    let refresh_url = backend.refresh_url();
    format!("[backend]\ntimeout = \"10s\"\nrefresh_url = \"{refresh_url}\"\n")
}

pub(crate) fn config(backend: &str, app: &str) -> String {
    format!(
        r#"[session]
secrets = ["{SECRET}"]
domain = ".example.com"
secure = false

{backend}
[login]
url = "http://auth.example.com/login"

[limits]
upstream_header_timeout = "2s"

[[app]]
host = "app.example.com"
upstream = "{app}"
headers = {{ "X-User-Id" = "session.sub", "X-Roles" = "access_token.realm_access.roles" }}

  [[app.rule]]
  path = ["/", "/about", "/public/:path*"]
  access = "public"

  [[app.rule]]
  path = "/admin/:path*"
  roles = ["admin"]

  [[app.rule]]
  path = "/reports/:path*"
  method = "POST"
  roles = ["admin"]

  [[app.rule]]
  path = "/internal/:path*"
  access = "deny"

[[app]]
host = "shop.example.com"
upstream = "{app}"
matcher = ["/((?!api|_next/static|favicon.ico).*)"]
cookie = "strip"
pass_authorization = true
"#
    )
}
