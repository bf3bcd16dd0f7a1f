//! The image of `deploy/Containerfile`: what is in it, and how it runs, confined as it should be.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use foregate_stage::{Backend, BackendSettings};
use foregate_tests::{Answer, Browser, Certificates, Connection, Request, free_port};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::containers::{
    APP, Containers, GATE, PATIENCE, REDIS, RUST, SOURCE, command, inspect, podman, root,
    static_binary,
};

const PAGE: &str = "http://app.example.com/reports";
const SECRET: &str = "kY7qP2vB9wX4zL8nT3mR6sD1fG5hJ0cA";

/// What takes from a container all that the gate can do without.
const CONFINED: [&str; 5] = [
    "--read-only",
    "--read-only-tmpfs=false",
    "--memory=64m",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
];

/// An app called `app`, without any power.
fn start_app(containers: &Containers) {
    let port = ["--env=WHOAMI_PORT_NUMBER=3000"];
    containers.run("app", &[&CONFINED[..], &port].concat(), APP, &[]);
}

fn config(more: &str) -> String {
    format!(
        r#"[server]
http = "0.0.0.0:8080"
drain_delay = "2s"
shutdown_grace = "10s"

[session]
secrets = [{{ file = "/run/secrets/session" }}]
domain = ".example.com"
secure = false

[login]
url = "http://auth.example.com/login"

[[app]]
host = "app.example.com"
upstream = "http://app:3000"

{more}
"#
    )
}

/// A gate called `gate` on `config`, confined, once it is ready.
fn start_gate(containers: &Containers, config: &str, how: &[&str]) {
    let folder = containers.write("gate/proxy.toml", config);
    let folder = format!("--volume={}:/etc/foregate:ro", folder.parent().unwrap().display());
    let secret = containers.write("session", &format!("{SECRET}\n"));
    let secret = format!("--volume={}:/run/secrets/session:ro", secret.display());
    let mounts = [folder.as_str(), secret.as_str()];
    containers.run("gate", &[&CONFINED[..], &mounts, how].concat(), GATE, &[]);
    containers.healthy("gate");
}

/// A browser in front of the container called `gate`, with a session that the program itself sealed
/// in there.
fn visitor(containers: &Containers, name: &str, claims: &Value) -> Browser {
    let mint = ["foregate", "session", "mint", "--claims", "-"];
    let minted = containers.exec(name, &mint, &claims.to_string());
    assert!(minted.status.success(), "{minted:?}");
    let browser = Browser::new(containers.address(name, 8080));
    browser.set_cookies("example.com", String::from_utf8(minted.stdout).unwrap().trim());
    browser
}

/// Somebody with an access token that nothing says an end of.
fn somebody() -> Value {
    json!({ "sub": "u-1", "email": "ada@example.com", "accessToken": "an-access-token" })
}

#[test]
fn the_image_holds_the_program_certificates_and_nothing_else() {
    let containers = Containers::new();
    podman(&["create", "--pull=never", "--name", &containers.name("still"), GATE]);
    let archive = containers.folder.join("image.tar");
    let archive = archive.to_str().unwrap();
    podman(&["export", "--output", archive, &containers.name("still")]);
    let listed = Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "--file", archive])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut files = BTreeSet::new();
    for line in listed.lines() {
        // Mode, owner/group, size, date, time, name.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (mode, owner, name) = (fields[0], fields[1], fields[5]);
        assert!(!mode.contains(['s', 'S', 't']), "{line}");
        if name == "var/lib/foregate/" {
            assert_eq!((mode, owner), ("drwx------", "65532/65532"));
        } else if mode.starts_with('-') && name != "etc/hosts" && name != "etc/resolv.conf" {
            assert_eq!(owner, "0/0", "only root could change it: {line}");
            assert!(!mode[5..].contains('w'), "{line}");
            files.insert(name);
        }
    }
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    let licence = "usr/share/doc/foregate/LICENSE";
    let program = "usr/bin/foregate";
    assert_eq!(files, BTreeSet::from(["etc/nsswitch.conf", certificates, licence, program]));
}

#[test]
fn the_image_is_small_and_says_how_it_is_run() {
    let _containers = Containers::new();
    let image = inspect(GATE);
    let size = image["Size"].as_u64().unwrap();
    eprintln!("the image has {:.1} MB", size as f64 / 1e6);
    assert!(size < 15_000_000, "{size} bytes");

    let config = &image["Config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["WorkingDir"], "/etc/foregate");
    assert_eq!(config["Entrypoint"], json!(["/usr/bin/foregate"]));
    assert_eq!(config["Cmd"], json!(["run", "--config", "/etc/foregate/proxy.toml"]));
    assert_eq!(config["ExposedPorts"], json!({ "8080/tcp": {}, "8443/tcp": {} }));
    let check = ["CMD", "/usr/bin/foregate", "health"];
    assert_eq!(image["Healthcheck"]["Test"], json!(check), "{image:#}");
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("title"), "Foregate");
    assert_eq!(label("licenses"), "Apache-2.0");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = format!("version = {}\n", label("version"));
    assert!(manifest.contains(&version), "Cargo.toml has another version than {version}");
}

/// The compilation itself is not run here, so what it would read is held against what is there.
#[test]
fn the_build_stage_has_every_file_that_the_program_is_made_of() {
    let containers = Containers::new();
    let still = containers.name("still");
    podman(&["create", "--pull=never", "--name", &still, SOURCE, "/bin/sh"]);
    podman(&["cp", &format!("{still}:/src"), containers.folder.to_str().unwrap()]);
    let copied = containers.folder.join("src");
    // What rustc read, as cargo writes it down beside the program: `program: file file …`.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let program = static_binary().with_file_name("build").join(target).join("release/foregate.d");
    let told = std::fs::read_to_string(program).unwrap();
    let files = told.split_once(": ").unwrap().1.split_whitespace();
    let ours = files.filter_map(|file| file.strip_prefix(root().to_str().unwrap()));
    let ours: Vec<&str> = ours.map(|file| file.trim_start_matches('/')).collect();
    assert!(ours.len() > 50, "{ours:?}");
    let missing: Vec<_> = ours.iter().filter(|file| !copied.join(file).is_file()).collect();
    assert!(missing.is_empty(), "deploy/Containerfile does not copy {missing:?}");

    // And cargo agrees that it is a workspace, to which Cargo.lock belongs.
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .current_dir(&copied)
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
}

#[test]
fn the_commands_of_the_readme_run_as_they_stand() {
    let containers = Containers::new();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("### In a container\n").nth(1).unwrap();
    let shown = section.split("```").nth(1).unwrap().trim_start_matches("bash\n");
    assert!(shown.lines().count() >= 6, "{shown}");
    // The names are this test's, so that it takes nothing from a real one.
    let script = shown
        .replace("my-gate", &containers.name("gate"))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", free_port()))
        .replace("./gate", containers.folder.join("gate").to_str().unwrap())
        .replace("build ", &format!("build --pull-never --build-arg RUST_IMAGE={RUST} "));
    let config = config("").replace("file = \"/run/secrets/session\"", "env = \"NEXTAUTH_SECRET\"");
    containers.write("gate/proxy.toml", &config);
    // It may take a moment until it is ready, and a person who types takes that moment.
    let script = script.replace("podman exec", "sleep 1; podman exec");
    let output = command("bash")
        .args(["-euxc", &script])
        .current_dir(root())
        .env("NEXTAUTH_SECRET", SECRET)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(inspect(&containers.name("gate"))["State"]["ExitCode"], 0);
}

#[tokio::test]
async fn a_confined_gate_reaches_app_backend_and_redis_by_name() {
    let containers = Containers::new();
    let redis = ["redis-server", "--save", "", "--protected-mode", "no"];
    containers.run("redis", &["--read-only"], REDIS, &redis);
    start_app(&containers);
    let settings = BackendSettings::default();
    let backend = Backend::start((containers.host(), 0).into(), settings).await.unwrap();
    let port = backend.refresh_url().rsplit_once(':').unwrap().1.to_owned();
    let more = format!(
        "[backend]\nrefresh_url = \"http://backend:{port}\"\n[refresh]\nledger = \"redis://redis:6379\"\n"
    );
    // The app and Redis are known to the network's DNS, the backend to /etc/hosts.
    let host = format!("--add-host=backend:{}", containers.host());
    start_gate(&containers, &config(&more), &[&host]);

    let stranger = Browser::new(containers.address("gate", 8080));
    assert_eq!(stranger.fetch(PAGE).await.status, 401);
    let answer = stranger.navigate(PAGE).await;
    let login = answer.header("location").unwrap();
    assert!(login.starts_with("http://auth.example.com/login?callbackUrl="), "{login}");

    let fresh = backend.grant("ada@example.com", Duration::from_secs(600)).unwrap();
    let ada = visitor(&containers, "gate", &fresh.session_claims(A_DAY));
    let answer = ada.fetch(PAGE).await;
    let bearer = format!("Authorization: Bearer {}", fresh.access_token);
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains(&bearer), "{}", answer.text());

    let spent = backend.grant("bob@example.com", Duration::ZERO).unwrap();
    let bob = visitor(&containers, "gate", &spent.session_claims(A_DAY));
    let answer = bob.fetch(PAGE).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), containers.log("gate"));
    let text = answer.text();
    assert!(text.contains("Authorization: Bearer ey") && !text.contains(&spent.access_token));
    assert!(answer.header("set-cookie").is_some());
    assert_eq!(backend.counters().redemptions, 1);
    let size = containers.exec("redis", &["redis-cli", "dbsize"], "").stdout;
    let size: u64 = String::from_utf8(size).unwrap().trim().parse().unwrap();
    assert!(size > 0, "the ledger in Redis holds the new pair");

    let state = inspect(&containers.name("gate"));
    assert_eq!(state["State"]["OOMKilled"], false);
    assert_eq!(state["HostConfig"]["Memory"], 64 * 1024 * 1024);
    let shell = containers.exec("gate", &["sh", "-c", "true"], "");
    assert!(!shell.status.success(), "there is no shell: {shell:?}");
}

#[tokio::test]
async fn the_image_s_certificate_authorities_are_used() {
    let containers = Containers::new();
    start_app(&containers);
    // A second gate stands for an app that speaks https; it wants its certificate to name the host.
    let certificates = Certificates::covering(&["inner", "app.example.com"]);
    let tls = "[tls]\ncertificates = [{ cert = \"/tls.crt\", key = \"/tls.key\" }]\n";
    let inner = config(tls).replace("[session]", "https = \"0.0.0.0:8443\"\n\n[session]");
    let inner = inner.replace("http://app:3000\"", "http://app:3000\"\naccess = \"public\"");
    let mount = |file: &std::path::Path, at: &str| format!("--volume={}:{at}:ro", file.display());
    let inner = containers.write("inner/proxy.toml", &inner);
    let secret = containers.write("session", SECRET);
    let mounts = [
        mount(&inner, "/etc/foregate/proxy.toml"),
        mount(&secret, "/run/secrets/session"),
        mount(certificates.certificate(), "/tls.crt"),
        mount(certificates.key(), "/tls.key"),
    ];
    let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
    containers.run("inner", &[&CONFINED[..], &mounts].concat(), GATE, &[]);
    containers.healthy("inner");

    let config = config("").replace("http://app:3000", "https://inner:8443");
    start_gate(&containers, &config, &[]);
    let stranger = visitor(&containers, "gate", &somebody());
    assert_eq!(stranger.fetch(PAGE).await.status, 502);
    let log = containers.log("gate");
    let unknown = "signed by an authority that this machine does not know";
    assert!(log.contains(unknown), "the public authorities were found and asked: {log}");

    podman(&["rm", "--force", "--time", "0", &containers.name("gate")]);
    let own = mount(certificates.authority(), "/etc/ssl/certs/ca-certificates.crt");
    start_gate(&containers, &config, &[&own]);
    let answer = visitor(&containers, "gate", &somebody()).fetch(PAGE).await;
    assert_eq!(answer.status, 200, "{}", containers.log("gate"));
    assert!(answer.text().contains("Authorization: Bearer an-access-token"), "{}", answer.text());
}

#[tokio::test]
async fn a_ledger_file_outlives_its_container() {
    let containers = Containers::new();
    start_app(&containers);
    let backend = Backend::start((containers.host(), 0).into(), BackendSettings::default()).await;
    let backend = backend.unwrap();
    let port = backend.refresh_url().rsplit_once(':').unwrap().1.to_owned();
    let ledger = "file:/var/lib/foregate/ledger.redb";
    let more = format!(
        "[backend]\nrefresh_url = \"http://backend:{port}\"\n[refresh]\nledger = \"{ledger}\"\n"
    );
    let host = format!("--add-host=backend:{}", containers.host());
    let volume = format!("--volume={}:/var/lib/foregate", containers.name("ledger"));
    let spent = backend.grant("ada@example.com", Duration::ZERO).unwrap();
    let claims = spent.session_claims(A_DAY);
    for _ in 0..2 {
        start_gate(&containers, &config(&more), &[&host, &volume]);
        // The same old cookie each time: its refresh token is good for one redemption.
        let answer = visitor(&containers, "gate", &claims).fetch(PAGE).await;
        assert_eq!(answer.status, 200, "{}", containers.log("gate"));
        podman(&["stop", "--time", "20", &containers.name("gate")]);
        podman(&["rm", &containers.name("gate")]);
    }
    let counters = backend.counters();
    assert_eq!((counters.redemptions, counters.refused), (1, 0));
}

#[tokio::test]
async fn no_request_fails_when_a_container_under_load_is_stopped() {
    let containers = Containers::new();
    start_app(&containers);
    start_gate(&containers, &config(""), &[]);
    let visitor = visitor(&containers, "gate", &somebody());
    let (address, cookie) =
        (containers.address("gate", 8080), visitor.cookies("app.example.com").unwrap());
    let ask = |target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: app.example.com\r\nCookie: {cookie}\r\n\r\n")
    };
    let (stopped, is_stopped) = watch::channel(false);
    let mut load = JoinSet::new();
    for number in 0..12 {
        // Every third one is slow: its answer has begun, and its end is a second away.
        let request = if number % 3 == 0 { ask("/?wait=1s") } else { ask("/") };
        load.spawn(keep_asking(address, request, is_stopped.clone()));
    }
    // Well under way: fast and slow ones have been answered.
    while containers.log("gate").matches("\"status\":200").count() < 300 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stopped.send(true).unwrap();
    let name = containers.name("gate");
    let stop = tokio::task::spawn_blocking({
        let name = name.clone();
        move || podman(&["stop", "--time", "20", &name])
    });
    let mut answered = 0;
    let mut failed = Vec::new();
    while let Some(done) = load.join_next().await {
        let (good, failures) = done.unwrap();
        answered += good;
        failed.extend(failures);
    }
    stop.await.unwrap();
    let state = &inspect(&name)["State"];
    eprintln!("{answered} requests were answered, {} failed", failed.len());
    assert!(failed.is_empty(), "{failed:?}\n{}", containers.log("gate"));
    assert!(answered > 300, "{answered}");
    assert_eq!((&state["ExitCode"], &state["OOMKilled"]), (&json!(0), &json!(false)), "{state}");
}

/// Asks again and again on a connection that is kept, until nobody listens any more. The number of
/// good answers, and what became of the others.
async fn keep_asking(
    address: std::net::SocketAddr,
    request: String,
    is_stopped: watch::Receiver<bool>,
) -> (usize, Vec<String>) {
    let (mut answered, mut failed) = (0, Vec::new());
    while failed.is_empty() {
        let mut connection = match timeout(SOON, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => Connection::over(stream),
            Ok(Err(_)) | Err(_) if *is_stopped.borrow() => break,
            other => {
                failed.push(format!("{other:?}"));
                break;
            }
        };
        loop {
            connection.send(&request).await;
            match connection.answer().await {
                Some(answer) if is_whole(&answer) => {
                    answered += 1;
                    if answer.header("connection") == Some("close") {
                        break;
                    }
                }
                other => {
                    failed.push(format!("{other:?}"));
                    break;
                }
            }
            // A load, not a race: the machine has other things to do as well.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    (answered, failed)
}

fn is_whole(answer: &Answer) -> bool {
    let text = answer.text();
    answer.status == 200
        && text.contains("Authorization: Bearer an-access-token")
        && text.ends_with("End\n")
}

#[tokio::test]
async fn a_pod_s_app_is_reached_through_its_gate_alone() {
    let containers = Containers::new();
    let (pod, config_map) = (containers.name("pod"), containers.name("config"));
    let config = config("").replace("http://app:3000", "http://127.0.0.1:3000");
    let secret = containers.write("secrets/session", SECRET);
    let (secrets, indented) = (secret.parent().unwrap().display(), indented(&config));
    let manifest = format!(
        r#"apiVersion: v1
kind: ConfigMap
metadata: {{ name: {config_map} }}
data:
  proxy.toml: |
{indented}
---
apiVersion: v1
kind: Pod
metadata: {{ name: {pod} }}
spec:
  containers:
  - name: app
    image: {APP}
    env: [{{ name: WHOAMI_PORT_NUMBER, value: "3000" }}, {{ name: WHOAMI_ADDRESS, value: 127.0.0.1 }}]
  - name: gate
    image: {GATE}:latest
    securityContext:
      runAsUser: 65532
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {{ drop: [ALL] }}
    resources: {{ limits: {{ memory: 64Mi }} }}
    volumeMounts:
    - {{ name: config, mountPath: /etc/foregate, readOnly: true }}
    - {{ name: secrets, mountPath: /run/secrets, readOnly: true }}
  volumes:
  - {{ name: config, configMap: {{ name: {config_map} }} }}
  - {{ name: secrets, hostPath: {{ path: {secrets} }} }}
"#
    );
    let manifest = containers.write("pod.yaml", &manifest);
    let (manifest, network) = (manifest.to_str().unwrap(), containers.network());
    podman(&["play", "kube", "--build=false", "--network", &network, manifest]);
    containers.healthy("pod-gate");

    let infra = podman(&["pod", "inspect", "--format", "{{.InfraContainerID}}", &pod]).stdout;
    let infra = inspect(String::from_utf8(infra).unwrap().trim());
    let ip = infra["NetworkSettings"]["Networks"][&network]["IPAddress"].as_str().unwrap();
    let gate = format!("{ip}:8080").parse().unwrap();
    let browser = Browser::new(gate);
    assert_eq!(browser.fetch(PAGE).await.status, 401);
    let minted = containers.exec(
        "pod-gate",
        &["foregate", "session", "mint", "--claims", "-"],
        &somebody().to_string(),
    );
    let cookie = String::from_utf8(minted.stdout).unwrap();
    let request = Request::get(PAGE).fetch("same-origin").header("Cookie", cookie.trim());
    let answer = browser.send(&request).await;
    assert_eq!(answer.status, 200, "{}", containers.log("pod-gate"));
    assert!(answer.text().contains("Authorization: Bearer an-access-token"), "{}", answer.text());

    let around = timeout(PATIENCE, TcpStream::connect(format!("{ip}:3000"))).await.unwrap();
    assert!(around.is_err(), "the app listens for its pod alone");
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

const A_DAY: Duration = Duration::from_secs(24 * 3600);
const SOON: Duration = Duration::from_millis(800);
