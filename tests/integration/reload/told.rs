//! What a reload says: what it opens, what it cannot change, and how it went.

use std::fs;
use std::os::unix::fs::symlink;

use foregate_stage::SECRET;
use foregate_tests::{Connection, Gate};
use serde_json::Value;

use super::{Mount, edit, taken_over, told};
use crate::world::World;

async fn ask(gate: &Gate, path: &str) -> String {
    let mut admin = Connection::open(gate.admin_address().await).await;
    admin.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    admin.answer().await.unwrap().text()
}

/// `app pattern: was -> is (example)` of each line.
fn opened(gate: &Gate) -> Vec<String> {
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = told(gate, "opened wider");
    assert!(lines.iter().all(|line| line["level"] == "WARN"));
    let line = |it: &Value| {
        let [app, pattern, was, is, example] =
            ["app", "pattern", "was", "is", "example"].map(|key| word(it, key));
        format!("{app} {pattern}: {was} -> {is} ({example})")
    };
    lines.iter().map(line).collect()
}

#[tokio::test]
async fn every_pattern_that_a_reload_opens_wider_is_named() {
    let world = World::start().await;
    edit(
        &world.gate,
        "path = \"/admin/:path*\"\n  roles",
        "path = \"/admin/users/:path*\"\n  roles",
    );
    taken_over(&world.gate, 2).await;
    let expected = ["app.example.com /admin/:path*: role admin -> session (GET /admin/x)"];
    assert_eq!(opened(&world.gate), expected);

    // What shuts something is nobody's worry.
    edit(&world.gate, "[\"/\", \"/about\", ", "[\"/\", ");
    taken_over(&world.gate, 3).await;
    assert_eq!(opened(&world.gate).len(), 1);

    edit(&world.gate, "access = \"deny\"", "access = \"public\"");
    taken_over(&world.gate, 4).await;
    let public = "app.example.com /internal/:path*: deny -> public (GET /internal/x)";
    assert_eq!(opened(&world.gate)[1..], [public]);
    let line = told(&world.gate, "opened wider").pop().unwrap();
    let text = fs::read_to_string(world.gate.config_file()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let at = usize::try_from(line["line"].as_u64().unwrap()).unwrap();
    assert!(lines[at - 1..].iter().take(3).any(|it| it.contains("/internal/")), "line {at}");

    let matcher = "matcher = [\"/((?!api|_next/static|favicon.ico).*)\"]";
    edit(&world.gate, matcher, "matcher = [\"/((?!api|_next/static|favicon.ico|open).*)\"]");
    taken_over(&world.gate, 5).await;
    let shop = opened(&world.gate).pop().unwrap();
    assert!(
        shop.starts_with("shop.example.com /((?!api|") && shop.ends_with("(GET /open)"),
        "{shop}"
    );
}

#[tokio::test]
async fn settings_that_admit_more_are_named_too() {
    let world = World::start().await;
    let server = "[csrf]\nenabled = false\n[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"unix\"]";
    edit(&world.gate, "[server]", server);
    taken_over(&world.gate, 2).await;
    let lines = told(&world.gate, "admits more than before");
    let lines: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["key"].as_str().unwrap(), line["what"].as_str().unwrap()))
        .collect();
    let proxies = "server.trusted_proxies";
    assert_eq!(lines, [("csrf.enabled", "false"), (proxies, "10.0.0.0/8"), (proxies, "unix")]);
}

#[tokio::test]
async fn the_state_of_the_latest_reload_can_be_read_and_measured() {
    let world = World::with("[server]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n").await;
    let gate = &world.gate;
    let metric = async |name: &str| {
        let metrics = ask(gate, "/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap().parse::<f64>().unwrap()
    };
    let started = metric("foregate_configuration_timestamp_seconds").await;
    assert_eq!(metric("foregate_reload_failed").await, 0.0);

    edit(gate, "[server]", "[server]\nworkers = 7");
    edit(gate, "admin = ", "reuse_port = true\nadmin = ");
    gate.signal("HUP");
    taken_over(gate, 2).await;
    let verbose = ask(gate, "/readyz?verbose").await;
    for key in ["server.workers", "server.reuse_port"] {
        let line = format!("[!] {key} has changed, which takes effect at the next start only\n");
        assert!(verbose.contains(&line), "{verbose}");
    }
    edit(gate, "access = \"deny\"", "acces = \"deny\"");
    gate.signal("HUP");
    gate.logged(|log| log.contains("not reloaded")).await;
    let verbose = ask(gate, "/readyz?verbose").await;
    let text = fs::read_to_string(gate.config_file()).unwrap();
    let line = text.lines().position(|line| line.contains("acces =")).unwrap() + 1;
    let place = format!("proxy.toml:{line}:3: app[0].rule[3].acces: unknown key");
    assert!(verbose.contains(&place), "{verbose}");
    assert_eq!(metric("foregate_reload_failed").await, 1.0);
    assert_eq!(metric("foregate_configuration_generation").await, 2.0);
    assert!(metric("foregate_configuration_timestamp_seconds").await >= started);

    // Back to what it runs with: nothing waits for a restart any more.
    edit(gate, "acces = \"deny\"", "access = \"deny\"");
    edit(gate, "workers = 7\n", "");
    edit(gate, "reuse_port = true\n", "");
    gate.signal("HUP");
    taken_over(gate, 3).await;
    let verbose = ask(gate, "/readyz?verbose").await;
    assert!(!verbose.contains("next start") && !verbose.contains("reload failed"), "{verbose}");
}

/// As the kubelet writes a ConfigMap: the file is a link through `..data`, which is turned.
#[tokio::test]
async fn a_configmap_that_is_edited_is_taken_over_as_a_whole() {
    let world = World::start().await;
    let gate = &world.gate;
    let text = fs::read_to_string(gate.config_file()).unwrap();
    let secret = |text: &str| text.replace(&format!("[\"{SECRET}\"]"), "[{ file = \"SECRET\" }]");
    let mount = Mount::new("configmap");
    let path = mount.path("session-secret");
    let text = secret(&text).replace("\"SECRET\"", &format!("{path:?}"));
    mount.turn_to("..2026_01", &[("proxy.toml", &text), ("session-secret", SECRET)]);
    let link = gate.config_file().with_extension("link");
    symlink(mount.path("proxy.toml"), &link).unwrap();
    fs::rename(link, gate.config_file()).unwrap();
    taken_over(gate, 2).await;

    let about = format!("{}/about", crate::world::APP);
    assert_eq!(world.stranger().fetch(&about).await.status, 200);
    let shut = text.replace("\"/about\", ", "");
    mount.turn_to("..2026_02", &[("proxy.toml", &shut), ("session-secret", SECRET)]);
    taken_over(gate, 3).await;
    assert_eq!(world.stranger().fetch(&about).await.status, 401);

    // A version that lacks its secret is not used.
    mount.turn_to("..2026_03", &[("proxy.toml", &text)]);
    gate.logged(|log| log.contains("not reloaded")).await;
    assert_eq!(world.stranger().fetch(&about).await.status, 401);
    mount.turn_to("..2026_04", &[("proxy.toml", &text), ("session-secret", SECRET)]);
    taken_over(gate, 4).await;
    assert_eq!(world.stranger().fetch(&about).await.status, 200);
}
