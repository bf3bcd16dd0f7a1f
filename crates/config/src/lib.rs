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
mod not_after;
mod one_or_many;
mod problem;
mod raw;
mod report;
mod scalar;
mod schema;
mod secrets;
mod snapshot;
mod source_file;
mod sources;
mod syntax;
mod tls;
mod upstream;
mod value;

#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use problem::{Problem, Severity};
pub use schema::schema;
pub use snapshot::{
    App, BackendChoice, CookieMode, Limits, Listen, Login, Refresh, RuleText, Server, Snapshot,
    TrustedProxies, folded,
};
pub use source_file::SourceFile;
pub use tls::{Certificate, LAST_WEEKS, Tls};
pub use upstream::{Endpoint, Protocol, Upstream};

use std::io;
use std::path::Path;
use std::string::FromUtf8Error;

use crate::problem::{Fault, unread};

/// A configuration that may be used.
pub struct Loaded {
    pub snapshot: Snapshot,
    /// What is legal, but risky; in the order of the file.
    pub warnings: Vec<Problem>,
    /// All that was read: the file itself, secrets, certificates, keys, authorities.
    pub files: Vec<SourceFile>,
}

/// A configuration that may not be used.
#[derive(Debug)]
pub struct Unusable {
    /// Every problem, warnings too; in the order of the file.
    pub problems: Vec<Problem>,
    /// All that was read, or could not be: a change in one of them may mend it.
    pub files: Vec<SourceFile>,
}

/// Reads the file at `path` and compiles it.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Unusable> {
    let name = path.display().to_string();
    let contents = std::fs::read(path);
    let file = SourceFile::new(path, contents.as_deref().ok());
    let refuse = |problem| Err(Unusable { problems: vec![problem], files: Vec::new() });
    let mut loaded = match contents.map(String::from_utf8) {
        Ok(Ok(text)) => parse(&name, &text, environment),
        Ok(Err(error)) => refuse(not_utf8(&name, &error)),
        Err(error) => refuse(Problem::of_file(&name, unopened(path, &error))),
    };
    match &mut loaded {
        Ok(Loaded { files, .. }) | Err(Unusable { files, .. }) => files.insert(0, file),
    }
    loaded
}

fn unopened(path: &Path, error: &io::Error) -> Fault {
    let hint = match error.kind() {
        io::ErrorKind::IsADirectory => {
            format!("name the file in it: --config {}", path.join("proxy.toml").display())
        }
        io::ErrorKind::PermissionDenied => "let the user who runs Foregate read it".to_owned(),
        _ => "name the configuration with --config, or start where proxy.toml is".to_owned(),
    };
    Fault::new(unread(error)).hint(hint)
}

/// With the place of the first byte that does not belong there.
fn not_utf8(file: &str, error: &FromUtf8Error) -> Problem {
    let bytes = error.as_bytes();
    let before = String::from_utf8_lossy(&bytes[..error.utf8_error().valid_up_to()]);
    let is_utf16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
    let message = if is_utf16 { "it is UTF-16 text" } else { "it is not UTF-8 text" };
    let problem = Problem::of_file(file, Fault::new(message).hint("save it as UTF-8"));
    let line = before.split('\n').count();
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    Problem { line: u32::try_from(line).ok(), column: u32::try_from(column).ok(), ..problem }
}

/// Where the file at `path`, sound or not, has the admin listener; `None` where it is switched off,
/// or where that cannot be told.
pub fn admin_listener(path: &Path, environment: &Environment) -> io::Result<Option<Listen>> {
    let text = std::fs::read_to_string(path)?;
    let (file, _) = load::read(&path.display().to_string(), &text, environment);
    Ok(value::listener(&file.server.admin).ok())
}

/// Compiles the text of a configuration file. `file_name` stands in problems; variables and the
/// files that it names come from `environment`.
pub fn parse(file_name: &str, text: &str, environment: &Environment) -> Result<Loaded, Unusable> {
    let (file, mut report) = load::read(file_name, text, environment);
    let snapshot = compile::compile(&file, environment, &mut report);
    let (problems, files) = report.finish();
    match snapshot {
        Some(snapshot) => Ok(Loaded { snapshot, warnings: problems, files }),
        None => Err(Unusable { problems, files }),
    }
}
