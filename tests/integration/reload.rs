//! The configuration is read again while the gate runs: what is sound is taken over, what is not
//! changes nothing.

mod load;
mod told;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use foregate_stage::{cookie_header, random, seal_v4};
use foregate_tests::{Browser, Certificates, Gate};
use rustls::{ClientConnection, Stream};
use serde_json::Value;

use crate::tls::trusting;
use crate::world::{APP, COOKIE, LIFE, World};

/// What the gate logged with this message, in order.
fn told(gate: &Gate, message: &str) -> Vec<Value> {
    let log = gate.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

async fn taken_over(gate: &Gate, generation: u64) {
    let is_it = |line: &Value| line["generation"] == generation;
    gate.logged(|_| told(gate, "reloaded").iter().any(is_it)).await;
}

/// Writes the changed text into the same file.
fn edit(gate: &Gate, from: &str, to: &str) {
    let text = fs::read_to_string(gate.config_file()).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(gate.config_file(), text.replacen(from, to, 1)).unwrap();
}

#[tokio::test]
async fn a_rule_is_taken_over_without_a_restart() {
    let world = World::start().await;
    let about = format!("{APP}/about");
    assert_eq!(world.stranger().fetch(&about).await.status, 200);

    let changed = Instant::now();
    edit(&world.gate, r#"["/", "/about", "/public/:path*"]"#, r#"["/", "/public/:path*"]"#);
    taken_over(&world.gate, 2).await;
    assert!(changed.elapsed().as_secs() < 5, "promised to operators");
    assert_eq!(world.stranger().fetch(&about).await.status, 401);

    // Editors write a new file and rename it.
    let text = fs::read_to_string(world.gate.config_file()).unwrap();
    let aside = world.gate.config_file().with_extension("new");
    fs::write(&aside, text.replacen(r#"["/","#, r#"["/", "/about","#, 1)).unwrap();
    fs::rename(aside, world.gate.config_file()).unwrap();
    taken_over(&world.gate, 3).await;
    assert_eq!(world.stranger().fetch(&about).await.status, 200);
}

#[tokio::test]
async fn a_hangup_signal_reads_the_file_again() {
    let world = World::start().await;
    world.gate.signal("HUP");
    taken_over(&world.gate, 2).await;
    world.gate.signal("HUP");
    taken_over(&world.gate, 3).await;
    assert_eq!(world.stranger().fetch(&format!("{APP}/about")).await.status, 200);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told_with_its_line() {
    let world = World::start().await;
    edit(&world.gate, r#"access = "deny""#, r#"acces = "public""#);
    world.gate.logged(|log| log.contains("not reloaded")).await;
    let problems = told(&world.gate, "unknown key");
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    let text = fs::read_to_string(world.gate.config_file()).unwrap();
    let line = text.lines().position(|line| line.contains("acces =")).unwrap() + 1;
    assert_eq!((&problem["level"], &problem["line"]), (&"ERROR".into(), &line.into()));
    assert_eq!((&problem["column"], &problem["key"]), (&3.into(), &"app[0].rule[3].acces".into()));
    assert_eq!(problem["file"], world.gate.config_file().to_str().unwrap());
    assert_eq!(problem["hint"], "did you mean \"access\"?");
    assert_eq!(world.stranger().fetch(&format!("{APP}/internal/a")).await.status, 403);
    assert_eq!(world.stranger().fetch(&format!("{APP}/about")).await.status, 200);

    // Mended, it is taken, and nothing was said twice.
    edit(&world.gate, r#"acces = "public""#, r#"access = "public""#);
    taken_over(&world.gate, 2).await;
    assert_eq!(told(&world.gate, "unknown key").len(), 1);
    assert_eq!(world.stranger().fetch(&format!("{APP}/internal/a")).await.status, 200);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_stays() {
    let world = World::start().await;
    let line = format!("http = \"{}\"", world.gate.address());
    edit(&world.gate, "http = \"127.0.0.1:0\"", &format!("{line}\nworkers = 7"));
    taken_over(&world.gate, 2).await;
    let told = told(&world.gate, "changed, but takes effect at the next start only");
    let keys: Vec<&str> = told.iter().filter_map(|line| line["key"].as_str()).collect();
    assert_eq!(keys, ["server.http", "server.workers"]);
    assert_eq!(world.stranger().fetch(&format!("{APP}/about")).await.status, 200);
}

/// A directory that turns a link from one version of its files to the next, as Kubernetes does with
/// a mounted Secret.
struct Mount(PathBuf);

impl Mount {
    fn new(name: &str) -> Self {
        let directory = format!("foregate-reload-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    /// The file of this name, in whichever version is current.
    fn path(&self, name: &str) -> PathBuf {
        self.0.join("current").join(name)
    }

    fn turn_to(&self, version: &str, files: &[(&str, &str)]) {
        fs::create_dir_all(self.0.join(version)).unwrap();
        for (name, text) in files {
            fs::write(self.0.join(version).join(name), text).unwrap();
        }
        let link = self.0.join("next");
        std::os::unix::fs::symlink(version, &link).unwrap();
        fs::rename(link, self.0.join("current")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_secret_that_is_rotated_in_its_file_opens_and_the_old_one_no_longer() {
    const OLD: &str = "old-9S0cW6oM2yV0v7VtV8uS1y2mN5zD3xK";
    const NEW: &str = "new-fJ4hL6pR8tUq9S0cW6oM2yV0v7VtV8u";
    let mount = Mount::new("secret");
    mount.turn_to("1", &[("secret", OLD)]);
    let world = World::start().await;
    let (_, grant) = world.visitor("ada", LIFE);
    let claims = grant.session_claims(LIFE).to_string();
    let status = async |secret| {
        let browser = Browser::new(world.gate.address());
        let cookie = cookie_header(COOKIE, &seal_v4(secret, &claims, random()));
        browser.set_cookies("example.com", &cookie);
        browser.fetch(&format!("{APP}/dashboard")).await.status
    };

    let literal = format!("secrets = [\"{}\"]", foregate_stage::SECRET);
    let file = format!("secrets = [{{ file = {:?} }}]", mount.path("secret"));
    edit(&world.gate, &literal, &file);
    taken_over(&world.gate, 2).await;
    assert_eq!((status(OLD).await, status(NEW).await), (200, 401));

    mount.turn_to("2", &[("secret", NEW)]);
    taken_over(&world.gate, 3).await;
    assert_eq!((status(OLD).await, status(NEW).await), (401, 200));

    mount.turn_to("3", &[("secret", "short")]);
    world.gate.logged(|log| log.contains("not reloaded")).await;
    assert_eq!((status(OLD).await, status(NEW).await), (401, 200));
    let log = world.gate.log();
    assert!(!log.contains(OLD) && !log.contains(NEW), "secrets stay out of the log");
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Asks for a public page over https, trusting the authority of `pair` alone.
fn serves(gate: SocketAddr, pair: &Certificates) -> bool {
    let name = "app.example.com".try_into().unwrap();
    let mut tls = ClientConnection::new(trusting(pair.authority()), name).unwrap();
    let mut tcp = TcpStream::connect(gate).unwrap();
    let mut stream = Stream::new(&mut tls, &mut tcp);
    let request = "GET /about HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n\r\n";
    if stream.write_all(request.as_bytes()).is_err() {
        return false;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 "), "no app is there: {answer}");
    true
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_served_soon_and_a_broken_one_never() {
    let pair = || Certificates::covering(&["app.example.com"]);
    let (old, new, other) = (pair(), pair(), pair());
    let mount = Mount::new("tls");
    let turn_to = |version, certificate: &Certificates, key: &Certificates| {
        let files = [("tls.crt", text(certificate.certificate())), ("tls.key", text(key.key()))];
        mount.turn_to(version, &files.each_ref().map(|(name, text)| (*name, text.as_str())));
    };
    turn_to("1", &old, &old);
    let (certificate, key) = (mount.path("tls.crt"), mount.path("tls.key"));
    let secret = foregate_stage::SECRET;
    let gate = Gate::start(&format!(
        r#"[server]
http = "127.0.0.1:0"
https = "127.0.0.1:0"
[tls]
certificates = [{{ cert = {certificate:?}, key = {key:?} }}]
[session]
secrets = ["{secret}"]
[[app]]
host = "app.example.com"
upstream = "http://127.0.0.1:1"
access = "public"
"#
    ))
    .await;
    let https = gate.secure_address().await;
    assert!(serves(https, &old) && !serves(https, &new));

    let changed = Instant::now();
    turn_to("2", &new, &new);
    taken_over(&gate, 2).await;
    assert!(changed.elapsed().as_secs() < 5, "promised to operators");
    assert!(serves(https, &new) && !serves(https, &old));

    turn_to("3", &other, &old);
    gate.logged(|log| log.contains("not reloaded")).await;
    assert!(serves(https, &new));
}
