//! What Foregate seals opens in the real libraries, and looks as if they had sealed it
//! (`tests/vectors/verify-cookie.mjs`).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use foregate_session::{
    ClaimPath, Cookies, Format, Keyring, KeyringSettings, NewTokens, SameSite, SealedSession,
    Secret, TokenPaths, UnixSeconds,
};
use serde_json::Value;
use serde_json::value::RawValue;

const NOW: UnixSeconds = UnixSeconds(1_767_225_600);
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
const NEW_SECRET: &str = "a newer secret, for tests only";
const OLD_SECRET: &str = "an older secret, für Tests 🔑";

#[test]
fn the_libraries_open_what_we_seal_and_find_nothing_odd() {
    let mut minted = Minted::default();
    for format in [Format::NextAuthV4, Format::AuthjsV5] {
        for cookie in [Cookie::Plain, Cookie::Secure, Cookie::Named("acme.sso")] {
            for (number, claims) in claims().iter().enumerate() {
                minted.fresh(format, cookie, &format!("fresh {number}"), claims);
                minted.rotated(format, cookie, &format!("rotated {number}"), claims);
            }
            for (number, shape) in shapes().iter().enumerate() {
                minted.renewed(format, cookie, &format!("renewed {number}"), shape);
            }
        }
    }
    assert!(minted.entries.len() >= 200, "{}", minted.entries.len());
    for chunks in 1..=5 {
        assert!(minted.chunk_counts.contains(&chunks), "none in {chunks} cookies");
    }

    let report = verify(&format!("[{}]", minted.entries.join(",\n")));
    assert_eq!(report.len(), minted.entries.len());
    for entry in &report {
        let (ok, problems) = (entry["ok"].get(), entry["problems"].get());
        assert!(
            ok == "true" && problems == "[]",
            "{}: {problems} {:?}",
            entry["id"],
            entry.get("error")
        );
    }
}

/// Payloads as JSON text, since some of them hold what only JavaScript can read.
fn claims() -> Vec<String> {
    let mut claims: Vec<String> = [
        r#"{"sub":"42"}"#,
        r#"{"name":"Ada Lovelace","email":"ada@example.com","picture":null,"sub":"42"}"#,
        r#"{"sub":"42","accessToken":"at-1","accessTokenExpiry":1767312000000,"refreshToken":"rt-1","error":"kept"}"#,
        r#"{"sub":"42","token":"h.p.s","accessTokenExpires":1767225900,"refreshToken":"rt","isAdmin":true}"#,
        r#"{"sub":"42","access_token":"a","refresh_token":"r","id_token":"i","expires_at":1767225660}"#,
        r#"{"sub":"Зоя 李小龍 عُمَر e\u0301 👩‍👩‍👧 \"\\\/\b\f\n\r\t\u0000\u001f\u2028","ключ":"знач"}"#,
        r#"{"sub":"1","n":null,"t":true,"f":false,"zero":0,"neg":-1.5,"tiny":1e-7,"s":"","a":[],"o":{}}"#,
        r#"{"sub":"1","user":{"id":7,"roles":["a","b"],"org":{"unit":{"team":[{"x":[null]}]}}}}"#,
        r#"{"sub":"1","big":12345678901234567890,"beyond":1e400,"exact":0.1,"e":1E+2}"#,
        r#"{"sub":"bad \ud83d end","\udc00":"\ud800\ud800"}"#,
        r#"{ "sub" : "first" , "sub":"second",	"x" : [ 1 , 2 ] }"#,
        r#"{"iat":"old","sub":"1","exp":null,"jti":{"not":"a uuid"},"last":true}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    for length in [2_800, 3_600, 7_000, 10_000, 13_000] {
        claims.push(format!(r#"{{"sub":"big","pad":"{}"}}"#, "pad ".repeat(length / 4)));
    }
    claims
}

/// Payloads around an access token, its end in seconds, and a refresh token.
fn shapes() -> Vec<impl Fn(&str, i64, &str) -> String> {
    let mut shapes = Vec::new();
    for pad in [0, 4_000, 9_000] {
        for seed in 0..4 {
            shapes.push(move |access: &str, end: i64, refresh: &str| {
                let pad = "x".repeat(pad);
                match seed {
                    0 => format!(
                        r#"{{"sub":"1","pad":"{pad}","accessToken":"{access}","accessTokenExpiry":{end}000,"refreshToken":"{refresh}"}}"#
                    ),
                    1 => format!(
                        r#"{{"pad":"{pad}","token":"{access}","accessTokenExpires":{end},"refreshToken":"{refresh}","isAdmin":true}}"#
                    ),
                    2 => format!(
                        r#"{{"pad":"{pad}","access_token":"{access}","expires_at":"{end}","refresh_token":"{refresh}"}}"#
                    ),
                    _ => format!(
                        r#"{{"sub":"1","refresh_token":"{refresh}","pad":"{pad}","x":"\ud83d","expires_at":{end},"access_token":"{access}"}}"#
                    ),
                }
            });
        }
    }
    shapes
}

#[derive(Clone, Copy, Debug)]
enum Cookie {
    Plain,
    Secure,
    Named(&'static str),
}

/// What goes to the libraries, entry for entry.
#[derive(Default)]
struct Minted {
    entries: Vec<String>,
    chunk_counts: Vec<usize>,
}

impl Minted {
    /// Sealed for the first time.
    fn fresh(&mut self, format: Format, cookie: Cookie, what: &str, claims: &str) {
        let ring = keyring(cookie, &[NEW_SECRET, OLD_SECRET]);
        let session = ring.session_from_claims(claims, Some(format)).unwrap();
        let sealed = ring.seal(&session, NOW, self.random());
        self.push(format, &ring, &sealed, what, claims);
    }

    /// Sealed with a secret that is only second by now, and again with the first.
    fn rotated(&mut self, format: Format, cookie: Cookie, what: &str, claims: &str) {
        let old = keyring(cookie, &[OLD_SECRET]);
        let session = old.session_from_claims(claims, Some(format)).unwrap();
        let sealed = old.seal(&session, UnixSeconds(NOW.0 - 3600), self.random());
        let ring = keyring(cookie, &[NEW_SECRET, OLD_SECRET]);
        let line = cookie_line(&old.set_cookies(&sealed, &Cookies::parse([])));
        let session = ring.open(&Cookies::parse([line.as_bytes()]), NOW).unwrap();
        assert_eq!((session.format(), session.secret_index()), (format, 1));
        let sealed = ring.seal(&session, NOW, self.random());
        self.push(format, &ring, &sealed, what, claims);
    }

    /// With tokens that came later, and without the `error` that came before.
    fn renewed(
        &mut self,
        format: Format,
        cookie: Cookie,
        what: &str,
        shape: impl Fn(&str, i64, &str) -> String,
    ) {
        let ring = keyring(cookie, &[NEW_SECRET]);
        let before = shape("old-access", NOW.0 - 5, "old-refresh");
        let before = before.replacen('{', r#"{"error":"RefreshAccessTokenError","#, 1);
        let session = ring.session_from_claims(&before, Some(format)).unwrap();
        let end = NOW.0 + 900;
        let renewed = session.renewed(&NewTokens {
            access_token: "new-access",
            access_expires_at: Some(UnixSeconds(end)),
            refresh_token: Some("new-refresh"),
            refresh_expires_at: None,
            id_token: Some("not asked for"),
        });
        let sealed = ring.seal(&renewed, NOW, self.random());
        self.push(format, &ring, &sealed, what, &shape("new-access", end, "new-refresh"));
    }

    /// Adds what `ring` sets, with the claims that the libraries must find in it.
    fn push(
        &mut self,
        format: Format,
        ring: &Keyring,
        sealed: &SealedSession,
        what: &str,
        claims: &str,
    ) {
        let name = sealed.cookie_name();
        let set = ring.set_cookies(sealed, &Cookies::parse([]));
        let cookies: serde_json::Map<String, Value> = set
            .iter()
            .map(|line| line.split_once(';').unwrap().0.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        self.chunk_counts.push(cookies.len());

        let opened = ring.open_token(name, sealed.token(), NOW).unwrap();
        let jti = ClaimPath::in_session("jti").unwrap();
        // Of doubled names the last counts, so what is appended here overrides.
        let expect = format!(
            r#"{},"iat":{NOW},"exp":{},"jti":{}}}"#,
            claims.strip_suffix('}').unwrap(),
            NOW.saturating_add(MAX_AGE),
            opened.claim(&jti).unwrap().text(),
        );
        let (version, secret) = match format {
            Format::NextAuthV4 => (4, Value::from(NEW_SECRET)),
            Format::AuthjsV5 => (5, vec![NEW_SECRET, OLD_SECRET].into()),
        };
        let (id, secret) = (Value::from(format!("v{version} {name} {what}")), secret.to_string());
        let (name, cookies) = (Value::from(name), Value::from(cookies));
        self.entries.push(format!(
            r#"{{"id":{id},"version":{version},"secret":{secret},"cookie_name":{name},"cookies":{cookies},"now":{NOW},"expect":{expect}}}"#
        ));
    }

    /// Other bytes for every seal.
    fn random(&self) -> [u8; 32] {
        let mut random = [0x5a; 32];
        let number = self.entries.len() as u64;
        random[..8].copy_from_slice(&number.to_le_bytes());
        random[16..24].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        random
    }
}

fn keyring(cookie: Cookie, secrets: &[&str]) -> Keyring {
    Keyring::new(KeyringSettings {
        format: None,
        secrets: secrets.iter().copied().map(Secret::new).collect(),
        cookie_name: match cookie {
            Cookie::Named(name) => Some(name.to_owned()),
            Cookie::Plain | Cookie::Secure => None,
        },
        domain: Some(".example.com".to_owned()),
        secure: matches!(cookie, Cookie::Secure),
        same_site: SameSite::Lax,
        max_age: MAX_AGE,
        tokens: TokenPaths::default(),
    })
}

/// The `Cookie` header of a browser that was given these lines.
fn cookie_line(set: &[String]) -> String {
    let pairs = set.iter().map(|line| line.split_once(';').unwrap().0);
    pairs.collect::<Vec<_>>().join("; ")
}

/// The report of the libraries, an object for each entry. Its values are not read further, since
/// claims come back in it that only JavaScript can read.
fn verify(minted: &str) -> Vec<BTreeMap<String, Box<RawValue>>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"));
    assert!(folder.join("node_modules").exists(), "run `npm ci` in {} first", folder.display());
    let mut node = Command::new("node")
        .arg("verify-cookie.mjs")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node 20 or newer on the path");
    // The script reads all of its input before it writes a byte.
    node.stdin.take().unwrap().write_all(minted.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).expect("a report in JSON")
}
