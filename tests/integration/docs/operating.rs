//! docs/operating.md: the table of metrics against a running gate, and the steps by which the session
//! secret changes, walked with sessions of before.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use foregate_stage::{Backend, BackendSettings, Origin, cookie_header, random, seal_v4};
use foregate_tests::{Browser, Certificates, Connection, Gate};

use super::{path, read};
use crate::recipes::{Folder, blocks, code_spans, table_rows};
use crate::world::{ANY, APP, COOKIE, LIFE, World, config};

const PAGE: &str = "docs/operating.md";

#[tokio::test]
async fn the_table_of_metrics_has_each_one_with_its_labels_and_no_other() {
    let certificates = Certificates::covering(&["app.example.com"]);
    let server = "[server]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\n\
                  admin = \"127.0.0.1:0\"\n";
    let world = World::with(&[server, &certificates.table()].concat()).await;
    assert_eq!(world.stranger().fetch(&format!("{APP}/about")).await.status, 200);
    let admin = world.gate.admin_address().await;
    let mut connection = Connection::open(admin).await;
    connection.send(format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n")).await;
    let exposed = families(&connection.answer().await.unwrap().text());

    let page = read(PAGE);
    let rows = table_rows(&page, "| metric | labels | tells |");
    let told: BTreeMap<String, BTreeSet<String>> = rows
        .iter()
        .map(|row| (code_spans(row[0]).concat(), code_spans(row[1]).into_iter().collect()))
        .collect();
    assert_eq!(told, exposed);
}

/// The metrics of a text in Prometheus' format, each with its labels but for those of buckets.
fn families(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut families = BTreeMap::new();
    for family in text.split("# TYPE ").skip(1) {
        let (head, samples) = family.split_once('\n').unwrap();
        let name = head.split(' ').next().unwrap();
        let labels = samples.split("=\"").map(|before| {
            let start = before.rfind(['{', ',']).map_or(before.len(), |at| at + 1);
            before[start..].to_owned()
        });
        let is_name = |label: &String| {
            !label.is_empty() && label.chars().all(|it| it.is_ascii_lowercase() || it == '_')
        };
        let labels = labels.filter(is_name).filter(|label| label != "le").collect();
        families.insert(name.to_owned(), labels);
    }
    families
}

/// What they send is believed, and the endpoint's answer holds an access token.
#[test]
fn every_example_of_a_proxy_in_front_keeps_visitors_from_the_decision_endpoint() {
    let mut count = 0;
    let mut folders = vec![path("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let is_in_front = ["kind: Ingress\n", "kind: HTTPRoute\n", "proxy_pass"];
            if is_in_front.iter().any(|sign| text.contains(sign)) {
                assert!(text.contains("/.foregate/auth"), "{}", file.display());
                count += 1;
            }
        }
    }
    assert!(count >= 5, "only {count} files");
}

const OLD: &str = "the-old-secret-Zk3uR9pW2xQ7vB5nM8";
const NEW: &str = "the-new-secret-Hd6tY4sL1cJ0fG3aE9";

fn secret(name: &str) -> &'static str {
    match name {
        "old" => OLD,
        "new" => NEW,
        _ => panic!("{name} is no secret of the page"),
    }
}

/// A row of the page's table.
struct Step {
    /// Of the gates, in their order.
    secrets: Vec<&'static str>,
    /// What the site seals with.
    site: &'static str,
}

fn steps() -> Vec<Step> {
    let page = read(PAGE);
    let rows = table_rows(&page, "| step | `session.secrets` | the site seals with | what to do |");
    let steps = rows.iter().map(|row| Step {
        secrets: code_spans(row[1]).iter().map(|name| secret(name)).collect(),
        site: secret(&code_spans(row[2])[0]),
    });
    steps.collect()
}

/// What all gates of a test share.
struct Site {
    backend: Backend,
    origin: Origin,
}

impl Site {
    async fn start() -> Self {
        let settings = BackendSettings { access_life: LIFE, ..BackendSettings::default() };
        let backend = Backend::start(ANY, settings).await.unwrap();
        Self { backend, origin: Origin::start(ANY).await.unwrap() }
    }

    fn config(&self, step: &Step) -> String {
        let backend = format!("[backend]\nrefresh_url = \"{}\"\n", self.backend.refresh_url());
        let text = config(&backend, &self.origin.url());
        let (before, rest) = text.split_once("secrets = [").unwrap();
        let (_, after) = rest.split_once(']').unwrap();
        let secrets: Vec<_> = step.secrets.iter().map(|it| format!("\"{it}\"")).collect();
        format!("{before}secrets = [{}]{after}", secrets.join(", "))
    }

    /// A session as the site seals it, with an access token that is good for `life`.
    fn cookie(&self, secret: &str, life: Duration) -> String {
        let grant = self.backend.grant("ada@example.com", life).unwrap();
        let claims = grant.session_claims(Duration::from_secs(30 * 24 * 3600)).to_string();
        cookie_header(COOKIE, &seal_v4(secret, &claims, random()))
    }
}

fn visitor(gate: &Gate, cookie: &str) -> Browser {
    let browser = Browser::new(gate.address());
    browser.set_cookies("example.com", cookie);
    browser
}

async fn opens(gate: &Gate, cookie: &str) -> bool {
    visitor(gate, cookie).fetch(&format!("{APP}/dashboard")).await.status == 200
}

#[tokio::test]
async fn old_and_new_gates_open_what_the_others_and_the_site_seal() {
    let site = Site::start().await;
    let steps = steps();
    assert!(steps.len() >= 5, "only {} steps", steps.len());
    // In the last pair nobody seals with the old one any more, and what it sealed has ended.
    for (number, pair) in steps.windows(2).enumerate() {
        let mut gates = Vec::new();
        for step in pair {
            gates.push(Gate::start(&site.config(step)).await);
        }
        for step in pair {
            let fresh = site.cookie(step.site, LIFE);
            for gate in &gates {
                assert!(opens(gate, &fresh).await, "step {number}: what the site seals");
            }
        }
        for sealing in &gates {
            let browser = visitor(sealing, &site.cookie(pair[0].site, Duration::ZERO));
            assert_eq!(browser.fetch(&format!("{APP}/dashboard")).await.status, 200);
            let renewed = browser.cookies("app.example.com").unwrap();
            for gate in &gates {
                assert!(opens(gate, &renewed).await, "step {number}: what a gate seals");
            }
        }
    }
}

#[tokio::test]
async fn nobody_is_signed_out_on_the_way_and_the_old_secret_opens_nothing_in_the_end() {
    let site = Site::start().await;
    let steps = steps();
    let gate = Gate::start(&site.config(&steps[0])).await;
    let before = site.cookie(OLD, LIFE);
    let came_back = visitor(&gate, &site.cookie(OLD, Duration::ZERO));
    let last = steps.len() - 1;
    for (number, step) in steps.iter().enumerate().skip(1) {
        take_over(&gate, &site.config(step), number).await;
        assert_eq!(opens(&gate, &before).await, number < last, "step {number}");
        assert_eq!(opens(&gate, &site.cookie(OLD, LIFE)).await, number < last, "step {number}");
        assert!(opens(&gate, &site.cookie(NEW, LIFE)).await, "step {number}");
        if number + 1 >= last {
            // Somebody whose access token has ended: renewed, and sealed with the new secret.
            let status = came_back.fetch(&format!("{APP}/dashboard")).await.status;
            assert_eq!(status, 200, "step {number}");
        }
    }
    let cookies = came_back.cookies("app.example.com").unwrap();
    assert_eq!(opened_by(&cookies, &[OLD, NEW]), Some(1), "by its place in the list");
    assert_eq!(opened_by(&cookies, &[OLD]), None);
    assert_eq!(opened_by(&before, &[OLD, NEW]), Some(0));
}

/// Waits until the gate goes by this file: until it knows a host that no file before it had.
async fn take_over(gate: &Gate, text: &str, number: usize) {
    let host = format!("step-{number}.example.com");
    let app = "upstream = \"http://127.0.0.1:1\"\naccess = \"deny\"\n";
    let text =
        format!("{text}[server]\nhttp = \"{}\"\n[[app]]\nhost = \"{host}\"\n{app}", gate.address());
    std::fs::write(gate.config_file(), text).unwrap();
    gate.signal("HUP");
    let deadline = Instant::now() + PATIENCE;
    while Browser::new(gate.address()).fetch(&format!("http://{host}/")).await.status == 404 {
        assert!(Instant::now() < deadline, "step {number} is not taken over:\n{}", gate.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

/// What `foregate session decode` says: the place of the secret that opened it.
fn opened_by(cookies: &str, secrets: &[&str]) -> Option<u64> {
    let secrets: Vec<_> = secrets.iter().map(|it| format!("\"{it}\"")).collect();
    let app = "[[app]]\nhost = \"app.example.com\"\nupstream = \"http://127.0.0.1:1\"\n";
    let folder = Folder::new(&format!("[session]\nsecrets = [{}]\n{app}", secrets.join(", ")));
    folder.write("cookie.txt", cookies);
    let output = Command::new(foregate_tests::program())
        .args(["session", "decode", "--json", "--config", &folder.path("proxy.toml")])
        .stdin(std::fs::File::open(folder.path("cookie.txt")).unwrap())
        .env_clear()
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    told["secret"].as_u64()
}

/// The page's lines, in Node.js with the library itself.
#[test]
fn next_auth_4_reads_both_secrets_with_the_lines_of_the_page() {
    let page = read(PAGE);
    let lines = blocks(&page).find(|block| block.info == "js rotation").unwrap().text.to_owned();
    let script = format!(
        "import {{ encode }} from \"next-auth/jwt\";\n{lines}\n\
         const read = async (secret) => {{\n\
           const token = await encode({{ token: {{ sub: \"ada\" }}, secret }});\n\
           return (await decodeWithAny({{ token, secret: \"another\" }}))?.sub ?? null;\n\
         }};\n\
         const all = [\"{OLD}\", \"{NEW}\", \"neither\"].map(read);\n\
         console.log(JSON.stringify(await Promise.all(all)));"
    );
    assert_eq!(node(&script), "[\"ada\",\"ada\",null]");
}

#[test]
fn next_auth_5_seals_with_the_first_of_its_list_and_opens_with_all() {
    let script = format!(
        "import {{ decode, encode }} from \"next-auth5/jwt\";\n\
         const salt = \"authjs.session-token\";\n\
         const sealed = (secret) => encode({{ token: {{ sub: \"ada\" }}, secret, salt }});\n\
         const opened = (token, secret) =>\n\
           decode({{ token, secret, salt }}).then((token) => token?.sub, () => null);\n\
         const [old, both] = [await sealed([\"{OLD}\"]), await sealed([\"{NEW}\", \"{OLD}\"])];\n\
         console.log(JSON.stringify([\n\
           await opened(old, [\"{OLD}\", \"{NEW}\"]), await opened(old, [\"{NEW}\", \"{OLD}\"]),\n\
           await opened(both, [\"{NEW}\"]), await opened(both, [\"{OLD}\"]),\n\
         ]));"
    );
    assert_eq!(node(&script), "[\"ada\",\"ada\",\"ada\",null]");
}

/// What a script prints, where both libraries are installed.
fn node(script: &str) -> String {
    let said = Command::new("node")
        .args(["--input-type=module", "--eval", script])
        .current_dir(path("tests/interop"))
        .env("NEXTAUTH_SECRET", OLD)
        .env("NEXTAUTH_SECRET_OTHER", NEW)
        .output()
        .expect("Node.js is installed");
    assert!(said.status.success(), "{said:?}");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}
