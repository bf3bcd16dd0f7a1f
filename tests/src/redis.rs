//! A real Redis, for the ledgers that live there.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::gate::free_port;

/// A redis-server on loopback, without anything on a disk. It ends with its owner.
pub struct RedisServer {
    child: Child,
    port: u16,
}

impl RedisServer {
    /// Panics unless the program is installed.
    pub fn start() -> Self {
        Self::start_at(free_port())
    }

    /// One in the place of another, which is gone.
    pub fn start_at(port: u16) -> Self {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(port.to_string())
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let server = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `refresh.ledger` names it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
