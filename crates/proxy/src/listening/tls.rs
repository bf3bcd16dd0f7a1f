//! TLS towards visitors: HTTP/2 and HTTP/1.1 by ALPN, the certificate by server name. Asks for the
//! configuration in force at each handshake, so that a reload needs no new listener.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::live::Live;

/// What listens for https. Sessions are resumed by tickets (RFC 8446 §2.2) whose key this process
/// makes and changes by itself.
pub(crate) fn acceptor(live: Arc<Live>) -> Result<TlsAcceptor, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(live)));
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The name of HTTP/2 in ALPN (RFC 9113 §3.1).
pub(crate) const HTTP2: &[u8] = b"h2";

struct ByName(Arc<Live>);

impl fmt::Debug for ByName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ByName")
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.0.load();
        let certificate = snapshot.tls.as_ref()?.choose(hello.server_name());
        Some(Arc::clone(certificate.key()))
    }
}
