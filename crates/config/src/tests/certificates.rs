//! `[tls]` and `upstream_ca`, with certificates made for the occasion.

use std::hash::{BuildHasher, RandomState};

use base64::prelude::{BASE64_STANDARD, Engine};
use foregate_session::UnixSeconds;
use rcgen::{CertificateParams, KeyPair};

use super::{SECRET, environment, problems, shown};
use crate::{Environment, Loaded, Tls, parse};

/// A certificate for `names`, signed by itself, and its key; in PEM.
pub(super) fn pair(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A file with https, and these lines behind `certificates = `.
fn with_tls(certificates: &str) -> String {
    format!(
        r#"[session]
secrets = [{{ env = "SECRET" }}]
domain = ".a.test"
[login]
url = "https://login.a.test/"
[[app]]
host = "app.a.test"
upstream = "http://127.0.0.1:3000"
[server]
https = "127.0.0.1:8443"
[tls]
certificates = {certificates}
"#
    )
}

/// The pairs at /1.crt and /1.key, /2.crt and /2.key, and so on.
fn with_pairs(pairs: &[&[&str]]) -> (Environment, String) {
    let mut environment = environment(&[]);
    let mut lines = Vec::new();
    for (number, names) in pairs.iter().enumerate() {
        let (cert, key) = pair(names);
        environment = environment
            .with_file(&format!("/{number}.crt"), &cert)
            .with_file(&format!("/{number}.key"), &key);
        lines.push(format!("{{ cert = \"/{number}.crt\", key = \"/{number}.key\" }}"));
    }
    (environment, format!("[{}]", lines.join(", ")))
}

fn load(text: &str, environment: &Environment) -> Loaded {
    parse("proxy.toml", text, environment)
        .unwrap_or_else(|unusable| panic!("{}", shown(&unusable.problems)))
}

fn tls(pairs: &[&[&str]]) -> Tls {
    let (environment, certificates) = with_pairs(pairs);
    load(&with_tls(&certificates), &environment).snapshot.tls.unwrap()
}

#[test]
fn a_certificate_covers_its_names_and_one_label_in_place_of_a_star() {
    let tls = tls(&[&["App.a.test", "*.B.test", "192.0.2.7", "::1"]]);
    let certificate = tls.choose(None);
    for host in [
        "app.a.test",
        "APP.A.TEST",
        "app.a.test.",
        "x.b.test",
        "X.b.Test",
        "*.b.test",
        "192.0.2.7",
        "::1",
        "[::1]",
    ] {
        assert!(certificate.covers(host), "{host}");
    }
    for host in [
        "",
        "a.test",
        "x.app.a.test",
        "b.test",
        ".b.test",
        "x.y.b.test",
        "app.a.test:443",
        "192.0.2.8",
        "::2",
        "*",
    ] {
        assert!(!certificate.covers(host), "{host}");
    }
}

#[test]
fn a_visitor_gets_the_certificate_of_the_name_he_asks_for() {
    let tls = tls(&[&["first.test"], &["*.a.test"], &["app.a.test"], &["app.a.test", "b.test"]]);
    let check = |server_name: Option<&str>, number: usize| {
        let chosen = tls.choose(server_name);
        assert!(std::sync::Arc::ptr_eq(chosen, &tls.certificates()[number]), "{server_name:?}");
    };
    check(Some("first.test"), 0);
    check(Some("app.a.test"), 2);
    check(Some("APP.a.test"), 2);
    check(Some("other.a.test"), 1);
    check(Some("b.test"), 3);
    check(Some("deep.other.a.test"), 0);
    check(Some("nobody.test"), 0);
    check(None, 0);
}

#[test]
fn a_chain_and_a_key_may_stand_in_one_file() {
    let (cert, key) = pair(&["app.a.test"]);
    let (authority, _) = pair(&["ca.test"]);
    let all = [key, "a comment\n".to_owned(), cert, authority].concat();
    let environment = environment(&[]).with_file("/all.pem", &all);
    let loaded = load(&with_tls(r#"[{ cert = "/all.pem", key = "/all.pem" }]"#), &environment);
    assert_eq!(shown(&loaded.warnings), "");
    let tls = loaded.snapshot.tls.unwrap();
    assert_eq!(tls.choose(None).key().cert.len(), 2);
}

#[test]
fn every_fault_of_a_certificate_is_told_with_its_key() {
    let (cert, key) = pair(&["app.a.test"]);
    let (_, other) = pair(&["app.a.test"]);
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let garbage = pem("CERTIFICATE", SECRET.as_bytes());
    let garbage_key = pem("PRIVATE KEY", SECRET.as_bytes());
    let cut = &cert[..cert.len() - 30];
    let environment = environment(&[])
        .with_file("/good.crt", &cert)
        .with_file("/good.key", &key)
        .with_file("/other.key", &other)
        .with_file("/locked.key", &locked)
        .with_file("/garbage.crt", &garbage)
        .with_file("/garbage.key", &garbage_key)
        .with_file("/cut.crt", cut)
        .with_file("/text", SECRET);
    let check = |cert: &str, key: &str, expected: &str| {
        let pair = format!("[{{ cert = {cert:?}, key = {key:?} }}]");
        let found = shown(&problems(&with_tls(&pair), &environment));
        assert_eq!(found.trim_end(), expected);
        assert!(!found.contains(&SECRET[8..]), "{found}");
    };
    check("/good.crt", "/good.key", "");
    check(
        "/nowhere.crt",
        "/good.key",
        "error: proxy.toml:12:26: tls.certificates[0].cert: the file /nowhere.crt: there is no such file",
    );
    check(
        "/text",
        "/good.key",
        "error: proxy.toml:12:26: tls.certificates[0].cert: the file /text has no certificate\n  \
         hint: expected PEM: lines between -----BEGIN CERTIFICATE----- and END",
    );
    check(
        "/cut.crt",
        "/good.key",
        "error: proxy.toml:12:26: tls.certificates[0].cert: the file /cut.crt is not PEM: a \
         section without its end\n  hint: copy it again, whole",
    );
    check(
        "/garbage.crt",
        "/good.key",
        "error: proxy.toml:12:26: tls.certificates[0].cert: the first certificate of the file \
         cannot be read\n  hint: expected PEM: lines between -----BEGIN CERTIFICATE----- and END",
    );
    check(
        "/good.crt",
        "/good.crt",
        "error: proxy.toml:12:45: tls.certificates[0].key: the file /good.crt has no private key\n  \
         hint: expected PEM: lines between -----BEGIN PRIVATE KEY----- and END",
    );
    check(
        "/good.crt",
        "/locked.key",
        "error: proxy.toml:12:45: tls.certificates[0].key: the private key in the file \
         /locked.key is locked with a password\n  hint: unlock it with `openssl pkey`, and let \
         Foregate alone read the file",
    );
    check(
        "/good.crt",
        "/garbage.key",
        "error: proxy.toml:12:45: tls.certificates[0].key: the private key is of a kind that TLS \
         cannot use\n  hint: RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519",
    );
    check(
        "/good.crt",
        "/other.key",
        "error: proxy.toml:12:45: tls.certificates[0].key: the private key belongs to another \
         certificate\n  hint: the certificate itself comes first in its file, before those of its \
         authority",
    );
}

#[test]
fn a_host_that_no_certificate_names_is_worth_a_warning() {
    let (environment, certificates) = with_pairs(&[&["*.b.test"], &["a.test"]]);
    let found = shown(&problems(&with_tls(&certificates), &environment));
    let expected = "warning: proxy.toml:7:8: app[0].host: no certificate in [tls] names this \
                    host\n  hint: browsers refuse to open it over https\n";
    assert_eq!(found, expected);
}

#[test]
fn a_certificate_that_has_ended_or_will_soon_is_worth_a_warning() {
    let mut params = CertificateParams::new(vec!["app.a.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2031, 3, 1);
    let key = KeyPair::generate().unwrap();
    let cert = pem("CERTIFICATE", params.self_signed(&key).unwrap().der());
    let key = pem("PRIVATE KEY", &key.serialize_der());
    let check = |now: i64, expected: Option<&str>| {
        let environment = environment(&[]).with_file("/crt", &cert).with_file("/key", &key);
        let text = with_tls(r#"[{ cert = "/crt", key = "/key" }]"#);
        let found = shown(&problems(&text, &environment.at(UnixSeconds(END + now))));
        let expected = expected.map(|message| {
            format!(
                "warning: proxy.toml:12:26: tls.certificates[0].cert: the certificate {message}\n  \
                 hint: renew it: Foregate reads the files again when they change\n"
            )
        });
        assert_eq!(found, expected.unwrap_or_default());
    };
    // The first of March 2031.
    const END: i64 = 1_930_089_600;
    const DAY: i64 = 86_400;
    check(-14 * DAY, None);
    check(-14 * DAY + 1, Some("ends in 13 d"));
    check(-DAY + 1, Some("ends in 23 h"));
    check(-61, Some("ends in 1 min"));
    check(-1, Some("ends in 1 s"));
    check(0, Some("ended 0 s ago"));
    check(DAY + 3600, Some("ended 1 d ago"));
}

#[test]
fn certificates_that_nobody_asks_for_are_not_read() {
    let text = with_tls(r#"[{ cert = "/nowhere", key = "/nowhere" }]"#);
    let loaded = load(&text.replace("https = \"127.0.0.1:8443\"", ""), &environment(&[]));
    let expected = "warning: proxy.toml:11:1: tls: nobody asks for a certificate: server.https is \
                    not set\n  hint: for example https = \"0.0.0.0:8443\"\n";
    assert_eq!(shown(&loaded.warnings), expected);
    assert!(loaded.snapshot.tls.is_none() && loaded.files.is_empty());
}

#[test]
fn an_upstream_is_the_same_after_a_reload_until_its_authority_changes() {
    let (one, _) = pair(&["ca.test"]);
    let (other, _) = pair(&["ca.test"]);
    let upstream = |authority: &str| {
        let text = r#"[session]
secrets = [{ env = "SECRET" }]
[[app]]
host = "app.a.test"
upstream = "https://127.0.0.1:3000"
upstream_ca = "/ca"
"#;
        let loaded = load(text, &environment(&[]).with_file("/ca", authority));
        loaded.snapshot.apps[0].upstreams[0].clone()
    };
    assert_eq!(upstream(&one), upstream(&one));
    let hash = RandomState::new();
    assert_eq!(hash.hash_one(upstream(&one)), hash.hash_one(upstream(&one)));
    assert_ne!(upstream(&one), upstream(&other));
}

#[test]
fn an_authority_that_is_none_is_told() {
    let (cert, _) = pair(&["ca.test"]);
    let environment = environment(&[]).with_file("/ca", &cert).with_file("/text", SECRET);
    let check = |upstream: &str, authority: &str, expected: &str| {
        let text = with_tls("[]").replace(
            "upstream = \"http://127.0.0.1:3000\"\n[server]\nhttps = \"127.0.0.1:8443\"\n[tls]\ncertificates = []",
            &format!("upstream = {upstream}\nupstream_ca = {authority:?}"),
        );
        assert_eq!(shown(&problems(&text, &environment)).trim_end(), expected);
    };
    check(r#"["http://a.test", "https://a.test"]"#, "/ca", "");
    check(
        r#""https://a.test""#,
        "/text",
        "error: proxy.toml:9:15: app[0].upstream_ca: the file /text has no certificate\n  hint: \
         expected PEM: lines between -----BEGIN CERTIFICATE----- and END",
    );
    check(
        r#"["http://a.test", "unix:/run/a.sock"]"#,
        "/ca",
        "error: proxy.toml:9:15: app[0].upstream_ca: there is no https upstream to check\n  hint: \
         leave it out, or write https:// in `upstream`",
    );
}
