//! What the tests need beside Rust: Debian packages, npm and Python packages, built Next.js sites
//! and a Go program.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::{root, run};

/// A program, by its name or its path, and the Debian package that holds it.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

/// Sees to it that the programs are here: installs them where this is Debian and we are root, else
/// says what is missing.
pub(crate) fn programs(needed: &[Program]) -> anyhow::Result<()> {
    let missing = || needed.iter().filter(|program| !is_here(program.name));
    if missing().next().is_none() {
        return Ok(());
    }
    let packages: Vec<&str> = missing().map(|program| program.package).collect();
    if !(is_root() && is_here("apt-get")) {
        bail!("missing programs; as root: apt-get install {}", packages.join(" "));
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet").stdin(Stdio::null());
        apt
    };
    run(apt().arg("update"))?;
    run(apt().args(["install", "--yes", "--no-install-recommends"]).args(&packages))?;
    match missing().next() {
        None => Ok(()),
        Some(program) => bail!("{} is still missing after its package was installed", program.name),
    }
}

fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// Fails unless Node.js is here and new enough for Next.js 16.
pub(crate) fn node() -> anyhow::Result<()> {
    let version = Command::new("node").arg("--version").output();
    let version = version.context("missing: Node.js 20.9 or newer, with npm")?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok());
    ensure!(major.unwrap_or(0) >= 20, "Node.js {version} is too old: 20.9 or newer is needed");
    Ok(())
}

/// Fails unless Go is here and new enough for Kubernetes' own programs; Debian 12's is not.
pub(crate) fn go() -> anyhow::Result<()> {
    let version = Command::new("go").arg("version").output();
    let version = version.context("missing: Go 1.24 or newer (https://go.dev/dl)")?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let minor = version.split_once("go1.").and_then(|(_, rest)| rest.split(['.', ' ']).next());
    let minor: u32 = minor.and_then(|minor| minor.parse().ok()).unwrap_or(0);
    ensure!(minor >= 24, "{version} is too old: Go 1.24 or newer is needed (https://go.dev/dl)");
    Ok(())
}

/// Installs the npm packages of a directory by its lock file, unless they are there already.
pub(crate) fn npm_packages(directory: &Path) -> anyhow::Result<()> {
    let lock = directory.join("package-lock.json");
    once(&directory.join("node_modules/.installed"), &[&lock], || {
        run(npm(directory).args(["ci", "--no-audit", "--no-fund"]))
    })
}

/// Runs a directory's npm script, unless nothing changed since in it or in what else it reads.
pub(crate) fn npm_script(directory: &Path, script: &str, reads: &[&Path]) -> anyhow::Result<()> {
    let stamp = directory.join("node_modules").join(format!(".done-{script}"));
    let sources = [&[directory], reads].concat();
    once(&stamp, &sources, || run(npm(directory).args(["run", script])))
}

/// Installs the packages of a directory's `requirements.txt` into `.venv` beside it, unless they are
/// there already.
pub(crate) fn python_packages(directory: &Path) -> anyhow::Result<()> {
    let requirements = directory.join("requirements.txt");
    let environment = directory.join(".venv");
    once(&environment.join(".installed"), &[&requirements], || {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements);
        run(pip.stdin(Stdio::null()))
    })
}

/// Builds a package of a Go module, or one that it requires, by the module's lock file. The program
/// is linked to nothing, so that it runs in an image made from scratch, too.
pub(crate) fn go_program(directory: &Path, package: &str, program: &Path) -> anyhow::Result<()> {
    let mut go = Command::new("go");
    go.current_dir(directory).env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    go.stdin(Stdio::null());
    run(go.args(["build", "-o"]).arg(program).arg(package))
}

/// Builds the program as images hold it, released and linked to nothing, and says where it is:
/// always at `target/image/foregate`, where the tests of `deploy/` look for it.
///
/// The flags are those of `deploy/Containerfile`. The build has a target directory of its own, so
/// that it neither throws away nor waits for what other builds have made.
pub(crate) fn static_binary() -> anyhow::Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let directory = root().join("target/image");
    let build = directory.join("build");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).env("RUSTFLAGS", "-C target-feature=+crt-static");
    cargo.args(["build", "--locked", "--release", "--package", "foregate"]);
    run(cargo.args(["--target", &target, "--target-dir"]).arg(&build))?;
    let program = directory.join("foregate");
    let built = build.join(target).join("release/foregate");
    // A new file under the old name: the old one may be running, and may be linked elsewhere.
    let fresh = directory.join(".foregate");
    fs::copy(&built, &fresh).with_context(|| format!("cannot copy {}", built.display()))?;
    fs::rename(&fresh, &program).with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}

/// Unpacks Keycloak, as Maven brings it, into a directory that need not be there; 330 MB.
pub(crate) fn keycloak(directory: &Path) -> anyhow::Result<()> {
    if directory.join("bin/kc.sh").is_file() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    let artifact = format!("org.keycloak:keycloak-quarkus-dist:{KEYCLOAK}:tar.gz");
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy"]).stdin(Stdio::null());
    maven.arg(format!("-Dartifact={artifact}"));
    run(maven.arg(format!("-DoutputDirectory={}", directory.display())))?;
    let archive = directory.join(format!("keycloak-quarkus-dist-{KEYCLOAK}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("--directory").arg(directory).args(["--strip-components", "1", "--extract", "--file"]);
    run(tar.arg(&archive))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}

const KEYCLOAK: &str = "26.4.0";

fn npm(directory: &Path) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(directory).env("NEXT_TELEMETRY_DISABLED", "1").stdin(Stdio::null());
    npm
}

/// Does something unless `stamp` says that it was done for these very sources.
fn once(
    stamp: &Path,
    sources: &[&Path],
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut hasher = DefaultHasher::new();
    for source in sources {
        hash(source, &mut hasher)?;
    }
    let digest = hasher.finish().to_string();
    if fs::read_to_string(stamp).is_ok_and(|done| done == digest) {
        return Ok(());
    }
    work()?;
    fs::write(stamp, digest).with_context(|| format!("cannot write {}", stamp.display()))
}

fn hash(path: &Path, hasher: &mut DefaultHasher) -> anyhow::Result<()> {
    if path.is_file() {
        path.hash(hasher);
        fs::read(path)?.hash(hasher);
        return Ok(());
    }
    let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let generated =
            [".built", ".next", ".venv", "node_modules", "next-env.d.ts", "screenshots"];
        if !generated.iter().any(|name| entry.file_name() == *name) {
            hash(&entry.path(), hasher)?;
        }
    }
    Ok(())
}
