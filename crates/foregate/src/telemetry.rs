//! The log: to stderr, for people on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Starts the log. `FOREGATE_LOG` sets levels by module: `warn,foregate::request=info`.
pub(crate) fn start() {
    let levels = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("FOREGATE_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).init();
    }
}
