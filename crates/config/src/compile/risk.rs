//! What is legal but risky, and what only shows when sections are held side by side.

use foregate_policy::{self as policy, Field, Head, RawHead, Rules};
use url::{Host, Url};

use crate::key::Key;
use crate::problem::Fault;
use crate::raw::{self, SameSite};
use crate::report::Report;
use crate::snapshot::{App, Login};
use crate::value;

/// A visitor without a session would be sent in circles.
pub(super) fn login_behind_its_own_gate(
    login: &Login,
    rules: &Rules,
    apps: &[App],
    report: &mut Report,
) {
    let target = &login.url[url::Position::BeforePath..];
    let authority = &login.url[url::Position::BeforeHost..url::Position::AfterPort];
    let head = Head::parse(RawHead {
        method: "GET",
        authority: None,
        target,
        host: Field::One(authority.as_bytes()),
        origin: Field::Absent,
        fetch_site: Field::Absent,
        fetch_mode: Field::Absent,
        accept: None,
        names_cors_method: false,
        websocket: false,
    });
    let Ok(head) = head else {
        let fault = Fault::new("Foregate itself would refuse a request for this URL");
        return report.error(&Key::of("login.url"), fault.hint("write it without odd escapes"));
    };
    // An unknown host is somebody else's.
    let Ok(route) = rules.route(&head) else { return };
    if route.without_session().is_err() {
        let app = &apps[route.app()];
        let guard = match route.rule().and_then(|rule| app.rules.get(rule)) {
            Some(rule) => rule.to_string(),
            None => format!("the access of {}", app.host),
        };
        let fault = Fault::new(format!("{guard} guards this URL, so nobody could ever sign in"));
        let path = head.path().as_str();
        let hint = format!("add a rule above it: path = {path:?}, access = \"public\"");
        report.error(&Key::of("login.url"), fault.hint(hint));
    }
}

pub(super) fn warn(file: &raw::File, report: &mut Report) {
    session(file, report);
    domain(file, report);
    nobody_on_a_socket(&file.server, report);
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
        let hint = "use a name below it, such as \".demo.localhost\"";
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
