//! The kustomizations and the chart, as far as they can be judged without a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use foregate_tests::{Directory, program};
use serde_json::{Value, json};

use super::objects::{KUBERNETES, Objects, deploy, folder, output, template, tool, variable};

#[test]
fn every_object_is_as_the_schemas_of_kubernetes_have_it() {
    let route =
        "httpRoute.enabled=true,httpRoute.hostnames={a.test},httpRoute.parentRefs[0].name=g";
    let with_route = gateway_chart(&["--set", route]);
    assert_eq!(with_route.of_kind("HTTPRoute").count(), 1);
    let folder = Directory::new("route");
    fs::copy(deploy().join("kubernetes/examples/gateway/http-route.yaml"), folder.join("a.yaml"))
        .unwrap();
    fs::write(folder.join("kustomization.yaml"), "resources: [a.yaml]").unwrap();
    let route = Objects::kustomized(folder.to_str().unwrap());
    for objects in with_gates().iter().chain([&with_route, &sidecar_policy(), &route]) {
        assert!(!objects.list.is_empty(), "{}", objects.name);
        assert_eq!(objects.faults(), None, "{}", objects.name);
    }
}

#[test]
fn a_misspelt_key_would_be_found() {
    let folder = Directory::new("misspelt");
    let text = fs::read_to_string(deploy().join("kubernetes/gateway/service.yaml")).unwrap();
    let (service, route) = ("service.yaml", "http-route.yaml");
    fs::write(folder.join(service), text.replace("targetPort", "targetport")).unwrap();
    let text = fs::read_to_string(deploy().join("kubernetes/examples/gateway").join(route));
    fs::write(folder.join(route), text.unwrap().replace("backendRefs", "backendrefs")).unwrap();
    for (file, key) in [(service, "targetport"), (route, "backendrefs")] {
        fs::write(folder.join("kustomization.yaml"), format!("resources: [{file}]")).unwrap();
        let faults = Objects::kustomized(folder.to_str().unwrap()).faults();
        assert!(faults.as_ref().is_some_and(|faults| faults.contains(key)), "{faults:?}");
    }
}

#[test]
fn every_proxy_toml_is_one_that_check_takes_without_a_word() {
    let folder = Directory::new("check");
    let secret = folder.join("session-secret");
    fs::write(&secret, "vJ4hL6pR8tUq9S0cW6oM2yV0v7VtV8uS1y").unwrap();
    let mut count = 0;
    for objects in with_gates() {
        let (_, gate) = objects.gate();
        let variables = gate["env"].as_array().unwrap().iter();
        let literal = variables
            .filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)));
        for map in objects.of_kind("ConfigMap") {
            let mounted = "/run/secrets/foregate/session-secret";
            let text = map["data"]["proxy.toml"].as_str().unwrap();
            assert!(text.contains(mounted), "{}", objects.name);
            let file = folder.join("proxy.toml");
            fs::write(&file, text.replace(mounted, secret.to_str().unwrap())).unwrap();
            let mut check = Command::new(program());
            check.args(["check", "--json", "--config"]).arg(&file).env_clear();
            check.envs(literal.clone());
            check.env("FOREGATE_REFRESH__LEDGER", "redis://foregate:PASSWORD@redis:6379");
            let told = output(&mut check, b"").stdout;
            let told: Value = serde_json::from_slice(&told).unwrap();
            assert_eq!(told, json!({ "ok": true, "problems": [] }), "{}", objects.name);
            count += 1;
        }
    }
    assert_eq!(count, 4);
}

#[test]
fn the_gate_is_of_this_version_and_has_no_right_that_it_does_not_need() {
    for objects in with_gates() {
        let (pod, gate) = objects.gate();
        let (name, image) = (&objects.name, gate["image"].as_str().unwrap());
        let tag = image.rsplit_once("foregate:").map(|(_, tag)| tag);
        assert_eq!(tag, Some(env!("CARGO_PKG_VERSION")), "{name}");
        let confined = json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
            "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
        });
        assert_eq!(gate["securityContext"], confined, "{name}");
        assert!(gate["resources"]["limits"]["memory"].is_string(), "{name}");
        for mount in gate["volumeMounts"].as_array().unwrap() {
            assert_eq!((&mount["readOnly"], &mount["subPath"]), (&json!(true), &Value::Null));
        }
        let trusting = pod["spec"]["automountServiceAccountToken"] != false;
        assert!(!trusting || name.contains("app's chart"), "{name}");
    }
    let chart = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    assert!(chart.contains(concat!("\nversion: ", env!("CARGO_PKG_VERSION"), "\n")), "{chart}");
    assert!(chart.contains(concat!("\nappVersion: ", env!("CARGO_PKG_VERSION"), "\n")), "{chart}");
}

#[test]
fn a_sidecar_stands_before_its_app_and_a_config_map_keeps_its_name() {
    let example = Objects::kustomized("examples/sidecar");
    let (pod, gate) = example.gate();
    assert_eq!(pod["spec"]["initContainers"], json!([gate]));
    assert_eq!(gate["restartPolicy"], "Always");
    let app = &pod["spec"]["containers"][0];
    assert_eq!(app["name"], "app");
    assert_eq!((variable(app, "HOSTNAME"), variable(app, "PORT")), ("127.0.0.1", "3000"));
    let service = example.of_kind("Service").next().unwrap();
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);

    for objects in with_gates() {
        let (pod, gate) = objects.gate();
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let config = volumes.iter().find(|volume| volume["name"] == "foregate-config").unwrap();
        for map in objects.of_kind("ConfigMap") {
            assert_eq!(map["metadata"]["name"], config["configMap"]["name"], "{}", objects.name);
        }
        assert_eq!(gate["livenessProbe"]["httpGet"]["path"], "/healthz", "{}", objects.name);
    }
    let map = example.of_kind("ConfigMap").next().unwrap();
    assert_eq!(map["metadata"]["name"], "foregate", "a hash would make each edit a rollout");
}

#[test]
fn a_pod_has_longer_to_end_than_its_gate_takes() {
    for objects in with_gates() {
        let (pod, gate) = objects.gate();
        let seconds = |name| -> u64 {
            let value = variable(gate, &format!("FOREGATE_SERVER__{name}"));
            value.strip_suffix('s').unwrap().parse().unwrap()
        };
        let gates = seconds("DRAIN_DELAY") + seconds("SHUTDOWN_GRACE");
        let lifecycle = &pod["spec"]["containers"][0]["lifecycle"];
        let hook = lifecycle["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        let given = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        assert!(given > gates + hook, "{}: {given} s", objects.name);
        for deployment in objects.of_kind("Deployment") {
            let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
            assert!(
                rolling["maxUnavailable"] == 0 || objects.name.contains("app's chart"),
                "{}: {rolling}",
                objects.name
            );
        }
    }
}

#[test]
fn what_a_gate_may_hold_fits_its_memory_limit() {
    for objects in with_gates() {
        let (_, gate) = objects.gate();
        let number = |name| variable(gate, name).parse::<u64>().unwrap();
        let limit = gate["resources"]["limits"]["memory"].as_str().unwrap();
        let limit = limit.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() * 1024 * 1024;
        let connections = number("FOREGATE_LIMITS__CONNECTIONS") * 40_000;
        let ledger = number("FOREGATE_REFRESH__LEDGER_ENTRIES") * 1_000;
        let held = 16_000_000 + connections + ledger;
        assert!(held < limit * 3 / 4, "{}: {held} bytes of {limit}", objects.name);
    }
}

#[test]
fn the_chart_runs_the_gate_as_the_kustomizations_do() {
    let gate_of = |objects: &Objects| {
        let mut gate = objects.gate().1.clone();
        let told = gate.as_object_mut().unwrap();
        told.remove("image");
        told.remove("imagePullPolicy");
        gate
    };
    let kustomized = |folder| gate_of(&Objects::kustomized(folder));
    assert_eq!(gate_of(&gateway_chart(&[])), kustomized("examples/gateway"));
    assert_eq!(gate_of(&app_chart()), kustomized("examples/sidecar"));
    let scaler = |objects: &Objects| {
        let mut spec = objects.of_kind("HorizontalPodAutoscaler").next().unwrap()["spec"].clone();
        spec["scaleTargetRef"]["name"] = json!("");
        spec
    };
    let [chart, example] = [gateway_chart(&[]), Objects::kustomized("examples/gateway")];
    assert_eq!(scaler(&chart), scaler(&example));
    assert_eq!(
        Objects::kustomized("gateway").of_kind("Deployment").next().unwrap()["spec"]["replicas"],
        3
    );
}

#[test]
fn helm_finds_nothing_to_criticise() {
    for values in ["gateway", "sidecar"] {
        let mut helm = Command::new(tool("helm"));
        helm.args(["lint", "--strict", "--kube-version", KUBERNETES, "--values"]);
        let output = output(helm.arg(values_file(values)).arg(chart()), b"");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains("[WARNING]"), "{said}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let check = |value: &str, why: &str| {
        let values = values_file("gateway");
        let told = template(&chart(), &["--values", values.to_str().unwrap(), "--set", value]);
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(!told.status.success() && said.contains(why), "{value}: {said}");
    };
    check("mode=both", "/mode");
    check("config=", "/config");
    check("confg=x", "confg");
    check("secret=Not_A_Name", "/secret");
    check("replicas=0", "/replicas");
    check("workers=0", "/workers");
    check("image.tag=latest", "/image/tag");
    check("image.repository=example.com/foregate:1", "/image/repository");
    check("drainDelay=soon", "/drainDelay");
    check("terminationGracePeriodSeconds=40", "more than drainDelay and shutdownGrace together");
    check("autoscaling.targetCPU=0", "/autoscaling/targetCPU");
    check("autoscaling.maxReplicas=2", "must not be less than replicas");
    check("ingress.host=", "/ingress/host");
    check("httpRoute.enabled=true,httpRoute.hostnames=", "/httpRoute/hostnames");
}

/// One for each form in which the gate is offered.
fn with_gates() -> &'static [Objects; 4] {
    static BUILT: OnceLock<[Objects; 4]> = OnceLock::new();
    BUILT.get_or_init(|| {
        [
            Objects::kustomized("examples/sidecar"),
            Objects::kustomized("examples/gateway"),
            gateway_chart(&[]),
            app_chart(),
        ]
    })
}

fn gateway_chart(more: &[&str]) -> Objects {
    let values = values_file("gateway");
    let more = [&["--values", values.to_str().unwrap()], more].concat();
    Objects::rendered("the chart, as a gateway", &chart(), &more)
}

/// What the chart itself installs as a sidecar.
fn sidecar_policy() -> Objects {
    let values = values_file("sidecar");
    let more = ["--values", values.to_str().unwrap()];
    Objects::rendered("the chart, as a sidecar", &chart(), &more)
}

/// The chart of an app that takes the sidecar from ours.
fn app_chart() -> Objects {
    let place = Directory::new("app-chart");
    copy(&folder().join("app-chart"), &place);
    copy(&chart(), &place.join("charts/foregate"));
    let values = fs::read_to_string(values_file("sidecar")).unwrap();
    let indented: Vec<_> = values.lines().map(|line| format!("  {line}\n")).collect();
    let file = place.join("values.yaml");
    fs::write(&file, format!("foregate:\n{}", indented.concat())).unwrap();
    Objects::rendered("an app's chart", &place, &[])
}

fn chart() -> PathBuf {
    deploy().join("helm/foregate")
}

fn values_file(name: &str) -> PathBuf {
    chart().join(format!("ci/{name}-values.yaml"))
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
