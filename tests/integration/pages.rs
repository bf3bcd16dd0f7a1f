//! The pages of our own answers in a real browser. What it looks at stands in
//! `tests/interop/pages.mjs`; pictures of all of them are left in `target/tmp/pages`.

use std::path::Path;
use std::time::Duration;

use foregate_stage::{Backend, BackendSettings, Fault, Origin, Script, Step};
use foregate_tests::{Gate, free_port};
use serde_json::Value;
use tokio::time::timeout;

use crate::world::{ANY, LIFE, config, session_cookie};

const PARENT: &str = "pages.localhost";

#[tokio::test]
async fn every_page_of_ours_is_decent_in_a_browser() {
    let backend = Backend::start(ANY, BackendSettings::default()).await.unwrap();
    backend.fail(Fault::Status(500));
    let origin = Origin::start(ANY).await.unwrap();
    origin.script("/public/broken", Script::new([Step::Close]));
    origin.script("/public/slow", Script::new([Step::Hang]));
    let elsewhere = format!("http://id.localhost:{}", origin.address().port());
    let on = format!("Location: {elsewhere}/sign-in");
    origin.script("/login", Script::answer("302 Found", &[&on], ""));

    let tables = format!("[backend]\nrefresh_url = \"{}\"\n", backend.refresh_url());
    let port = free_port();
    let with_login = [
        config(&tables, &origin.url())
            .replace("auth.example.com/login", &format!("auth.example.com:{port}/login"))
            .replace("example.com", PARENT),
        format!("\n[[app]]\nhost = \"auth.{PARENT}\"\nupstream = \"{}\"\n", origin.url()),
        format!(
            "access = \"public\"\n\n[server]\nhttp = \"127.0.0.1:{port}\"\n\
                 admin = \"127.0.0.1:0\"\n"
        ),
    ];
    let gate = Gate::start(&with_login.concat()).await;
    let login = "[login]\nurl = \"http://auth.example.com/login\"\n";
    let without_login = config("", &origin.url()).replace(login, "").replace("example.com", PARENT);
    let gate_without_login = Gate::start(&without_login).await;

    let cookie = |name: &str, life| {
        session_cookie(&backend.grant(&format!("{name}@example.com"), life).unwrap())
    };
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&screenshots).unwrap();
    let mut browser = tokio::process::Command::new("node");
    browser
        .arg("pages.mjs")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/interop"))
        .env("PARENT", PARENT)
        .env("PORT", gate.address().port().to_string())
        .env("ADMIN", gate.admin_address().await.to_string())
        .env("PORT_WITHOUT_LOGIN", gate_without_login.address().port().to_string())
        .env("BOB", cookie("bob", LIFE))
        .env("ADA", cookie("ada", Duration::ZERO))
        .env("ELSEWHERE", elsewhere)
        .env("SCREENSHOTS", screenshots)
        .kill_on_drop(true);
    let visit = timeout(PATIENCE, browser.output()).await;
    let visit = visit.expect("the visit ends in time").expect("node starts");
    let lines = String::from_utf8_lossy(&visit.stdout);
    assert!(visit.status.success(), "{lines}{}", String::from_utf8_lossy(&visit.stderr));
    let steps = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(steps.filter(|step| step["ok"] == true).count(), STEPS, "{lines}");
}

const PATIENCE: Duration = Duration::from_secs(180);
/// How many steps `pages.mjs` has.
const STEPS: usize = 14;
