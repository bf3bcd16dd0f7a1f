//! The units of `deploy/systemd`, as far as systemd can judge them without running, and what the
//! program does with what systemd hands over: sockets that outlive it, and an ear.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use foregate_stage::{Origin, SECRET};
use foregate_tests::{Browser, Certificates, Connection, Directory, free_port, program};

use super::containers::root;
use crate::drain::visitors::{Visitors, Wish};
use crate::world::{ANY, APP};

fn units() -> PathBuf {
    root().join("deploy/systemd")
}

/// A gate whose first inherited socket, if it has one, is number 3, as systemd has it.
struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    fn start(
        directory: &Directory,
        config: &Path,
        socket: Option<OwnedFd>,
        environment: &[(&str, &str)],
    ) -> Self {
        // The shell becomes the gate, so its number is the gate's.
        let hand_over = match socket {
            Some(_) => "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; ",
            None => "",
        };
        let log = directory.join(format!("log-{}", free_port()));
        let child = Command::new("sh")
            .args(["-c", &format!("{hand_over}exec \"$0\" run --config \"$1\"")])
            .args([program().as_path(), config])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdin(socket.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn logged(&self, word: &str) {
        let start = Instant::now();
        while !self.log().contains(word) {
            assert!(start.elapsed() < PATIENCE, "{word}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

fn config(server: &str, upstream: &str) -> String {
    format!(
        "[server]\nworkers = 2\n{server}\n[session]\nsecrets = [\"{SECRET}\"]\n[[app]]\n\
         host = \"app.example.com\"\nupstream = \"{upstream}\"\naccess = \"public\"\n"
    )
}

const NO_ADMIN: &str = "admin = \"\"";

#[test]
fn the_service_is_confined_and_its_units_are_sound() {
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let service = units().join("foregate.service");
    let (_, said) =
        analyze(&["security", "--offline=true", "--no-pager", service.to_str().unwrap()]);
    let figure = said.lines().find_map(|line| line.split_once("foregate.service: "));
    let figure = figure.and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    let figure = figure.unwrap_or_else(|| panic!("{said}"));
    println!("systemd-analyze security: {figure}");
    assert!(figure <= 2.0, "{said}");

    // Nothing is installed here, so the program stands elsewhere.
    let directory = Directory::new("systemd");
    let text = std::fs::read_to_string(&service).unwrap();
    let text = text.replace("/usr/bin/foregate", program().to_str().unwrap());
    let mut paths = vec![directory.write("foregate.service", &text)];
    for name in ["foregate.socket", "foregate-http.socket"] {
        let text = std::fs::read_to_string(units().join(name)).unwrap();
        paths.push(directory.write(name, &text));
    }
    let mut verify = vec!["verify", "--man=no"];
    verify.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let (sound, said) = analyze(&verify);
    assert!(sound && said.is_empty(), "{said}");
}

#[test]
fn the_configuration_fits_the_units() {
    let read = |name: &str| std::fs::read_to_string(units().join(name)).unwrap();
    let (service, example) = (read("foregate.service"), read("proxy.toml"));
    let setting = |key: &str| {
        let line = service.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("{key}")).to_owned()
    };
    // Credentials are where the unit's name says, and the ledger in its state directory.
    let (credential, _) = setting("LoadCredential")
        .split_once(':')
        .map(|(name, file)| (name.to_owned(), file.to_owned()))
        .unwrap();
    let copied = format!("/run/credentials/foregate.service/{credential}");
    assert!(example.contains(&format!("{{ file = \"{copied}\" }}")), "{example}");
    let state = format!("/var/lib/{}/", setting("StateDirectory"));
    assert!(example.contains(&format!("file:{state}")), "{example}");
    assert!(setting("ExecStart").ends_with("run --config /etc/foregate/proxy.toml"));
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    let of = |key: &str| {
        let line = example.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        seconds(line.unwrap().split('"').next().unwrap())
    };
    let stop = of("drain_delay") + of("shutdown_grace");
    assert!(seconds(&setting("TimeoutStopSec")) > stop);
    let socket = read("foregate.socket");
    let port = socket.lines().find_map(|line| line.strip_prefix("ListenStream=")).unwrap();
    assert!(example.contains(&format!("https = \"0.0.0.0:{port}\"")), "{example}");
    assert!(socket.contains("FileDescriptorName=https\n"), "{socket}");

    // As README.md has it installed, with the variable by which root asks before the first start.
    let certificates = Certificates::covering(&["*.example.com"]);
    let directory = Directory::new("systemd");
    let secret = directory.write("session-secret", "kY7qP2vB9wX4zL8nT3mR6sD1fG5hJ0cA\n");
    let example = example
        .replace("/etc/foregate/tls/tls.crt", certificates.certificate().to_str().unwrap())
        .replace("/etc/foregate/tls/tls.key", certificates.key().to_str().unwrap())
        .replace("/var/lib/foregate", secret.parent().unwrap().to_str().unwrap());
    let config = directory.write("proxy.toml", &example);
    let readme = read("README.md");
    let group = setting("SupplementaryGroups");
    assert!(
        readme.contains(&format!("-m 0640 -g {group} privkey.pem /etc/foregate/tls/tls.key\n"))
    );
    let variable = readme.lines().find_map(|line| line.strip_prefix("export ")).unwrap();
    let (name, value) = variable.split_once('=').unwrap();
    let value = value
        .trim_matches('\'')
        .replace("/etc/foregate/session-secret", &secret.display().to_string());
    let ask = |more: &[&str]| {
        let mut asked = Command::new(program());
        asked.args(more).arg("--config").arg(&config).env(name, &value);
        let asked = asked.output().unwrap();
        (asked.status.code(), String::from_utf8([asked.stdout, asked.stderr].concat()).unwrap())
    };
    let (code, said) = ask(&["check"]);
    assert!(code == Some(0) && said.ends_with("fine\n"), "{said}");
    let navigation = ["--header", "Sec-Fetch-Mode: navigate"];
    let (_, said) = ask(&[&["explain", "https://app.example.com/"], &navigation[..]].concat());
    assert!(said.starts_with("pass"), "{said}");
    let guarded = ["explain", "https://app.example.com/orders"];
    let (_, said) = ask(&[&guarded, &navigation[..]].concat());
    assert!(said.contains("302 to https://auth.example.com/login?"), "{said}");
    let (_, said) =
        ask(&[&["explain", "https://auth.example.com/login"], &navigation[..]].concat());
    assert!(said.starts_with("pass"), "the login is no loop: {said}");
}

#[tokio::test]
async fn nothing_that_waits_at_a_socket_is_lost_over_a_restart() {
    let origin = Origin::start(ANY).await.unwrap();
    let directory = Directory::new("systemd");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let server =
        format!("http = \"{address}\"\n{NO_ADMIN}\ndrain_delay = \"1s\"\nshutdown_grace = \"20s\"");
    let config = directory.write("proxy.toml", &config(&server, &origin.url()));
    let start = || {
        let socket = OwnedFd::from(socket.try_clone().unwrap());
        Service::start(&directory, &config, Some(socket), &[])
    };
    let wish = Wish { gate: address, path: "/page", cookie: None, expected: "/page" };
    // They wait before anybody is there.
    let visitors = Visitors::come(&wish, 5, 3);
    let mut service = start();
    visitors.answered_more(100).await;
    for _ in 0..4 {
        service.signal("TERM");
        assert!(service.ended().await.success());
        // Nobody serves for a while, and everybody waits.
        tokio::time::sleep(Duration::from_millis(100)).await;
        service = start();
        visitors.answered_more(60).await;
    }
    assert!(visitors.leave().await >= 340);
}

#[tokio::test]
async fn a_socket_is_found_by_address_or_by_name_and_a_strange_one_is_an_error() {
    let directory = Directory::new("systemd");
    let upstream = "http://127.0.0.1:1";
    let path = directory.join("gate.sock");
    let by_path = || OwnedFd::from(UnixListener::bind(&path).unwrap());
    let at_unix = format!("http = \"unix:{}\"\n{NO_ADMIN}", path.display());
    let configured = directory.write("unix.toml", &config(&at_unix, upstream));
    let mut service = Service::start(&directory, &configured, Some(by_path()), &[]);
    service.logged(&format!("unix:{}", path.display())).await;
    service.signal("TERM");
    assert!(service.ended().await.success());
    assert!(path.exists(), "the file is not ours to remove");

    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("http = \"127.0.0.1:{}\"\n{NO_ADMIN}", free_port());
    let configured = directory.write("tcp.toml", &config(&elsewhere, upstream));
    let socket = tcp();
    let address = socket.local_addr().unwrap();
    let name = [("LISTEN_FDNAMES", "http")];
    let service = Service::start(&directory, &configured, Some(socket.into()), &name);
    service.logged("\"listening\"").await;
    let visitor = Browser::new(address);
    assert_eq!(visitor.fetch(&format!("{APP}/")).await.status, 502, "no app is there");
    drop(service);

    let socket = tcp();
    let address = socket.local_addr().unwrap();
    for (name, socket) in
        [("foregate.socket", OwnedFd::from(socket.try_clone().unwrap())), ("https", socket.into())]
    {
        let names = [("LISTEN_FDNAMES", name)];
        let mut service = Service::start(&directory, &configured, Some(socket), &names);
        assert_eq!(service.ended().await.code(), Some(1));
        let said = service.log();
        assert!(said.contains(&format!("the socket {address} ({name})")), "{said}");
        assert!(said.contains("belongs to no listener of the configuration"), "{said}");
    }
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut service = Service::start(&directory, &configured, Some(datagrams.into()), &[]);
    assert_eq!(service.ended().await.code(), Some(1));
    assert!(service.log().contains("does not listen for streams"), "{}", service.log());
}

#[tokio::test]
async fn systemds_own_activator_starts_it_for_the_first_visitor() {
    let origin = Origin::start(ANY).await.unwrap();
    let directory = Directory::new("systemd");
    let (http, admin) = (free_port(), free_port());
    let server = format!("http = \"127.0.0.1:{http}\"\nadmin = \"127.0.0.1:{admin}\"");
    let config = directory.write("proxy.toml", &config(&server, &origin.url()));
    let mut activator = Command::new("systemd-socket-activate")
        .args(["-l", &format!("127.0.0.1:{http}"), "-l", &format!("127.0.0.1:{admin}")])
        .args(["--fdname=http:admin"])
        .arg(program())
        .args(["run", "--config"])
        .arg(&config)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so once it listens.
    let mut said = String::new();
    let mut stderr = activator.stderr.take().unwrap();
    while said.matches("Listening on").count() < 2 {
        let mut bytes = [0; 512];
        let count = stderr.read(&mut bytes).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    let visitor = Browser::new(([127, 0, 0, 1], http).into());
    assert_eq!(visitor.fetch(&format!("{APP}/page")).await.status, 200);
    let mut operator = Connection::open(([127, 0, 0, 1], admin).into()).await;
    operator.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(operator.answer().await.unwrap().status, 200);
    activator.kill().unwrap();
    activator.wait().unwrap();
}

#[tokio::test]
async fn the_supervisor_hears_of_start_reload_and_end() {
    let directory = Directory::new("systemd");
    let ear = directory.join("notify");
    let heard = UnixDatagram::bind(&ear).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut bytes = [0; 4096];
        let count = heard.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let server = format!(
        "http = \"127.0.0.1:0\"\n{NO_ADMIN}\ndrain_delay = \"1s\"\nshutdown_grace = \"7s\""
    );
    let text = config(&server, "http://127.0.0.1:1");
    let config = directory.write("proxy.toml", &text);
    let socket = [("NOTIFY_SOCKET", ear.to_str().unwrap())];
    let mut service = Service::start(&directory, &config, None, &socket);
    assert_eq!(next(), "READY=1\nSTATUS=Serving with configuration generation 1");

    let reloading = || assert!(next().starts_with("RELOADING=1\n"));
    service.signal("HUP");
    reloading();
    assert_eq!(next(), "READY=1\nSTATUS=Serving with configuration generation 2");

    // It sees by itself that another file has this name.
    let replace = |text: &str| std::fs::rename(directory.write("new.toml", text), &config).unwrap();
    replace(&text.replace("host =", "hots ="));
    reloading();
    let ready = next();
    let kept = "READY=1\nSTATUS=Serving with configuration generation 2, not with the file: ";
    assert!(ready.starts_with(kept) && ready.contains("unknown key"), "{ready}");
    replace(&text);
    reloading();
    assert_eq!(next(), "READY=1\nSTATUS=Serving with configuration generation 3");

    service.signal("TERM");
    // A second, a grace of seven, and five to spare.
    assert!(next().starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=13000000\n"));
    assert!(service.ended().await.success());
}
