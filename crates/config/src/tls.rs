//! The certificates of the https listener, and which of them a visitor gets.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foregate_session::UnixSeconds;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use crate::not_after::not_after;

/// In which whoever renews a certificate by hand wants to hear that it ends.
pub const LAST_WEEKS: Duration = Duration::from_secs(14 * 86_400);

/// What `[tls]` says. There is at least one certificate.
#[derive(Debug, Clone)]
pub struct Tls {
    certificates: Vec<Arc<Certificate>>,
}

impl Tls {
    /// `None` without a certificate.
    pub(crate) fn new(certificates: Vec<Arc<Certificate>>) -> Option<Self> {
        (!certificates.is_empty()).then_some(Self { certificates })
    }

    /// The certificate for a visitor who asks for `server_name` (SNI, RFC 6066 §3): one that names
    /// it exactly, else one with a wildcard for it, else the first of the file.
    pub fn choose(&self, server_name: Option<&str>) -> &Arc<Certificate> {
        let named = server_name.and_then(|host| {
            let exact = self.certificates.iter().find(|certificate| certificate.names(host));
            exact.or_else(|| self.certificates.iter().find(|certificate| certificate.covers(host)))
        });
        named.unwrap_or(&self.certificates[0])
    }

    /// In the order of the file.
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }
}

/// A chain and the private key of its first certificate; the two belong together.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// The DNS names among the subject alternative names, in lower case, `*.` in front of some.
    names: Vec<Box<str>>,
    ends: Option<UnixSeconds>,
}

impl Certificate {
    /// `names` are those of `key`'s first certificate.
    pub(crate) fn new<'n>(key: CertifiedKey, names: impl Iterator<Item = &'n str>) -> Self {
        let names = names.map(|name| name.to_ascii_lowercase().into_boxed_str()).collect();
        let ends = key.cert.first().and_then(|certificate| not_after(certificate));
        Self { key: Arc::new(key), names, ends }
    }

    /// What a handshake signs with.
    pub fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// When it ends; `None` where that cannot be read.
    pub fn ends(&self) -> Option<UnixSeconds> {
        self.ends
    }

    /// The DNS names that it names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Whether a browser that asked for `host` takes this certificate for it: the name itself, a
    /// wildcard in place of its first label (RFC 9525 §6.3), or the address. Letter case and a
    /// final dot do not matter; a port must not be there.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return names_address(self.key.cert.first(), address);
        }
        let parent = host.split_once('.').filter(|(label, _)| !label.is_empty());
        self.names(host)
            || parent.is_some_and(|(_, parent)| {
                self.names.iter().any(|name| {
                    name.strip_prefix("*.").is_some_and(|name| name.eq_ignore_ascii_case(parent))
                })
            })
    }

    fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

fn names_address(certificate: Option<&CertificateDer<'_>>, address: IpAddr) -> bool {
    let parsed = certificate.and_then(|der| ParsedCertificate::try_from(der).ok());
    let name = ServerName::from(address);
    parsed.is_some_and(|certificate| verify_server_name(&certificate, &name).is_ok())
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}
