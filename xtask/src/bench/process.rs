//! A proxy under measurement: a process on the first core, and the CPU time that it has used.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{nginx_conf, proxy_toml};

/// Ends with this value.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Server {
    pub(super) fn nginx(directory: &Path, port: u16, origin: SocketAddr) -> anyhow::Result<Self> {
        let conf = directory.join("nginx.conf");
        fs::write(&conf, nginx_conf(directory, port, origin))?;
        let mut command = on_first_core("nginx");
        command.arg("-e").arg(directory.join("nginx.log")).arg("-c").arg(conf);
        Self::start(command, port)
    }

    pub(super) fn foregate(
        program: &Path,
        directory: &Path,
        port: u16,
        origin: SocketAddr,
    ) -> anyhow::Result<Self> {
        let config = directory.join("proxy.toml");
        fs::write(&config, proxy_toml(port, origin))?;
        let mut command = on_first_core(program);
        // nginx writes no access log either.
        command.env("FOREGATE_LOG", "error").args(["run", "--config"]).arg(config);
        Self::start(command, port)
    }

    fn start(mut command: Command, port: u16) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn().context("cannot start the proxy")?;
        let server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(server.address).is_err() {
            if Instant::now() > deadline {
                bail!("the proxy does not listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Of the process and its children, user and kernel, from the scheduler's own books
    /// (`/proc/PID/task/TID/schedstat`, first field, nanoseconds).
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut nanos = 0;
        let mut processes = vec![self.child.id()];
        while let Some(process) = processes.pop() {
            for task in fs::read_dir(format!("/proc/{process}/task"))? {
                let task = task?.path();
                let stat = fs::read_to_string(task.join("schedstat"))?;
                nanos += stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
                let children = fs::read_to_string(task.join("children"))?;
                processes.extend(children.split_whitespace().filter_map(|n| n.parse::<u32>().ok()));
            }
        }
        Ok(Duration::from_nanos(nanos))
    }
}

fn on_first_core(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(program);
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        // A polite end, so that nginx's worker ends with its master.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
