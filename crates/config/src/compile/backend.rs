//! `[backend]` and `[[backend]]` into the backends that refresh sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use foregate_refresh::{Backend, BackendSpec, ClientAuth, Dialect, Encoding, RefreshSpec};
use foregate_session::Secret;

use crate::environment::Environment;
use crate::key::Key;
use crate::problem::Fault;
use crate::raw::{self, SecretSource};
use crate::report::Report;
use crate::snapshot::BackendChoice;
use crate::{secrets, value};

/// In the order of the file; those with a fault are left out.
pub(super) fn backends(
    raw: &[raw::Backend],
    environment: &Environment,
    report: &mut Report,
) -> Vec<BackendChoice> {
    let mut choices = Vec::new();
    for (index, backend) in raw.iter().enumerate() {
        let key = Key::of("backend").index(index);
        if raw.len() > 1 {
            check_among_others(raw, index, &key, report);
        }
        let when = when(backend, &key, report);
        let spec = spec(backend, &key, environment, report);
        match Backend::new(spec) {
            Ok(backend) => choices.push(BackendChoice { when, backend: Arc::new(backend) }),
            Err(faults) => {
                for fault in faults {
                    let key = fault.key.split('.').fold(key.clone(), |key, name| key.name(name));
                    report.error(&key, Fault { message: fault.message, hint: fault.hint });
                }
            }
        }
    }
    choices
}

fn check_among_others(raw: &[raw::Backend], index: usize, key: &Key, report: &mut Report) {
    let backend = &raw[index];
    match &backend.name {
        None => {
            report.missing(&key.name("name"), "one of several backends needs a name of its own")
        }
        Some(name) if raw[..index].iter().any(|other| other.name.as_ref() == Some(name)) => {
            let fault = Fault::new("another backend has this name");
            report.error(&key.name("name"), fault.hint("metrics and logs tell backends by name"));
        }
        Some(_) => {}
    }
    if raw[..index].iter().any(|other| other.when.is_empty()) {
        let fault = Fault::new("never asked: a backend above takes every session");
        report.error(key, fault.hint("give the one above a `when`, or put it last"));
    }
}

fn when(
    backend: &raw::Backend,
    key: &Key,
    report: &mut Report,
) -> Vec<(foregate_session::ClaimPath, String)> {
    let mut when = Vec::new();
    for (claim, wanted) in &backend.when {
        let path = report.accept(&key.name("when").name(claim), value::claim(claim));
        when.extend(path.map(|path| (path, wanted.clone())));
    }
    when
}

fn spec(
    raw: &raw::Backend,
    key: &Key,
    environment: &Environment,
    report: &mut Report,
) -> BackendSpec {
    let secret_key = key.name("client_secret");
    let client_secret = raw.client_secret.as_ref().and_then(|source| {
        if matches!(source, SecretSource::Literal(_)) && !report.is_from_environment(&secret_key) {
            let fault = Fault::new("a secret in the file is read by whoever reads the file");
            let hint = "use { env = \"CLIENT_SECRET\" } or { file = \"/run/secrets/…\" }";
            report.warning(&secret_key, fault.hint(hint));
        }
        secrets::resolve(&secret_key, source, environment, report)
    });
    let refresh = refresh_spec(&raw.refresh, &key.name("refresh"), environment, report);
    BackendSpec {
        name: raw.name.clone().unwrap_or_else(|| "backend".to_owned()),
        dialect: match raw.dialect {
            raw::Dialect::Json => Dialect::Json,
            raw::Dialect::Oauth2 => Dialect::OAuth2,
            raw::Dialect::Simplejwt => Dialect::SimpleJwt,
        },
        refresh_url: raw.refresh_url.clone(),
        issuer: raw.issuer.clone(),
        client_id: raw.client_id.clone(),
        client_secret,
        client_auth: match raw.client_auth {
            raw::ClientAuth::Post => ClientAuth::Post,
            raw::ClientAuth::Basic => ClientAuth::Basic,
        },
        timeout: raw.timeout.0,
        max_in_flight: raw.max_in_flight.0,
        refresh,
    }
}

fn refresh_spec(
    raw: &raw::Redemption,
    key: &Key,
    environment: &Environment,
    report: &mut Report,
) -> RefreshSpec {
    let mut headers: BTreeMap<String, Secret> = BTreeMap::new();
    for (name, source) in &raw.headers {
        let key = key.name("headers").name(name);
        let text = secrets::resolve(&key, source, environment, report);
        headers.extend(text.map(|text| (name.clone(), text)));
    }
    let refused = raw.refused.as_ref().map(|statuses| {
        let key = key.name("refused");
        let statuses = statuses.iter().enumerate();
        statuses
            .filter_map(|(index, status)| refusal(status.0, &key.index(index), report))
            .collect()
    });
    RefreshSpec {
        method: raw.method.clone(),
        encoding: raw.encoding.map(|encoding| match encoding {
            raw::Encoding::Json => Encoding::Json,
            raw::Encoding::Form => Encoding::Form,
        }),
        body: raw.body.clone(),
        headers,
        access_token: raw.access_token.clone(),
        expires_at: raw.expires_at.clone(),
        expires_in: raw.expires_in.clone(),
        refresh_token: raw.refresh_token.clone(),
        refresh_expires_at: raw.refresh_expires_at.clone(),
        refresh_expires_in: raw.refresh_expires_in.clone(),
        id_token: raw.id_token.clone(),
        refused,
    }
}

/// A blip must sign nobody out, so statuses that say "later" cannot mean "no".
fn refusal(status: usize, key: &Key, report: &mut Report) -> Option<u16> {
    let fault = match status {
        408 | 425 | 429 => {
            Fault::new("this status says to come back later, not that a token is refused")
        }
        400..=499 => return u16::try_from(status).ok(),
        _ => Fault::new("expected a status from 400 to 499"),
    };
    report.error(key, fault.hint("the default is [400, 401, 403]"));
    None
}
