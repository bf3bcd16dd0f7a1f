//! What visitors notice while the backend, Redis or the disk is not well: at worst they have to wait,
//! and nobody is signed out who could stay. Each story ends with a line of figures:
//!
//! ```text
//! figures | what went wrong | sessions lost | calls | redemptions | reuse | ms until all was well
//! ```

mod backend;
mod disk;
mod redis;

use std::time::{Duration, Instant};

use foregate_stage::{Backend, BackendSettings, Grant, Origin};
use foregate_tests::{Answer, Browser, Connection, Gate};

use crate::ledgers::{readiness, told};
use crate::world::{ANY, APP, LIFE, config, session_cookie};

const ENDED: Duration = Duration::ZERO;
const SERVER: &str = "[server]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";

/// A backend and an app; gates come and go.
struct Site {
    backend: Backend,
    origin: Origin,
}

impl Site {
    async fn start() -> Self {
        Self::with(false).await
    }

    /// Whose backend takes a spent token once more.
    async fn lenient() -> Self {
        Self::with(true).await
    }

    async fn with(lenient: bool) -> Self {
        let settings = BackendSettings { access_life: LIFE, lenient, ..BackendSettings::default() };
        let backend = Backend::start(ANY, settings).await.unwrap();
        Self { backend, origin: Origin::start(ANY).await.unwrap() }
    }

    async fn gate(&self, ledger: &str) -> Gate {
        self.gate_with(ledger, &self.backend.refresh_url(), &[]).await
    }

    async fn gate_with(
        &self,
        ledger: &str,
        refresh_url: &str,
        environment: &[(&str, &str)],
    ) -> Gate {
        Gate::start_with(&self.config(ledger, refresh_url), environment).await
    }

    fn config(&self, ledger: &str, refresh_url: &str) -> String {
        let backend = format!("[backend]\ntimeout = \"2s\"\nrefresh_url = \"{refresh_url}\"\n");
        let ledger = format!("{SERVER}[refresh]\nledger = \"{ledger}\"\n");
        [config(&backend, &self.origin.url()), ledger].concat()
    }

    fn grant(&self, name: &str, life: Duration) -> Grant {
        self.backend.grant(&format!("{name}@example.com"), life).unwrap()
    }

    /// Calls, redemptions, and tokens that were sent again.
    fn counted(&self) -> (u64, u64, u64) {
        let counters = self.backend.counters();
        (counters.attempts, counters.redemptions, counters.reuses)
    }

    /// Prints the figures of a story. `began`: when what was wrong was repaired.
    fn tell(&self, what: &str, lost: usize, began: Instant) {
        let (calls, redemptions, reuses) = self.counted();
        let until = began.elapsed().as_millis();
        println!("figures | {what} | {lost} | {calls} | {redemptions} | {reuses} | {until}");
    }
}

/// A visitor with the cookie of a grant.
fn visitor(gate: &Gate, grant: &Grant) -> Browser {
    let browser = Browser::new(gate.address());
    browser.set_cookies("example.com", &session_cookie(grant));
    browser
}

async fn dashboard(browser: &Browser) -> Answer {
    browser.fetch(&format!("{APP}/dashboard")).await
}

/// The token that the app sees of somebody with the cookie of a grant.
async fn bearer(gate: &Gate, grant: &Grant) -> String {
    let answer = dashboard(&visitor(gate, grant)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.seen_header("authorization").expect("a token reached the app")
}

/// The same, as soon as there is one. Until then each answer is a 503 that keeps the cookie, or else
/// the session is lost.
async fn bearer_at_last(gate: &Gate, grant: &Grant) -> String {
    at_last(visitor(gate, grant)).await
}

async fn at_last(browser: Browser) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    let before = cookies(&browser);
    loop {
        let answer = dashboard(&browser).await;
        if answer.status == 200 {
            return answer.seen_header("authorization").expect("a token reached the app");
        }
        assert_put_off(&browser, before.as_deref(), &answer);
        assert!(Instant::now() < deadline, "never: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The visitor may come again, and has the cookie that he had.
fn assert_put_off(browser: &Browser, before: Option<&str>, answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let retry_after = answer.header("retry-after").expect("when to come again");
    assert!((1..=30).contains(&retry_after.parse::<u64>().unwrap()), "{retry_after}");
    assert_eq!(cookies(browser).as_deref(), before, "the cookie is kept");
}

fn cookies(browser: &Browser) -> Option<String> {
    browser.cookies("app.example.com")
}
