//! Files that are taken, and what requests then use.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use foregate_session::{ClaimPath, UnixSeconds};
use serde_json::Value;

use super::certificates::pair;
use super::{SECRET, SOUND, bare_environment, environment, load_sound, problems, shown};
use crate::{CookieMode, Endpoint, Snapshot, parse, schema};

/// Every key there is.
const FULL: &str = include_str!("full.toml");

const REPOSITORY: &str = include_str!("../../../../proxy.toml");

fn full() -> Snapshot {
    let (cert, key) = pair(&["app.example.com"]);
    let environment = bare_environment(&[])
        .with_file("/run/older", "an-older-one\n")
        .with_file("/etc/tls/tls.crt", &cert)
        .with_file("/etc/tls/tls.key", &key)
        .with_file("/etc/tls/ca.crt", &cert);
    match parse("full.toml", FULL, &environment) {
        Ok(loaded) => loaded.snapshot,
        Err(unusable) => panic!("{}", shown(&unusable.problems)),
    }
}

#[test]
fn the_repository_s_own_file_has_no_fault_but_its_public_secret() {
    let loaded = load_sound(REPOSITORY, &[]);
    let expected = "warning: proxy.toml:11:12: session.secrets[0]: this is the demo's secret: \
                    whoever knows it can be anybody\n  hint: make your own with `openssl rand \
                    -base64 32`\n";
    assert_eq!(shown(&loaded.warnings), expected);
    let hosts: Vec<&str> = loaded.snapshot.apps.iter().map(|app| app.host.as_str()).collect();
    assert_eq!(hosts, ["app.demo.localhost", "shop.demo.localhost", "auth.demo.localhost"]);
}

#[test]
fn a_sound_file_has_no_warning_and_the_contract_s_defaults() {
    let loaded = load_sound(SOUND, &[]);
    assert_eq!(shown(&loaded.warnings), "");

    let Snapshot { server, tls, limits, apps, backends, refresh, login, .. } = loaded.snapshot;
    assert_eq!(server.http.unwrap().to_string(), "0.0.0.0:8080");
    assert!(server.https.is_none() && tls.is_none());
    assert_eq!(server.admin.unwrap().to_string(), "127.0.0.1:9901");
    assert_eq!(server.workers, 1, "what the environment says of the machine");
    assert!(!server.trusted_proxies.contains(IpAddr::from([127, 0, 0, 1])));
    assert!(!server.trusted_proxies.contains_unix() && !server.reuse_port);
    assert_eq!((server.drain_delay, server.shutdown_grace), (Duration::ZERO, seconds(30)));
    assert_eq!((limits.header_bytes, limits.headers, limits.connections), (65_536, 128, None));
    assert_eq!((limits.header_timeout, limits.idle_timeout), (seconds(15), seconds(75)));
    assert_eq!(limits.upstream_connect_timeout, seconds(5));
    assert_eq!(limits.upstream_header_timeout, seconds(60));
    assert_eq!((refresh.ahead, refresh.ledger_entries), (seconds(60), 1_000_000));
    assert!(refresh.on_upstream_401);
    assert_eq!(login.unwrap().callback_param, "callbackUrl");
    assert_eq!(loaded.snapshot.session_max_age, seconds(30 * 86_400));
    assert!(loaded.snapshot.forbidden_url.is_none() && backends.is_empty());
    assert_eq!(apps[0].cookie, CookieMode::Refreshed);
    assert!(!apps[0].pass_authorization && !apps[0].names_a_method && apps[0].identity.is_empty());
}

#[test]
fn every_key_of_the_file_reaches_the_snapshot() {
    let Snapshot { server, tls, limits, apps, refresh, login, forbidden_url, .. } = full();
    assert_eq!(server.http.unwrap().to_string(), "unix:/run/foregate/http.sock");
    assert_eq!(server.https.unwrap().to_string(), "127.0.0.1:8443");
    assert_eq!(server.admin.unwrap().to_string(), "127.0.0.1:9902");
    assert!(tls.unwrap().choose(None).covers("app.example.com"));
    assert_eq!((server.workers, server.reuse_port), (3, true));
    assert_eq!((server.drain_delay, server.shutdown_grace), (seconds(5), seconds(60)));
    assert!(server.trusted_proxies.contains_unix());
    for (peer, trusted) in
        [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("192.0.2.7", true), ("192.0.2.8", false)]
    {
        assert_eq!(server.trusted_proxies.contains(peer.parse().unwrap()), trusted, "{peer}");
    }
    assert_eq!((limits.header_bytes, limits.headers, limits.connections), (32_768, 64, Some(5000)));
    assert_eq!((limits.header_timeout, limits.idle_timeout), (seconds(10), seconds(75)));
    assert_eq!(limits.upstream_connect_timeout, seconds(2));
    assert_eq!(limits.upstream_header_timeout, seconds(90));
    assert_eq!((refresh.ahead, refresh.ledger_entries), (seconds(30), 5000));
    assert!(!refresh.on_upstream_401);
    let login = login.unwrap();
    assert_eq!(login.url.as_str(), "https://auth.example.com/login?from=gate");
    assert_eq!(login.callback_param, "next");
    assert_eq!(forbidden_url.unwrap().as_str(), "https://auth.example.com/forbidden");

    let [app, wildcard] = &apps[..] else { panic!("two apps") };
    assert_eq!(
        (app.cookie, app.pass_authorization, app.names_a_method),
        (CookieMode::Strip, true, true)
    );
    let roots: Vec<bool> = app.upstreams.iter().map(|up| up.authority_roots.is_some()).collect();
    let urls: Vec<String> = app.upstreams.iter().map(|up| up.url()).collect();
    assert_eq!(urls, ["https://app.internal:3443", "http://10.0.0.7:80", "h2c://app.internal:80"]);
    assert_eq!(roots, [true, false, false]);
    let identity: Vec<(&str, String)> =
        app.identity.iter().map(|(name, claim)| (name.as_str(), claim.to_string())).collect();
    assert_eq!(
        identity,
        [
            ("x-roles", "access_token.realm_access.roles".to_owned()),
            ("x-user-id", "session.user.id".to_owned())
        ]
    );
    assert_eq!(wildcard.host, "*.example.com");
    let urls: Vec<String> = wildcard.upstreams.iter().map(|up| up.url()).collect();
    assert_eq!(urls, ["http://[::1]:3001", "unix:/run/legacy.sock"]);
    let endpoints: Vec<&Endpoint> = wildcard.upstreams.iter().map(|up| &up.endpoint).collect();
    let expected = [
        &Endpoint::Tcp { host: "::1".to_owned(), port: 3001 },
        &Endpoint::Unix("/run/legacy.sock".into()),
    ];
    assert_eq!(endpoints, expected);
}

#[test]
fn the_first_backend_whose_claims_agree_refreshes_a_session() {
    let snapshot = full();
    let check = |claims: &str, name: &str| {
        let session = snapshot.keyring.session_from_claims(claims, None).unwrap();
        let backend = snapshot.backend_for(&session).map(|backend| backend.name());
        assert_eq!(backend, Some(name), "{claims}");
    };
    check(r#"{"sub":"a","provider":"keycloak","realm":"3"}"#, "keycloak");
    check(r#"{"sub":"a","provider":"keycloak","realm":3}"#, "keycloak");
    check(r#"{"sub":"a","provider":"keycloak","realm":null}"#, "own");
    check(r#"{"sub":"a","provider":"keycloak"}"#, "own");
    check(r#"{"sub":"a","provider":["keycloak"],"realm":3}"#, "own");
    check(r#"{"sub":"a"}"#, "own");
}

#[test]
fn no_backend_refreshes_what_no_when_agrees_with() {
    let text = format!(
        "{SOUND}[backend]\nrefresh_url = \"https://api.test/r\"\nwhen = {{ \"session.provider\" = \"a\" }}\n"
    );
    let snapshot = load_sound(&text, &[]).snapshot;
    let session = snapshot.keyring.session_from_claims(r#"{"sub":"b"}"#, None).unwrap();
    assert!(snapshot.backend_for(&session).is_none());
}

#[test]
fn the_environment_goes_before_the_file() {
    let text = format!("{SOUND}[server]\nhttp = \"127.0.0.1:1\"\nworkers = 2\n");
    let variables = [
        ("FOREGATE_SERVER__HTTP", "127.0.0.1:9000"),
        ("FOREGATE_SERVER__REUSE_PORT", "true"),
        ("FOREGATE_SERVER__TRUSTED_PROXIES", r#"["10.0.0.0/8", "unix"]"#),
        ("FOREGATE_LIMITS__HEADERS", "100"),
        ("FOREGATE_LIMITS__IDLE_TIMEOUT", "2m"),
        ("FOREGATE_LOGIN__CALLBACK_PARAM", "1"),
        ("FOREGATE_LOGIN__URL", "https://elsewhere.test/login"),
        ("FOREGATE_BACKEND__REFRESH_URL", "https://api.test/refresh"),
        ("FOREGATE_BACKEND__CLIENT_ID", "true"),
        ("FOREGATE_BACKEND__CLIENT_SECRET", "0123456789"),
    ];
    let Snapshot { server, limits, login, backends, .. } = load_sound(&text, &variables).snapshot;
    assert_eq!(server.http.unwrap().to_string(), "127.0.0.1:9000");
    assert_eq!((server.workers, server.reuse_port), (2, true));
    assert!(server.trusted_proxies.contains(IpAddr::from([10, 0, 0, 1])));
    assert_eq!((limits.headers, limits.idle_timeout), (100, seconds(120)));
    let login = login.unwrap();
    assert_eq!(
        (login.callback_param.as_str(), login.url.host_str()),
        ("1", Some("elsewhere.test"))
    );
    assert_eq!(backends.len(), 1);
}

#[test]
fn variables_that_are_not_meant_for_us_are_not_read() {
    let variables = [
        ("FOREGATE_PORT", "tcp://10.0.0.1:80"),
        ("FOREGATE_SERVICE_HOST", "10.0.0.1"),
        ("FOREGATE_ADMIN_PORT_9901_TCP", "tcp://10.0.0.1:9901"),
        ("SERVER__HTTP", "127.0.0.1:1"),
        ("MY_FOREGATE_SERVER__HTTP", "127.0.0.1:1"),
    ];
    let loaded = load_sound(SOUND, &variables);
    assert_eq!(loaded.snapshot.server.http.unwrap().to_string(), "0.0.0.0:8080");
    assert_eq!(shown(&loaded.warnings), "");
}

#[test]
fn a_secret_is_the_same_from_a_variable_a_file_and_the_text() {
    let text = |source: &str| SOUND.replace(r#"{ env = "SECRET" }"#, source);
    let literal = format!("{SECRET:?}");
    let sources = [r#"{ env = "SECRET" }"#, r#"{ file = "/run/secret" }"#, &literal];
    let keyrings = sources.map(|source| load_sound(&text(source), &[]).snapshot.keyring);
    let session = keyrings[0].session_from_claims(r#"{"sub":"a"}"#, None).unwrap();
    let now = UnixSeconds(1_000_000);
    let sealed = keyrings[0].seal(&session, now, [7; 32]);
    for (keyring, source) in keyrings.iter().zip(sources) {
        assert!(keyring.open_token(sealed.cookie_name(), sealed.token(), now).is_ok(), "{source}");
    }
}

#[test]
fn tokens_are_looked_for_where_the_file_says() {
    let snapshot = full();
    let claims = r#"{"sub":"a","accessToken":"no","user":{"accessToken":"yes"}}"#;
    let session = snapshot.keyring.session_from_claims(claims, None).unwrap();
    assert_eq!(session.access_token(), Some("yes"));
    assert!(session.claim(&ClaimPath::parse("session.accessToken").unwrap()).is_some());
}

#[test]
fn roles_come_from_where_the_file_says() {
    let snapshot = full();
    let claims = r#"{"sub":"a","role":"admin","groups":["root"],"isStaff":true}"#;
    let session = snapshot.keyring.session_from_claims(claims, None).unwrap();
    let mut roles: Vec<String> = snapshot.rules.roles(&session).iter().map(str::to_owned).collect();
    roles.sort();
    assert_eq!(roles, ["root", "staff"]);
}

#[test]
fn the_schema_has_the_keys_of_the_full_file_and_no_more() {
    let schema = schema();
    let mut names = BTreeSet::new();
    collect_names(&schema, &mut names);
    for name in &names {
        assert!(FULL.contains(name.as_str()), "{name} is missing from full.toml");
    }
    assert!(names.len() > 70, "{names:?}");
}

#[test]
fn every_file_that_was_read_is_named_also_by_a_configuration_that_is_refused() {
    let text = r#"[session]
secrets = [{ file = "/run/secret" }, { file = "/run/missing" }]
[server]
https = "127.0.0.1:8443"
[tls]
certificates = [{ cert = "/run/empty", key = "/run/no-key" }]
[[app]]
host = "app.a.test"
upstream = "https://127.0.0.1:3000"
upstream_ca = "/run/ca"
"#;
    let unusable = parse("proxy.toml", text, &environment(&[])).err().unwrap();
    let files: BTreeSet<&str> =
        unusable.files.iter().map(|file| file.path().to_str().unwrap()).collect();
    let expected = ["/run/ca", "/run/empty", "/run/missing", "/run/no-key", "/run/secret"];
    assert_eq!(files, BTreeSet::from(expected));
}

#[test]
fn a_file_that_is_not_there_is_one_to_look_after() {
    let path = std::path::Path::new("/nowhere/proxy.toml");
    let unusable = crate::load(path, &environment(&[])).err().unwrap();
    let [file] = &unusable.files[..] else { panic!("{:?}", unusable.files) };
    assert_eq!((file.path(), &file.again()), (path, file));
    let expected = "error: /nowhere/proxy.toml: there is no such file\n  hint: name the \
                    configuration with --config, or start where proxy.toml is\n";
    assert_eq!(shown(&unusable.problems), expected);
}

/// The names of all properties in `schema`.
fn collect_names(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            let properties = object.get("properties").and_then(Value::as_object);
            names.extend(properties.into_iter().flat_map(|all| all.keys().cloned()));
            object.values().for_each(|inner| collect_names(inner, names));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
        _ => {}
    }
}

#[test]
fn a_problem_is_written_as_scripts_read_it() {
    let problems = problems(&format!("{SOUND}acces = 1\n"), &environment(&[]));
    let json = serde_json::to_value(&problems).unwrap();
    let expected = serde_json::json!([{
        "severity": "error", "file": "proxy.toml", "line": 11, "column": 1, "key": "app[0].acces",
        "message": "unknown key", "hint": "did you mean \"access\"?",
    }]);
    assert_eq!(json, expected);
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
