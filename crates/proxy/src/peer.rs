//! Who stands at the other end of a connection, and what a trusted proxy there says about the
//! visitor behind it. Nobody is trusted whom `server.trusted_proxies` does not name.

use std::fmt;
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

    /// As a proxy in front tells it; `ws` and `wss` are what Traefik says of a WebSocket.
    pub(crate) fn told(text: &str) -> Option<Self> {
        let is = |scheme| text.eq_ignore_ascii_case(scheme);
        match () {
            () if is("https") || is("wss") => Some(Self::Https),
            () if is("http") || is("ws") => Some(Self::Http),
            () => None,
        }
    }
}

/// Who stands at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    Ip(IpAddr),
    /// A process on this machine, which has no address.
    Unix,
}

impl Address {
    fn is_in(self, trusted: &TrustedProxies) -> bool {
        match self {
            Self::Ip(address) => trusted.contains(address),
            Self::Unix => trusted.contains_unix(),
        }
    }
}

/// As `server.trusted_proxies` would name it.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Unix => formatter.write_str("unix"),
        }
    }
}

/// One end of a connection: what does not change from request to request.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) address: Address,
    /// It is encrypted, and ends here.
    pub(crate) secure: bool,
    /// `address` as `X-Forwarded-For` has it.
    text: HeaderValue,
}

impl Connection {
    /// `secure`: TLS ends here.
    pub(crate) fn new(address: Address, secure: bool) -> Self {
        let unknown = HeaderValue::from_static("unknown");
        let (address, text) = match address {
            Address::Ip(address) => {
                let address = address.to_canonical();
                let text = HeaderValue::from_str(&address.to_string()).unwrap_or(unknown);
                (Address::Ip(address), text)
            }
            Address::Unix => (Address::Unix, unknown),
        };
        Self { address, secure, text }
    }
}

/// Where one request comes from.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The trusted part of the chain, and the connection's own end.
    pub(crate) forwarded_for: HeaderValue,
    pub(crate) scheme: Scheme,
    /// What it says about the visitor behind it is believed.
    pub(crate) trusted: bool,
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
        let own_scheme = if connection.secure { Scheme::Https } else { Scheme::Http };
        if !connection.address.is_in(trusted) {
            let forwarded_for = connection.text.clone();
            return Self { forwarded_for, scheme: own_scheme, trusted: false, port: None };
        }
        let told = single(headers, "x-forwarded-proto").and_then(Scheme::told);
        let port = single(headers, "x-forwarded-port")
            .filter(|port| port.parse::<u16>().is_ok())
            .and_then(|port| HeaderValue::from_str(port).ok());
        let forwarded_for = chain(connection, headers, trusted);
        Self { forwarded_for, scheme: told.unwrap_or(own_scheme), trusted: true, port }
    }

    /// Somebody whose address nobody knows, for `explain`.
    pub(crate) fn imagined(scheme: &str) -> Self {
        let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
        let forwarded_for = HeaderValue::from_static("<visitor>");
        Self { forwarded_for, scheme, trusted: false, port: None }
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
    if let Address::Ip(address) = connection.address {
        kept.push(address.to_string());
    }
    if kept.is_empty() {
        return connection.text.clone();
    }
    HeaderValue::from_str(&kept.join(", ")).unwrap_or_else(|_| connection.text.clone())
}

#[cfg(test)]
mod tests {
    use foregate_config::{Environment, parse};

    use super::*;

    type Lines<'l> = &'l [(&'static str, &'static str)];

    /// The chain, scheme and port of a request over plain TCP, with 10.0.0.0/8 trusted.
    fn check(peer: &str, headers: Lines<'_>, expected: (&str, &str, &str)) {
        let connection = Connection::new(Address::Ip(peer.parse().unwrap()), false);
        check_over(&connection, r#"["10.0.0.0/8"]"#, headers, expected);
    }

    fn check_over(
        connection: &Connection,
        trusted: &str,
        headers: Lines<'_>,
        expected: (&str, &str, &str),
    ) {
        let config = r#"
            [server]
            trusted_proxies = TRUSTED
            [session]
            secrets = ["a-public-test-secret-do-not-use-0123456789"]
            [[app]]
            host = "app.example.com"
            upstream = "http://127.0.0.1:1"
        "#;
        let config = config.replace("TRUSTED", trusted);
        let loaded = parse("proxy.toml", &config, &Environment::from_pairs([("", "")]));
        let snapshot = loaded.unwrap_or_else(|problems| panic!("{problems:?}")).snapshot;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let peer = Peer::of(connection, &map, &snapshot.server.trusted_proxies);
        let chain = peer.forwarded_for.to_str().unwrap();
        let port = peer.port_of("app.example.com");
        assert_eq!((chain, peer.scheme.as_str(), port.to_str().unwrap()), expected, "{headers:?}");
    }

    #[test]
    fn only_a_trusted_peer_is_believed_and_no_further_than_it_saw() {
        let told = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https")];
        check("192.0.2.1", &told, ("192.0.2.1", "http", "80"));
        check("127.0.0.1", &told, ("127.0.0.1", "http", "80"));
        check("10.0.0.1", &told, ("6.6.6.6, 10.0.0.1", "https", "443"));
        check("::ffff:10.0.0.1", &told, ("6.6.6.6, 10.0.0.1", "https", "443"));
        check("10.0.0.1", &[], ("10.0.0.1", "http", "80"));
        let chain = [("x-forwarded-for", "1.1.1.1, 6.6.6.6"), ("x-forwarded-for", "10.0.0.9")];
        check("10.0.0.1", &chain, ("6.6.6.6, 10.0.0.9, 10.0.0.1", "http", "80"));
        let odd = [("x-forwarded-for", "6.6.6.6, nonsense")];
        check("10.0.0.1", &odd, ("10.0.0.1", "http", "80"));
        let doubled = [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")];
        check("10.0.0.1", &doubled, ("10.0.0.1", "http", "80"));
        let port = [("x-forwarded-proto", "https"), ("x-forwarded-port", "8443")];
        check("10.0.0.1", &port, ("10.0.0.1", "https", "8443"));
        check("10.0.0.1", &[("x-forwarded-port", "x")], ("10.0.0.1", "http", "80"));
        let websocket = [("x-forwarded-proto", "wss")];
        check("10.0.0.1", &websocket, ("10.0.0.1", "https", "443"));
    }

    #[test]
    fn a_process_on_this_machine_is_trusted_by_name_and_has_no_address() {
        let check = |trusted, headers, expected| {
            check_over(&Connection::new(Address::Unix, false), trusted, headers, expected);
        };
        let told = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https")];
        check("[]", &told, ("unknown", "http", "80"));
        check(r#"["0.0.0.0/0", "::/0"]"#, &told, ("unknown", "http", "80"));
        check(r#"["unix"]"#, &told, ("6.6.6.6", "https", "443"));
        check(r#"["unix"]"#, &[], ("unknown", "http", "80"));
        check(r#"["unix"]"#, &[("x-forwarded-for", "nonsense")], ("unknown", "http", "80"));
        let two = [("x-forwarded-for", "6.6.6.6, 10.0.0.9")];
        check(r#"["unix", "10.0.0.0/8"]"#, &two, ("6.6.6.6, 10.0.0.9", "http", "80"));
    }

    #[test]
    fn a_connection_that_is_encrypted_says_so_by_itself() {
        let check = |peer: &str, headers, expected| {
            let connection = Connection::new(Address::Ip(peer.parse().unwrap()), true);
            check_over(&connection, r#"["10.0.0.0/8"]"#, headers, expected);
        };
        check("192.0.2.1", &[], ("192.0.2.1", "https", "443"));
        let told = [("x-forwarded-proto", "http")];
        check("192.0.2.1", &told, ("192.0.2.1", "https", "443"));
        check("10.0.0.1", &told, ("10.0.0.1", "http", "80"));
        check("10.0.0.1", &[("x-forwarded-proto", "odd")], ("10.0.0.1", "https", "443"));
        check("10.0.0.1", &[], ("10.0.0.1", "https", "443"));
    }

    #[test]
    fn a_port_that_the_visitor_wrote_comes_first() {
        let connection = Connection::new(Address::Ip("127.0.0.1".parse().unwrap()), false);
        let peer = Peer::of(&connection, &HeaderMap::new(), &TrustedProxies::default());
        assert_eq!(peer.port_of("app.example.com:8443"), "8443");
        assert_eq!(peer.port_of("[::1]:8443"), "8443");
        assert_eq!(peer.port_of("[::1]"), "80");
    }
}
