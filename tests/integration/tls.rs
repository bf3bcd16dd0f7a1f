//! TLS at either end of the gate: a visitor who speaks it, and what ends it in front of an origin.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use foregate_tests::Certificates;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::ANY;

/// Sends `request`, which asks for the connection to be closed, to `host`; what came back.
pub(crate) async fn ask(gate: SocketAddr, host: &str, authority: &Path, request: &str) -> String {
    let name = host.to_owned().try_into().unwrap();
    let tcp = TcpStream::connect(gate).await.unwrap();
    let mut stream = TlsConnector::from(trusting(authority)).connect(name, tcp).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The gate says at the end of TLS that it is the end.
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// A client that trusts the authority in this file alone.
pub(crate) fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Ends TLS in front of an origin. It ends when this is dropped.
pub(crate) struct Front {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Front {
    /// With this certificate, and the first of `protocols` that the caller offers, too.
    pub(crate) async fn start(
        origin: SocketAddr,
        certificates: &Certificates,
        protocols: &[&[u8]],
    ) -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificates.certificate()).unwrap()];
        let key = PrivateKeyDer::from_pem_file(certificates.key()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(ANY).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not trust us leaves.
                    if let Ok(mut inside) = acceptor.accept(tcp).await
                        && let Ok(mut origin) = TcpStream::connect(origin).await
                    {
                        let _ = copy_bidirectional(&mut inside, &mut origin).await;
                    }
                });
            }
        });
        Self { address, accepting: accepting.abort_handle() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
