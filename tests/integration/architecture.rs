//! The map of crates in ARCHITECTURE.md, held against the manifests.

use std::collections::BTreeSet;
use std::path::Path;

/// Who may use whom. The longest chain has five links.
const MAP: [(&str, &[&str]); 7] = [
    ("session", &[]),
    ("policy", &["session"]),
    ("refresh", &["session"]),
    ("config", &["policy", "refresh", "session"]),
    ("proxy", &["config", "policy", "refresh", "session"]),
    ("stage", &[]),
    ("foregate", &["config", "policy", "proxy", "refresh", "session", "stage"]),
];

/// What would give a pure crate a clock, a socket or a log.
const IMPURE: [&str; 8] =
    ["chrono", "getrandom", "hyper", "hyper-util", "reqwest", "time", "tokio", "tracing"];

#[test]
fn no_crate_uses_another_that_the_map_does_not_name() {
    for (name, allowed) in MAP {
        let ours = dependencies(name)
            .into_iter()
            .filter_map(|dependency| dependency.strip_prefix("foregate-").map(str::to_owned));
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let unknown: Vec<String> = ours.filter(|name| !allowed.contains(name)).collect();
        assert!(unknown.is_empty(), "{name} uses {unknown:?}, which the map does not allow");
    }
}

#[test]
fn every_crate_is_on_the_map() {
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    let found: BTreeSet<String> =
        crates.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, MAP.iter().map(|(name, _)| (*name).to_owned()).collect());
}

#[test]
fn the_crates_that_decide_have_no_clock_no_socket_and_no_log() {
    for name in ["session", "policy"] {
        let dependencies = dependencies(name);
        let impure: Vec<_> =
            IMPURE.iter().filter(|impure| dependencies.contains(**impure)).collect();
        assert!(impure.is_empty(), "{name} uses {impure:?}");
    }
}

/// What stands under `[dependencies]` in a crate's manifest.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = root().join("crates").join(name).join("Cargo.toml");
    let text = std::fs::read_to_string(manifest).unwrap();
    let table = text.split("[dependencies]").nth(1).unwrap();
    let table = table.split("\n[").next().unwrap();
    let lines = table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split(['.', ' ', '=']).next().unwrap().to_owned()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
