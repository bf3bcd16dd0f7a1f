//! `[session]` and `[tokens]` into a [`Keyring`].

use foregate_session::{Format, Keyring, KeyringSettings, SameSite, Secret, TokenPaths};

use crate::environment::Environment;
use crate::key::Key;
use crate::problem::Fault;
use crate::raw::{self, SecretSource};
use crate::report::Report;
use crate::{secrets, value};

pub(super) fn keyring(
    raw: &raw::Session,
    tokens: &raw::Tokens,
    environment: &Environment,
    report: &mut Report,
) -> Option<Keyring> {
    let key = Key::of("session");
    let format = match raw.format {
        raw::Format::Auto => None,
        raw::Format::NextAuthV4 => Some(Format::NextAuthV4),
        raw::Format::AuthjsV5 => Some(Format::AuthjsV5),
    };
    let same_site = match raw.same_site {
        raw::SameSite::Lax => SameSite::Lax,
        raw::SameSite::Strict => SameSite::Strict,
        raw::SameSite::None => SameSite::None,
    };
    let secrets = secrets(raw, environment, report);
    let cookie_name = given(&raw.cookie)
        .and_then(|name| report.accept(&key.name("cookie"), value::cookie_name(name)));
    // As it is written, leading dot and all: the libraries write their option's text as well.
    let domain = given(&raw.domain).filter(|domain| {
        report.accept(&key.name("domain"), value::cookie_domain(domain)).is_some()
    });
    if let Some(name) = &cookie_name {
        check_prefix(name, raw, report);
    }
    if raw.max_age.0.as_secs() == 0 {
        let fault = Fault::new("a session that ends at once is none");
        report.error(&key.name("max_age"), fault.hint("the default is \"30d\""));
    }
    let tokens = token_paths(tokens, report);

    // A keyring without a secret would be a contradiction.
    if secrets.is_empty() {
        return None;
    }
    Some(Keyring::new(KeyringSettings {
        format,
        secrets,
        cookie_name,
        domain: domain.map(str::to_owned),
        secure: raw.secure,
        same_site,
        max_age: raw.max_age.0,
        tokens,
    }))
}

fn secrets(raw: &raw::Session, environment: &Environment, report: &mut Report) -> Vec<Secret> {
    let key = Key::of("session.secrets");
    if raw.secrets.is_empty() {
        let hint =
            "for example secrets = [{ env = \"NEXTAUTH_SECRET\" }], the same that the apps have";
        report.missing(&key, hint);
    }
    let mut secrets: Vec<Secret> = Vec::new();
    for (index, source) in raw.secrets.iter().enumerate() {
        let key = key.index(index);
        let Some(secret) = secrets::resolve(&key, source, environment, report) else { continue };
        if secrets::is_the_demo_s(&secret) {
            let fault = Fault::new("this is the demo's secret: whoever knows it can be anybody");
            report.warning(&key, fault.hint("make your own with `openssl rand -base64 32`"));
        } else if matches!(source, SecretSource::Literal(_)) && !report.is_from_environment(&key) {
            let fault = Fault::new("a secret in the file is read by whoever reads the file");
            let hint = "use { env = \"NEXTAUTH_SECRET\" } or { file = \"/run/secrets/…\" }";
            report.warning(&key, fault.hint(hint));
        }
        if !raw.allow_weak_secret {
            report.accept(&key, secrets::strength(&secret));
        }
        if secrets.contains(&secret) {
            let fault = Fault::new("this secret stands in the list already");
            report.warning(&key, fault.hint("take it out"));
        }
        secrets.push(secret);
    }
    secrets
}

/// What browsers demand of cookies with these prefixes (RFC 6265bis §4.1.3); else they drop them.
fn check_prefix(name: &str, raw: &raw::Session, report: &mut Report) {
    let key = Key::of("session.cookie");
    let prefixed = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let is_host = prefixed("__Host-");
    if (is_host || prefixed("__Secure-")) && !raw.secure {
        let fault = Fault::new("browsers drop a cookie of this name unless it is Secure");
        report.error(&key, fault.hint("set session.secure = true, or choose another name"));
    }
    if is_host && !raw.domain.is_empty() {
        let fault = Fault::new("browsers drop a __Host- cookie that has a Domain");
        report.error(&key, fault.hint("leave session.domain empty, or choose another name"));
    }
}

fn token_paths(raw: &raw::Tokens, report: &mut Report) -> TokenPaths {
    let mut paths = TokenPaths::default();
    let keys = [
        ("access_token", &raw.access_token, &mut paths.access_token),
        ("expires_at", &raw.expires_at, &mut paths.expires_at),
        ("refresh_token", &raw.refresh_token, &mut paths.refresh_token),
        ("refresh_expires_at", &raw.refresh_expires_at, &mut paths.refresh_expires_at),
    ];
    for (name, text, paths) in keys {
        let Some(text) = text else { continue };
        let key = Key::of("tokens").name(name);
        if let Some(path) = report.accept(&key, value::session_claim(text)) {
            *paths = vec![path];
        }
    }
    paths
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
