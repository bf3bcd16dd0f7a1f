//! Text of the file into types: addresses, URLs, networks, names. Each says what it expected, and
//! where a slip of the hand is plain, what was meant.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use foregate_session::{ClaimPath, ClaimPathError};
use http::HeaderName;
use ipnet::IpNet;
use url::{Host, Url};

use crate::problem::Fault;
use crate::snapshot::Listen;
use crate::upstream::{Endpoint, Protocol};

/// An address and a port, or `unix:/path`.
pub(crate) fn listener(text: &str) -> Result<Listen, Fault> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(Listen::Unix),
        None => address(text).map(Listen::Tcp),
    }
}

pub(crate) fn address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let fault = Fault::new("expected an address and a port");
        let port = text.strip_prefix("localhost:").map(|port| ("127.0.0.1", port));
        let meant = port
            .or_else(|| text.strip_prefix("*:").map(|port| ("0.0.0.0", port)))
            .or_else(|| text.strip_prefix(':').map(|port| ("0.0.0.0", port)))
            .filter(|(_, port)| port.parse::<u16>().is_ok());
        match meant {
            Some((address, port)) => fault.hint(format!("did you mean \"{address}:{port}\"?")),
            None => fault.hint("for example \"0.0.0.0:8080\", or \"[::]:8080\""),
        }
    })
}

/// The path behind `unix:`.
fn unix_path(text: &str) -> Result<PathBuf, Fault> {
    let fault = Fault::new("expected unix: and an absolute path");
    let path = match text.strip_prefix("//") {
        Some(path) if path.starts_with('/') => {
            return Err(fault.hint(format!("did you mean \"unix:{path}\"?")));
        }
        _ => PathBuf::from(text),
    };
    if !path.is_absolute() || path.file_name().is_none() || text.ends_with('/') {
        return Err(fault.hint("for example \"unix:/run/foregate.sock\""));
    }
    match std::os::unix::net::SocketAddr::from_pathname(&path) {
        Ok(_) => Ok(path),
        Err(_) => Err(Fault::new("this path is too long for a socket")
            .hint("at most 107 bytes fit into a socket's address")),
    }
}

/// A network, an address that stands for itself alone, or `None` for "unix".
pub(crate) fn trusted_proxy(text: &str) -> Result<Option<IpNet>, Fault> {
    if text == "unix" {
        return Ok(None);
    }
    let network = text.parse().ok();
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    network.or_else(address).map(Some).ok_or_else(|| {
        Fault::new("expected a network, an address or \"unix\"")
            .hint("for example \"10.0.0.0/8\" or \"192.0.2.7\"; names are not looked up")
    })
}

/// `http://host:port`, also with https or h2c, with nothing behind it; or `unix:/path`.
pub(crate) fn upstream(text: &str) -> Result<(Protocol, Endpoint), Fault> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok((Protocol::Http, Endpoint::Unix(unix_path(path)?)));
    }
    let expected = || {
        Fault::new("expected http://host:port, https://host:port, h2c://host:port or unix:/path")
    };
    let without_scheme = !text.contains("://") && !text.contains('@');
    // A scheme that the URL standard does not know would leave its host unread.
    let h2c = text.strip_prefix("h2c://").map(|rest| format!("http://{rest}"));
    let url = match Url::parse(h2c.as_deref().unwrap_or(text)) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        _ if without_scheme && Url::parse(&format!("http://{text}")).is_ok() => {
            return Err(expected().hint(format!("did you mean \"http://{text}\"?")));
        }
        _ => return Err(expected().hint("for example \"http://127.0.0.1:3000\"")),
    };
    if has_credentials(&url) {
        return Err(Fault::new("a user name or password in an upstream is never sent")
            .hint("take it out of the URL"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(Fault::new("an upstream has no path: the request's own goes on unchanged")
            .hint("keep scheme, host and port only"));
    }
    let protocol = match url.scheme() {
        "https" => Protocol::Https,
        _ if h2c.is_some() => Protocol::H2c,
        _ => Protocol::Http,
    };
    let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
        return Err(expected());
    };
    let host = match host {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Ok((protocol, Endpoint::Tcp { host, port }))
}

/// An absolute URL that a browser may be sent to.
pub(crate) fn page(text: &str) -> Result<Url, Fault> {
    let fault = Fault::new("expected an absolute http or https URL");
    let hint = "for example \"https://auth.example.com/login\"";
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Err(fault.hint(hint)),
        Ok(url) if has_credentials(&url) => {
            Err(Fault::new("a user name or password here would be shown to every visitor")
                .hint("take it out of the URL"))
        }
        Ok(url) if url.fragment().is_some() => {
            Err(Fault::new("a fragment would swallow the query that is added")
                .hint("leave out what follows the #"))
        }
        Ok(url) => Ok(url),
        Err(_) => Err(fault.hint(hint)),
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// A path that begins with `session.` or `access_token.`.
pub(crate) fn claim(text: &str) -> Result<ClaimPath, Fault> {
    ClaimPath::parse(text).map_err(|error| {
        let fault = Fault::new(format!("not the path of a claim: {error}"));
        match error {
            ClaimPathError::UnknownRoot if !text.is_empty() => {
                fault.hint(format!("did you mean \"session.{text}\"?"))
            }
            _ => {
                fault.hint("for example \"session.user.id\" or \"access_token.realm_access.roles\"")
            }
        }
    })
}

/// A path inside the session's payload, where `session.` goes without saying.
pub(crate) fn session_claim(text: &str) -> Result<ClaimPath, Fault> {
    ClaimPath::in_session(text).map_err(|error| {
        Fault::new(format!("not the path of a claim: {error}"))
            .hint("for example \"accessToken\" or \"user.accessToken\"")
    })
}

/// A header that may carry an identity: one that neither frames the message, nor steers the
/// connection, nor is set by Foregate itself.
pub(crate) fn identity_header(text: &str) -> Result<HeaderName, Fault> {
    let name = HeaderName::try_from(text).map_err(|_| {
        Fault::new("not a header's name").hint("letters, digits and -, as in \"X-User-Id\"")
    })?;
    // An app may read `_` and `.` as `-`.
    let folded = name.as_str().replace(['_', '.'], "-");
    if RESERVED_HEADERS.contains(&folded.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| folded.starts_with(prefix))
    {
        return Err(Fault::new("this header has a meaning of its own and cannot be an identity")
            .hint("choose another name, such as \"X-User-Id\""));
    }
    Ok(name)
}

/// Hop-by-hop (RFC 9110 §7.6.1), framing, and what the proxy writes by itself.
const RESERVED_HEADERS: [&str; 32] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// What browsers vouch for, and what frameworks take for their own word.
const RESERVED_PREFIXES: [&str; 6] =
    ["sec-", "x-http-method", "x-invoke-", "x-middleware-", "x-original-", "x-rewrite-"];

/// A cookie's name: an RFC 9110 token, short enough that `.99` and the attributes fit beside it.
pub(crate) fn cookie_name(text: &str) -> Result<String, Fault> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.len() > 128 || !text.bytes().all(is_token) {
        return Err(Fault::new("not a cookie's name")
            .hint("letters, digits, - and _, as in \"authjs.session-token\""));
    }
    Ok(text.to_owned())
}

/// A cookie's Domain, without the leading dot: letters, digits and hyphens.
pub(crate) fn cookie_domain(text: &str) -> Result<String, Fault> {
    let fault = Fault::new("expected a domain such as \".example.com\"");
    let bare = text.strip_prefix('.').unwrap_or(text);
    if bare.contains("://") || bare.contains([':', '/']) {
        return Err(fault.hint("no scheme, port or path: cookies know none"));
    }
    match Host::parse(bare) {
        Ok(Host::Domain(name)) if !name.contains('*') && !name.ends_with('.') => Ok(name),
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) => Err(fault.hint(
            "a browser shares no cookies between addresses; leave it empty to keep one per host",
        )),
        _ if bare.starts_with("*.") => Err(fault.hint("without the *: it covers every subdomain")),
        _ => Err(fault),
    }
}
