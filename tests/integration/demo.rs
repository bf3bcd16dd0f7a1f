//! `foregate demo`, as a visitor finds it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use foregate_tests::{Browser, Request, free_port, program};

/// The demo on free ports. Ends with this value.
struct Demo {
    child: Child,
    gate: u16,
    /// What it says on stdout.
    introduction: String,
}

impl Demo {
    fn start() -> Self {
        let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy.toml");
        let mut config = std::fs::read_to_string(repository).unwrap();
        let gate = free_port();
        config = config.replace("8080", &gate.to_string());
        for port in ["9201", "9202", "9203", "9204"] {
            assert!(config.contains(port), "the demo's proxy.toml names port {port}");
            config = config.replace(port, &free_port().to_string());
        }
        let file = std::env::temp_dir().join(format!("foregate-demo-{}.toml", std::process::id()));
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(program())
            .args(["demo", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut introduction = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            introduction.push_str(&line.unwrap());
            introduction.push('\n');
            if introduction.contains("renewed") {
                break;
            }
        }
        std::fs::remove_file(file).unwrap();
        Self { child, gate, introduction }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_visitor_signs_in_and_sees_the_token_reach_two_apps() {
    let demo = Demo::start();
    let port = demo.gate;
    let app = format!("http://app.demo.localhost:{port}");
    assert!(demo.introduction.contains(&app), "{}", demo.introduction);
    let browser = Browser::new(([127, 0, 0, 1], port).into());

    let (login, form) = browser.follow(&format!("{app}/dashboard")).await;
    assert!(login.starts_with(&format!("http://auth.demo.localhost:{port}/login?callbackUrl=")));
    assert!(form.text().contains("ada@example.com"));

    let sign_in = |email: &str, password: &str| {
        let fields = format!("email={email}&password={password}&callbackUrl={app}/dashboard");
        Request::form(&format!("http://auth.demo.localhost:{port}/login"), &fields)
    };
    assert_eq!(browser.send(&sign_in("ada@example.com", "wrong")).await.status, 401);
    let back = browser.send(&sign_in("ada@example.com", "demo")).await;
    assert_eq!(back.header("location"), Some(format!("{app}/dashboard").as_str()));

    for host in ["app", "shop"] {
        let url = format!("http://{host}.demo.localhost:{port}/dashboard");
        assert_eq!(browser.navigate(&url).await.status, 200, "{url}");
    }
    let seen = browser.fetch(&format!("{app}/api/headers")).await;
    assert!(seen.seen_header("authorization").unwrap().starts_with("Bearer eyJ"));
    assert_eq!(browser.navigate(&format!("{app}/admin")).await.status, 200);

    browser.send(&Request::form(&format!("{app}/.foregate/sign-out"), "")).await;
    assert_eq!(browser.navigate(&format!("{app}/dashboard")).await.status, 302);
    browser.send(&sign_in("bob@example.com", "demo")).await;
    assert_eq!(browser.navigate(&format!("{app}/admin")).await.status, 403);
}
