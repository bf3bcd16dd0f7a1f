//! The built program, run as an operator runs it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A running gate. When this is dropped it is asked to end, and made to if it does not.
pub struct Gate {
    child: Child,
    directory: PathBuf,
    address: SocketAddr,
    log: Log,
}

/// All that the gate wrote to stderr, growing.
type Log = Arc<Mutex<String>>;

impl Gate {
    /// Runs the gate on `config`, the text of a proxy.toml, to which a `[server]` table with a free
    /// port on loopback is added unless it has one (which must then name `http`). It has an admin
    /// listener only where `config` names one. Panics, with its log, unless it listens soon.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// The same with these environment variables, and no others but `PATH`.
    pub async fn start_with(config: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_program(&program(), config, environment).await
    }

    /// The same of another build.
    pub async fn start_program(program: &Path, config: &str, environment: &[(&str, &str)]) -> Self {
        let directory = new_directory();
        let config_file = directory.join("proxy.toml");
        let server = "\n[server]\nhttp = \"127.0.0.1:0\"\n";
        let has_server = config.lines().any(|line| line.trim() == "[server]");
        let names_admin = config.lines().any(|line| line.trim().starts_with("admin ="));
        let no_admin = (!names_admin).then_some(("FOREGATE_SERVER__ADMIN", ""));
        let config = [config, if has_server { "" } else { server }].concat();
        std::fs::write(&config_file, config).expect("the temporary directory takes a file");

        let mut child = Command::new(program)
            .args(["run", "--config"])
            .arg(&config_file)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(no_admin)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the built program starts");
        let log = Log::default();
        let (say, mut listening) = mpsc::unbounded_channel();
        let stderr = child.stderr.take().expect("stderr was asked for");
        // A thread, so that a test which blocks its runtime does not block the gate's log.
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line);
                    if let Some(address) = listening_at(&line, "http") {
                        // Nobody asks again once it is known.
                        let _ = say.send(address);
                    }
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });

        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut gate = Self { child, directory, address: nowhere, log };
        match timeout(PATIENCE, listening.recv()).await {
            // A unix socket is where the configuration says.
            Ok(Some(address)) => gate.address = address.parse().unwrap_or(nowhere),
            Ok(None) | Err(_) => panic!("the gate does not listen:\n{}", gate.log()),
        }
        gate
    }

    /// The plain public listener; `0.0.0.0:0` where that is a unix socket.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The public listener for https; panics if the configuration names none.
    pub async fn secure_address(&self) -> SocketAddr {
        let find = |log: &str| log.lines().find_map(|line| listening_at(line, "https"));
        self.logged(|log| find(log).is_some()).await;
        let address = find(&self.log()).and_then(|address| address.parse().ok());
        address.expect("it was there a moment ago, and https is on TCP")
    }

    /// The operator's listener; panics if the configuration names none.
    pub async fn admin_address(&self) -> SocketAddr {
        let find = |log: &str| log.lines().find_map(|line| listening_at(line, "admin"));
        self.logged(|log| find(log).is_some()).await;
        let address = find(&self.log()).and_then(|address| address.parse().ok());
        address.expect("it was there a moment ago, and admin is on TCP")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The configuration file, to be changed while the gate runs.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("proxy.toml")
    }

    /// All that it wrote to stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until what it wrote satisfies `wanted`; panics if that takes too long. Its lines come
    /// over a pipe, a moment after the answers that they are about.
    pub async fn logged(&self, wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.log()) {
            assert!(Instant::now() < deadline, "the log never said it:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a signal by its name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until it has ended by itself, or after a signal; panics if that takes too long.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "the gate does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            let deadline = Instant::now() + Duration::from_secs(3);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            // It may have ended by now: then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the gate's log:\n{}", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A port of loopback that was free a moment ago, for programs that must be told their port.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a listener has an address").port()
}

/// Reads the log line that tells where a listener, named as in `[server]`, is bound.
fn listening_at(line: &str, listener: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let says = |key: &str, value: &str| line[key] == value;
    let told = says("message", "listening") && says("listener", listener);
    line["address"].as_str().filter(|_| told).map(str::to_owned)
}

/// `FOREGATE_BIN`, else the program that cargo built beside the tests.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("FOREGATE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let built = test.ancestors().nth(2).map(|profile| profile.join("foregate"));
    built
        .filter(|path| path.exists())
        .unwrap_or_else(|| panic!("build the program first (cargo build), or set FOREGATE_BIN"))
}

/// The program built with the feature `fail-points`: it stands beside the other one.
pub fn program_with_fail_points() -> PathBuf {
    let path = program().with_file_name("foregate-fail-points");
    assert!(path.exists(), "{} is built by `cargo xtask test`", path.display());
    path
}

pub(crate) fn new_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = format!("foregate-test-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(directory);
    std::fs::create_dir_all(&directory).expect("the temporary directory takes another");
    directory
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "{name} reaches {pid}");
}

const PATIENCE: Duration = Duration::from_secs(30);
