//! `deploy/compose`: what the file comes to by Docker's own reader of such files, and the example as
//! it runs, by podman-compose. Docker itself is not asked.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use foregate_tests::{Browser, free_port};
use serde_json::{Value, json};

use super::containers::{Containers, GATE, REDIS, command, contained, inspect, podman, root};

const FOLDER: &str = "deploy/compose";

/// The file, read and checked by the library that `docker compose` reads it with.
fn project() -> Value {
    let output = Command::new(root().join("tests/deploy/compose/.built/compose"))
        .arg(root().join(FOLDER).join("compose.yaml"))
        .output()
        .expect("`cargo xtask test` builds it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_service_of_the_example_is_confined() {
    for (name, service) in project()["services"].as_object().unwrap() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert_eq!(service["privileged"], Value::Null, "{name}");
        // The gate's user is in its image.
        let user = service["user"].as_str().unwrap_or("0");
        assert!(name == "gate" || !user.starts_with('0'), "{name}");
    }
}

#[test]
fn nothing_but_the_gate_stands_on_a_network_with_an_app_or_the_ledger() {
    let project = project();
    let services = project["services"].as_object().unwrap();
    let networks_of = |name: &str| -> BTreeSet<&str> {
        services[name]["networks"].as_object().unwrap().keys().map(String::as_str).collect()
    };
    let gate = networks_of("gate");
    for name in services.keys().filter(|name| *name != "gate") {
        assert_eq!(services[name]["ports"], Value::Null, "{name} is published");
        let own = networks_of(name);
        assert!(own.is_subset(&gate), "{name}");
        for network in &own {
            assert_eq!(project["networks"][network]["internal"], true, "{network}");
            let others = services.keys().filter(|other| *other != name && *other != "gate");
            let shared: Vec<_> =
                others.filter(|other| networks_of(other).contains(network)).collect();
            assert!(shared.is_empty(), "{name} shares {network} with {shared:?}");
        }
    }
    // For as long as nobody says otherwise, on this machine alone.
    assert_eq!(services["gate"]["ports"][0]["host_ip"], "127.0.0.1");
}

#[test]
fn the_gate_of_the_example_has_the_time_that_it_needs_to_end() {
    let file = fs::read_to_string(root().join(FOLDER).join("gate/proxy.toml")).unwrap();
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    let configured = |key: &str| {
        let line = file.lines().find(|line| line.starts_with(key)).unwrap();
        seconds(line.split('"').nth(1).unwrap())
    };
    let given = seconds(project()["services"]["gate"]["stop_grace_period"].as_str().unwrap());
    let needed = configured("drain_delay") + configured("shutdown_grace");
    assert!(given > needed, "{given} s for {needed} s");
}

/// The example, started in a copy of its folder, with the secret that its first lines speak of.
struct Example {
    containers: Containers,
    listen: String,
}

impl Example {
    fn start() -> Self {
        let containers = Containers::new();
        for file in ["compose.yaml", "gate/proxy.toml"] {
            let text = fs::read_to_string(root().join(FOLDER).join(file)).unwrap();
            containers.write(file, &text);
        }
        let secret = "kY7qP2vB9wX4zL8nT3mR6sD1fG5hJ0cA\n";
        containers.write("secrets/session_secret", secret);
        // As if it had been built by the file's own `build`, from the very same Containerfile.
        podman(&["tag", GATE, "localhost/foregate:latest"]);
        let example = Self { containers, listen: format!("127.0.0.1:{}", free_port()) };
        let up = example.compose(&["up", "--detach", "--no-build"]);
        let (said, status) = (String::from_utf8_lossy(&up.stderr), up.status);
        assert!(status.success(), "podman-compose up: {status}\n{said}");
        example
    }

    fn compose(&self, arguments: &[&str]) -> Output {
        let program = root().join("tests/deploy/compose/.venv/bin/podman-compose");
        assert!(program.exists(), "`cargo xtask test` installs podman-compose");
        let file = self.containers.folder.join("compose.yaml");
        command(program.to_str().unwrap())
            .args(["--project-name", &self.project(), "--file"])
            .arg(file)
            .args(arguments)
            .env("FOREGATE_LISTEN", &self.listen)
            .output()
            .unwrap()
    }

    /// What podman's names for its parts begin with; they go with the test's other containers.
    fn project(&self) -> String {
        self.containers.name("compose")
    }

    /// The container of a service, as `Containers` calls it.
    fn service(&self, name: &str) -> String {
        format!("compose_{name}_1")
    }

    fn address_of(&self, service: &str) -> String {
        let address = self.containers.address(&self.service(service), 3000);
        address.ip().to_string()
    }

    /// What comes of a connection to an app from a container on `network`: Redis's client says so.
    fn asked_from(&self, network: &str, ip: &str) -> String {
        let network = format!("{}_{network}", self.project());
        let ask = ["redis-cli", "-h", ip, "-p", "3000", "ping"];
        let run = ["run", "--rm", "--pull=never", "--timeout=3", "--network", &network, REDIS];
        let said = contained("podman", &[&run[..], &ask].concat(), "");
        String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
    }
}

#[tokio::test]
async fn the_example_runs_and_its_apps_are_reached_through_the_gate_alone() {
    let example = Example::start();
    let gate = example.service("gate");
    example.containers.healthy(&gate);
    let checked = example.containers.exec(&gate, &["foregate", "check"], "");
    assert!(checked.status.success(), "{checked:?}");

    // By the port that it publishes.
    let stranger = Browser::new(example.listen.parse().unwrap());
    let answer = stranger.navigate("http://app.example.com/orders").await;
    let login = answer.header("location").unwrap_or_default();
    assert!(login.starts_with("https://auth.example.com/login?callbackUrl="), "{answer:?}");
    assert_eq!(stranger.fetch("http://app.example.com/about").await.status, 200);

    let claims = json!({ "sub": "u-1", "email": "ada@example.com", "accessToken": "a-token" });
    let mint = ["foregate", "session", "mint", "--claims", "-"];
    let minted = example.containers.exec(&gate, &mint, &claims.to_string());
    let cookie = String::from_utf8(minted.stdout).unwrap();
    let ada = stranger.clone();
    ada.set_cookies("example.com", cookie.trim());
    for (host, name) in [("app.example.com", "Name: app"), ("shop.example.com", "Name: shop")] {
        let answer = ada.fetch(&format!("http://{host}/orders")).await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{host}: {text}");
        assert!(text.contains(name) && text.contains("Authorization: Bearer a-token"), "{text}");
    }

    // An app answers who shares its network, which is how the others' silence can be told.
    let app = example.address_of("app");
    let is_http = |said: &str| said.contains("Protocol error, got \"H\"");
    let said = example.asked_from("app", &app);
    assert!(is_http(&said), "{said}");
    for network in ["front", "shop", "ledger"] {
        let said = example.asked_from(network, &app);
        assert!(!is_http(&said), "{network}: {said}");
    }

    let down = example.compose(&["down", "--timeout", "45"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
}

#[test]
fn the_example_s_gate_ends_in_good_order() {
    let example = Example::start();
    let gate = example.service("gate");
    example.containers.healthy(&gate);
    let stopped = example.compose(&["stop", "gate"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    let state = &inspect(&example.containers.name(&gate))["State"];
    assert_eq!(state["ExitCode"], 0, "{state}");
}
