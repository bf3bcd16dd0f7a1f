//! `cargo xtask bench --footprint`: what it costs to have the program, as images hold it, before
//! anybody asks for anything: the time until it is ready, its memory, its size.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::load::{Load, Origin};
use super::{HOST, cookie, free_port, in_a_folder, proxy_toml, spread};
use crate::needs;
use crate::root;

const STARTS: usize = 15;
const CONNECTIONS: u64 = 10_000;

/// Measures, and prints a table.
pub(crate) fn footprint() -> anyhow::Result<()> {
    let program = needs::static_binary()?;
    let origin = Origin::start()?;
    in_a_folder(|directory| measure(&program, origin.address, directory))
}

fn measure(program: &Path, origin: SocketAddr, directory: &Path) -> anyhow::Result<()> {
    let size = fs::metadata(program)?.len();
    println!("{:<28} {:>8.1} MB", "program, static", megabytes(size));
    let beside = [Path::new("/etc/ssl/certs/ca-certificates.crt"), &root().join("LICENSE")]
        .iter()
        .filter_map(|file| fs::metadata(file).ok())
        .map(|file| file.len())
        .sum::<u64>();
    println!("{:<28} {:>8.1} MB   with certificates", "image", megabytes(size + beside));

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let gate = Gate::start(program, directory, origin)?;
        starts.push(gate.start_up.as_secs_f64() * 1e3);
    }
    let (shortest, median, longest) = spread(&mut starts);
    println!(
        "{:<28} {median:>8.1} ms   {shortest:.1} to {longest:.1}, {STARTS} starts",
        "start-up to ready"
    );

    let gate = Gate::start(program, directory, origin)?;
    let idle = gate.resident()?;
    let workers = std::thread::available_parallelism()?;
    println!("{:<28} {:>8.1} MB   {workers} workers", "memory, idle", megabytes(idle));
    let cookies = [cookie(4, 0)];
    let load = Load { host: HOST, cookies: &cookies, connections: 1 };
    // The gate takes what its hard limit allows by itself, but it needs some files beside these.
    let files = rlimit::increase_nofile_limit(CONNECTIONS + SPARE)?;
    let count = CONNECTIONS.min(files.saturating_sub(SPARE));
    if count < CONNECTIONS {
        println!("only {files} open files are allowed here, so there are fewer connections");
    }
    let mut visitors = Vec::new();
    for count in [count / 10, count] {
        while (visitors.len() as u64) < count {
            visitors.push(load.visit(gate.address)?);
        }
        let held = gate.resident()?;
        println!(
            "{:<28} {:>8.1} MB   {:.1} kB for each",
            format!("memory, {count} connections"),
            megabytes(held),
            held.saturating_sub(idle) as f64 / count as f64 / 1e3
        );
    }
    // They were held all the while: each one is good for another request.
    for visitor in &visitors {
        load.revisit(visitor).context("a connection was given up")?;
    }
    Ok(())
}

/// Files that both sides have open beside the connections.
const SPARE: u64 = 500;

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A running gate. It ends with this value.
struct Gate {
    child: Child,
    address: SocketAddr,
    /// From the process's start until the admin listener said that it is ready.
    start_up: Duration,
}

impl Gate {
    fn start(program: &Path, directory: &Path, origin: SocketAddr) -> anyhow::Result<Self> {
        let (port, admin) = (free_port()?, SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        let config = directory.join("proxy.toml");
        fs::write(&config, proxy_toml(port, origin))?;
        let start = Instant::now();
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(&config)
            .env("FOREGATE_LOG", "error")
            .env("FOREGATE_SERVER__ADMIN", admin.to_string())
            .env("FOREGATE_SERVER__WORKERS", "0")
            // Nobody is to be sent away while the others come, as idle ones are once most places
            // are taken.
            .env("FOREGATE_LIMITS__CONNECTIONS", (2 * CONNECTIONS).to_string())
            .env("FOREGATE_LIMITS__IDLE_TIMEOUT", "10m")
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the program")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut gate = Self { child, address, start_up: Duration::ZERO };
        while !is_ready(admin) {
            ensure!(gate.child.try_wait()?.is_none(), "the program ended");
            if start.elapsed() > Duration::from_secs(10) {
                bail!("it is not ready within 10 s");
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        gate.start_up = start.elapsed();
        Ok(gate)
    }

    /// Bytes of memory that are its own now (`VmRSS`, proc(5)).
    fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        kilobytes.map(|kilobytes: u64| kilobytes * 1024).context("no VmRSS")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(admin)?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.get(9..12) == Some("200"))
}
