//! A real Kubernetes of one node, by `tests/deploy/kubernetes/node.sh`. It has no kube-proxy: who
//! wants a Service follows its endpoints by himself.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::watch;

use super::objects::folder;

/// A running cluster. It ends when this is dropped.
pub(super) struct Cluster {
    pub(super) state: PathBuf,
}

impl Cluster {
    /// Panics with what the programs had to say unless the node is ready within two minutes.
    pub(super) async fn start() -> Self {
        let state = std::env::temp_dir().join(format!("foregate-node-{}", std::process::id()));
        std::fs::create_dir(&state).unwrap();
        let cluster = Self { state };
        cluster.script(&["start"]).await;
        cluster
    }

    /// Gives an image of `podman` here to the node, under another name.
    pub(super) async fn take(&self, image: &str, name: &str) {
        self.script(&["take", image, name]).await;
    }

    /// Builds an image `FROM scratch` with one program in it.
    pub(super) async fn build(&self, name: &str, program: PathBuf) {
        let place = self.state.join("build");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::copy(&program, place.join("program"))
            .unwrap_or_else(|why| panic!("{}: {why}", program.display()));
        let text = "FROM scratch\nCOPY program /program\nENTRYPOINT [\"/program\"]\n";
        std::fs::write(place.join("Containerfile"), text).unwrap();
        self.script(&["build", name, place.to_str().unwrap()]).await;
    }

    async fn script(&self, arguments: &[&str]) {
        let told = self.command(folder().join("node.sh")).args(arguments).output().await.unwrap();
        let said = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "node.sh {arguments:?}: {said}");
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command
            .env("STATE", &self.state)
            .env("BIN", folder().join(".built/bin"))
            .env("KUBECONFIG", self.state.join("kubeconfig"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(folder().join(".built/bin/kubectl"));
        command.args(arguments);
        command
    }

    /// What kubectl prints; panics with what it says unless that goes well.
    pub(super) async fn kubectl(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } =
            self.kubectl_command(arguments).output().await.unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "kubectl {arguments:?}: {said}");
        String::from_utf8_lossy(&stdout).into_owned()
    }

    /// The objects that kubectl finds.
    pub(super) async fn get(&self, what: &[&str]) -> Vec<Value> {
        let json = self.kubectl(&[&["get", "--output", "json"], what].concat()).await;
        let found: Value = serde_json::from_str(&json).unwrap();
        found["items"].as_array().cloned().unwrap_or_else(|| vec![found])
    }

    /// Writes an object into a file and applies it.
    pub(super) async fn apply(&self, object: &Value) {
        let file = self.state.join("applied.json");
        std::fs::write(&file, object.to_string()).unwrap();
        self.kubectl(&["apply", "--filename", file.to_str().unwrap()]).await;
    }

    /// Waits until kubectl's answer is as wanted, and gives it; panics if that takes too long.
    pub(super) async fn until(
        &self,
        what: &[&str],
        patience: Duration,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.get(what).await;
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what:?}: {found:#?}\n{}", self.told().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What a person would look at if something does not come about.
    pub(super) async fn told(&self) -> String {
        let events = self.kubectl(&["get", "events", "--sort-by=.lastTimestamp"]).await;
        let pods = self.kubectl(&["get", "pods", "--output=wide"]).await;
        let lines: Vec<_> = events.lines().rev().take(20).collect();
        format!("{pods}\n{}", lines.join("\n"))
    }

    /// What a node's proxy would send connections to: the ready endpoints of a Service, `lag` after
    /// they changed. Must be called inside a runtime.
    pub(super) fn endpoints(
        &self,
        service: &str,
        lag: Duration,
    ) -> watch::Receiver<Vec<SocketAddr>> {
        let selector = format!("kubernetes.io/service-name={service}");
        let get = ["get", "endpointslices", "--watch", "--output", "json", "--selector", &selector];
        let kubectl = self.kubectl_command(&get).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, receiver) = watch::channel(Vec::new());
        tokio::spawn(async move {
            // The whole of it: it ends when it is dropped.
            let mut kubectl = kubectl;
            let stdout = kubectl.stdout.as_mut().unwrap();
            let mut text = Vec::new();
            while stdout.read_buf(&mut text).await.is_ok_and(|count| count > 0) {
                let mut objects = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
                let found: Vec<_> = objects.by_ref().map_while(Result::ok).collect();
                let read = objects.byte_offset();
                text.drain(..read);
                if let Some(slice) = found.last() {
                    let (sender, ready) = (sender.clone(), ready(slice));
                    tokio::spawn(async move {
                        tokio::time::sleep(lag).await;
                        sender.send_replace(ready);
                    });
                }
            }
        });
        receiver
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = std::process::Command::new(folder().join("node.sh"));
        stop.arg("stop").env("STATE", &self.state).env("BIN", folder().join(".built/bin"));
        let _ = stop.status();
    }
}

fn ready(slice: &Value) -> Vec<SocketAddr> {
    let port = slice["ports"][0]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    endpoints
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse::<IpAddr>().ok())
        .filter_map(|ip| Some(SocketAddr::new(ip, port?)))
        .collect()
}
