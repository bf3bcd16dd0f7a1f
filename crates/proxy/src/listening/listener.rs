//! Where visitors come in: TCP or a unix socket, in the clear or with TLS.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foregate_config::{Listen, Server};
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::listening::handed::{Handed, HandedError, Socket};
use crate::listening::tls;
use crate::live::Live;
use crate::peer::Address;
use crate::stream::Stream;

/// All public listeners of the process, or the operator's. Workers share their queues through
/// clones.
pub struct Listeners(Vec<Listener>);

/// One of them.
struct Listener {
    name: &'static str,
    bound: Bound,
    tls: Option<TlsAcceptor>,
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener, SocketFile),
    /// Not ours to close: its queue and its file stay when we go.
    Handed(Socket, Listen),
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {listen}")]
    Bind {
        /// Of `[server]`.
        key: &'static str,
        listen: Listen,
        source: io::Error,
    },
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Handed(#[from] HandedError),
}

impl Listeners {
    /// Opens what the configuration names and was not `handed` over. A second program on the same
    /// address is an error, unless both share the port.
    pub fn open(
        server: &Server,
        live: &Arc<Live>,
        handed: &mut Handed,
    ) -> Result<Self, ListenError> {
        let mut listeners = Vec::new();
        if let Some(listen) = &server.http {
            let bound = bound("http", listen, server, handed)?;
            listeners.push(Listener { name: "http", bound, tls: None });
        }
        if let Some(address) = server.https {
            let tls = Some(tls::acceptor(Arc::clone(live))?);
            let bound = bound("https", &Listen::Tcp(address), server, handed)?;
            listeners.push(Listener { name: "https", bound, tls });
        }
        Ok(Self(listeners))
    }

    /// Opens the operator's own; `None` where it is switched off.
    pub fn open_admin(server: &Server, handed: &mut Handed) -> Result<Option<Self>, ListenError> {
        let Some(listen) = &server.admin else { return Ok(None) };
        let bound = bound("admin", listen, server, handed)?;
        Ok(Some(Self(vec![Listener { name: "admin", bound, tls: None }])))
    }

    /// Each listener's key in `[server]`, and where it is bound.
    pub fn addresses(&self) -> io::Result<Vec<(&'static str, Listen)>> {
        let address = |listener: &Listener| {
            let listen = match &listener.bound {
                Bound::Tcp(socket) | Bound::Handed(Socket::Tcp(socket), _) => {
                    Listen::Tcp(socket.local_addr()?)
                }
                Bound::Unix(_, file) => Listen::Unix(file.path.clone()),
                Bound::Handed(Socket::Unix(socket), configured) => {
                    let address = socket.local_addr()?;
                    let path = address.as_pathname();
                    path.map_or_else(|| configured.clone(), |path| Listen::Unix(path.to_owned()))
                }
            };
            Ok((listener.name, listen))
        };
        self.0.iter().map(address).collect()
    }

    /// The same queues, for another worker.
    pub fn try_clone(&self) -> io::Result<Self> {
        let clone = |listener: &Listener| {
            let bound = match &listener.bound {
                Bound::Tcp(socket) => Bound::Tcp(socket.try_clone()?),
                Bound::Unix(socket, file) => Bound::Unix(socket.try_clone()?, file.clone()),
                Bound::Handed(socket, listen) => {
                    let socket = match socket {
                        Socket::Tcp(socket) => Socket::Tcp(socket.try_clone()?),
                        Socket::Unix(socket) => Socket::Unix(socket.try_clone()?),
                    };
                    Bound::Handed(socket, listen.clone())
                }
            };
            Ok(Listener { name: listener.name, bound, tls: listener.tls.clone() })
        };
        self.0.iter().map(clone).collect::<io::Result<_>>().map(Self)
    }

    /// The files of unix sockets, to be taken away in the end.
    pub fn socket_files(&self) -> SocketFiles {
        let file = |listener: &Listener| match &listener.bound {
            Bound::Unix(_, file) => Some(file.clone()),
            Bound::Tcp(_) | Bound::Handed(..) => None,
        };
        SocketFiles(self.0.iter().filter_map(file).collect())
    }

    pub(crate) fn into_doors(self) -> io::Result<Vec<Door>> {
        self.0.into_iter().map(Listener::into_door).collect()
    }
}

impl Listener {
    fn into_door(self) -> io::Result<Door> {
        let stays_open = matches!(self.bound, Bound::Handed(..));
        let socket = match self.bound {
            Bound::Tcp(socket) | Bound::Handed(Socket::Tcp(socket), _) => {
                socket.set_nonblocking(true)?;
                Accepting::Tcp(TcpListener::from_std(socket)?)
            }
            Bound::Unix(socket, _) | Bound::Handed(Socket::Unix(socket), _) => {
                socket.set_nonblocking(true)?;
                Accepting::Unix(UnixListener::from_std(socket)?)
            }
        };
        Ok(Door { socket, tls: self.tls, stays_open })
    }
}

/// A listener as one worker's runtime sees it.
pub(crate) struct Door {
    socket: Accepting,
    pub(crate) tls: Option<TlsAcceptor>,
    /// Whoever waits here when we go is our successor's.
    stays_open: bool,
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Door {
    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Address)> {
        match &self.socket {
            Accepting::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Costs time where it fails, and nothing else.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Address::Ip(address.ip())))
            }
            Accepting::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Address::Unix))
            }
        }
    }

    /// Lets nobody in any more but those who wait already and would be lost with the queue.
    pub(crate) fn close(self) -> io::Result<Waiting> {
        // A runtime looks at the queue only when it has heard of a change; this asks the kernel.
        let socket = match self.socket {
            Accepting::Tcp(listener) => Socket::Tcp(listener.into_std()?),
            Accepting::Unix(listener) => Socket::Unix(listener.into_std()?),
        };
        Ok(Waiting { socket: (!self.stays_open).then_some(socket), left: QUEUE })
    }
}

/// Those who were in the queue of a door when it closed. The queue is gone with this.
pub(crate) struct Waiting {
    socket: Option<Socket>,
    /// The kernel's own bound may be another, and new ones come as long as we look.
    left: i32,
}

impl Iterator for Waiting {
    type Item = (Stream, Address);

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            self.left -= 1;
            let accepted = match self.socket.as_ref()? {
                Socket::Tcp(listener) => listener.accept().and_then(|(stream, address)| {
                    stream.set_nonblocking(true)?;
                    let stream = TcpStream::from_std(stream)?;
                    let _ = stream.set_nodelay(true);
                    Ok((Stream::Tcp(stream), Address::Ip(address.ip())))
                }),
                Socket::Unix(listener) => listener.accept().and_then(|(stream, _)| {
                    stream.set_nonblocking(true)?;
                    Ok((Stream::Unix(UnixStream::from_std(stream)?), Address::Unix))
                }),
            };
            match accepted {
                Ok(accepted) => return Some(accepted),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // This one has left by himself; the next may still be there.
                Err(_) => {}
            }
        }
        None
    }
}

fn bound(
    key: &'static str,
    listen: &Listen,
    server: &Server,
    handed: &mut Handed,
) -> Result<Bound, ListenError> {
    match handed.take(key, listen)? {
        Some(socket) => Ok(Bound::Handed(socket, listen.clone())),
        None => bind(listen, server.reuse_port).map_err(|source| ListenError::Bind {
            key,
            listen: listen.clone(),
            source,
        }),
    }
}

fn bind(listen: &Listen, share: bool) -> io::Result<Bound> {
    match listen {
        Listen::Tcp(address) => bind_tcp(*address, share).map(Bound::Tcp),
        Listen::Unix(path) => bind_unix(path),
    }
}

fn bind_tcp(address: SocketAddr, share: bool) -> io::Result<std::net::TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Else the connections of a gate that just ended keep its successor out for a minute.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    socket.bind(&address.into())?;
    socket.listen(QUEUE)?;
    Ok(socket.into())
}

/// A file that nobody listens behind is left from a process that was killed.
fn bind_unix(path: &Path) -> io::Result<Bound> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket
        && unix::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(path)?)?;
    socket.listen(QUEUE)?;
    let file = SocketFile { path: path.to_owned(), inode: std::fs::metadata(path)?.ino() };
    Ok(Bound::Unix(socket.into(), file))
}

/// The files behind unix sockets.
pub struct SocketFiles(Vec<SocketFile>);

impl SocketFiles {
    /// Takes them away, unless a successor has put its own there.
    pub fn remove(&self) {
        for file in &self.0 {
            if std::fs::metadata(&file.path).is_ok_and(|now| now.ino() == file.inode) {
                // At worst a dead file is left, which the next start removes.
                let _ = std::fs::remove_file(&file.path);
            }
        }
    }
}

#[derive(Clone)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Connections that may wait to be accepted; the kernel may allow fewer.
const QUEUE: i32 = 4096;
