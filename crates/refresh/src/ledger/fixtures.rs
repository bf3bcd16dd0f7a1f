//! What tests of ledgers need beside the ledgers.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::ledger::LedgerAddress;

/// A directory that goes with its owner.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foregate-refresh-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names of what is in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

impl AsRef<Path> for Directory {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port of loopback that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A real redis-server, without anything on a disk. It ends with its owner.
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) port: u16,
    /// Where it runs, and leaves its files.
    _directory: Directory,
}

impl RedisServer {
    /// `None`, and a line that says so, where the program is not installed.
    pub(crate) fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// With these arguments beside those that it always gets.
    pub(crate) fn with(more: &[&str]) -> Option<Self> {
        let server = Self::at_with(free_port(), more);
        if server.is_none() {
            eprintln!("NOT TESTED with Redis: redis-server is not installed");
        }
        server
    }

    pub(crate) fn at(port: u16) -> Option<Self> {
        Self::at_with(port, &[])
    }

    pub(crate) fn at_with(port: u16, more: &[&str]) -> Option<Self> {
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        Self::started(command.args(more), Directory::new(), port)
    }

    /// A sentinel that knows one master, as `main`.
    pub(crate) fn sentinel(master: u16) -> Option<Self> {
        let directory = Directory::new();
        let text = format!(
            "sentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 2000\n"
        );
        std::fs::write(directory.path("sentinel.conf"), text).unwrap();
        let mut command = Command::new("redis-server");
        Self::started(command.args(["sentinel.conf", "--sentinel"]), directory, free_port())
    }

    fn started(command: &mut Command, directory: Directory, port: u16) -> Option<Self> {
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("redis-server does not start: {error}"),
        };
        let server = Self { child, port, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(server)
    }

    pub(crate) fn address(&self) -> LedgerAddress {
        LedgerAddress::parse(&format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    /// Sends a signal by its name: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
