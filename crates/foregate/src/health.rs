//! `foregate health`: whether a running gate is ready, told by its exit code.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use foregate_config::{Environment, Listen};
use http::Uri;

use crate::FAILED;
use crate::print::print;

pub(crate) fn command(admin: Option<&str>, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let admin = match admin {
        Some(url) => Admin::parse(url).with_context(|| format!("--admin {url}"))?,
        None => configured(config)?,
    };
    let (status, said) = ask(&admin).with_context(|| format!("no answer from {admin}"))?;
    // Whatever else listens at this place may well answer 200 to everything.
    let last = said.trim_end().lines().last().unwrap_or_default();
    ensure!(
        status != 200 || last == "ready",
        "what answers at {admin} is no admin listener of Foregate"
    );
    let first = said.lines().next().unwrap_or_default().trim();
    print(|out| writeln!(out, "{first}"))?;
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Where the admin listener is.
enum Admin {
    /// A host and a port.
    Tcp(String),
    Unix(PathBuf),
}

impl std::fmt::Display for Admin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(authority) => write!(formatter, "http://{authority}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Admin {
    fn parse(url: &str) -> anyhow::Result<Self> {
        if let Some(path) = url.strip_prefix("unix:") {
            ensure!(path.starts_with('/'), EXPECTED);
            return Ok(Self::Unix(path.into()));
        }
        let parsed: Option<Uri> = url.parse().ok();
        let authority = parsed.as_ref().and_then(Uri::authority).context(EXPECTED)?;
        let port = match (parsed.as_ref().and_then(Uri::scheme_str), authority.port_u16()) {
            (Some("http"), port) => port.unwrap_or(80),
            // `127.0.0.1:9901`, as server.admin has it.
            (None, Some(port)) => port,
            _ => bail!(EXPECTED),
        };
        Ok(Self::Tcp(format!("{}:{port}", authority.host())))
    }

    /// A listener on every address of this machine is asked on loopback.
    fn of(listen: Listen) -> Self {
        match listen {
            Listen::Unix(path) => Self::Unix(path),
            Listen::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
                    ip => ip,
                };
                Self::Tcp(SocketAddr::new(ip, address.port()).to_string())
            }
        }
    }
}

const EXPECTED: &str =
    "expected server.admin: http://host:port, host:port, or unix: and an absolute path";

/// What the configuration says, even one that is broken otherwise: the gate that is asked about may
/// run on the one before.
fn configured(config: Option<&Path>) -> anyhow::Result<Admin> {
    let path = config.unwrap_or_else(|| Path::new("proxy.toml"));
    match foregate_config::admin_listener(path, &Environment::of_process()) {
        Ok(Some(listen)) => Ok(Admin::of(listen)),
        Ok(None) => bail!("{}: server.admin is switched off", path.display()),
        Err(error) if config.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok(Admin::Tcp(DEFAULT.to_owned()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// `server.admin` where nothing says otherwise.
const DEFAULT: &str = "127.0.0.1:9901";

/// The status, and what the listener says.
fn ask(admin: &Admin) -> anyhow::Result<(u16, String)> {
    let deadline = Instant::now() + TIME;
    let answer = match admin {
        Admin::Tcp(authority) => {
            let address = authority.to_socket_addrs()?.next().context("no such host")?;
            let stream = TcpStream::connect_timeout(&address, TIME)?;
            exchange(stream, deadline, TcpStream::set_read_timeout)?
        }
        Admin::Unix(path) => {
            exchange(UnixStream::connect(path)?, deadline, UnixStream::set_read_timeout)?
        }
    };
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    Ok((status.context("no HTTP")?, body.to_owned()))
}

/// HTTP/1.0, so that the end of the answer is the end of the connection.
fn exchange<S: Read + Write>(
    mut stream: S,
    deadline: Instant,
    set_timeout: impl Fn(&S, Option<Duration>) -> io::Result<()>,
) -> anyhow::Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero() && answer.len() < LONGEST, "no whole answer in time");
        set_timeout(&stream, Some(left))?;
        match stream.read(&mut buffer).map_err(in_words)? {
            0 => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A time limit of a socket shows as a read that would have to wait.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "not within 3 s"),
        _ => error,
    }
}

const TIME: Duration = Duration::from_secs(3);
const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_named_by_url_or_by_path() {
        let check = |url: &str, expected: Option<&str>| {
            let parsed = Admin::parse(url).ok().map(|admin| admin.to_string());
            assert_eq!(parsed.as_deref(), expected, "{url}");
        };
        check("http://127.0.0.1:9901", Some("http://127.0.0.1:9901"));
        check("http://[::1]:9901/", Some("http://[::1]:9901"));
        check("http://foregate", Some("http://foregate:80"));
        check("unix:/run/admin.sock", Some("unix:/run/admin.sock"));
        check("unix:admin.sock", None);
        check("127.0.0.1:9901", Some("http://127.0.0.1:9901"));
        check("localhost:9901", Some("http://localhost:9901"));
        check("[::1]:9901", Some("http://[::1]:9901"));
        for unclear in ["https://127.0.0.1:9901", "9901", "localhost", "/run/admin.sock", ""] {
            check(unclear, None);
        }
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let check = |address: &str, expected: &str| {
            let admin = Admin::of(Listen::Tcp(address.parse().unwrap()));
            assert_eq!(admin.to_string(), expected);
        };
        check("0.0.0.0:9901", "http://127.0.0.1:9901");
        check("[::]:9901", "http://[::1]:9901");
        check("10.0.0.1:80", "http://10.0.0.1:80");
    }
}
