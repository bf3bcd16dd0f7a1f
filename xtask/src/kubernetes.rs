//! What the tests of `deploy/kubernetes` and `deploy/helm` need: programs that no Debian package holds,
//! built by the lock files of `tests/deploy/kubernetes`, and schemas.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::needs::{self, Program};
use crate::{root, run};

/// What judges manifests without a cluster.
pub(crate) fn tools() -> anyhow::Result<()> {
    for (name, package) in [
        ("app", "./app"),
        ("helm", "helm.sh/helm/v3/cmd/helm"),
        ("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
        ("kustomize", "sigs.k8s.io/kustomize/kustomize/v5"),
    ] {
        needs::go_program(&folder().join("go"), package, &folder().join(".built").join(name))?;
    }
    needs::python_packages(&folder())?;
    let mut python = Command::new(folder().join(".venv/bin/python"));
    python.arg(folder().join("schemas.py")).arg(folder().join(".built/schemas"));
    run(python.arg(gateway_api()?.join(HTTP_ROUTE)))
}

/// The definition of HTTPRoute in the Gateway API's module.
const GATEWAY_API: &str = "sigs.k8s.io/gateway-api";
const HTTP_ROUTE: &str = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml";

/// Where Go keeps the Gateway API's module. No program is built of it, so it is fetched by itself.
fn gateway_api() -> anyhow::Result<PathBuf> {
    let go = || {
        let mut go = Command::new("go");
        go.current_dir(folder().join("go")).env("GOTOOLCHAIN", "local").stdin(Stdio::null());
        go
    };
    run(go().args(["mod", "download", GATEWAY_API]))?;
    let listed = go().args(["list", "-m", "-f", "{{.Dir}}", GATEWAY_API]).output();
    let listed = listed.context("cannot run go")?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    Ok(String::from_utf8(listed.stdout)?.trim().into())
}

/// A whole Kubernetes; the first build takes 12 minutes on two cores.
pub(crate) fn node() -> anyhow::Result<()> {
    needs::programs(&[
        Program { name: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
        Program { name: "containerd", package: "containerd" },
        Program { name: "etcd", package: "etcd-server" },
        Program { name: "ip", package: "iproute2" },
        Program { name: "openssl", package: "openssl" },
        Program { name: "redis-server", package: "redis-server" },
    ])?;
    let set = |name: &str, value: &str| format!(" -X k8s.io/component-base/version.{name}={value}");
    let flags: [String; 5] = [
        set("gitVersion", "v1.34.1"),
        set("gitMajor", "1"),
        set("gitMinor", "34"),
        set("gitTreeState", "clean"),
        set("gitCommit", &"0".repeat(40)),
    ];
    for program in
        ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet"]
    {
        let mut go = Command::new("go");
        go.current_dir(folder().join("node")).stdin(Stdio::null());
        go.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
        go.args(["build", "-trimpath", "-buildvcs=false"]);
        go.arg(format!("-ldflags=-s -w{}", flags.concat()));
        go.arg("-o").arg(folder().join(".built/bin").join(program));
        run(go.arg(format!("k8s.io/kubernetes/cmd/{program}")))?;
    }
    Ok(())
}

fn folder() -> PathBuf {
    root().join("tests/deploy/kubernetes")
}
