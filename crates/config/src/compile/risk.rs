//! What is legal but risky, and what only shows when sections are held side by side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foregate_policy as policy;
use url::{Host, Url};

use crate::key::Key;
use crate::one_or_many::OneOrMany;
use crate::problem::Fault;
use crate::raw::{self, SameSite};
use crate::report::Report;
use crate::snapshot::{Listen, Server};
use crate::upstream::Endpoint;
use crate::value;

/// A request that comes back to the gate, again and again.
pub(super) fn upstream_is_the_gate(apps: &[raw::App], server: &Server, report: &mut Report) {
    let https = server.https.map(Listen::Tcp);
    let listeners = [server.http.as_ref(), https.as_ref(), server.admin.as_ref()];
    for (index, app) in apps.iter().enumerate() {
        let texts = app.upstream.as_ref().map_or(&[][..], OneOrMany::as_slice);
        for (item, text) in texts.iter().enumerate() {
            let Ok((_, endpoint)) = value::upstream(text) else { continue };
            if listeners.iter().flatten().any(|listen| leads_to(&endpoint, listen)) {
                let fault = Fault::new("this is where Foregate itself listens");
                let key = Key::of("app").index(index).name("upstream").index(item);
                report.error(&key, fault.hint("write where the app listens, on a port of its own"));
            }
        }
    }
}

/// As far as that can be told without asking for names.
fn leads_to(endpoint: &Endpoint, listen: &Listen) -> bool {
    let (host, listener) = match (endpoint, listen) {
        (Endpoint::Unix(path), Listen::Unix(own)) => return path == own,
        (Endpoint::Tcp { host, port }, Listen::Tcp(own)) if *port == own.port() => (host, own.ip()),
        _ => return false,
    };
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses = match host.parse::<IpAddr>() {
        // A connection to "every address" goes to this machine.
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => loopback[..1].to_vec(),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => loopback[1..].to_vec(),
        Ok(address) => vec![address.to_canonical()],
        Err(_) if is_localhost(host) => loopback.to_vec(),
        Err(_) => return false,
    };
    addresses.into_iter().any(|address| match listener {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.is_ipv4() && address.is_loopback(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.is_loopback(),
        own => own.to_canonical() == address,
    })
}

pub(super) fn warn(file: &raw::File, report: &mut Report) {
    session(file, report);
    domain(file, report);
    nobody_on_a_socket(&file.server, report);
    nobody_ends_tls(file, report);
    if !file.csrf.enabled {
        let fault = Fault::new("any site may write in the name of a visitor who is signed in");
        report.warning(&Key::of("csrf.enabled"), fault.hint("name sites in csrf.allowed_origins"));
    }
    if file.login.url.is_empty() {
        let fault = Fault::new("visitors without a session get a 401 page and no way to sign in");
        report.warning(&Key::of("login.url"), fault.hint("set it to the page where they sign in"));
    }
    for (index, backend) in file.backend.as_slice().iter().enumerate() {
        let key = Key::of("backend").index(index);
        plain_http(backend.refresh_url.as_deref(), &key.name("refresh_url"), report);
        plain_http(backend.issuer.as_deref(), &key.name("issuer"), report);
    }
    for (index, app) in file.app.iter().enumerate() {
        if app.pass_authorization {
            let fault =
                Fault::new("on public paths the app gets an Authorization that nobody checked");
            let key = Key::of("app").index(index).name("pass_authorization");
            report.warning(&key, fault.hint("the app must verify it by itself"));
        }
    }
}

/// A proxy that is believed, and that nothing lets in.
fn nobody_on_a_socket(server: &raw::Server, report: &mut Report) {
    let believed = server.trusted_proxies.iter().position(|text| text == "unix");
    if let Some(index) = believed
        && !server.http.starts_with("unix:")
    {
        let fault = Fault::new("there is no unix socket that visitors come over");
        let key = Key::of("server.trusted_proxies").index(index);
        report.warning(&key, fault.hint("set server.http = \"unix:/…\", or take it out"));
    }
}

/// Browsers ask over https, since the cookie is Secure; so something ends TLS, and is not believed
/// that it does.
fn nobody_ends_tls(file: &raw::File, report: &mut Report) {
    let server = &file.server;
    let is_https = Url::parse(&file.login.url).is_ok_and(|url| url.scheme() == "https");
    if server.https.is_empty()
        && server.trusted_proxies.is_empty()
        && file.session.secure
        && is_https
    {
        let message = "nothing here ends TLS, so nobody stays signed in: a __Secure- cookie does not \
                       count over plain http, and visitors are sent back to http";
        let hint = "name the proxy that ends TLS, as trusted_proxies = [\"10.0.4.16\"] under \
                    [server], or set server.https";
        report.warning(&Key::of("server.trusted_proxies"), Fault::new(message).hint(hint));
    }
}

fn session(file: &raw::File, report: &mut Report) {
    let key = Key::of("session");
    let session = &file.session;
    if session.allow_weak_secret {
        let fault = Fault::new("whoever guesses a weak secret can be any visitor");
        report.warning(&key.name("allow_weak_secret"), fault.hint("for tests only"));
    }
    if session.same_site == SameSite::None {
        let fault = Fault::new("every site may send this cookie along with its requests");
        let hint = "\"lax\" does for subdomains of one domain";
        report.warning(&key.name("same_site"), fault.hint(hint));
        if !session.secure {
            let fault = Fault::new("browsers drop a SameSite=None cookie that is not Secure");
            report.error(&key.name("secure"), fault.hint("set it to true"));
        }
    }
    if session.secure && is_plain_http(&file.login.url) {
        let fault = Fault::new("browsers keep no Secure cookie that a page over plain http sets");
        let hint = "use https, or session.secure = false while you develop";
        report.warning(&Key::of("login.url"), fault.hint(hint));
    }
    if !session.secure && !is_localhost(session.domain.trim_start_matches('.')) {
        let fault = Fault::new("the session cookie travels in the clear over plain http");
        report.warning(&key.name("secure"), fault.hint("for development on localhost only"));
    }
}

/// Whether a browser takes the cookie at all, and whether it reaches every app from where visitors
/// sign in.
fn domain(file: &raw::File, report: &mut Report) {
    let key = Key::of("session.domain");
    let hosts = file.app.iter().map(|app| app.host.as_deref().unwrap_or_default());
    let hosts: Vec<String> = hosts.map(str::to_ascii_lowercase).collect();
    let login = Url::parse(&file.login.url).ok();
    let login = login.as_ref().and_then(Url::host_str);
    if file.session.domain.is_empty() {
        if hosts.len() > 1 || hosts.iter().any(|host| host.starts_with("*.")) {
            let fault = Fault::new("each host keeps a session of its own");
            report.warning(&key, fault.hint(SHARED_DOMAIN));
        } else if login.is_some_and(|login| hosts.iter().all(|host| host != login)) {
            let fault = Fault::new("a session made on this host never reaches the app");
            report.warning(&Key::of("login.url"), fault.hint(SHARED_DOMAIN));
        }
        return;
    }
    let Ok(domain) = value::cookie_domain(&file.session.domain) else { return };
    if !domain.contains('.') {
        let fault = Fault::new("browsers take no cookie for a whole top-level domain");
        let name = if domain == "localhost" { "demo" } else { "example" };
        let hint = format!("use a name below it, such as \".{name}.{domain}\"");
        return report.warning(&key, fault.hint(hint));
    }
    if login.is_some_and(|login| !is_below(login, &domain)) {
        let fault = Fault::new(format!("a page on this host cannot make a session for {domain}"));
        report.warning(&Key::of("login.url"), fault.hint(SHARED_DOMAIN));
    }
    for (index, host) in hosts.iter().enumerate() {
        let name = host.strip_prefix("*.").unwrap_or(host);
        if policy::Host::parse(name).is_ok_and(|host| !is_below(host.as_str(), &domain)) {
            let message = format!("the session cookie of {domain} never reaches this host");
            let fault = Fault::new(message).hint(SHARED_DOMAIN);
            report.warning(&Key::of("app").index(index).name("host"), fault);
        }
    }
}

const SHARED_DOMAIN: &str =
    "session.domain names the domain that apps and sign-in share, such as \".example.com\"";

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|labels| labels.is_empty() || labels.ends_with('.'))
}

fn plain_http(url: Option<&str>, key: &Key, report: &mut Report) {
    if url.is_some_and(is_plain_http) {
        let fault = Fault::new("refresh tokens travel in the clear to this backend");
        report.warning(key, fault.hint("use https, or a backend on this machine"));
    }
}

/// And not to this machine itself.
fn is_plain_http(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let is_local = match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    };
    url.scheme() == "http" && !is_local
}

fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}
