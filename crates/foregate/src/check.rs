//! `foregate check`: what is wrong with a configuration, for a person or for a script.

use std::path::Path;
use std::process::ExitCode;

use foregate_config::{Problem, Severity};

use crate::print::print;
use crate::{BAD_CONFIGURATION, environment};

/// `ok` speaks of errors alone; `deny_warnings` changes nothing but the exit code.
pub(crate) fn command(path: &Path, json: bool, deny_warnings: bool) -> anyhow::Result<ExitCode> {
    let (ok, problems) = match foregate_config::load(path, &environment()) {
        Ok(loaded) => (true, loaded.warnings),
        Err(unusable) => (false, unusable.problems),
    };
    if json {
        let told = serde_json::json!({ "ok": ok, "problems": problems });
        print(|out| writeln!(out, "{told}"))?;
    } else {
        print(|out| {
            problems.iter().try_for_each(|problem| writeln!(out, "{problem}"))?;
            writeln!(out, "{}", summary(path, &problems))
        })?;
    }
    let is_taken = ok && (problems.is_empty() || !deny_warnings);
    Ok(if is_taken { ExitCode::SUCCESS } else { ExitCode::from(BAD_CONFIGURATION) })
}

fn summary(path: &Path, problems: &[Problem]) -> String {
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    let path = path.display();
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => format!("{path}: fine"),
        (0, warnings) => format!("{path}: usable, with {}", counted(warnings, "warning")),
        (errors, 0) => format!("{path}: {}", counted(errors, "error")),
        (errors, warnings) => {
            format!("{path}: {}, {}", counted(errors, "error"), counted(warnings, "warning"))
        }
    }
}

fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
