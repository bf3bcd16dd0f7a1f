//! What the kustomizations and the chart come to, as objects.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// All objects of one kustomization, or of one rendering of a chart.
pub(super) struct Objects {
    /// How a failing test calls them.
    pub(super) name: String,
    yaml: Vec<u8>,
    pub(super) list: Vec<Value>,
}

impl Objects {
    /// What `kustomize build` makes of a folder below `deploy/kubernetes`.
    pub(super) fn kustomized(folder: &str) -> Self {
        let path = deploy().join("kubernetes").join(folder);
        let built = output(Command::new(tool("kustomize")).arg("build").arg(path), b"");
        Self::new(folder, succeeded(folder, built))
    }

    /// What `helm template` makes of a chart, with more arguments.
    pub(super) fn rendered(name: &str, chart: &Path, more: &[&str]) -> Self {
        Self::new(name, succeeded(name, template(chart, more)))
    }

    fn new(name: &str, yaml: Vec<u8>) -> Self {
        let script = folder().join("objects.py");
        let json = output(Command::new(folder().join(".venv/bin/python")).arg(script), &yaml);
        let list = serde_json::from_slice(&succeeded(name, json)).unwrap();
        Self { name: name.to_owned(), yaml, list }
    }

    /// What kubeconform has to say against them; it must know every kind.
    pub(super) fn faults(&self) -> Option<String> {
        let schemas = folder().join(".built/schemas").display().to_string();
        let location = schemas + "/{{.ResourceKind}}{{.KindSuffix}}.json";
        let mut kubeconform = Command::new(tool("kubeconform"));
        kubeconform.args(["-strict", "-schema-location", &location]);
        let output = output(&mut kubeconform, &self.yaml);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (!output.status.success()).then_some(said)
    }

    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.list.iter().filter(move |object| object["kind"] == kind)
    }

    /// The one pod template that has a gate in it, and that gate.
    pub(super) fn gate(&self) -> (&Value, &Value) {
        let pod = self.of_kind("Deployment").map(|deployment| &deployment["spec"]["template"]);
        let gates = pod.flat_map(|pod| {
            let containers = ["containers", "initContainers"].map(|list| &pod["spec"][list]);
            let all = containers.into_iter().filter_map(Value::as_array).flatten();
            all.filter(|container| container["name"] == "foregate").map(move |gate| (pod, gate))
        });
        let gates: Vec<_> = gates.collect();
        let [(pod, gate)] = gates[..] else { panic!("{}: {} gates", self.name, gates.len()) };
        (pod, gate)
    }
}

/// The value of a container's variable.
pub(super) fn variable<'a>(container: &'a Value, name: &str) -> &'a str {
    let variables = container["env"].as_array().unwrap();
    let found = variables.iter().find(|variable| variable["name"] == name);
    found.and_then(|variable| variable["value"].as_str()).unwrap_or_else(|| panic!("no {name}"))
}

/// What came of `helm template`, for good or ill.
pub(super) fn template(chart: &Path, more: &[&str]) -> Output {
    let mut helm = Command::new(tool("helm"));
    helm.args(["template", "release"]).arg(chart).args(["--kube-version", KUBERNETES]).args(more);
    output(&mut helm, b"")
}

pub(super) const KUBERNETES: &str = "1.34.0";

pub(super) fn output(command: &mut Command, stdin: &[u8]) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    // It may end without reading any of it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

fn succeeded(name: &str, output: Output) -> Vec<u8> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    output.stdout
}

/// A program that `cargo xtask test` builds.
pub(super) fn tool(name: &str) -> PathBuf {
    folder().join(".built").join(name)
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes")
}

pub(super) fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy")
}
