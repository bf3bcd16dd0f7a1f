//! The project's own tasks: `cargo xtask test`, `fuzz` and `bench`. They install what they need or
//! say exactly what is missing.

mod bench;
mod fuzz;
mod kubernetes;
mod needs;
mod test;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run the tests, with real Next.js sites and a real browser.
    Test {
        /// Only what runs offline and in under three minutes; says what it leaves out.
        #[arg(long, conflicts_with = "full")]
        quick: bool,
        /// With Envoy (40 MB), Keycloak (330 MB), a Kubernetes node (built in 12 min), and half a
        /// minute of fuzzing for each parser of outside bytes, too.
        #[arg(long)]
        full: bool,
    },
    /// Throw bytes at the parsers of outside bytes, and fail if one of them breaks its promise.
    Fuzz {
        /// One of `tests/fuzz/targets`; all of them, in turn, where none is named.
        target: Option<String>,
        /// How long for each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Compare the CPU time of a request with nginx as a plain proxy, in the same run.
    Bench {
        /// Requests in each of the nine rounds.
        #[arg(long, default_value_t = 20_000)]
        requests: usize,
        /// What it costs to have it instead: start-up, memory, size.
        #[arg(long, conflicts_with = "requests")]
        footprint: bool,
        /// What each ledger costs instead, and a million entries.
        #[arg(long, conflicts_with_all = ["requests", "footprint"])]
        ledgers: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Test { quick: true, .. } => test::quick(),
        Task::Test { full, .. } => test::all(full),
        Task::Fuzz { target, seconds } => fuzz::fuzz(target.as_deref(), seconds),
        Task::Bench { footprint: true, .. } => bench::footprint(),
        Task::Bench { ledgers: true, .. } => bench::ledgers(),
        Task::Bench { requests, .. } => bench::run(requests),
    }
}

/// The checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// Builds the program and says where it is.
fn build(release: bool) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--locked", "--package", "foregate"]);
    if release {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    Ok(target().join(if release { "release" } else { "debug" }).join("foregate"))
}

/// Builds the program that the tests of crashes run, beside the debug build. That must be built
/// after it, since it takes its name.
fn build_with_fail_points() -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--locked", "--package", "foregate"]);
    run(cargo.args(["--features", "fail-points"]))?;
    let built = target().join("debug/foregate");
    let kept = built.with_file_name("foregate-fail-points");
    fs::copy(&built, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(())
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a command to its end, and shows it first.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let shown = words.join(" ");
    eprintln!("» {shown}");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}
