//! Small words for rules and requests, shared by the tests.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::Duration;

use foregate_policy::{Access, AppSpec, Finding, Head, PolicySpec, RawHead, RuleSpec, Rules};
use foregate_session::{
    ClaimPath, Keyring, KeyringSettings, SameSite, Secret, Session, TokenPaths,
};

pub(crate) const HOST: &str = "app.example.com";

/// `"public GET,POST /a /b"`, `"deny * /x"`, `"admin,staff * /y"` (roles), `"session * /z"`.
pub(crate) fn rule(text: &str) -> RuleSpec {
    let mut words = text.split_whitespace();
    let (access, roles) = match words.next().unwrap() {
        "public" => (Some(Access::Public), Vec::new()),
        "session" => (Some(Access::Session), Vec::new()),
        "deny" => (Some(Access::Deny), Vec::new()),
        roles => (None, roles.split(',').map(str::to_owned).collect()),
    };
    let methods = match words.next().unwrap() {
        "*" => Vec::new(),
        methods => methods.split(',').map(str::to_owned).collect(),
    };
    RuleSpec { paths: words.map(str::to_owned).collect(), methods, access, roles }
}

pub(crate) fn app(host: &str, access: Access, rules: &[&str]) -> AppSpec {
    AppSpec {
        host: host.to_owned(),
        access,
        rules: rules.iter().map(|text| rule(text)).collect(),
        matcher: None,
        case_sensitive: false,
        base_path: String::new(),
        locales: Vec::new(),
        default_locale: None,
    }
}

pub(crate) fn spec(apps: Vec<AppSpec>) -> PolicySpec {
    PolicySpec {
        apps,
        role_claims: ["session.role", "session.roles"]
            .map(|it| ClaimPath::parse(it).unwrap())
            .into(),
        role_flags: vec![("admin".to_owned(), ClaimPath::parse("session.isAdmin").unwrap())],
        csrf: true,
        allowed_origins: vec!["https://partner.example".to_owned()],
    }
}

pub(crate) fn compile(apps: Vec<AppSpec>) -> (Rules, Vec<Finding>) {
    Rules::compile(&spec(apps)).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The rules of one app, without regard to warnings.
pub(crate) fn rules(access: Access, texts: &[&str]) -> Rules {
    compile(vec![app(HOST, access, texts)]).0
}

pub(crate) fn get(target: &str) -> RawHead<'_> {
    RawHead::get(HOST, target)
}

/// What the strictest reading of `GET target` asks for.
pub(crate) fn access(rules: &Rules, target: &str) -> Access {
    rules.route(&Head::parse(get(target)).unwrap()).unwrap().access()
}

pub(crate) fn session(claims: &str) -> Session {
    let keyring = Keyring::new(KeyringSettings {
        format: None,
        secrets: vec![Secret::new("a secret of the tests alone")],
        cookie_name: None,
        domain: None,
        secure: true,
        same_site: SameSite::Lax,
        max_age: Duration::from_secs(3600),
        tokens: TokenPaths::default(),
    });
    keyring.session_from_claims(claims, None).unwrap_or_else(|error| panic!("{claims}: {error}"))
}
