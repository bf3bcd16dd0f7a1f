//! What systemd and its like hand to a service: sockets that are open already (sd_listen_fds(3)),
//! and a socket that hears how far the service is (sd_notify(3)). Without them all this is nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::Context;
use foregate_proxy::Handed;

/// Takes the sockets that were opened for this very process. Must be called only once.
pub(crate) fn handed() -> anyhow::Result<Handed> {
    let mut handed = Handed::default();
    let sockets = sd_listen_fds::get().context("LISTEN_PID or LISTEN_FDS cannot be read")?;
    for (name, socket) in sockets {
        let name = name.filter(|name| !name.is_empty());
        handed.add(name.as_deref().unwrap_or("unknown"), socket.into_std())?;
    }
    Ok(handed)
}

/// Tells the supervisor how far we are.
pub(crate) struct Supervisor(Option<UnixDatagram>);

impl Supervisor {
    /// The one that `NOTIFY_SOCKET` names: a path, or `@` and an abstract name.
    pub(crate) fn of_process() -> anyhow::Result<Self> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self(None));
        };
        let connected = connect(&name).context("NOTIFY_SOCKET cannot be used")?;
        Ok(Self(Some(connected)))
    }

    /// Every listener is open, and this is in force.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    pub(crate) fn reloading(&self) {
        self.tell("RELOADING=1\nSTATUS=Reading the configuration again");
    }

    /// The end has begun, and takes `longest` at most: no time limit of the unit cuts it short.
    pub(crate) fn stopping(&self, longest: Duration) {
        let micros = longest.saturating_add(SPARE).as_micros();
        self.tell(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS=Requests in flight end"
        ));
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::warn!(%error, "the supervisor does not hear us");
        }
    }
}

/// For what comes behind `shutdown_grace`.
const SPARE: Duration = Duration::from_secs(5);

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A supervisor that does not listen holds up nobody.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_supervisor_hears_by_path_or_by_abstract_name() {
        let name = format!("foregate-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        for (socket, called) in
            [(&by_path, path.as_os_str().to_owned()), (&by_name, format!("@{name}").into())]
        {
            let supervisor = Supervisor(Some(connect(&called).unwrap()));
            supervisor.ready("generation 1");
            assert_eq!(heard(socket), "READY=1\nSTATUS=generation 1");
            supervisor.stopping(Duration::from_secs(35));
            assert!(heard(socket).starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000\n"));
        }
        std::fs::remove_file(path).unwrap();
        Supervisor(None).ready("nobody asked");
    }
}
