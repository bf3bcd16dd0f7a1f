//! Where an app listens, and how it is spoken to.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;

/// One place at which an app listens. Two are equal where the same connections serve both, so a
/// pool that is keyed by it outlives a reload, but not a change of the authorities.
#[derive(Clone)]
pub struct Upstream {
    pub protocol: Protocol,
    pub endpoint: Endpoint,
    /// Who may vouch for an https upstream, in place of the system's authorities; at least one.
    /// `None` wherever the protocol is not [`Protocol::Https`].
    pub authority_roots: Option<Arc<RootCertStore>>,
}

/// What is spoken on a connection to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 in the clear.
    Http,
    /// TLS, and what ALPN settles on.
    Https,
    /// HTTP/2 in the clear, with prior knowledge (RFC 9113 §3.3).
    H2c,
}

/// What a connection to an app is made to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `host` is a name, or an address without the brackets of an IPv6 address.
    Tcp { host: String, port: u16 },
    /// An absolute path, short enough for a socket's address.
    Unix(PathBuf),
}

impl Upstream {
    /// As in the file, with its port and without a path.
    pub fn url(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::H2c => "h2c",
        };
        match &self.endpoint {
            Endpoint::Tcp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}")
            }
            Endpoint::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({self})")
    }
}

impl PartialEq for Upstream {
    fn eq(&self, other: &Self) -> bool {
        let same_roots = match (&self.authority_roots, &other.authority_roots) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one.roots == other.roots,
            (None, None) => true,
            _ => false,
        };
        self.protocol == other.protocol && self.endpoint == other.endpoint && same_roots
    }
}

impl Eq for Upstream {}

impl Hash for Upstream {
    /// Without the authorities, which differ only for a moment: between two generations.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.protocol.hash(state);
        self.endpoint.hash(state);
    }
}
