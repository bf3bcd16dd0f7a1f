//! `cargo xtask test`: everything that must hold.

use std::process::Command;

use crate::fuzz::fuzz;
use crate::needs::{self, Program};
use crate::{build, build_with_fail_points, kubernetes, root, run};

/// All tests, the real counterparts included; Envoy, Keycloak and the fuzzer only where they are
/// asked for.
pub(crate) fn all(full: bool) -> anyhow::Result<()> {
    needs::node()?;
    needs::go()?;
    needs::programs(&[
        Program { name: "caddy", package: "caddy" },
        Program { name: "chromium", package: "chromium" },
        Program { name: "curl", package: "curl" },
        Program { name: "nginx", package: "nginx-light" },
        Program { name: "promtool", package: "prometheus" },
        Program { name: "python3", package: "python3-venv" },
        Program { name: "redis-server", package: "redis-server" },
        Program { name: "systemd-socket-activate", package: "systemd" },
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
    let faults = root().join("tests/faults");
    needs::go_program(&faults, TOXIPROXY, &faults.join(".built/toxiproxy-server"))?;
    containers()?;
    kubernetes::tools()?;
    if full {
        needs::programs(&[
            Program { name: "java", package: "openjdk-17-jre-headless" },
            Program { name: "mvn", package: "maven" },
        ])?;
        needs::keycloak(&backends.join(".built/keycloak"))?;
        needs::python_packages(&root().join("tests/proxies"))?;
        kubernetes::node()?;
        cargo_test(&["--workspace"], &["--skip", NODE])?;
        // Apart from the others, which would be its load; it prints what it measures.
        cargo_test(
            &["--package", "foregate-tests", "--test", "integration"],
            &["--nocapture", NODE],
        )?;
        return fuzz(None, FUZZ_SECONDS);
    }
    eprintln!(
        "left out: Envoy (40 MB), Keycloak (330 MB) and a Kubernetes node (built in 12 min); \
         `--full` installs them"
    );
    let others = ["--skip", "proxies::envoy", "--skip", "real_backends::keycloak"];
    cargo_test(&["--workspace"], &[&others[..], &["--skip", NODE]].concat())
}

/// podman with all that it runs, the program as images hold it, and what stands beside it there.
fn containers() -> anyhow::Result<()> {
    needs::programs(&[
        Program { name: "/usr/lib/podman/aardvark-dns", package: "aardvark-dns" },
        Program { name: "/usr/lib/podman/netavark", package: "netavark" },
        Program { name: "buildah", package: "buildah" },
        Program { name: "busybox", package: "busybox-static" },
        Program { name: "catatonit", package: "catatonit" },
        Program { name: "conmon", package: "conmon" },
        Program { name: "iptables", package: "iptables" },
        Program { name: "podman", package: "podman" },
        Program { name: "runc", package: "runc" },
    ])?;
    needs::static_binary()?;
    let images = root().join("tests/deploy/images");
    needs::go_program(&images.join("go"), "./app", &images.join(".built/app"))?;
    let compose = root().join("tests/deploy/compose");
    needs::go_program(&compose.join("go"), ".", &compose.join(".built/compose"))?;
    needs::python_packages(&compose)
}

const FUZZ_SECONDS: u64 = 30;
const NODE: &str = "deploy::kubernetes::node";
const TOXIPROXY: &str = "github.com/Shopify/toxiproxy/v2/cmd/server";
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

const LEFT_OUT: [(&str, &str); 20] = [
    ("admin::promtool", "needs promtool"),
    ("crashes::redis::", "needs redis-server"),
    ("deploy::compose", "needs podman, podman-compose in a virtual environment, and Go"),
    ("deploy::image", "needs podman and buildah, and a release build"),
    ("deploy::kubernetes", "needs Go, kustomize, helm and kubeconform"),
    ("deploy::nginx", "needs nginx and curl"),
    ("deploy::prometheus", "needs Prometheus"),
    ("deploy::systemd", "needs systemd-analyze and systemd-socket-activate"),
    ("differential::", "needs Node.js, npm packages, Go, and Django in a virtual environment"),
    ("docs::operating::next_auth", "needs Node.js and npm packages"),
    ("docs::validator::", "needs a JSON Schema validator in a virtual environment"),
    ("faults::redis::", "needs redis-server and Toxiproxy"),
    ("interop::", "needs Node.js, npm packages and Chromium"),
    ("ledgers::redis::", "needs redis-server"),
    ("ledgers::storms::", "needs redis-server"),
    ("minted_cookies::", "needs Node.js and npm packages"),
    ("pages::", "needs Node.js, npm packages and Chromium"),
    ("proxies::", "needs nginx, Caddy and Envoy"),
    ("real_backends::", "needs Node.js, npm packages, Django in a virtual environment, Keycloak"),
    ("wire::", "needs Node.js, npm and Python packages, Go, curl, Chromium and h2spec"),
];

fn cargo_test(which: &[&str], after: &[&str]) -> anyhow::Result<()> {
    build_with_fail_points()?;
    let program = build(false)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).env("FOREGATE_BIN", program);
    run(cargo.args(["test", "--locked"]).args(which).arg("--").args(after))
}
