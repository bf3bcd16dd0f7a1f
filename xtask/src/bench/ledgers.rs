//! `cargo xtask bench --ledgers`: what a ledger adds to a redemption, what a late cookie costs, and
//! what a million entries take. The backend answers at once and costs nothing; what is measured is
//! an example of the crate `refresh`, so that each figure has a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{free_port, in_a_folder};
use crate::needs::{self, Program};
use crate::{root, run};

/// Redemptions one by one, as many at once, and as many look-ups.
const COUNT: usize = 2000;
const ENTRIES: usize = 1_000_000;

/// Measures, and prints two tables.
pub(crate) fn ledgers() -> anyhow::Result<()> {
    needs::programs(&[Program { name: "redis-server", package: "redis-server" }])?;
    let example = example()?;
    in_a_folder(|directory| {
        costs(&example, directory)?;
        entries(&example, directory)
    })
}

fn costs(example: &Path, directory: &Path) -> anyhow::Result<()> {
    let redis = Redis::start(directory)?;
    let file = format!("file:{}", directory.join("cost.redb").display());
    let floors = [
        ("memory", None),
        ("file", Some(("an fsync", sync(directory)?))),
        ("redis", Some(("a round trip", redis.round_trip()?))),
    ];
    println!("µs until a visitor has his tokens; {COUNT} of each, tokens of 900 and 64 bytes\n");
    println!(
        "{:<8} {:>8} {:>8}   {:>12}   {:>9} {:>8}",
        "", "redeemed", "p99", "CPU, of many", "looked up", "p99"
    );
    for ((name, floor), address) in floors.into_iter().zip(["memory", &file, &redis.url()]) {
        let measured =
            Measured::start(example, &["cost", address, &COUNT.to_string()])?.told.clone();
        let [median, p99] = pair(&measured["settle"])?;
        let [look, look_p99] = pair(&measured["look"])?;
        let each = number(&measured["cpu"])?;
        print!("{name:<8} {median:>8.0} {p99:>8.0}   {each:>12.0}   {look:>9.0} {look_p99:>8.0}");
        match floor {
            None => println!(),
            Some((what, [floor, floor_p99])) => {
                let ratio = median / floor;
                println!("   {ratio:.1} × {what} ({floor:.0}, p99 {floor_p99:.0})");
            }
        }
    }
    Ok(())
}

fn entries(example: &Path, directory: &Path) -> anyhow::Result<()> {
    println!("\n{ENTRIES} entries: {} sessions, each of which was redeemed once\n", ENTRIES / 2);
    let wanted = ENTRIES.to_string();
    let memory = Measured::start(example, &["fill", "memory", &wanted])?.told.clone();
    println!("memory   {}", filled(&memory)?);

    let path = directory.join("full.redb");
    let file = format!("file:{}", path.display());
    let fill = Measured::start(example, &["fill", &file, &wanted])?;
    let told = filled(&fill.told)?;
    fill.kill()?;
    let size = path.metadata()?.len() as f64 / 1e6;
    println!("file     {told}, {size:.0} MB on the disk");
    for after in ["after SIGKILL", "after a good end"] {
        let open = Measured::start(example, &["open", &file])?;
        let (millis, count) = (number(&open.told["millis"])?, &open.told["entries"]);
        println!("         {after} open after {millis:.0} ms, with {count} entries");
        open.end()?;
    }

    let redis = Redis::start(directory)?;
    let before = redis.memory()?;
    // A tenth is enough to know the price of one.
    let fill = Measured::start(example, &["fill", &redis.url(), &(ENTRIES / 10).to_string()])?;
    let each = (redis.memory()? - before) / (ENTRIES / 10) as f64;
    let told = filled(&fill.told)?;
    fill.kill()?;
    println!(
        "redis    {each:.0} bytes an entry in Redis, so {:.0} MB; here,",
        each * ENTRIES as f64 / 1e6
    );
    println!("         of a tenth: {told}");
    Ok(())
}

/// What `fill` tells, in words.
fn filled(told: &Value) -> anyhow::Result<String> {
    let (seconds, memory) = (number(&told["seconds"])?, number(&told["memory_kib"])? / 1024.0);
    let entries = &told["entries"];
    Ok(format!("{entries} entries after {seconds:.0} s, {memory:.0} MiB more in the process"))
}

/// Builds what is measured.
fn example() -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--locked", "--release"]);
    run(cargo.args(["--package", "foregate-refresh", "--example", "ledgers"]))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/examples/ledgers"))
}

/// A process that has told what it measured. It goes on until its stdin ends, and is killed where
/// nobody waits for that.
struct Measured {
    child: Child,
    told: Value,
}

impl Measured {
    fn start(example: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(example);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().context("cannot start the example")?;
        let mut measured = Self { child, told: Value::Null };
        let mut line = String::new();
        let stdout = measured.child.stdout.as_mut().context("stdout was asked for")?;
        BufReader::new(stdout).read_line(&mut line)?;
        measured.told = serde_json::from_str(&line)
            .with_context(|| format!("{} did not tell", arguments.join(" ")))?;
        Ok(measured)
    }

    fn end(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        ensure!(self.child.wait()?.success(), "it did not end well");
        Ok(())
    }

    fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A redis-server on loopback that keeps nothing on a disk. It ends with this value.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
        command.arg(port.to_string()).current_dir(directory);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let redis = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while redis.connect().is_err() {
            if Instant::now() > deadline {
                bail!("redis-server does not listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Of nothing at all, in microseconds: median and 99th percentile.
    fn round_trip(&self) -> anyhow::Result<[f64; 2]> {
        let mut stream = self.connect()?;
        times(|| {
            stream.write_all(b"PING\r\n")?;
            Ok(stream.read_exact(&mut [0; "+PONG\r\n".len()])?)
        })
    }

    /// What it has in use, in bytes.
    fn memory(&self) -> anyhow::Result<f64> {
        let stream = self.connect()?;
        (&stream).write_all(b"INFO memory\r\n")?;
        let mut lines = BufReader::new(stream).lines();
        loop {
            let line = lines.next().context("Redis told nothing of its memory")??;
            if let Some(bytes) = line.strip_prefix("used_memory:") {
                return Ok(bytes.trim().parse()?);
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of a page at the end of a file, in microseconds: median and 99th percentile.
fn sync(directory: &Path) -> anyhow::Result<[f64; 2]> {
    let mut file = File::create(directory.join("sync"))?;
    times(|| {
        file.write_all(&[0; 4096])?;
        Ok(file.sync_data()?)
    })
}

fn times(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<[f64; 2]> {
    let mut times = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let began = Instant::now();
        work()?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok([times[COUNT / 2], times[COUNT * 99 / 100]])
}

fn pair(value: &Value) -> anyhow::Result<[f64; 2]> {
    Ok([number(&value[0])?, number(&value[1])?])
}

fn number(value: &Value) -> anyhow::Result<f64> {
    value.as_f64().with_context(|| format!("{value} is no number"))
}
