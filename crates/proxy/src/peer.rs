//! Who stands at the other end of a connection, and what a trusted proxy there says about the
//! visitor behind it. Nobody is trusted whom `server.trusted_proxies` does not name.

use std::net::IpAddr;

use foregate_config::TrustedProxies;
use http::header::{HeaderMap, HeaderValue};

/// The scheme that the visitor used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One end of a connection: what does not change from request to request.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) address: IpAddr,
    /// `address` as a header's value.
    text: HeaderValue,
}

impl Connection {
    pub(crate) fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let text = HeaderValue::from_str(&address.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { address, text }
    }
}

/// Where one request comes from.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The trusted part of the chain, and the connection's own end.
    pub(crate) forwarded_for: HeaderValue,
    pub(crate) scheme: Scheme,
    /// The port that a trusted proxy was asked on.
    port: Option<HeaderValue>,
}

impl Peer {
    /// Reads `X-Forwarded-For`, `-Proto` and `-Port`, from trusted peers alone. A value that is
    /// doubled or odd counts as absent.
    pub(crate) fn of(
        connection: &Connection,
        headers: &HeaderMap,
        trusted: &TrustedProxies,
    ) -> Self {
        if !trusted.contains(connection.address) {
            let forwarded_for = connection.text.clone();
            return Self { forwarded_for, scheme: Scheme::Http, port: None };
        }
        let scheme = match single(headers, "x-forwarded-proto") {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        let port = single(headers, "x-forwarded-port")
            .filter(|port| port.parse::<u16>().is_ok())
            .and_then(|port| HeaderValue::from_str(port).ok());
        Self { forwarded_for: chain(connection, headers, trusted), scheme, port }
    }

    /// The port the visitor asked: as it stands in `authority`, else as a trusted proxy says, else
    /// the scheme's own.
    pub(crate) fn port_of(&self, authority: &str) -> HeaderValue {
        let after_host = authority.rsplit_once(']').map_or(authority, |(_, port)| port);
        let written = after_host.rsplit_once(':').map(|(_, port)| HeaderValue::from_str(port));
        match (written, &self.port, self.scheme) {
            (Some(Ok(port)), _, _) => port,
            (_, Some(port), _) => port.clone(),
            (_, None, Scheme::Http) => HeaderValue::from_static("80"),
            (_, None, Scheme::Https) => HeaderValue::from_static("443"),
        }
    }
}

fn single<'h>(headers: &'h HeaderMap, name: &'static str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok().map(str::trim),
        _ => None,
    }
}

/// Walks `X-Forwarded-For` from its end, as long as trusted proxies wrote it: the last entry that
/// one of them wrote is kept, whatever stands before could be the visitor's invention.
fn chain(connection: &Connection, headers: &HeaderMap, trusted: &TrustedProxies) -> HeaderValue {
    let entries: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .collect();
    let mut kept = Vec::new();
    for entry in entries.into_iter().rev() {
        let Ok(address) = entry.parse::<IpAddr>() else { break };
        kept.push(address.to_canonical().to_string());
        if !trusted.contains(address) {
            break;
        }
    }
    kept.reverse();
    kept.push(connection.address.to_string());
    HeaderValue::from_str(&kept.join(", ")).unwrap_or_else(|_| connection.text.clone())
}
