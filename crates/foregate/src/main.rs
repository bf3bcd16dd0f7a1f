//! The program: arguments, threads, signals, the log. It joins the parts and decides nothing.

mod check;
mod cli;
mod completions;
mod demo;
mod explain;
mod health;
mod opened;
mod print;
mod reload;
mod run;
mod schema;
mod session;
mod systemd;
mod telemetry;
mod workers;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::error::{ContextKind, ContextValue};
use foregate_config::{Environment, Loaded, Unusable};

use crate::cli::{Cli, Command};
use crate::print::complain;

/// The system's allocator costs three hundredths more of a request's CPU time (`cargo xtask bench`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| with_tip(error).exit());
    let done = match cli.command {
        Command::Run { config } => run::command(&config.path),
        Command::Check { config, json, deny_warnings } => {
            check::command(&config.path, json, deny_warnings)
        }
        Command::Explain(arguments) => explain::command(&arguments),
        Command::Demo { config } => demo::command(config.as_deref()),
        Command::Session { command } => session::command(command),
        Command::Health { admin, config } => health::command(admin.as_deref(), config.as_deref()),
        Command::Schema => schema::command(),
        Command::Completions { shell } => completions::command(shell),
    };
    done.unwrap_or_else(|error| {
        complain(format_args!("error: {error:#}"));
        ExitCode::from(FAILED)
    })
}

/// Most programs take their file without a flag.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let file = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) if name.ends_with(".toml") => name.clone(),
        _ => return error,
    };
    let tip = format!("the configuration is named by '--config {file}'");
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
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
    usable(foregate_config::load(path, &environment()))
}

/// With the clock, which the configuration's certificates are held against.
fn environment() -> Environment {
    Environment::of_process().at(session::at(None))
}

fn usable(loaded: Result<Loaded, Unusable>) -> Result<Loaded, ExitCode> {
    loaded.map_err(|unusable| {
        for problem in unusable.problems {
            complain(problem);
        }
        ExitCode::from(BAD_CONFIGURATION)
    })
}
