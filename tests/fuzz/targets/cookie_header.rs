//! `Cookie` lines: no app gets a session that the gate did not admit, and the gate, the app and the
//! browser agree on the one that it did.
//!
//! A line feed separates lines. The bytes 1 to 7 stand for sealed tokens, since no fuzzer forges a
//! seal.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use foregate_fuzz::{KEYRING, NEW, NOW};
use foregate_session::{CookieView, Cookies, Format, NoSession, ShownSession, UnixSeconds};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode;

fuzz_target!(|data: &[u8]| {
    let lines = with_tokens(data);
    let request = Cookies::parse(lines.split(|byte| *byte == b'\n'));
    let opened = KEYRING.open(&request, NOW);
    let surveyed = KEYRING.survey(&request, NOW).session;
    let seen = |shown| match KEYRING.cookies_for_app(&request, shown) {
        CookieView::Unchanged => lines.clone(),
        CookieView::Replaced(line) => line,
        CookieView::Removed => Vec::new(),
    };
    let jar = Jar::of(&lines);

    let rest = seen(ShownSession::None);
    assert!(!pairs(&rest).any(|(name, _)| resembles_session(name)));
    let rest = KEYRING.survey(&Cookies::parse([&*rest]), NOW);
    assert_eq!(rest.session.err(), Some(NoSession::Absent));
    assert_eq!(rest.others, []);
    let cleared = KEYRING.clear_cookies(&request);
    let signed_out = KEYRING.sign_out_cookies(&request);
    assert!(cleared.iter().all(|line| signed_out.contains(line)));
    if let Some(jar) = &jar {
        assert_eq!(jar.after(&cleared).session().err(), Some(NoSession::Absent));
    }

    let Ok(session) = opened else { return };
    assert_eq!(surveyed.unwrap().claims_json(), session.claims_json());
    let name = session.cookie_name();
    assert_eq!(read_by_app(name, &seen(ShownSession::AsSent(&session))), session.claims_json());

    let sealed = KEYRING.seal(&session.renewed(&NEW), NOW, [7; 32]);
    let renewed = KEYRING.open_token(name, sealed.token(), NOW).unwrap();
    assert_eq!(renewed.access_token(), Some(NEW.access_token));
    assert_eq!(read_by_app(name, &seen(ShownSession::Renewed(&sealed))), renewed.claims_json());
    if let Some(jar) = &jar {
        let jar = jar.after(&KEYRING.set_cookies(&sealed, &request));
        assert_eq!(jar.session().unwrap(), renewed.claims_json());
    }
});

/// What an app finds that joins whatever begins with the session's name, as the libraries do.
fn read_by_app(name: &str, line: &[u8]) -> String {
    let parts = pairs(line).filter(|(found, _)| found.starts_with(name.as_bytes()));
    let token = parts.map(|(_, value)| value).collect::<Vec<_>>().concat();
    let session = KEYRING.open_token(name, str::from_utf8(&token).unwrap(), NOW).unwrap();
    let survey = KEYRING.survey(&Cookies::parse([line]), NOW);
    assert_eq!(survey.session.unwrap().claims_json(), session.claims_json());
    assert_eq!(survey.others, []);
    session.claims_json().to_owned()
}

/// Whether the most careless of readers takes a cookie called `name` for a session.
fn resembles_session(name: &[u8]) -> bool {
    let visible = percent_decode(name).filter(|byte| byte.is_ascii_graphic() && *byte != b'"');
    let name: String = visible.map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    let name = name.replace(['-', '_'], ".");
    let name = name.strip_prefix("..secure.").unwrap_or(&name);
    name.starts_with("next.auth.session.token") || name.starts_with("authjs.session.token")
}

/// A browser's cookies for one host.
#[derive(Clone)]
struct Jar(BTreeMap<Vec<u8>, Vec<u8>>);

impl Jar {
    /// `None` where these lines are not what a browser sends on its own: a name twice, or none.
    fn of(lines: &[u8]) -> Option<Self> {
        let mut jar = Self(BTreeMap::new());
        for (name, value) in lines.split(|byte| *byte == b'\n').flat_map(pairs) {
            let is_new = jar.0.insert(name.to_vec(), value.to_vec()).is_none();
            if !is_new || name.contains(&b'=') || jar.0.len() > 50 {
                return None;
            }
        }
        Some(jar)
    }

    /// The cookies after an answer with these `Set-Cookie` lines.
    fn after(&self, lines: &[String]) -> Self {
        let mut jar = self.clone();
        for line in lines {
            assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
            let (cookie, attributes) = line.split_once("; ").unwrap();
            let (name, value) = cookie.split_once('=').unwrap();
            if attributes.starts_with("Max-Age=0; ") {
                jar.0.remove(name.as_bytes());
            } else {
                jar.0.insert(name.into(), value.into());
            }
        }
        jar
    }

    /// The claims of the session that the next request has.
    fn session(&self) -> Result<String, NoSession> {
        let pairs = self.0.iter().map(|(name, value)| [name, &b"="[..], value].concat());
        let line = pairs.collect::<Vec<_>>().join(&b"; "[..]);
        let session = KEYRING.open(&Cookies::parse([&*line]), NOW)?;
        Ok(session.claims_json().to_owned())
    }
}

/// Names and values; a cookie without a name goes by its value.
fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b';').map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        match (trimmed(&pair[..at]), trimmed(pair.get(at + 1..).unwrap_or_default())) {
            (b"", value) => (value, &b""[..]),
            pair => pair,
        }
    })
}

fn trimmed(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| b" \t".contains(byte);
    let start = text.iter().take_while(|byte| is_blank(byte)).count();
    let end = text.iter().rev().take_while(|byte| is_blank(byte)).count();
    text.get(start..text.len() - end).unwrap_or_default()
}

fn with_tokens(data: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(data.len());
    for byte in data {
        match usize::from(*byte).checked_sub(1).and_then(|at| TOKENS.get(at)) {
            Some(token) => lines.extend_from_slice(token.as_bytes()),
            None => lines.push(*byte),
        }
    }
    lines
}

/// Two sessions, one of them in halves, too; one that is over; one of nobody.
static TOKENS: LazyLock<[String; 7]> = LazyLock::new(|| {
    let seal = |format, claims, now| {
        let session = KEYRING.session_from_claims(claims, Some(format)).unwrap();
        KEYRING.seal(&session, now, [1; 32]).token().to_owned()
    };
    let v4 = seal(Format::NextAuthV4, r#"{"sub":"ann","accessToken":"a","refreshToken":"r"}"#, NOW);
    let (front, back) = v4.split_at(v4.len() / 2);
    let (front, back) = (front.to_owned(), back.to_owned());
    let v5 = seal(Format::AuthjsV5, r#"{"sub":"bob"}"#, NOW);
    let late = seal(Format::NextAuthV4, r#"{"sub":"eve"}"#, UnixSeconds(NOW.0 - 7200));
    let nobody = seal(Format::NextAuthV4, "{}", NOW);
    let other = seal(Format::NextAuthV4, r#"{"sub":"dan","user":{}}"#, NOW);
    [v4, front, back, v5, late, nobody, other]
});
