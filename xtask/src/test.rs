//! `cargo xtask test`: everything that must hold.

use std::process::Command;

use crate::needs::{self, Program};
use crate::{build, root, run};

/// All tests, the real counterparts included.
pub(crate) fn all(full: bool) -> anyhow::Result<()> {
    needs::node()?;
    needs::programs(&[Program { name: "chromium", package: "chromium" }])?;
    needs::npm_packages(&root().join("tests/vectors"))?;
    let interop = root().join("tests/interop");
    needs::npm_packages(&interop)?;
    needs::npm_script(&interop, "build")?;
    cargo_test(&["--workspace"], &[])?;
    if full {
        eprintln!("No slow counterparts are tested yet: --full runs what the plain command runs.");
    }
    Ok(())
}

/// What needs no network, no Node.js and no browser.
pub(crate) fn quick() -> anyhow::Result<()> {
    let mut skips = Vec::new();
    for (module, why) in LEFT_OUT {
        skips.extend(["--skip", module]);
        eprintln!("left out: {module} ({why})");
    }
    cargo_test(&["--workspace", "--offline"], &skips)?;
    eprintln!("quick: {} groups of tests were left out, see above", LEFT_OUT.len());
    Ok(())
}

const LEFT_OUT: [(&str, &str); 2] = [
    ("interop::", "needs Node.js, npm packages and Chromium"),
    ("minted_cookies::", "needs Node.js and npm packages"),
];

fn cargo_test(which: &[&str], after: &[&str]) -> anyhow::Result<()> {
    let program = build(false)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).env("FOREGATE_BIN", program);
    run(cargo.args(["test", "--locked"]).args(which).arg("--").args(after))
}
