//! `foregate schema`: the JSON Schema of proxy.toml, for editors.

use std::io::Write;
use std::process::ExitCode;

pub(crate) fn command() -> anyhow::Result<ExitCode> {
    let schema = serde_json::to_string_pretty(&foregate_config::schema())?;
    writeln!(std::io::stdout(), "{schema}")?;
    Ok(ExitCode::SUCCESS)
}
