//! Files as a person writes them, and what comes of them.

mod accepted;
mod certificates;
mod problems;

use crate::{Environment, Loaded, Problem, parse};

/// A file without fault or risk, for `environment()`, which names the proxy that ends TLS.
const SOUND: &str = r#"[session]
secrets = [{ env = "SECRET" }]
domain = ".a.test"

[login]
url = "https://login.a.test/"

[[app]]
host = "app.a.test"
upstream = "http://127.0.0.1:3000"
"#;

/// What stands in the variable and the file that secrets name. No problem may show it.
const SECRET: &str = "kY7#qP2!vB9$wX4z-and-more-of-it";

fn environment(more: &[(&str, &str)]) -> Environment {
    let proxy = ("FOREGATE_SERVER__TRUSTED_PROXIES", "[\"192.0.2.1\"]");
    bare_environment(&[&[proxy], more].concat())
}

/// For a file that says itself who ends TLS.
fn bare_environment(more: &[(&str, &str)]) -> Environment {
    let pairs = [("SECRET", SECRET), ("EMPTY", "")];
    Environment::from_pairs(pairs.into_iter().chain(more.iter().copied()))
        .with_file("/run/secret", &format!("{SECRET}\n"))
        .with_file("/run/empty", "\n")
}

fn load_sound(text: &str, variables: &[(&str, &str)]) -> Loaded {
    parse("proxy.toml", text, &environment(variables))
        .unwrap_or_else(|unusable| panic!("{}", shown(&unusable.problems)))
}

/// What is said of a file, whether it is taken or not.
fn problems(text: &str, environment: &Environment) -> Vec<Problem> {
    match parse("proxy.toml", text, environment) {
        Ok(loaded) => loaded.warnings,
        Err(unusable) => unusable.problems,
    }
}

/// As `check` prints them.
fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}
