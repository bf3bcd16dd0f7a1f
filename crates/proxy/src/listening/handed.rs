//! Listening sockets that somebody else opened and keeps, such as systemd (sd_listen_fds(3)): what
//! waits in their queues outlives this process. Each must belong to a listener of the configuration.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net as unix;

use foregate_config::Listen;
use socket2::{Domain, Type};

/// What was handed over and is not in use yet.
#[derive(Default)]
pub struct Handed(Vec<HandedSocket>);

/// A listening socket of the one kind or the other.
pub(crate) enum Socket {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener),
}

struct HandedSocket {
    /// `FileDescriptorName=`; systemd gives the unit's name where it is not set.
    name: String,
    socket: Socket,
}

/// Why a socket that was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    #[error("the socket {0} that was handed over does not listen for streams: Accept=no is needed")]
    NotListening(String),
    #[error(
        "the socket {0} that was handed over belongs to no listener of the configuration: give it \
         the address of server.http, server.https or server.admin, or one of these words as its \
         FileDescriptorName"
    )]
    Unclaimed(String),
    #[error("the socket {0} was handed over for https, which wants TCP")]
    NotTcp(String),
}

impl Handed {
    /// Adds a socket, with the name that it was given.
    pub fn add(&mut self, name: &str, socket: OwnedFd) -> Result<(), HandedError> {
        let socket = socket2::Socket::from(socket);
        let is_stream = socket.r#type().is_ok_and(|kind| kind == Type::STREAM);
        // A connection, as a socket unit with Accept=yes has it, listens no more.
        if !is_stream || !socket.is_listener().unwrap_or(false) {
            return Err(HandedError::NotListening(name.to_owned()));
        }
        let socket = match socket.domain() {
            Ok(Domain::IPV4 | Domain::IPV6) => Socket::Tcp(socket.into()),
            Ok(Domain::UNIX) => Socket::Unix(socket.into()),
            _ => return Err(HandedError::NotListening(name.to_owned())),
        };
        self.0.push(HandedSocket { name: name.to_owned(), socket });
        Ok(())
    }

    /// The socket for the listener called `key` in `[server]`, which the configuration has at
    /// `listen`: the one that is named so, else one without such a name at that address.
    pub(crate) fn take(
        &mut self,
        key: &str,
        listen: &Listen,
    ) -> Result<Option<Socket>, HandedError> {
        let named = self.0.iter().position(|socket| socket.name == key);
        let at_address = || {
            let is_free = |socket: &HandedSocket| !KEYS.contains(&socket.name.as_str());
            self.0.iter().position(|socket| is_free(socket) && socket.socket.is_at(listen))
        };
        let Some(place) = named.or_else(at_address) else { return Ok(None) };
        let handed = self.0.remove(place);
        if key == "https" && matches!(handed.socket, Socket::Unix(_)) {
            return Err(HandedError::NotTcp(handed.to_string()));
        }
        Ok(Some(handed.socket))
    }

    /// An error where some socket is in nobody's use: its visitors would wait for ever.
    pub fn all_taken(self) -> Result<(), HandedError> {
        match self.0.first() {
            None => Ok(()),
            Some(socket) => Err(HandedError::Unclaimed(socket.to_string())),
        }
    }
}

const KEYS: [&str; 3] = ["http", "https", "admin"];

impl Socket {
    /// A socket unit's bare port is every address of both families; so is `0.0.0.0` to an operator.
    fn is_at(&self, listen: &Listen) -> bool {
        match (self, listen) {
            (Self::Tcp(socket), Listen::Tcp(wanted)) => {
                socket.local_addr().is_ok_and(|bound| is_same(bound, *wanted))
            }
            (Self::Unix(socket), Listen::Unix(wanted)) => {
                let bound = socket.local_addr();
                bound.is_ok_and(|bound| bound.as_pathname() == Some(wanted.as_path()))
            }
            _ => false,
        }
    }
}

fn is_same(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let (here, there) = (bound.ip(), wanted.ip());
    bound.port() == wanted.port()
        && (here == there || here.is_unspecified() && there.is_unspecified())
}

impl fmt::Display for HandedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, socket } = self;
        match socket {
            Socket::Tcp(socket) => match socket.local_addr() {
                Ok(address) => write!(f, "{address} ({name})"),
                Err(_) => f.write_str(name),
            },
            Socket::Unix(socket) => match socket.local_addr() {
                Ok(address) => match address.as_pathname() {
                    Some(path) => write!(f, "unix:{} ({name})", path.display()),
                    None => f.write_str(name),
                },
                Err(_) => f.write_str(name),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn listener() -> (TcpListener, Listen) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = Listen::Tcp(listener.local_addr().unwrap());
        (listener, listen)
    }

    #[test]
    fn a_socket_is_found_by_its_name_before_its_address() {
        let ((one, first), (two, second)) = (listener(), listener());
        let mut handed = Handed::default();
        handed.add("gate.socket", one.into()).unwrap();
        handed.add("admin", two.into()).unwrap();
        // The name decides, wherever it listens.
        let admin = handed.take("admin", &first).unwrap();
        assert!(admin.is_some_and(|socket| socket.is_at(&second)));
        let http = handed.take("http", &first).unwrap();
        assert!(http.is_some_and(|socket| socket.is_at(&first)));
        assert!(handed.take("https", &first).unwrap().is_none());
        handed.all_taken().unwrap();
    }

    #[test]
    fn a_socket_that_is_named_for_another_listener_is_not_taken_by_its_address() {
        let (socket, listen) = listener();
        let mut handed = Handed::default();
        handed.add("admin", socket.into()).unwrap();
        assert!(handed.take("http", &listen).unwrap().is_none());
        let said = handed.all_taken().unwrap_err().to_string();
        assert!(said.contains(&format!("{listen} (admin)")), "{said}");
    }

    #[test]
    fn only_a_listener_for_streams_is_one() {
        let (socket, _) = listener();
        let connected = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        for socket in [OwnedFd::from(connected), OwnedFd::from(datagrams)] {
            let refused = Handed::default().add("http", socket);
            assert!(matches!(refused, Err(HandedError::NotListening(_))));
        }
    }

    #[test]
    fn every_address_of_one_family_is_every_address() {
        let check = |bound: &str, wanted: &str, expected| {
            let is = is_same(bound.parse().unwrap(), wanted.parse().unwrap());
            assert_eq!(is, expected, "{bound} {wanted}");
        };
        check("[::]:8080", "0.0.0.0:8080", true);
        check("0.0.0.0:8080", "0.0.0.0:8080", true);
        check("[::]:8080", "0.0.0.0:8081", false);
        check("[::]:8080", "127.0.0.1:8080", false);
        check("127.0.0.1:8080", "127.0.0.1:8080", true);
    }
}
