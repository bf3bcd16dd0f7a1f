//! The manifests on a real Kubernetes: the kubelet starts, probes, reloads and ends the pods.
//!
//! One test, because a node takes a while: a sidecar from its rollout to its end, then a gateway that
//! is replaced under load. It prints its figures; `docs/operating.md` has those of one run.

use std::fmt::Display;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foregate_stage::{Backend, BackendSettings, Grant, SECRET};
use foregate_tests::{Answer, Connection, free_port};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::cluster::Cluster;
use super::load::{LONG_SECONDS, Load, Visitor};
use super::manifests::copy;
use super::objects::{deploy, tool};
use crate::deploy::containers;
use crate::world::session_cookie;

#[tokio::test]
async fn a_node_runs_the_gate_beside_an_app_and_in_front_of_apps_and_no_request_fails() {
    let cluster = Cluster::start().await;
    containers::images();
    let version = env!("CARGO_PKG_VERSION");
    cluster.take(containers::GATE, &format!("localhost/foregate:{version}")).await;
    cluster.build("localhost/app:1", tool("app")).await;
    copy(&deploy().join("kubernetes"), &cluster.state.join("manifests"));

    let host = a_sidecar(&cluster).await;
    a_gateway(&cluster, host).await;
}

/// Rolls a sidecar out, changes its rules, ends it. Gives this machine's address among the pods.
async fn a_sidecar(cluster: &Cluster) -> IpAddr {
    secret(cluster, "").await;
    let overlay = Overlay::new(cluster, "sidecar", "replicas: [{ name: app, count: 1 }]");
    let begun = Instant::now();
    overlay.apply(cluster).await;
    cluster.kubectl(&["rollout", "status", "deployment/app", "--timeout=120s"]).await;
    figure("sidecar: from apply to available", seconds(begun.elapsed()));
    let pod = cluster.get(&["pods", "--selector=app=app"]).await.remove(0);
    let ip: IpAddr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
    let gate = SocketAddr::new(ip, 8080);

    let (cookie, grant) = visitor().await;
    let answer = ask(gate, &cookie.asks("/dashboard", "")).await.unwrap();
    let token = format!("Bearer {}", grant.access_token);
    assert_eq!((answer.status, &answer.json()["authorization"]), (200, &json!(token)));
    let stranger = Visitor { cookie: "none=1".to_owned() };
    assert_eq!(ask(gate, &stranger.asks("/dashboard", "")).await.unwrap().status, 401);
    let around = TcpStream::connect(SocketAddr::new(ip, 3000)).await;
    assert_eq!(around.err().unwrap().kind(), std::io::ErrorKind::ConnectionRefused);
    figure("sidecar: memory of the gate, idle", format!("{} KiB", resident()));

    rules_change_by_an_edit(cluster, &overlay, gate).await;
    the_gate_outlives_its_app(cluster, gate, &cookie).await;
    let IpAddr::V4(ip) = ip else { panic!("{ip} is none of node.sh") };
    let [a, b, c, _] = ip.octets();
    [a, b, c, 1].into()
}

async fn rules_change_by_an_edit(cluster: &Cluster, overlay: &Overlay, gate: SocketAddr) {
    let stranger = Visitor { cookie: "none=1".to_owned() };
    let status = async || ask(gate, &stranger.asks("/open", "")).await.unwrap().status;
    assert_eq!(status().await, 401);
    overlay.edit("\"/api/health\"", "\"/api/health\", \"/open\"");
    overlay.apply(cluster).await;
    let begun = Instant::now();
    while status().await != 200 {
        assert!(begun.elapsed() < Duration::from_secs(150), "the edit never arrives");
        sleep(Duration::from_millis(250)).await;
    }
    figure(
        "sidecar: from the edit of the ConfigMap until the new rules rule",
        seconds(begun.elapsed()),
    );
    let pods = cluster.get(&["pods", "--selector=app=app"]).await;
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0]["status"]["initContainerStatuses"][0]["restartCount"], 0);
}

/// The app is asked to end first, with requests on their way; the gate stays until it has.
async fn the_gate_outlives_its_app(cluster: &Cluster, gate: SocketAddr, visitor: &Visitor) {
    let slow = visitor.asks("/slow?seconds=15", "");
    let last = tokio::spawn(async move { ask(gate, &slow).await.map(|answer| answer.text()) });
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    cluster.kubectl(&["scale", "deployment/app", "--replicas=0"]).await;
    // As long as the hook of the app keeps it listening, whoever does not know yet still comes.
    let mut passed = 0;
    while begun.elapsed() < Duration::from_secs(8) {
        let answer = ask(gate, &visitor.asks("/dashboard", "")).await;
        assert_eq!(answer.map(|answer| answer.status), Some(200), "after {:?}", begun.elapsed());
        passed += 1;
        sleep(Duration::from_millis(50)).await;
    }
    let last = last.await.unwrap().expect("the app's last answer comes through");
    assert!(last.ends_with("done\n"), "{last}");
    let after = begun.elapsed();
    cluster
        .until(&["pods", "--selector=app=app"], Duration::from_secs(60), <[Value]>::is_empty)
        .await;
    figure("sidecar: requests that passed after the pod was told to end", passed);
    figure("sidecar: its app's last answer ended after", seconds(after));
    figure("sidecar: the pod was gone after", seconds(begun.elapsed()));
}

/// Replaces three replicas under load; then once more without a drain, to see that this load would
/// have noticed.
async fn a_gateway(cluster: &Cluster, host: IpAddr) {
    let redis = Redis::start(host);
    let access_life = Duration::from_secs(20);
    let settings = BackendSettings { access_life, ..BackendSettings::default() };
    let backend = Backend::start(SocketAddr::new(host, 0), settings).await.unwrap();
    secret(cluster, &redis.url()).await;
    let app = app_behind(cluster).await;
    let overlay = Overlay::new(cluster, "gateway", "");
    overlay.write(&format!(
        "[server]\ntrusted_proxies = ['{host}']\n\
         [session]\nsecrets = [{{ file = '/run/secrets/foregate/session-secret' }}]\n\
         domain = '.example.com'\n[backend]\nrefresh_url = '{}'\n\
         [[app]]\nhost = 'app.example.com'\nupstream = 'http://{app}'\n",
        backend.refresh_url(),
    ));
    overlay.apply(cluster).await;
    let three = |found: &[Value]| found[0]["status"]["readyReplicas"] == 3;
    cluster.until(&["deployment", "foregate"], Duration::from_secs(120), three).await;
    let mut endpoints = cluster.endpoints("foregate", PROXY_LAG);
    let known = timeout(Duration::from_secs(30), endpoints.wait_for(|known| known.len() == 3));
    known.await.expect("three endpoints in time").unwrap();

    let visitors: Vec<_> = (0..12)
        .map(|_| Visitor { cookie: session_cookie(&backend.grant(ADA, access_life).unwrap()) })
        .collect();
    let begun = Instant::now();
    let load = Load::start(endpoints.clone(), &visitors);
    sleep(Duration::from_secs(5)).await;
    let tally = load.so_far();
    assert!(tally.failures.is_empty(), "{tally:#?}\n{}", logs(cluster).await);
    let (replaced, gone) = replace(cluster, &["rollout", "restart", "deployment/foregate"]).await;
    sleep(Duration::from_secs(5)).await;
    let lasted = begun.elapsed();
    let tally = load.stop().await;
    let counters = backend.counters();

    figure("gateway: three replicas were replaced within", seconds(replaced));
    figure("gateway: and the last of the old ones was gone after", seconds(gone));
    figure("gateway: load lasted", seconds(lasted));
    figure("gateway: requests", tally.requests);
    figure("gateway: connections", tally.connections);
    figure("gateway: slowest short answer", seconds(tally.slowest));
    figure("gateway: long answers", tally.long_answers);
    figure("gateway: longest answer", seconds(tally.longest));
    figure("gateway: WebSockets", tally.tunnels);
    figure("gateway: echoes over them", tally.echoes);
    figure("gateway: WebSockets that ended with their gate", tally.tunnels_ended.len());
    figure("gateway: redemptions", counters.redemptions);
    figure("gateway: memory of a gate", format!("{} KiB", resident()));
    figure("gateway: failed", tally.failures.len());
    assert!(tally.failures.is_empty(), "{:#?}\n{}", tally.failures, logs(cluster).await);
    assert!(tally.long_answers >= 8 && tally.longest >= Duration::from_secs(LONG_SECONDS));
    let shortest = tally.tunnels_ended.iter().min();
    let whole_grace = Duration::from_secs(10 + 30);
    assert!(shortest.is_some_and(|stood| *stood >= whole_grace), "{:?}", tally.tunnels_ended);
    assert!(counters.redemptions >= visitors.len() as u64, "{counters:?}");
    assert_eq!((counters.refused, counters.reuses), (0, 0), "no token was redeemed twice");

    let no_drain = "FOREGATE_SERVER__DRAIN_DELAY=0s";
    replace(cluster, &["set", "env", "deployment/foregate", no_drain]).await;
    let load = Load::start(endpoints, &visitors);
    replace(cluster, &["rollout", "restart", "deployment/foregate"]).await;
    let tally = load.stop().await;
    figure("gateway: requests, without drain_delay", tally.requests);
    figure("gateway: failed, without drain_delay", tally.failures.len());
    assert!(!tally.failures.is_empty(), "this load would notice nothing");
}

/// Has all replicas replaced: how long until the new ones were there, and the old ones gone.
async fn replace(cluster: &Cluster, command: &[&str]) -> (Duration, Duration) {
    let pods = ["pods", "--selector=app.kubernetes.io/name=foregate"];
    let names = |pods: &[Value]| -> Vec<String> {
        pods.iter().map(|pod| pod["metadata"]["name"].to_string()).collect()
    };
    let before = names(&cluster.get(&pods).await);
    let begun = Instant::now();
    cluster.kubectl(command).await;
    cluster.kubectl(&["rollout", "status", "deployment/foregate", "--timeout=180s"]).await;
    let replaced = begun.elapsed();
    let all_new = |pods: &[Value]| {
        let now = names(pods);
        now.len() == 3 && now.iter().all(|name| !before.contains(name))
    };
    cluster.until(&pods, Duration::from_secs(120), all_new).await;
    (replaced, begun.elapsed())
}

/// How long a node's proxy may take to learn of an endpoint that goes.
const PROXY_LAG: Duration = Duration::from_secs(1);
const ADA: &str = "ada@example.com";

/// An app as it stands behind a gateway; gives its address.
async fn app_behind(cluster: &Cluster) -> SocketAddr {
    cluster
        .apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "behind", "labels": { "foregate": "behind" } },
            "spec": { "containers": [{
                "name": "app", "image": "localhost/app:1",
                "env": [{ "name": "PORT", "value": "3000" }],
            }] },
        }))
        .await;
    let runs = |found: &[Value]| found[0]["status"]["phase"] == "Running";
    let pod = cluster.until(&["pod", "behind"], Duration::from_secs(60), runs).await.remove(0);
    SocketAddr::new(pod["status"]["podIP"].as_str().unwrap().parse().unwrap(), 3000)
}

/// The Secret of the examples; without a `ledger` the gate keeps its own.
async fn secret(cluster: &Cluster, ledger: &str) {
    let mut data = json!({ "session-secret": SECRET });
    if !ledger.is_empty() {
        data["ledger"] = json!(ledger);
    }
    let metadata = json!({ "name": "foregate" });
    let kind =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data });
    cluster.apply(&kind).await;
}

/// A session of somebody whose token lasts.
async fn visitor() -> (Visitor, Grant) {
    let backend =
        Backend::start(([127, 0, 0, 1], 0).into(), BackendSettings::default()).await.unwrap();
    let grant = backend.grant(ADA, Duration::from_secs(3600)).unwrap();
    (Visitor { cookie: session_cookie(&grant) }, grant)
}

async fn ask(gate: SocketAddr, request: &str) -> Option<Answer> {
    let mut connection = Connection::over(TcpStream::connect(gate).await.ok()?);
    connection.send(request).await;
    connection.answer().await
}

/// An operator's own kustomization on top of an example: other images, and what stands in its
/// proxy.toml.
struct Overlay {
    folder: PathBuf,
    example: PathBuf,
}

impl Overlay {
    fn new(cluster: &Cluster, example: &str, more: &str) -> Self {
        let manifests = cluster.state.join("manifests");
        let folder = manifests.join(format!("overlay-{example}"));
        fs::create_dir(&folder).unwrap();
        let text = format!(
            "resources: [../examples/{example}]\nimages:\n\
             - {{ name: registry.example.com/foregate, newName: localhost/foregate }}\n\
             - {{ name: registry.example.com/app, newName: localhost/app }}\n{more}\n"
        );
        fs::write(folder.join("kustomization.yaml"), text).unwrap();
        Self { folder, example: manifests.join("examples").join(example) }
    }

    async fn apply(&self, cluster: &Cluster) {
        cluster.kubectl(&["apply", "--kustomize", self.folder.to_str().unwrap()]).await;
    }

    fn write(&self, config: &str) {
        fs::write(self.example.join("proxy.toml"), config).unwrap();
    }

    fn edit(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.example.join("proxy.toml")).unwrap();
        assert!(text.contains(old), "{text}");
        self.write(&text.replace(old, new));
    }
}

/// A Redis with a password, which pods can reach. It ends with its owner.
struct Redis {
    child: Child,
    address: SocketAddr,
}

impl Redis {
    fn start(host: IpAddr) -> Self {
        let address = SocketAddr::new(host, free_port());
        let child = Command::new("redis-server")
            .args(["--bind", &host.to_string(), "--port", &address.port().to_string()])
            .args(["--requirepass", PASSWORD, "--save", "", "--appendonly", "no"])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    fn url(&self) -> String {
        format!("redis://:{PASSWORD}@{}", self.address)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PASSWORD: &str = "a-password-of-the-ledger";

/// What the gates have to say, where a test fails.
async fn logs(cluster: &Cluster) -> String {
    let told = cluster.told().await;
    let selector = "--selector=app.kubernetes.io/name=foregate";
    let logs = cluster.kubectl(&["logs", selector, "--tail=40", "--prefix"]).await;
    let logs: Vec<_> = logs.lines().filter(|line| !line.contains("\"pass\"")).collect();
    format!("{told}\n{}", logs.join("\n"))
}

/// The resident memory of the largest gate that runs in a container, in KiB.
fn resident() -> u64 {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let gates = processes.filter(|path| {
        let told = |file| fs::read_to_string(path.join(file)).unwrap_or_default();
        told("comm").trim() == "foregate" && told("cmdline").contains("/etc/foregate/proxy.toml")
    });
    let sizes = gates.filter_map(|path| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    });
    sizes.max().unwrap_or(0)
}

fn figure(what: &str, value: impl Display) {
    eprintln!("figure: {what}: {value}");
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
