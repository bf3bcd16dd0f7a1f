//! `cargo xtask fuzz`: libFuzzer at every parser of outside bytes, see `tests/fuzz`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::needs::{self, Program};
use crate::{root, run};

/// Runs one target, or each in turn, for so many seconds. A find fails the task, once all have run.
pub(crate) fn fuzz(only: Option<&str>, seconds: u64) -> anyhow::Result<()> {
    let targets = targets(only)?;
    needs::programs(&[Program { name: "c++", package: "g++" }])?;
    install()?;
    // cargo-fuzz has no `--locked`, so the lock file is held against the manifest first.
    run(Command::new(env!("CARGO")).current_dir(directory()).args(["fetch", "--locked"]))?;
    run(cargo_fuzz("build").args(only))?;

    let mut failed = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        eprintln!("{target}, {} of {}: {seconds} s", index + 1, targets.len());
        sow(target)?;
        let time = format!("-max_total_time={seconds}");
        let mut fuzz = cargo_fuzz("run");
        let fuzz =
            fuzz.args([target, "--", &time]).args(LIBFUZZER).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&fuzz.stderr);
        if fuzz.status.success() {
            let count = said.lines().find_map(|line| line.strip_prefix(INPUTS)).unwrap_or("?");
            eprintln!("{target}: {} inputs", count.trim());
        } else {
            eprintln!("{said}");
            failed.push(target.as_str());
        }
    }
    ensure!(failed.is_empty(), "the fuzzer found something: {}", failed.join(", "));
    Ok(())
}

/// An input that takes ten seconds is a find, too.
const LIBFUZZER: [&str; 3] = ["-timeout=10", "-verbosity=0", "-print_final_stats=1"];
/// The line of the final statistics that counts.
const INPUTS: &str = "stat::number_of_executed_units:";

fn directory() -> PathBuf {
    root().join("tests/fuzz")
}

/// All targets, or the one that is asked for.
fn targets(only: Option<&str>) -> anyhow::Result<Vec<String>> {
    let mut targets = Vec::new();
    for file in fs::read_dir(directory().join("targets"))? {
        let path = file?.path();
        targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    targets.sort();
    match only {
        None => Ok(targets),
        Some(only) if targets.iter().any(|target| target == only) => Ok(vec![only.to_owned()]),
        Some(only) => bail!("no target is called {only}: {}", targets.join(", ")),
    }
}

/// Without a sanitizer, which would need a nightly compiler: our crates forbid unsafe code, so all
/// that there is to find are panics, and debug assertions are on.
fn cargo_fuzz(task: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["fuzz", task, "--sanitizer=none", "--fuzz-dir=tests/fuzz"]);
    cargo
}

fn install() -> anyhow::Result<()> {
    let mut version = Command::new(env!("CARGO"));
    version.args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if version.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    run(Command::new(env!("CARGO")).args(["install", "--locked", "cargo-fuzz"]))
}

/// Puts where the fuzzer begins into its corpus.
fn sow(target: &str) -> anyhow::Result<()> {
    let corpus = directory().join("corpus").join(target);
    fs::create_dir_all(&corpus)?;
    let written = json(&directory().join("seeds.json"))?;
    let mut seeds: Vec<String> =
        items(&written[target]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    seeds.extend(known_answers(target)?);
    // Longer ones only slow it down.
    for (index, seed) in seeds.iter().filter(|seed| seed.len() <= 4096).enumerate() {
        fs::write(corpus.join(format!("seed-{index}")), seed)?;
    }
    Ok(())
}

/// The inputs among `tests/vectors` that suit a target.
fn known_answers(target: &str) -> anyhow::Result<Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pick: &dyn Fn(&Value) -> String = match target {
        "cookie_header" => &|vector| text(&vector["cookie_header"]),
        "sealed_token" => &|vector| {
            let header = text(&vector["cookie_header"]);
            header.split_once('=').map(|(_, token)| token.to_owned()).unwrap_or_default()
        },
        "claims" => &|vector| vector["expect"]["claims"].to_string(),
        "path" => &|vector| text(&vector["path"]),
        "pattern" => &|vector| {
            let config = &vector["config"];
            let locale = &config["i18n"]["defaultLocale"];
            let lines = [&vector["matcher"], &vector["path"], &config["basePath"], locale];
            let count = if locale.is_null() { 3 } else { 4 };
            lines.map(text)[..count].join("\n")
        },
        "config" => {
            let files = ["proxy.toml", "crates/config/src/tests/full.toml"];
            return files
                .map(|file| Ok(fs::read_to_string(root().join(file))?))
                .into_iter()
                .collect();
        }
        _ => return Ok(Vec::new()),
    };
    let files: &[&str] = match target {
        "path" | "pattern" => &["path-matcher"],
        _ => &["session-v4", "session-v5"],
    };
    let mut seeds = Vec::new();
    for file in files {
        let vectors = json(&root().join(format!("tests/vectors/{file}.json")))?;
        seeds.extend(items(&vectors["vectors"]).iter().map(pick));
    }
    seeds.sort();
    seeds.dedup();
    Ok(seeds)
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn json(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
