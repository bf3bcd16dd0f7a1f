//! `proxy.toml` and the environment in, one immutable [`Snapshot`] out, or all the problems at
//! once. It opens no socket and calls nobody: backends and apps may be down when it reads about
//! them.
//!
//! ```text
//! defaults < file < FOREGATE_…__…    sources   what is set where, with line and column
//!            │
//!            raw::File               load      key for key, nothing checked yet
//!            │
//!            Snapshot                compile   text becomes types
//!
//!            Report                  what is wrong at any step, all of it
//! ```

mod compile;
mod environment;
mod key;
mod later;
mod load;
mod problem;
mod raw;
mod report;
mod scalar;
mod schema;
mod secrets;
mod snapshot;
mod sources;
mod syntax;
mod value;

#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use problem::{Problem, Severity};
pub use schema::schema;
pub use snapshot::{
    App, BackendChoice, CookieMode, Limits, Login, Refresh, RuleText, Server, Snapshot,
    TrustedProxies, Upstream, folded,
};

use std::path::Path;

use crate::problem::{Fault, unread};

/// A configuration that may be used.
pub struct Loaded {
    pub snapshot: Snapshot,
    /// What is legal, but risky; in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads the file at `path` and compiles it. The error holds every problem, warnings too.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Vec<Problem>> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text, environment),
        Err(error) => {
            let fault = Fault::new(unread(&error));
            let hint = "name the configuration with --config, or start where proxy.toml is";
            Err(vec![Problem::of_file(&name, fault.hint(hint))])
        }
    }
}

/// Compiles the text of a configuration file. `file_name` stands in problems; secret files and
/// variables come from `environment`.
pub fn parse(
    file_name: &str,
    text: &str,
    environment: &Environment,
) -> Result<Loaded, Vec<Problem>> {
    let (file, mut report) = load::read(file_name, text, environment);
    let snapshot = compile::compile(&file, environment, &mut report);
    let problems = report.finish();
    match snapshot {
        Some(snapshot) => Ok(Loaded { snapshot, warnings: problems }),
        None => Err(problems),
    }
}
