//! podman and buildah, as `tests/deploy/containers.sh` sets them up, and the images that they run:
//! Foregate's own by `deploy/Containerfile`, an app, and Debian's Redis.
//!
//! What a test starts belongs to a [`Containers`], and goes with it. The images stay, for the next
//! run.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(super) const GATE: &str = "localhost/foregate-tests/foregate";
pub(super) const SOURCE: &str = "localhost/foregate-tests/source";
/// Holds the place of Rust's official image.
pub(super) const RUST: &str = "localhost/foregate-tests/rust";
/// By the names that `deploy/compose/compose.yaml` has for them, so that nobody goes to a registry.
pub(super) const APP: &str = "docker.io/traefik/whoami:v1.11";
pub(super) const REDIS: &str = "docker.io/library/redis:7-alpine";

/// Containers, pods and networks of one test. They end when this is dropped.
pub(super) struct Containers {
    prefix: String,
    /// A folder for what is mounted.
    pub(super) folder: PathBuf,
}

impl Containers {
    /// Builds the images unless that is done, and a network of its own. Panics with what this
    /// machine lacks.
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        images();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("foregate-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(format!("{prefix}-files"));
        fs::create_dir_all(&folder).unwrap();
        let containers = Self { prefix, folder };
        podman(&["network", "create", &containers.network()]);
        containers
    }

    pub(super) fn network(&self) -> String {
        self.name("network")
    }

    /// The name by which podman knows what this test calls `name`.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Writes a file to be mounted, readable for all: the gate is nobody here.
    pub(super) fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts a container on this test's network, where others know it as `name`. `how` are
    /// options of `podman run`, the rest is the command.
    pub(super) fn run(&self, name: &str, how: &[&str], image: &str, command: &[&str]) {
        let (known_as, network) = (self.name(name), self.network());
        let own = ["run", "--detach", "--pull=never", "--name", &known_as, "--network", &network];
        let alias = ["--network-alias", name];
        podman(&[&own, &alias[..], how, &[image], command].concat());
    }

    /// Where the container or pod's infra container called `name` is reached from this machine.
    pub(super) fn address(&self, name: &str, port: u16) -> SocketAddr {
        let told = inspect(&self.name(name));
        let networks = told["NetworkSettings"]["Networks"].as_object().unwrap();
        let ip = networks.values().find_map(|network| network["IPAddress"].as_str()).unwrap();
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    /// This machine's own address on the test's network, which stands once a container is there.
    pub(super) fn host(&self) -> IpAddr {
        let told = podman(&["network", "inspect", &self.network()]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        told[0]["subnets"][0]["gateway"].as_str().unwrap().parse().unwrap()
    }

    /// Runs a command in a container, and gives what came of it.
    pub(super) fn exec(&self, name: &str, command: &[&str], stdin: &str) -> Output {
        let name = self.name(name);
        let arguments = [&["exec", "--interactive", &name], command].concat();
        contained("podman", &arguments, stdin)
    }

    /// Waits until the container's own health command says that it is ready.
    pub(super) fn healthy(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.exec(name, &["foregate", "health"], "");
            if told.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "{told:?}\n{}", self.log(name));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// All that it wrote to stdout and stderr.
    pub(super) fn log(&self, name: &str) -> String {
        let told = contained("podman", &["logs", &self.name(name)], "");
        String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gate's log:\n{}", self.log("gate"));
        }
        let ours = format!("name={}-", self.prefix);
        for (list, remove) in [
            (&["pod", "ps", "--quiet", "--filter", &ours][..], &["pod", "rm", "--force"][..]),
            (
                &["ps", "--all", "--quiet", "--filter", &ours],
                &["rm", "--force", "--time", "0", "--volumes"],
            ),
            (&["network", "ls", "--quiet", "--filter", &ours], &["network", "rm", "--force"]),
            (&["volume", "ls", "--quiet", "--filter", &ours], &["volume", "rm", "--force"]),
        ] {
            let listed = contained("podman", list, "").stdout;
            let listed = String::from_utf8_lossy(&listed).into_owned();
            let listed: Vec<&str> = listed.split_whitespace().collect();
            if !listed.is_empty() {
                contained("podman", &[remove, &listed].concat(), "");
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What `podman inspect` tells of an image or a container.
pub(super) fn inspect(what: &str) -> Value {
    let told: Value = serde_json::from_slice(&podman(&["inspect", what]).stdout).unwrap();
    told[0].clone()
}

/// Runs podman to its end; panics with what it said unless that was well.
#[track_caller]
pub(super) fn podman(arguments: &[&str]) -> Output {
    done("podman", arguments)
}

#[track_caller]
fn done(program: &str, arguments: &[&str]) -> Output {
    let output = contained(program, arguments, "");
    let (said, words) = (String::from_utf8_lossy(&output.stderr), arguments.join(" "));
    assert!(output.status.success(), "{program} {words}:\n{said}");
    output
}

/// Runs a program with what it needs here, whatever comes of it.
pub(super) fn contained(program: &str, arguments: &[&str], stdin: &str) -> Output {
    let mut child = command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading any of it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// A program in the surroundings that containers.sh makes.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new("bash");
    let script = root().join("tests/deploy/containers.sh");
    command.args(["-c", ". \"$0\"; exec \"$@\""]).arg(script).arg(program);
    command
}

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The program as `cargo xtask` builds it for images.
pub(super) fn static_binary() -> PathBuf {
    root().join("target/image/foregate")
}

/// Builds every image, once for all tests.
pub(super) fn images() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        ensure_possible();
        let folder = std::env::temp_dir().join(format!("foregate-images-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        build_app(&folder);
        build_redis(&folder);
        build_gate(&folder);
        fs::remove_dir_all(&folder).unwrap();
        // Those of the run before have lost their names.
        podman(&["image", "prune", "--force"]);
    });
}

/// Panics with all that this machine lacks.
fn ensure_possible() {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = [&path, "/usr/sbin:/sbin:/usr/lib/podman"].join(":");
    let is_here = |name: &&str| path.split(':').any(|folder| Path::new(folder).join(name).exists());
    let programs = ["aardvark-dns", "buildah", "busybox", "conmon", "iptables", "netavark"];
    let programs = programs.iter().chain(&["podman", "redis-server", "runc"]);
    let mut missing: Vec<String> = programs
        .filter(|name| !is_here(name))
        .map(|name| format!("{name}, which its Debian package brings"))
        .collect();
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        missing.push("root, because containers are given memory limits and networks".to_owned());
    }
    if !Path::new("/sys/fs/cgroup/memory").exists()
        && !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
    {
        missing.push("cgroups, mounted at /sys/fs/cgroup".to_owned());
    }
    for (file, maker) in [
        (static_binary(), "the static program (`cargo xtask test` builds it)"),
        (built("app"), "the app for images (`cargo xtask test` builds it)"),
        (AUTHORITIES.into(), "the Debian package ca-certificates"),
    ] {
        if !file.exists() {
            missing.push(format!("{}: {maker}", file.display()));
        }
    }
    assert!(missing.is_empty(), "containers cannot be run here, missing:\n{}", missing.join("\n"));
}

/// A Go program that xtask built.
pub(super) fn built(name: &str) -> PathBuf {
    root().join("tests/deploy/images/.built").join(name)
}

fn build(tag: &str, file: &Path, folder: &Path, more: &[&str]) {
    let [file, folder] = [file, folder].map(|path| path.to_str().unwrap());
    // The health check is part of Docker's format only.
    let own = ["bud", "--quiet", "--format=docker", "--pull-never", "--file", file, "--tag", tag];
    done("buildah", &[&own, more, &[folder]].concat());
}

fn images_folder() -> PathBuf {
    root().join("tests/deploy/images")
}

fn build_app(folder: &Path) {
    fs::copy(built("app"), folder.join("go-app")).unwrap();
    build(APP, &images_folder().join("app.Containerfile"), folder, &[]);
}

fn build_redis(folder: &Path) {
    let tree = folder.join("root");
    let keep = |file: &str| {
        let target = tree.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    };
    for program in ["/usr/bin/redis-server", "/usr/bin/redis-cli"] {
        keep(program);
        let linked = Command::new("ldd").arg(program).output().unwrap();
        let linked = String::from_utf8(linked.stdout).unwrap();
        linked.split_whitespace().filter(|word| word.starts_with('/')).for_each(keep);
    }
    // Empty, and Redis's own, as in the official image.
    fs::create_dir_all(folder.join("data")).unwrap();
    build(REDIS, &images_folder().join("redis.Containerfile"), folder, &[]);
}

/// Foregate's image, by the very file that operators build it with. In place of Rust's official
/// image, which is in a registry, stands one that has the program already.
fn build_gate(folder: &Path) {
    let rust = images_folder().join("rust");
    fs::copy("/bin/busybox", folder.join("busybox")).unwrap();
    fs::copy(rust.join("cargo"), folder.join("cargo")).unwrap();
    fs::copy(AUTHORITIES, folder.join("ca-certificates.crt")).unwrap();
    fs::copy(static_binary(), folder.join("foregate")).unwrap();
    build(RUST, &rust.join("Containerfile"), folder, &[]);
    let file = root().join("deploy/Containerfile");
    let in_place = format!("RUST_IMAGE={RUST}");
    build(SOURCE, &file, root(), &["--build-arg", &in_place, "--target", "build"]);
    build(GATE, &file, root(), &["--build-arg", &in_place]);
    eprintln!(
        "not run: the pull of Rust's official image and the compilation in it; deploy/Containerfile \
         was built with an image that holds the program of `cargo xtask`"
    );
}

const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
