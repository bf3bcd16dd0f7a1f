//! A new operator's usual mistakes, on the setup of docs/migrate.md, and where the cause stands: in
//! one command, or in one line of the log.

use std::net::TcpListener;
use std::time::Duration;

use foregate_stage::{Backend, BackendSettings, Grant, cookie_header, random, seal_v4};
use foregate_tests::{Browser, Gate, Request, free_port};
use serde_json::Value;

use crate::recipes::{Folder, SECRET};
use crate::world::ANY;

const COOKIE: &str = "next-auth.session-token";
const DASHBOARD: &str = "http://app.example.com/dashboard";

/// Where the mistakes are made.
struct Setup<'s> {
    domain: &'s str,
    login_access: &'s str,
    refresh_url: &'s str,
    app: &'s str,
}

const RIGHT: Setup<'_> = Setup {
    domain: ".example.com",
    login_access: "public",
    refresh_url: "http://127.0.0.1:1/auth/refreshToken",
    app: "http://127.0.0.1:1",
};

impl Setup<'_> {
    fn toml(&self) -> String {
        let Self { domain, login_access, refresh_url, app } = self;
        format!(
            r#"[session]
secrets = [{{ env = "NEXTAUTH_SECRET" }}]
domain = "{domain}"
secure = false

[backend]
refresh_url = "{refresh_url}"

[login]
url = "http://auth.example.com/login"

[[app]]
host = "auth.example.com"
upstream = "http://127.0.0.1:1"
access = "{login_access}"

[[app]]
host = "app.example.com"
upstream = "{app}"
"#
        )
    }

    async fn gate(&self) -> Gate {
        Gate::start_with(&self.toml(), &[("NEXTAUTH_SECRET", SECRET)]).await
    }
}

async fn grant(life: Duration) -> Grant {
    let backend = Backend::start(ANY, BackendSettings::default()).await.unwrap();
    backend.grant("ada@example.com", life).unwrap()
}

fn sealed(secret: &str, grant: &Grant) -> String {
    let claims = grant.session_claims(Duration::from_secs(3600)).to_string();
    cookie_header(COOKIE, &seal_v4(secret, &claims, random()))
}

/// The first line of the log that satisfies `wanted`, once it is there.
async fn line(gate: &Gate, wanted: impl Fn(&Value) -> bool) -> Value {
    let find = |log: &str| {
        let mut lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.find(|line| wanted(line))
    };
    gate.logged(|log| find(log).is_some()).await;
    find(&gate.log()).unwrap()
}

#[tokio::test]
async fn a_wrong_secret_is_told_by_the_request_s_own_line() {
    let gate = RIGHT.gate().await;
    let visitor = Browser::new(gate.address());
    let cookie = sealed("the-secret-of-another-environment", &grant(Duration::from_secs(60)).await);
    visitor.set_cookies("example.com", &cookie);
    let answer = visitor.navigate(DASHBOARD).await;
    assert_eq!(answer.status, 302);
    let told = line(&gate, |line| line["reason"] == "no_session").await;
    let why = "the seal is broken: another secret, or an altered cookie";
    assert_eq!(told["cookie"], why, "{told}");
}

#[tokio::test]
async fn a_wrong_domain_is_told_by_check_by_the_start_and_by_the_request_s_line() {
    let wrong = Setup { domain: ".example.org", ..RIGHT };
    let never = "the session cookie of example.org never reaches this host";
    let checked = Folder::new(&wrong.toml()).json(&["check", "--json"]);
    let problems = checked["problems"].as_array().unwrap();
    let about = |key: &str| problems.iter().any(|it| it["key"] == key && it["message"] == never);
    assert!(about("app[0].host") && about("app[1].host"), "{checked}");

    // The site that signs in sets its cookie for its own host alone.
    let gate = wrong.gate().await;
    gate.logged(|log| log.contains(never)).await;
    let visitor = Browser::new(gate.address());
    let cookie = sealed(SECRET, &grant(Duration::from_secs(60)).await);
    visitor.set_cookie("auth.example.com", &cookie);
    assert_eq!(visitor.navigate(DASHBOARD).await.status, 302);
    let told = line(&gate, |line| line["reason"] == "no_session").await;
    assert_eq!(told["cookie"], Value::Null, "none came: {told}");
}

#[tokio::test]
async fn a_backend_that_is_away_is_told_with_what_stood_in_the_way() {
    let url = format!("http://127.0.0.1:{}/auth/refreshToken", free_port());
    let gate = Setup { refresh_url: &url, ..RIGHT }.gate().await;
    let visitor = Browser::new(gate.address());
    visitor.set_cookies("example.com", &sealed(SECRET, &grant(Duration::ZERO).await));
    let answer = visitor.navigate(DASHBOARD).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (503, None), "nobody is signed out");
    assert!(answer.text().contains("backend_unavailable"), "{}", answer.text());
    let told = line(&gate, |line| line["outcome"] == "unavailable").await;
    let fault = told["fault"].as_str().unwrap();
    assert!(fault.starts_with("the backend cannot be reached: "), "{told}");
}

#[tokio::test]
async fn a_wrong_refresh_url_signs_nobody_out_and_is_told_by_its_status() {
    let backend = Backend::start(ANY, BackendSettings::default()).await.unwrap();
    let url = format!("{}/auth/refresh", backend.url());
    let gate = Setup { refresh_url: &url, ..RIGHT }.gate().await;
    let visitor = Browser::new(gate.address());
    visitor.set_cookies("example.com", &sealed(SECRET, &grant(Duration::ZERO).await));
    assert_eq!(visitor.navigate(DASHBOARD).await.status, 503);
    let told = line(&gate, |line| line["outcome"] == "unavailable").await;
    assert_eq!(told["fault"], "the backend answered 404", "{told}");
}

#[tokio::test]
async fn an_app_that_does_not_listen_is_told_with_the_system_s_word() {
    let app = format!("http://127.0.0.1:{}", free_port());
    let gate = Setup { app: &app, ..RIGHT }.gate().await;
    let visitor = Browser::new(gate.address());
    visitor.set_cookies("example.com", &sealed(SECRET, &grant(Duration::from_secs(600)).await));
    assert_eq!(visitor.navigate(DASHBOARD).await.status, 502);
    let told = line(&gate, |line| line["reason"] == "upstream_unreachable").await;
    assert!(told["failure"].as_str().unwrap().contains("refused"), "{told}");
}

#[test]
fn a_login_page_behind_its_own_gate_cannot_be_started_with() {
    let folder = Folder::new(&Setup { login_access: "session", ..RIGHT }.toml());
    for command in ["check", "run"] {
        let output = folder.run(&[command]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        let why = "login.url: the access of auth.example.com guards this URL, so nobody could ever sign in";
        let hint = "hint: add a rule above it: path = \"/login\", access = \"public\"";
        assert!(told.contains(why) && told.contains(hint), "{command}: {told}");
    }
}

#[tokio::test]
async fn a_proxy_that_ends_tls_and_is_not_trusted_is_told_with_the_line_to_add() {
    let gate = RIGHT.gate().await;
    let visitor = Browser::new(gate.address());
    let secure = format!("__Secure-{}", sealed(SECRET, &grant(Duration::from_secs(60)).await));
    let request = Request::get(DASHBOARD).navigation().header("Cookie", &secure);
    visitor.send(&request.header("X-Forwarded-Proto", "https")).await;
    gate.logged(|log| log.contains("trusted_proxies = [\\\"127.0.0.1\\\"]")).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = Folder::new(&format!("{}[server]\nhttp = \"{address}\"\n", RIGHT.toml()));
    let output = folder.run(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("cannot listen on {address}")), "{told}");
}
