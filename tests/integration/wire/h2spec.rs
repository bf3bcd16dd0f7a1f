//! h2spec: every one of its cases, generic, HTTP/2 and HPACK, at both listeners.

use foregate_stage::Origin;
use foregate_tests::{Certificates, Connection};
use tokio::process::Command;

use super::peers::{Entrance, WIRE, Way};
use crate::world::ANY;

#[tokio::test]
async fn h2spec_finds_no_fault_at_the_https_listener() {
    let (report, _) = inspect(Way::Tls).await;
    assert_eq!(report.counts, [CASES, CASES, 0, 0], "{}", report.failures);
}

/// All but one: what is no HTTP/2 preface may be HTTP/1.1 there, and is answered as that. h2spec takes
/// the answer for half a frame.
#[tokio::test]
async fn h2spec_finds_no_fault_at_the_plain_listener() {
    let (report, entrance) = inspect(Way::Plain).await;
    assert_eq!(report.counts, [CASES, CASES - 1, 0, 1], "{}", report.failures);
    assert!(
        report.failures.contains("× 2: Sends invalid connection preface"),
        "{}",
        report.failures
    );

    let mut connection = Connection::open(entrance.address(Way::Plain).await).await;
    connection.send("INVALID CONNECTION PREFACE\r\n\r\n").await;
    assert_eq!(connection.answer().await.unwrap().status, 400);
    connection.closed().await;
}

/// What h2spec found.
struct Report {
    /// Cases in all, passed, skipped, failed.
    counts: Vec<usize>,
    failures: String,
}

async fn inspect(way: Way) -> (Report, Entrance) {
    let origin = Origin::start(ANY).await.unwrap();
    let app = format!("upstream = \"{}\"\naccess = \"public\"", origin.url());
    let certificates = Certificates::covering(&["localhost"]);
    let entrance = Entrance::open(certificates, &[("localhost", app)]).await;
    let port = entrance.address(way).await.port().to_string();

    let mut h2spec = Command::new(format!("{WIRE}/.built/h2spec"));
    h2spec.args(["--host", "localhost", "--path", "/any", "--timeout", PATIENCE, "--strict"]);
    h2spec.args(["--port", &port]).kill_on_drop(true);
    if way == Way::Tls {
        h2spec.args(["--tls", "--insecure"]);
    }
    let output = h2spec.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let counts = text.lines().rev().find(|line| line.contains(" tests, ")).unwrap();
    println!("{way:?}: {counts}");
    let counts = counts.split(' ').filter_map(|word| word.parse().ok()).collect();
    let failures = text.split_once("Failures:").map_or("", |(_, failures)| failures).to_owned();
    (Report { counts, failures }, entrance)
}

/// How many seconds h2spec waits for each frame.
const PATIENCE: &str = "5";
/// How many cases it has, the strict ones among them.
const CASES: usize = 146;
