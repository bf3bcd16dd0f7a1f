//! What a ledger outside of the process is for: gates that die, and gates that stand side by side.

mod redis;
pub(crate) mod storms;

use std::path::Path;
use std::time::{Duration, Instant};

use foregate_stage::{Backend, BackendSettings, Fault, Grant, Origin};
use foregate_tests::{Answer, Browser, Connection, Directory, Gate, Request};

use crate::world::{ANY, APP, LIFE, config, session_cookie};

const ENDED: Duration = Duration::ZERO;

/// A backend and an app; gates come and go.
pub(crate) struct Site {
    pub(crate) backend: Backend,
    origin: Origin,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with_life(LIFE).await
    }

    /// Whose backend gives access tokens that are good for so long.
    async fn with_life(access_life: Duration) -> Self {
        let settings = BackendSettings { access_life, ..BackendSettings::default() };
        let backend = Backend::start(ANY, settings).await.unwrap();
        Self { backend, origin: Origin::start(ANY).await.unwrap() }
    }

    /// A gate whose ledger is there.
    pub(crate) async fn gate(&self, ledger: &str) -> Gate {
        self.patient_gate(ledger, "2s").await
    }

    /// The same with this time-out for the backend.
    async fn patient_gate(&self, ledger: &str, timeout: &str) -> Gate {
        let refresh_url = self.backend.refresh_url();
        let backend =
            format!("[backend]\ntimeout = \"{timeout}\"\nrefresh_url = \"{refresh_url}\"\n");
        let server = "[server]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n";
        let ledger = format!("{server}[refresh]\nledger = \"{ledger}\"\n");
        // A storm comes to the app at once, whose thread is the visitors' own.
        let config = [config(&backend, &self.origin.url()), ledger]
            .concat()
            .replace("upstream_header_timeout = \"2s\"", "upstream_header_timeout = \"60s\"");
        Gate::start(&config).await
    }

    pub(crate) fn grant(&self, name: &str, life: Duration) -> Grant {
        self.backend.grant(&format!("{name}@example.com"), life).unwrap()
    }

    /// Redemptions, and tokens that were sent again.
    pub(crate) fn counted(&self) -> (u64, u64) {
        let counters = self.backend.counters();
        (counters.redemptions, counters.reuses)
    }
}

/// A visitor with the cookie of a grant.
fn visitor(gate: &Gate, grant: &Grant) -> Browser {
    let browser = Browser::new(gate.address());
    browser.set_cookies("example.com", &session_cookie(grant));
    browser
}

/// The token that the app sees of somebody with the cookie of a grant.
async fn bearer(gate: &Gate, grant: &Grant) -> String {
    let answer = visitor(gate, grant).fetch(&format!("{APP}/dashboard")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.seen_header("authorization").expect("a token reached the app")
}

/// The same on a path that needs no session.
async fn public_bearer(gate: &Gate, grant: &Grant) -> Option<String> {
    let answer = visitor(gate, grant).fetch(&format!("{APP}/public/page")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.seen_header("authorization")
}

/// The status line and the body of `/readyz?verbose`.
pub(crate) async fn readiness(gate: &Gate) -> (u16, String) {
    let mut connection = Connection::open(gate.admin_address().await).await;
    connection.send("GET /readyz?verbose HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = connection.answer().await.unwrap();
    (answer.status, answer.text())
}

/// Waits until the gate says it of itself.
pub(crate) async fn told(gate: &Gate, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !readiness(gate).await.1.contains(what) {
        assert!(Instant::now() < deadline, "never {what}: {}", readiness(gate).await.1);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn file_ledger(file: &Path) -> String {
    format!("file:{}", file.display())
}

#[tokio::test]
async fn an_old_cookie_works_after_the_gate_was_killed_and_started_again() {
    let (site, directory) = (Site::start().await, Directory::new("killed"));
    let ledger = file_ledger(&directory.ledger());
    let (ada, bob) = (site.grant("ada", ENDED), site.grant("bob", ENDED));
    let mut first = site.gate(&ledger).await;
    let (newest, bobs) = (bearer(&first, &ada).await, bearer(&first, &bob).await);
    first.signal("KILL");
    first.ended().await;

    let second = site.gate(&ledger).await;
    assert_eq!((bearer(&second, &ada).await, bearer(&second, &bob).await), (newest, bobs));
    assert_eq!(site.counted(), (2, 0));
    told(&second, &format!("[+] ledger {ledger}, 4 of 1000000 entries")).await;
}

#[tokio::test]
async fn after_a_restart_a_public_path_takes_what_the_ledger_knows() {
    let (site, directory) = (Site::start().await, Directory::new("public"));
    let ledger = file_ledger(&directory.ledger());
    let ada = site.grant("ada", ENDED);
    let mut first = site.gate(&ledger).await;
    let newest = bearer(&first, &ada).await;
    first.signal("KILL");
    first.ended().await;
    let second = site.gate(&ledger).await;
    assert_eq!(public_bearer(&second, &ada).await, Some(newest));
    assert_eq!(site.counted(), (1, 0));
}

#[tokio::test]
async fn a_sign_out_holds_after_the_gate_was_killed() {
    let (site, directory) = (Site::start().await, Directory::new("signed-out"));
    let ledger = file_ledger(&directory.ledger());
    let ada = site.grant("ada", ENDED);
    let mut first = site.gate(&ledger).await;
    sign_out(&visitor(&first, &ada)).await;
    first.signal("KILL");
    first.ended().await;
    let second = site.gate(&ledger).await;
    let answer = visitor(&second, &ada).fetch(&format!("{APP}/dashboard")).await;
    assert_eq!((answer.status, site.backend.counters().attempts), (401, 0));
}

async fn sign_out(browser: &Browser) {
    let request = Request::form(&format!("{APP}/.foregate/sign-out"), "");
    assert_eq!(browser.send(&request).await.status, 303);
}

#[tokio::test]
async fn a_second_gate_waits_for_the_file_and_refreshes_nobody_meanwhile() {
    let (site, directory) = (Site::start().await, Directory::new("waits"));
    let ledger = file_ledger(&directory.ledger());
    let (ada, bob) = (site.grant("ada", ENDED), site.grant("bob", LIFE));
    let mut first = site.gate(&ledger).await;
    let newest = bearer(&first, &ada).await;
    let second = site.gate(&ledger).await;
    let (status, verbose) = readiness(&second).await;
    assert_eq!(status, 503);
    assert!(verbose.contains("another process holds the ledger's file"), "{verbose}");
    let answer = visitor(&second, &ada).fetch(&format!("{APP}/dashboard")).await;
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    bearer(&second, &bob).await;
    assert_eq!(site.counted(), (1, 0));

    first.signal("TERM");
    assert!(first.ended().await.success());
    told(&second, "\nready").await;
    assert_eq!(bearer(&second, &ada).await, newest);
    assert_eq!(site.counted(), (1, 0));
}

#[tokio::test]
async fn a_broken_file_is_moved_aside_and_named() {
    let (site, directory) = (Site::start().await, Directory::new("broken"));
    std::fs::write(directory.ledger(), "no ledger at all").unwrap();
    let gate = site.gate(&file_ledger(&directory.ledger())).await;
    gate.logged(|log| log.contains("was moved aside") && log.contains("ledger.redb.corrupt-"))
        .await;
    let names = std::fs::read_dir(&*directory).unwrap();
    let names: Vec<_> = names.map(|name| name.unwrap().path()).collect();
    let kept = names.iter().find(|path| **path != directory.ledger()).unwrap();
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "no ledger at all");
    bearer(&gate, &site.grant("ada", ENDED)).await;
}

#[tokio::test]
async fn a_gate_whose_ledger_has_no_directory_does_not_start() {
    let site = Site::start().await;
    let refresh_url = site.backend.refresh_url();
    let backend = format!("[backend]\nrefresh_url = \"{refresh_url}\"\n");
    let text = [
        config(&backend, &site.origin.url()).as_str(),
        "[server]\nhttp = \"127.0.0.1:0\"\nadmin = \"\"\n",
        "[refresh]\nledger = \"file:/nowhere/at/all/ledger.redb\"\n",
    ]
    .concat();
    let directory = Directory::new("absent");
    let path = directory.join("proxy.toml");
    std::fs::write(&path, text).unwrap();
    let mut run = std::process::Command::new(foregate_tests::program());
    let ended = run.args(["run", "--config"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("the ledger's directory /nowhere/at/all does not exist"), "{said}");
}
