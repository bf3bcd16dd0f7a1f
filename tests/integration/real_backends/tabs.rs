//! A real next-auth 4 site that refreshes by itself, as the 2022 article's does: 60 minutes ahead,
//! without a lock, and with a mark on the session that makes its page sign out.

use std::path::PathBuf;

use foregate_stage::{Backend, BackendSettings};

use super::process::Process;
use super::*;

#[tokio::test]
async fn twenty_tabs_stay_signed_in_where_the_gate_is_ahead_of_the_site() {
    for minutes_left in [0, 65] {
        let world = Tabs::start("70m").await;
        let ada = world.visitor(minutes_left);
        for round in 0..3 {
            for tab in twenty(&ada).await {
                let told = format!("{minutes_left} minutes left, round {round}: {tab:?}");
                assert_eq!((tab.page, tab.signed_out), (200, false), "{told}");
                assert!(round == 0 || tab.bearer.starts_with("Bearer eyJ"), "{told}");
            }
        }
        let counters = world.backend.counters();
        assert_eq!((counters.attempts, counters.redemptions, counters.reuses), (1, 1, 0));
    }
}

/// That the site does refresh by itself, or the test above would show nothing.
#[tokio::test]
async fn without_the_gate_twenty_tabs_sign_each_other_out() {
    let world = Tabs::start("70m").await;
    let ada = Browser::new(world.site.address);
    ada.set_cookies("example.com", &world.cookies(30));
    let tabs = twenty(&ada).await;
    assert!(tabs.iter().filter(|tab| tab.signed_out).count() > 1, "{tabs:?}");
    assert!(world.backend.counters().reuses > 1);
}

#[tokio::test]
async fn a_pair_that_the_site_got_by_itself_is_found_by_late_requests() {
    let world = Tabs::start("60s").await;
    let ada = world.visitor(30);
    let session = ada.fetch(&format!("{APP}/api/auth/session")).await;
    assert_eq!(session.json()["error"], Value::Null);
    let counters = world.backend.counters();
    assert_eq!((counters.attempts, counters.redemptions), (1, 1), "the site's own");

    let newest = Tab::open(&ada).await.bearer;
    assert!(newest.starts_with("Bearer eyJ"), "{newest}");
    let late = world.visitor(0);
    assert_eq!(Tab::open(&late).await.bearer, newest);
    let counters = world.backend.counters();
    assert_eq!((counters.attempts, counters.reuses), (1, 0));
}

/// The stage's backend, a site that refreshes an hour ahead, and a gate that does so `ahead`.
struct Tabs {
    backend: Backend,
    refresh_token: String,
    site: Process,
    gate: Gate,
}

impl Tabs {
    async fn start(ahead: &str) -> Self {
        let interop = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/interop"));
        let built = interop.join("site-v4/.next/BUILD_ID");
        assert!(built.exists(), "missing: {}; {REMEDY}", built.display());
        let settings = BackendSettings { access_life: DAY, ..BackendSettings::default() };
        let backend = Backend::start(ANY, settings).await.unwrap();
        let site = Process::start(|port, _| {
            let mut next = Command::new("node");
            next.current_dir(&interop)
                .args(["node_modules/next/dist/bin/next", "start", "site-v4"])
                .args(["--hostname", "127.0.0.1", "--port", &port.to_string()])
                .env("BACKEND_URL", backend.url())
                .env("NEXTAUTH_SECRET", SECRET)
                .env("NEXTAUTH_URL", APP)
                .env("NEXT_TELEMETRY_DISABLED", "1")
                .env("PARENT_DOMAIN", "example.com")
                .env("REFRESHES_AHEAD_MINUTES", "60")
                .env("SITE_NAME", "app");
            next
        });
        let site = site.await;
        let refresh_url = backend.refresh_url();
        let table =
            format!("[backend]\nrefresh_url = \"{refresh_url}\"\n[refresh]\nahead = \"{ahead}\"\n");
        // The first pages of a site that has just started are slow.
        let config = config(&table, &format!("http://{}", site.address))
            .replace("upstream_header_timeout = \"2s\"", "upstream_header_timeout = \"60s\"");
        let gate = Gate::start_with(&config, &[("FOREGATE_LOG", QUIET)]).await;
        let refresh_token = backend.grant("ada@example.com", DAY).unwrap().refresh_token;
        Self { backend, refresh_token, site, gate }
    }

    /// Ada's session. Her access token is one that tells nothing of itself.
    fn cookies(&self, minutes_left: u64) -> String {
        let now = unix_millis();
        let claims = json!({
            "sub": "u-1", "name": "Ada", "email": "ada@example.com",
            "accessToken": "opaque", "accessTokenExpiry": now + 60_000 * minutes_left,
            "refreshToken": self.refresh_token,
            "iat": now / 1000 - 60, "exp": now / 1000 + 30 * 24 * 3600,
        });
        cookie_header(COOKIE, &seal_v4(SECRET, &claims.to_string(), random()))
    }

    fn visitor(&self, minutes_left: u64) -> Browser {
        let browser = Browser::new(self.gate.address());
        browser.set_cookies("example.com", &self.cookies(minutes_left));
        browser
    }
}

/// What a tab saw.
#[derive(Debug)]
struct Tab {
    /// The status of a page that asks for the session on the server.
    page: u16,
    /// Whether its `SessionProvider` got no session, or one with the mark.
    signed_out: bool,
    /// What the site's own API got as `Authorization`.
    bearer: String,
}

impl Tab {
    async fn open(browser: &Browser) -> Self {
        let page = browser.navigate(DASHBOARD).await.status;
        let session = browser.fetch(&format!("{APP}/api/auth/session")).await.json();
        let signed_out = !session["error"].is_null() || session["user"].is_null();
        let api = browser.fetch(&format!("{APP}/api/whoami")).await.json();
        let bearer = api["authorization"].as_str().unwrap_or_default().to_owned();
        Self { page, signed_out, bearer }
    }
}

/// Twenty tabs of one browser, at once.
async fn twenty(browser: &Browser) -> Vec<Tab> {
    let mut tabs = JoinSet::new();
    for _ in 0..20 {
        let browser = browser.clone();
        tabs.spawn(async move { Tab::open(&browser).await });
    }
    tabs.join_all().await
}

const COOKIE: &str = "next-auth.session-token";
const DAY: Duration = Duration::from_secs(24 * 3600);
