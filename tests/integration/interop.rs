//! Real Next.js sites and a real browser: next-auth 4 and Auth.js 5 mint the cookies, the built gate
//! opens them. What the visitor does stands in `tests/interop/browser.mjs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use foregate_stage::{Backend, BackendSettings, SECRET};
use foregate_tests::{Gate, free_port};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn a_next_auth_4_session_becomes_a_bearer_token() {
    visit("v4").await;
}

#[tokio::test]
async fn an_authjs_5_session_becomes_a_bearer_token() {
    visit("v5").await;
}

/// The whole afternoon of `browser.mjs` with the sites of this `generation`.
async fn visit(generation: &str) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let tools = Tools::found();
    let gate_port = free_port();
    let parent = format!("{generation}.localhost");
    let settings = BackendSettings { access_life: ACCESS_LIFE, ..BackendSettings::default() };
    let backend = Backend::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), settings)
        .await
        .expect("loopback has a free port");

    let environment = [
        ("BACKEND_URL", backend.url()),
        ("PARENT_DOMAIN", parent.clone()),
        ("NEXTAUTH_URL", format!("http://auth.{parent}:{gate_port}")),
        ("AUTH_URL", format!("http://auth.{parent}:{gate_port}")),
    ];
    let start = |name| Site::start(name, generation, &environment);
    let sites = [start("app"), start("shop"), start("auth")];
    for site in &sites {
        site.listens().await;
    }
    let gate = Gate::start(&proxy_toml(&parent, gate_port, &backend, &sites)).await;

    let mut browser = tokio::process::Command::new("node");
    browser
        .arg("browser.mjs")
        .current_dir(interop())
        .env("PARENT", &parent)
        .env("PORT", gate_port.to_string())
        .env("BACKEND_URL", backend.url())
        .env("CHROMIUM", tools.chromium)
        .kill_on_drop(true);
    let visit = timeout(PATIENCE, browser.output()).await;
    let visit = visit.expect("the visit ends in time").expect("node starts");
    let lines = String::from_utf8_lossy(&visit.stdout);
    println!("{lines}");
    assert!(visit.status.success(), "{}", String::from_utf8_lossy(&visit.stderr));

    let steps: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert!(steps.iter().all(|step| step["ok"] == true) && steps.len() == STEPS);
    let counters = backend.counters();
    assert_eq!((counters.refused, counters.reuses), (0, 0), "{counters:?}");
    assert!(!gate.log().contains("eyJ"), "the log holds a token:\n{}", gate.log());
}

/// The gate's configuration. `ahead` is zero so that redemptions can be counted: a token is renewed
/// when it has ended, and not before.
fn proxy_toml(parent: &str, port: u16, backend: &Backend, sites: &[Site; 3]) -> String {
    let [app, shop, auth] = sites.each_ref().map(|site| site.port);
    let refresh_url = backend.refresh_url();
    format!(
        r#"
[server]
http = "127.0.0.1:{port}"

[session]
secrets = ["{SECRET}"]
domain = ".{parent}"
secure = false

[backend]
refresh_url = "{refresh_url}"

[refresh]
ahead = "0s"

[login]
url = "http://auth.{parent}:{port}/api/auth/signin"

[[app]]
host = "app.{parent}"
upstream = "http://127.0.0.1:{app}"

  [[app.rule]]
  path = ["/", "/_next/static/:path*"]
  access = "public"

  [[app.rule]]
  path = "/admin/:path*"
  roles = ["admin"]

[[app]]
host = "shop.{parent}"
upstream = "http://127.0.0.1:{shop}"

[[app]]
host = "auth.{parent}"
upstream = "http://127.0.0.1:{auth}"
access = "public"
"#
    )
}

/// What these tests need and cargo does not bring.
struct Tools {
    chromium: PathBuf,
}

impl Tools {
    /// Panics with all that is missing, and how to get it.
    fn found() -> Self {
        let chromium = std::env::var_os("CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into());
        let chromium = PathBuf::from(chromium);
        let built = "run `npm ci && npm run build` in tests/interop";
        let needed = [
            (chromium.as_path(), "install Chromium, or set CHROMIUM to its path"),
            (&interop().join("node_modules/next"), built),
            (&interop().join("site-v4/.next/BUILD_ID"), built),
            (&interop().join("site-v5/.next/BUILD_ID"), built),
        ];
        let missing: Vec<_> = needed
            .iter()
            .filter(|(path, _)| !path.exists())
            .map(|(path, remedy)| format!("{} is missing: {remedy}", path.display()))
            .collect();
        assert!(missing.is_empty(), "{}", missing.join("\n"));
        Self { chromium }
    }
}

/// One `next start`. It ends, with what it started, when this is dropped.
struct Site {
    server: Child,
    port: u16,
}

impl Site {
    fn start(name: &str, generation: &str, environment: &[(&str, String)]) -> Self {
        let port = free_port();
        let server = Command::new("node")
            .args(["node_modules/next/dist/bin/next", "start"])
            .args([&format!("site-{generation}"), "--hostname", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .current_dir(interop())
            .env("SITE_NAME", name)
            .env("NEXTAUTH_SECRET", SECRET)
            .env("AUTH_SECRET", SECRET)
            .env("NEXT_TELEMETRY_DISABLED", "1")
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("node starts");
        Self { server, port }
    }

    async fn listens(&self) {
        let knock = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, knock).await.expect("the site listens in time");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let group = format!("-{}", self.server.id());
        // A site that has ended already needs no signal.
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.server.wait();
    }
}

fn interop() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/interop"))
}

/// Three sites and a browser are enough for a small machine, and the steps count redemptions.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Long enough for any step between two waits, short enough to be waited for.
const ACCESS_LIFE: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(180);
/// How many steps `browser.mjs` has.
const STEPS: usize = 11;
