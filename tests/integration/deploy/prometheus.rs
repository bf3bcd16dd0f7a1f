//! The alerts of `deploy/prometheus` and the dashboard of `deploy/grafana`, in the real Prometheus,
//! which scrapes a gate with traffic as `deploy/prometheus/prometheus.yml` says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foregate_stage::{Fault, Script, Step};
use foregate_tests::{Answer, Browser, Certificates, Connection, Request, free_port};
use serde_json::Value;
use tokio::time::sleep;

use crate::world::{APP, COOKIE, LIFE, World};

const RULES: &str = include_str!("../../../deploy/prometheus/rules.yml");
const CONFIG: &str = include_str!("../../../deploy/prometheus/prometheus.yml");
const DASHBOARD: &str = include_str!("../../../deploy/grafana/foregate.json");
const PAGE: &str = include_str!("../../../docs/operating.md");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus")
}

/// The names of all alerts, in their order.
fn alerts() -> Vec<&'static str> {
    RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_in_its_trouble_alone() {
    for arguments in [
        &["check", "rules", "rules.yml"][..],
        &["check", "config", "prometheus.yml"],
        &["test", "rules", "tests/trouble.yml", "tests/healthy.yml"],
    ] {
        let said = Command::new("promtool").args(arguments).current_dir(folder()).output();
        let said = said.expect("promtool comes with Debian's package prometheus");
        assert!(said.status.success(), "{arguments:?}: {said:?}");
    }
}

#[test]
fn each_alert_is_tried_twice_and_says_where_to_read_on() {
    let read = |file: &str| fs::read_to_string(folder().join("tests").join(file)).unwrap();
    let (trouble, healthy) = (read("trouble.yml"), read("healthy.yml"));
    let names = alerts();
    assert!(names.len() >= 20, "only {}", names.len());
    for (name, rule) in names.iter().zip(RULES.split("- alert: ").skip(1)) {
        let silent = format!("{{ alertname: {name}, eval_time: ");
        assert!(trouble.contains(&silent) && healthy.contains(&silent), "{name} is silent");
        assert!(trouble.contains(&format!("- alertname: {name}\n")), "{name} fires");
        let runbook = format!("runbook: docs/operating.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&runbook), "{name} says where to read on");
        assert!(PAGE.contains(&format!("\n### {name}\n")), "{name} has its paragraph");
        let severity = ["critical", "warning"].map(|word| format!("severity: {word} }}"));
        assert!(severity.iter().any(|label| rule.contains(label)), "{name} has a severity");
    }
    let headings = PAGE.lines().filter_map(|line| line.strip_prefix("### Foregate"));
    assert_eq!(headings.count(), names.len(), "no paragraph is about an alert of the past");
}

#[test]
fn the_dashboard_is_one_that_grafana_can_import() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    assert_eq!((&dashboard["id"], &dashboard["uid"]), (&Value::Null, &"foregate".into()));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert_eq!(variables[0]["type"], "datasource", "nobody's data source is written down");
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let place = &panel["gridPos"];
        let [x, w] = ["x", "w"].map(|side| place[side].as_u64().unwrap());
        assert!(x + w <= 24, "{} is on the page", panel["title"]);
        for target in panel["targets"].as_array().unwrap_or(&Vec::new()) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    let known: Vec<&str> = variables.iter().map(|it| it["name"].as_str().unwrap()).collect();
    for query in queries() {
        for name in query.expression.split('$').skip(1) {
            let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let name = &name[..end.unwrap_or(name.len())];
            assert!(known.contains(&name) || name == "__rate_interval", "${name}");
        }
    }
}

#[tokio::test]
async fn a_real_prometheus_loads_every_rule_and_has_an_answer_to_every_query() {
    let scene = Scene::start().await;
    let prometheus = Prometheus::start(scene.admin).await;
    scene.traffic().await;
    let labels = scene.labels().await;
    let mut open = queries();
    for expression in prometheus.rules().await {
        // What a rule compares is there, or it could never fire.
        open.extend(selectors(&expression).into_iter().map(Query::new));
        assert_labels_are_known(&expression, &labels);
    }
    assert!(open.len() > 70, "only {} queries", open.len());
    open.iter().for_each(|query| assert_labels_are_known(&query.expression, &labels));

    let deadline = Instant::now() + PATIENCE;
    while !open.is_empty() {
        scene.traffic().await;
        let mut unanswered = Vec::new();
        for query in open {
            if !query.is_answered(&prometheus).await {
                unanswered.push(query);
            }
        }
        open = unanswered;
        let left: Vec<_> = open.iter().map(|query| &query.expression).collect();
        assert!(Instant::now() < deadline, "no answer to {left:#?}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_seen_by_its_alert_until_it_is_mended() {
    let scene = Scene::start().await;
    let prometheus = Prometheus::start(scene.admin).await;
    prometheus.state("ForegateReloadFailed", "inactive").await;
    let file = scene.world.gate.config_file();
    let sound = fs::read_to_string(&file).unwrap();
    fs::write(&file, sound.replace("access = \"deny\"", "acces = \"deny\"")).unwrap();
    scene.world.gate.signal("HUP");
    prometheus.state("ForegateReloadFailed", "pending").await;
    fs::write(&file, sound).unwrap();
    scene.world.gate.signal("HUP");
    prometheus.state("ForegateReloadFailed", "inactive").await;
}

/// A gate of whose every side there is something to count.
struct Scene {
    world: World,
    admin: SocketAddr,
    /// The files of the gate's https listener.
    _certificates: Certificates,
}

impl Scene {
    async fn start() -> Self {
        let certificates = Certificates::covering(&["*.example.com"]);
        let server = "[server]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\n\
                      admin = \"127.0.0.1:0\"\n";
        let world = World::with(&[server, &certificates.table()].concat()).await;
        let admin = world.gate.admin_address().await;
        Self { world, admin, _certificates: certificates }
    }

    /// One of each kind of request that rules and dashboard ask about.
    async fn traffic(&self) {
        let world = &self.world;
        let (ada, _) = world.visitor("ada", LIFE);
        let (ended, _) = world.visitor("bob", Duration::ZERO);
        let (stuck, _) = world.visitor("bob", Duration::ZERO);
        let stranger = world.stranger();
        let foreign = world.stranger();
        foreign.set_cookies("example.com", &format!("{COOKIE}=junk"));
        let page = format!("{APP}/dashboard");
        for (visitor, status) in [(&ada, 200), (&ended, 200), (&stranger, 401), (&foreign, 401)] {
            assert_eq!(visitor.fetch(&page).await.status, status);
        }
        world.backend.fail(Fault::Status(500));
        assert_eq!(stuck.fetch(&page).await.status, 503);
        world.backend.recover();
        world.origin.script("/public/fails", Script::answer("500 Oh", &[], ""));
        assert_eq!(stranger.fetch(&format!("{APP}/public/fails")).await.status, 500);
        world.origin.script("/public/broken", Script::new([Step::Close]));
        let broken = Request::new("POST", &format!("{APP}/public/broken")).fetch("same-origin");
        assert_eq!(stranger.send(&broken).await.status, 502);
    }

    /// The names of all labels in `/metrics`, and those that Prometheus adds.
    async fn labels(&self) -> BTreeSet<String> {
        let mut connection = Connection::open(self.admin).await;
        let ask = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin);
        connection.send(ask).await;
        let text = connection.answer().await.unwrap().text();
        let names = text.split("=\"").map(|before| {
            let start = before.rfind(['{', ',']).map_or(0, |at| at + 1);
            before[start..].to_owned()
        });
        names.chain(["job", "instance"].map(str::to_owned)).collect()
    }
}

/// What is asked of Prometheus.
struct Query {
    expression: String,
    /// Of the labels that the answer must have.
    legend: BTreeSet<String>,
}

impl Query {
    fn new(expression: String) -> Self {
        Self { expression, legend: BTreeSet::new() }
    }

    /// There is a series, with the labels of the legend and a number.
    async fn is_answered(&self, prometheus: &Prometheus) -> bool {
        let mut expression = self.expression.replace("$__rate_interval", "20s");
        for variable in ["$job", "$instance", "$app"] {
            expression = expression.replace(variable, ".*");
        }
        let result = prometheus.query(&expression).await;
        let is_whole = |series: &&Value| {
            let number: Option<f64> = series["value"][1].as_str().and_then(|it| it.parse().ok());
            let has = |label: &String| series["metric"].get(label).is_some();
            number.is_some_and(|number| !number.is_nan()) && self.legend.iter().all(has)
        };
        result.iter().any(|series| is_whole(&series))
    }
}

/// Those of the dashboard.
fn queries() -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| {
        let [expression, legend] =
            ["expr", "legendFormat"].map(|key| target[key].as_str().unwrap());
        let names = legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
        let legend = names.map(str::to_owned).collect();
        Query { expression: expression.to_owned(), legend }
    });
    queries.collect()
}

/// The series of ours that an expression names, each as a query of its own.
fn selectors(expression: &str) -> Vec<String> {
    let starts = expression.match_indices("foregate_");
    let selectors = starts.map(|(start, _)| {
        let rest = &expression[start..];
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let name = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        let end = match rest[name..].starts_with('{') {
            true => name + rest[name..].find('}').expect("a brace is closed") + 1,
            false => name,
        };
        rest[..end].to_owned()
    });
    selectors.collect()
}

/// By what it groups and joins. A label that is not there would group nothing, in silence.
fn assert_labels_are_known(expression: &str, known: &BTreeSet<String>) {
    for keyword in ["by (", "on ("] {
        for list in expression.split(keyword).skip(1) {
            let list = list.split(')').next().unwrap_or_default();
            for label in list.split(',').map(str::trim) {
                assert!(known.contains(label), "{label} in {expression}");
            }
        }
    }
}

/// Prometheus on loopback, with our rules and everything 75 times as fast.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Prometheus {
    async fn start(admin: SocketAddr) -> Self {
        let port = free_port();
        let directory = std::env::temp_dir().join(format!("foregate-prometheus-{port}"));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(CONFIG.matches(": 15s").count(), 2);
        let config = CONFIG.replace(": 15s", ": 200ms");
        let config = config.replace("127.0.0.1:9901", &admin.to_string());
        fs::write(directory.join("prometheus.yml"), config).unwrap();
        fs::write(directory.join("rules.yml"), RULES).unwrap();
        let here = directory.display();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={here}/prometheus.yml"))
            .arg(format!("--storage.tsdb.path={here}/data"))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .expect("prometheus is installed; `cargo xtask test` does that");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let prometheus = Self { child, address, directory };
        let deadline = Instant::now() + PATIENCE;
        while !prometheus.is_ready().await {
            assert!(Instant::now() < deadline, "Prometheus is not ready");
            sleep(Duration::from_millis(50)).await;
        }
        prometheus
    }

    async fn is_ready(&self) -> bool {
        let Ok(stream) = tokio::net::TcpStream::connect(self.address).await else { return false };
        let mut connection = Connection::over(stream);
        connection.send("GET /-/ready HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        connection.answer().await.is_some_and(|answer| answer.status == 200)
    }

    async fn ask(&self, target: &str) -> Answer {
        Browser::new(self.address).fetch(&format!("http://localhost{target}")).await
    }

    /// The series that an expression has now.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let mut target = "/api/v1/query?query=".to_owned();
        for byte in expression.bytes() {
            write!(target, "%{byte:02X}").unwrap();
        }
        let answer = self.ask(&target).await;
        let told = answer.json();
        assert_eq!(told["status"], "success", "{expression}: {told}");
        told["data"]["result"].as_array().unwrap().clone()
    }

    /// The alerts, each as Prometheus tells of it.
    async fn alerts(&self) -> Vec<Value> {
        let told = self.ask("/api/v1/rules").await.json();
        let groups = told["data"]["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// The expressions of the rules, all of which must have been evaluated without an error.
    async fn rules(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.alerts().await;
            let names: BTreeSet<_> =
                told.iter().map(|rule| rule["name"].as_str().unwrap()).collect();
            assert_eq!(names, alerts().into_iter().collect());
            let wrong: Vec<_> = told.iter().filter(|rule| rule["health"] != "ok").collect();
            if wrong.is_empty() {
                return told
                    .iter()
                    .map(|rule| rule["query"].as_str().unwrap().to_owned())
                    .collect();
            }
            assert!(Instant::now() < deadline, "{wrong:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the alert is in this state.
    async fn state(&self, name: &str, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.alerts().await;
            let alert = told.iter().find(|rule| rule["name"] == name).unwrap();
            if alert["state"] == state && alert["health"] == "ok" {
                return;
            }
            assert!(Instant::now() < deadline, "{alert:#}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("the log of Prometheus:\n{log}");
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
