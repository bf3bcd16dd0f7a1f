//! The log: to stderr, for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use foregate_config::{Problem, Severity};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log. `FOREGATE_LOG` sets levels by module: `warn,foregate::request=info`.
pub(crate) fn start() {
    let levels = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("FOREGATE_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr);
    let may_speak = filter_fn(may_speak);
    if std::io::stderr().is_terminal() {
        log.with_target(false).finish().with(may_speak).init();
    } else {
        log.json().flatten_event(true).finish().with(may_speak).init();
    }
}

/// The log is JSON, and says errors: whoever collects it wants no other text beside it.
pub(crate) fn is_read_by_programs() -> bool {
    !std::io::stderr().is_terminal() && tracing::enabled!(Level::ERROR)
}

/// Libraries know no secret when they see one: h2 quotes the path that it cannot read, with its
/// query. And a warning of theirs may be any visitor's to cause: h2 has one for each ping that
/// nobody asked for. So only their errors are heard, whatever the levels are.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("foregate") || *metadata.level() <= Level::ERROR
}

/// One line for a problem of the configuration.
pub(crate) fn tell(problem: &Problem) {
    let Problem { severity, file, line, column, key, message, hint } = problem;
    let (line, column, hint) = (*line, *column, hint.as_deref());
    const TARGET: &str = "foregate::config";
    match severity {
        Severity::Error => {
            tracing::error!(target: TARGET, file, line, column, key, hint, "{message}");
        }
        Severity::Warning => {
            tracing::warn!(target: TARGET, file, line, column, key, hint, "{message}");
        }
    }
}
