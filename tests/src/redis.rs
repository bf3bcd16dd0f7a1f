//! Real Redis servers, for the ledgers that live there.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::gate::{free_port, new_directory};

/// A redis-server on loopback, with nothing on a disk unless its arguments say so. It ends with its
/// owner, and its directory goes.
pub struct RedisServer {
    child: Child,
    port: u16,
    directory: PathBuf,
    /// Those it was started with, beside the port.
    arguments: Vec<String>,
}

impl RedisServer {
    /// Panics unless the program is installed.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With these arguments beside those that it always gets, over which they go.
    pub fn with(arguments: &[&str]) -> Self {
        Self::run(free_port(), new_directory(), arguments)
    }

    /// One in the place of another, which is gone.
    pub fn start_at(port: u16) -> Self {
        Self::run(port, new_directory(), &[])
    }

    /// One that follows this one, and knows by now all that this one knows.
    pub async fn replica(&self) -> Self {
        let replica = Self::with(&["--replicaof", "127.0.0.1", &self.port.to_string()]);
        replica.says(&["INFO", "replication"], "master_link_status:up").await;
        // What is written before the first answer of a replica may be lost with its master.
        self.say(&["SET", "probe", "arrived"]);
        replica.says(&["GET", "probe"], "arrived").await;
        replica
    }

    /// A sentinel that knows this one as `main`, and all its replicas.
    pub fn sentinel(&self) -> Self {
        let directory = new_directory();
        let text = format!(
            "sentinel monitor main 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 2000\n",
            self.port
        );
        let file = directory.join("sentinel.conf");
        fs::write(&file, text).expect("the temporary directory takes a file");
        Self::run(free_port(), directory, &["sentinel.conf", "--sentinel"])
    }

    /// A Cluster of so many masters, each with a third of the slots, and as many replicas each.
    pub async fn cluster(masters: usize, replicas: usize) -> Vec<Self> {
        let node = || {
            // The servers of a Cluster talk to each other on a port that is 10,000 above.
            let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
            let port = loop {
                let port = free_port();
                if port.checked_add(10_000).is_some_and(is_free) {
                    break port;
                }
            };
            let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
            Self::run(port, new_directory(), &arguments)
        };
        let nodes: Vec<Self> = (0..masters * (replicas + 1)).map(|_| node()).collect();
        let hosts: Vec<String> = nodes.iter().map(|node| node.host()).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let replicas = replicas.to_string();
        redis_cluster(&[&["create"], &hosts[..], &["--cluster-replicas", &replicas]].concat());
        for node in &nodes {
            node.says(&["CLUSTER", "INFO"], "cluster_state:ok").await;
        }
        nodes
    }

    fn run(port: u16, directory: PathBuf, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let child = spawn(port, &directory, &arguments);
        let server = Self { child, port, directory, arguments };
        server.listens();
        server
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it once more after [`RedisServer::kill`], in the same place, with what it has on its
    /// disk, and with these arguments more.
    pub fn start_again(&mut self, more: &[&str]) {
        let more = more.iter().map(|it| (*it).to_owned());
        let arguments: Vec<String> = self.arguments.iter().cloned().chain(more).collect();
        self.child = spawn(self.port, &self.directory, &arguments);
        self.listens();
    }

    fn listens(&self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As `refresh.ledger` names it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.host())
    }

    /// What it answers to redis-cli.
    pub fn say(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let said = command.args(["-p", &self.port.to_string()]).args(words).output();
        String::from_utf8_lossy(&said.expect("redis-cli is installed").stdout).into_owned()
    }

    /// Waits until it answers so; panics if that takes too long.
    pub async fn says(&self, words: &[&str], wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.say(words).contains(wanted) {
            assert!(Instant::now() < deadline, "{words:?}: {}", self.say(words));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a signal by its name: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "{name} reaches {pid}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Has redis-cli do something to a Cluster.
pub fn redis_cluster(words: &[&str]) {
    let mut command = Command::new("redis-cli");
    let done = command.arg("--cluster").args(words).arg("--cluster-yes").output();
    let done = done.expect("redis-cli is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

fn spawn(port: u16, directory: &Path, arguments: &[String]) -> Child {
    let is_sentinel = arguments.iter().any(|argument| argument == "--sentinel");
    let mut command = Command::new("redis-server");
    // The file of a sentinel comes first, and it knows none of these settings.
    if !is_sentinel {
        command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
    }
    let port = port.to_string();
    let has_tls = arguments.iter().any(|argument| argument == "--tls-port");
    command.args(arguments.iter().map(|argument| match argument.as_str() {
        PORT => port.as_str(),
        argument => argument,
    }));
    command.args(["--bind", "127.0.0.1", "--port", if has_tls { "0" } else { &port }]);
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().expect("redis-server is installed")
}

/// In arguments: the server's own port.
const PORT: &str = "{port}";
const PATIENCE: Duration = Duration::from_secs(30);
