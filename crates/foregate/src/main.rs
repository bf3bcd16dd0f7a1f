//! The program: arguments, threads, signals, the log. It joins the parts and decides nothing.

mod check;
mod cli;
mod completions;
mod demo;
mod explain;
mod health;
mod reload;
mod run;
mod schema;
mod session;
mod telemetry;
mod workers;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use foregate_config::{Environment, Loaded, Unusable};

use crate::cli::{Cli, Command};

/// The system's allocator costs three hundredths more of a request's CPU time (`cargo xtask bench`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { config } => run::command(&config.path),
        Command::Check { config, json } => check::command(&config.path, json),
        Command::Explain(arguments) => explain::command(&arguments),
        Command::Demo { config } => demo::command(config.as_deref()),
        Command::Session { command } => session::command(command),
        Command::Health { admin, config } => health::command(admin.as_deref(), config.as_deref()),
        Command::Schema => schema::command(),
        Command::Completions { shell } => completions::command(shell),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(FAILED)
    })
}

/// Exit code of a run that went wrong; 2 is for the configuration and for usage.
const FAILED: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

/// The text of a file; `-` is stdin.
fn input(file: &Path) -> anyhow::Result<String> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.with_context(|| format!("cannot read {}", file.display()))
}

/// Reads the configuration, or tells a person all that is wrong with it.
fn load(path: &Path) -> Result<Loaded, ExitCode> {
    usable(foregate_config::load(path, &Environment::of_process()))
}

fn usable(loaded: Result<Loaded, Unusable>) -> Result<Loaded, ExitCode> {
    loaded.map_err(|unusable| {
        for problem in unusable.problems {
            eprintln!("{problem}");
        }
        ExitCode::from(BAD_CONFIGURATION)
    })
}
