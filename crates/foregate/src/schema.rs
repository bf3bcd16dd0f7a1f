//! `foregate schema`: the JSON Schema of proxy.toml, for editors.

use std::process::ExitCode;

use crate::print::print;

pub(crate) fn command() -> anyhow::Result<ExitCode> {
    let schema = serde_json::to_string_pretty(&foregate_config::schema())?;
    print(|out| writeln!(out, "{schema}"))?;
    Ok(ExitCode::SUCCESS)
}
