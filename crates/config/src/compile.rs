//! What the file says into what requests use. Every problem is noted with its key; only where no
//! error is left is there a [`Snapshot`].

mod app;
mod backend;
mod risk;
mod session;
mod sign_in;
mod tls;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use foregate_refresh::LedgerAddress;

use crate::environment::Environment;
use crate::key::Key;
use crate::problem::Fault;
use crate::raw;
use crate::report::Report;
use crate::scalar::{Count, Span};
use crate::snapshot::{
    App, Limits, Listen, Login, Refresh, Server, Snapshot, TrustedProxies, folded,
};
use crate::value;

/// `None`: the report says why.
pub(crate) fn compile(
    file: &raw::File,
    environment: &Environment,
    report: &mut Report,
) -> Option<Snapshot> {
    let server = server(&file.server, environment, report);
    let tls = tls::tls(file, environment, report);
    let limits = limits(&file.limits, report);
    let keyring = session::keyring(&file.session, &file.tokens, environment, report);
    let backends = backend::backends(file.backend.as_slice(), environment, report);
    let refresh = refresh(&file.refresh, environment, report);
    let (login, forbidden_url) = login(&file.login, report);
    let apps = app::apps(&file.app, environment, report);
    let rules = app::rules(file, report);
    if let (Some(login), Some(rules)) = (&login, &rules) {
        sign_in::behind_its_own_gate(login, rules, &apps, &file.app, report);
    }
    if let Some(server) = &server {
        risk::upstream_is_the_gate(&file.app, server, report);
    }
    risk::warn(file, report);

    if report.has_errors() {
        return None;
    }
    let session_max_age = file.session.max_age.0;
    Some(Snapshot {
        server: server?,
        tls,
        limits,
        keyring: keyring?,
        rules: rules?,
        identity_headers: identity_headers(&apps),
        apps,
        backends,
        refresh,
        login,
        forbidden_url,
        session_max_age,
    })
}

fn identity_headers(apps: &[App]) -> HashSet<String> {
    let names = apps.iter().flat_map(|app| &app.identity);
    names.map(|(name, _)| folded(name.as_str()).into_owned()).collect()
}

fn server(raw: &raw::Server, environment: &Environment, report: &mut Report) -> Option<Server> {
    let key = Key::of("server");
    let mut listener = |name, text: &str| match text {
        "" => None,
        text => report.accept(&key.name(name), value::listener(text)),
    };
    let (http, admin) = (listener("http", &raw.http), listener("admin", &raw.admin));
    let https = match raw.https.as_str() {
        "" => None,
        text => report.accept(&key.name("https"), value::address(text)),
    };
    if raw.http.is_empty() && raw.https.is_empty() {
        let fault = Fault::new("nobody could reach Foregate: there is no other listener");
        report.error(&key.name("http"), fault.hint("set it, or set server.https"));
    }
    check_apart(&http, https, &admin, report);
    let workers = match raw.workers {
        Count(0) => environment.cpus(),
        Count(workers) => workers,
    };
    if workers > MOST_WORKERS {
        let fault = Fault::new(format!("at most {MOST_WORKERS} threads"));
        report.error(&key.name("workers"), fault.hint("0 takes one per CPU"));
    }
    Some(Server {
        http,
        https,
        admin,
        admin_is_set: report.sources().has(&key.name("admin")),
        workers,
        trusted_proxies: trusted_proxies(&raw.trusted_proxies, report),
        reuse_port: raw.reuse_port,
        decision_endpoint: raw.decision_endpoint,
        drain_delay: raw.drain_delay.0,
        shutdown_grace: raw.shutdown_grace.0,
    })
}

/// No two listeners on one address.
fn check_apart(
    http: &Option<Listen>,
    https: Option<SocketAddr>,
    admin: &Option<Listen>,
    report: &mut Report,
) {
    let https = https.map(Listen::Tcp);
    let listeners = [("http", http), ("https", &https), ("admin", admin)];
    let listeners: Vec<(&str, &Listen)> =
        listeners.into_iter().filter_map(|(name, listen)| Some((name, listen.as_ref()?))).collect();
    for (place, (name, listen)) in listeners.iter().enumerate() {
        if let Some((other, _)) =
            listeners[..place].iter().find(|(_, other)| collide(other, listen))
        {
            let fault = Fault::new(format!("server.{other} listens here already"));
            report.error(&Key::of("server").name(name), fault.hint("choose another port"));
        }
    }
}

fn collide(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            let (here, there) = (one.ip(), other.ip());
            one.port() == other.port()
                && one.port() != 0
                && (here == there || here.is_unspecified() || there.is_unspecified())
        }
        (one, other) => one == other,
    }
}

const MOST_WORKERS: usize = 1024;

fn trusted_proxies(raw: &[String], report: &mut Report) -> TrustedProxies {
    let mut trusted = TrustedProxies::default();
    for (index, text) in raw.iter().enumerate() {
        let key = Key::of("server.trusted_proxies").index(index);
        match report.accept(&key, value::trusted_proxy(text)) {
            Some(Some(network)) => {
                if network.prefix_len() == 0 {
                    let fault = Fault::new("every visitor may choose the address he comes from");
                    report.warning(&key, fault.hint("name the proxies in front of Foregate only"));
                }
                trusted.networks.push(network.trunc());
            }
            Some(None) => trusted.unix = true,
            None => {}
        }
    }
    trusted
}

fn limits(raw: &raw::Limits, report: &mut Report) -> Limits {
    let key = Key::of("limits");
    let header_bytes = raw.header_bytes.0;
    if !(SMALLEST_HEAD..=LARGEST_HEAD).contains(&header_bytes) {
        let fault = Fault::new("expected a size from 8KiB to 1MiB");
        let hint = "a session in chunks and a few other cookies need 16KiB; the default is 64KiB";
        report.error(&key.name("header_bytes"), fault.hint(hint));
    }
    if raw.headers.0 == 0 {
        let fault = Fault::new("expected at least 1");
        report.error(&key.name("headers"), fault.hint("the default is 128"));
    }
    let mut timeout = |name, span: Span| {
        if span.0 == Duration::ZERO {
            let fault = Fault::new("expected more than no time at all");
            report.error(&key.name(name), fault.hint("there is no way to wait for ever"));
        }
        span.0
    };
    Limits {
        header_bytes,
        headers: raw.headers.0,
        header_timeout: timeout("header_timeout", raw.header_timeout),
        idle_timeout: timeout("idle_timeout", raw.idle_timeout),
        upstream_connect_timeout: timeout("upstream_connect_timeout", raw.upstream_connect_timeout),
        upstream_header_timeout: timeout("upstream_header_timeout", raw.upstream_header_timeout),
        connections: Some(raw.connections.0).filter(|count| *count > 0),
    }
}

const SMALLEST_HEAD: usize = 8 << 10;
const LARGEST_HEAD: usize = 1 << 20;

fn refresh(raw: &raw::Refresh, environment: &Environment, report: &mut Report) -> Refresh {
    if raw.ledger_entries.0 == 0 {
        let fault = Fault::new("expected at least 1");
        let hint = "without a ledger, late requests would lose their session";
        report.error(&Key::of("refresh.ledger_entries"), fault.hint(hint));
    }
    let key = Key::of("refresh.ledger");
    let ledger = LedgerAddress::parse(&raw.ledger).map_err(Fault::new);
    let ledger = report.accept(&key, ledger).unwrap_or(LedgerAddress::Memory);
    if let LedgerAddress::File(path) = &ledger
        && let Err(error) = environment.try_to_write(path)
    {
        let directory = path.parent().unwrap_or(path).display();
        let message = match error.kind() {
            ErrorKind::IsADirectory => "this is a directory, and a file is expected".to_owned(),
            ErrorKind::NotFound => format!("there is no directory {directory}"),
            _ => format!("whoever asks here may not write it: {}", error.kind()),
        };
        let hint = "make the directory, for the user who runs Foregate: that may be another one \
                    than who runs `check`";
        report.warning(&key, Fault::new(message).hint(hint));
    }
    Refresh {
        ahead: raw.ahead.0,
        ledger,
        ledger_entries: raw.ledger_entries.0,
        on_upstream_401: raw.on_upstream_401,
    }
}

fn login(raw: &raw::Login, report: &mut Report) -> (Option<Login>, Option<url::Url>) {
    let key = Key::of("login");
    let mut page = |name, text: &str| match text {
        "" => None,
        text => report.accept(&key.name(name), value::page(text)),
    };
    let url = page("url", &raw.url);
    let forbidden_url = page("forbidden_url", &raw.forbidden_url);
    if raw.callback_param.is_empty() {
        let fault = Fault::new("expected the name of a query parameter");
        report.error(&key.name("callback_param"), fault.hint("the default is \"callbackUrl\""));
    }
    let callback_param = raw.callback_param.clone();
    (url.map(|url| Login { url, callback_param }), forbidden_url)
}
