//! Opens connections to apps and backends: TCP, a unix socket, or TLS with the system's roots or
//! an app's own. Knows nothing of HTTP but its names in ALPN.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::listening::tls;
use crate::stream::Stream;
use crate::upstream::tls_fault;

/// Connects. The system's roots are read when the first `https` origin is called, so that a
/// machine without them can still serve plain ones.
#[derive(Default)]
pub(crate) struct Connector {
    system: OnceLock<Arc<ClientConfig>>,
    /// One for each app with authorities of its own.
    own: Mutex<Vec<(Arc<RootCertStore>, Arc<ClientConfig>)>>,
}

/// Which HTTP a TLS server is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Http1,
    Http2OrHttp1,
}

impl Connector {
    /// One connection to `host`, which is a name or an address without brackets. The caller sets
    /// the time limit.
    pub(crate) async fn tcp(&self, host: &str, port: u16) -> io::Result<Stream> {
        Ok(Stream::Tcp(tcp(host, port).await?))
    }

    pub(crate) async fn unix(&self, path: &Path) -> io::Result<Stream> {
        Ok(Stream::Unix(UnixStream::connect(path).await?))
    }

    /// The same over TLS, checked against `roots`, or else the system's. Says whether the server
    /// chose HTTP/2.
    pub(crate) async fn tls(
        &self,
        host: &str,
        port: u16,
        roots: Option<&Arc<RootCertStore>>,
        offer: Offer,
    ) -> io::Result<(Stream, bool)> {
        let config = match roots {
            Some(roots) => self.own(roots)?,
            None => self.system()?,
        };
        let alpn = match offer {
            Offer::Http1 => vec![b"http/1.1".to_vec()],
            Offer::Http2OrHttp1 => vec![tls::HTTP2.to_vec(), b"http/1.1".to_vec()],
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tcp = tcp(host, port).await?;
        let stream = TlsConnector::from(config).with_alpn(alpn).connect(name, tcp).await;
        let stream = stream.map_err(|error| failed(error, roots.is_some()))?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
        Ok((Stream::Tls(Box::new(TlsStream::Client(stream))), http2))
    }

    fn system(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(ready) = self.system.get() {
            return Ok(Arc::clone(ready));
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            return Err(io::Error::other("no certificate authorities found on this machine"));
        }
        let config = config(Arc::new(roots))?;
        Ok(Arc::clone(self.system.get_or_init(|| config)))
    }

    fn own(&self, roots: &Arc<RootCertStore>) -> io::Result<Arc<ClientConfig>> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = own.iter().find(|(known, _)| Arc::ptr_eq(known, roots)) {
            return Ok(Arc::clone(config));
        }
        // What no snapshot holds any more goes with the reload that brought the new one.
        own.retain(|(known, _)| Arc::strong_count(known) > 2);
        let config = config(Arc::clone(roots))?;
        own.push((Arc::clone(roots), Arc::clone(&config)));
        Ok(config)
    }
}

/// A handshake that failed, as whoever reads the log can use it.
fn failed(error: io::Error, own_roots: bool) -> io::Error {
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match fault {
        Some(fault) => io::Error::other(tls_fault::in_words(fault, own_roots)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => io::Error::other(
            "the server hung up in the TLS handshake: http:// instead of https:// may be meant",
        ),
        None => error,
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn config(roots: Arc<RootCertStore>) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
