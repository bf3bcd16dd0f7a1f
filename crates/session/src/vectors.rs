//! Known answers made by the libraries themselves (`tests/vectors`), each at its level, and the
//! list of our choices in `docs/session-cookie.md`, where they leave us one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::cookie::Cookies;
use crate::keyring::{Keyring, KeyringSettings};
use crate::keys::{Format, Keys};
use crate::names::library_format;
use crate::no_session::NoSession;
use crate::secret::Secret;
use crate::session::valid_claims;
use crate::set_cookie::{Attributes, SameSite, Scope};
use crate::time::UnixSeconds;
use crate::tokens::TokenPaths;

#[derive(Deserialize)]
struct File<V> {
    count: usize,
    vectors: Vec<V>,
}

fn vectors<V: for<'de> Deserialize<'de>>(text: &str) -> Vec<V> {
    let file: File<V> = serde_json::from_str(text).unwrap();
    assert_eq!(file.vectors.len(), file.count);
    file.vectors
}

#[derive(Deserialize)]
struct SessionVector {
    id: String,
    version: u8,
    secret: Secrets,
    cookie_name: String,
    salt: String,
    cookie_header: String,
    now: i64,
    expect: Outcome,
    expect_edge: Option<Outcome>,
    level: Level,
    #[serde(default)]
    alt_claims: Vec<Value>,
    numbers: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Secrets {
    One(String),
    List(Vec<String>),
}

#[derive(Deserialize)]
struct Outcome {
    ok: bool,
    claims: Option<Value>,
    claims_json_base64: Option<String>,
    group: Option<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
enum Level {
    Must,
    MayReject,
    MayAccept,
    Either,
}

impl SessionVector {
    fn all() -> Vec<Self> {
        let mut all = vectors(include_str!("../../../tests/vectors/session-v4.json"));
        all.extend(vectors(include_str!("../../../tests/vectors/session-v5.json")));
        all
    }

    fn format(&self) -> Format {
        if self.version == 4 { Format::NextAuthV4 } else { Format::AuthjsV5 }
    }

    fn keyring(&self, format: Option<Format>, cookie_name: Option<&str>) -> Keyring {
        let secrets = match &self.secret {
            Secrets::One(secret) => std::slice::from_ref(secret),
            Secrets::List(secrets) => secrets,
        };
        Keyring::new(KeyringSettings {
            format,
            secrets: secrets.iter().map(Secret::new).collect(),
            cookie_name: cookie_name.map(str::to_owned),
            domain: None,
            secure: true,
            same_site: SameSite::Lax,
            max_age: Duration::from_secs(3600),
            tokens: TokenPaths::default(),
        })
    }

    /// The payload that `keyring` finds in the cookies.
    fn opened_by(&self, keyring: &Keyring) -> Result<String, NoSession> {
        let cookies = Cookies::parse([self.cookie_header.as_bytes()]);
        let session = keyring.survey(&cookies, UnixSeconds(self.now)).session?;
        Ok(session.claims_json().to_owned())
    }

    /// The same with what the vector configures.
    fn opened(&self) -> Result<String, NoSession> {
        if self.format() == Format::AuthjsV5 && self.salt != self.cookie_name {
            return self.opened_with_a_salt_of_its_own();
        }
        self.opened_by(&self.keyring(Some(self.format()), Some(&self.cookie_name)))
    }

    /// Such a salt is nothing that can be configured here, but the codec has to do with it.
    fn opened_with_a_salt_of_its_own(&self) -> Result<String, NoSession> {
        let Secrets::One(secret) = &self.secret else { panic!("one secret expected") };
        let keys = Keys::derive(&[self.format()], &[Secret::new(secret)], &self.salt);
        let cookies = Cookies::parse([self.cookie_header.as_bytes()]);
        let candidate = cookies.candidates(&self.cookie_name).next().unwrap();
        let opened = keys.open(&candidate.token?)?;
        Ok(valid_claims(opened.payload, UnixSeconds(self.now))?.text().to_owned())
    }

    fn is_as(&self, outcome: &Outcome, opened: &Result<String, NoSession>) -> bool {
        match opened {
            Ok(payload) => match (&outcome.claims, &outcome.claims_json_base64) {
                (Some(claims), _) => self.is_same(payload, claims),
                (_, Some(encoded)) => *encoded == base64(payload),
                _ => false,
            },
            Err(why) => !outcome.ok && outcome.group.as_deref() == Some(why.reason()),
        }
    }

    fn is_same(&self, payload: &str, claims: &Value) -> bool {
        let payload: Value = serde_json::from_str(payload).unwrap();
        match self.numbers.as_deref() {
            Some("f64") => as_doubles(payload) == as_doubles(claims.clone()),
            _ => payload == *claims,
        }
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

fn as_doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(as_doubles).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, as_doubles(value))).collect()
        }
        other => other,
    }
}

#[test]
fn every_session_vector_is_met_at_its_level() {
    for vector in SessionVector::all() {
        let opened = vector.opened();
        let as_expected = vector.is_as(&vector.expect, &opened);
        let met = match vector.level {
            Level::Must => as_expected,
            Level::MayReject => as_expected || opened.is_err(),
            Level::MayAccept => match &opened {
                Ok(payload) => vector.alt_claims.iter().any(|alt| vector.is_same(payload, alt)),
                Err(_) => true,
            },
            Level::Either => {
                let edge = vector.expect_edge.as_ref().unwrap();
                as_expected || vector.is_as(edge, &opened)
            }
        };
        assert!(met, "{} ({:?}): {opened:?}", vector.id, vector.level);
    }
}

#[test]
fn our_choices_are_the_ones_in_the_docs() {
    let vectors = SessionVector::all();
    let free = vectors.iter().filter(|vector| vector.level != Level::Must);
    let made: BTreeMap<&str, &str> = free
        .map(|vector| (&*vector.id, if vector.opened().is_ok() { "accepted" } else { "refused" }))
        .collect();

    let docs = include_str!("../../../docs/session-cookie.md");
    let mut told = BTreeMap::new();
    for row in docs.lines().filter_map(|line| line.strip_prefix("| `v")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for id in format!("`v{}", cells[0]).split_whitespace() {
            let id = id.trim_matches(['`', ',']).to_owned();
            assert_eq!(told.insert(id.clone(), cells[1]), None, "{id} stands there twice");
        }
    }
    let told: BTreeMap<&str, &str> = told.iter().map(|(id, choice)| (&**id, *choice)).collect();
    assert_eq!(told, made);
}

#[test]
fn without_a_configured_format_or_name_the_libraries_cookies_open_all_the_same() {
    let opens = |vector: &&SessionVector| {
        vector.level == Level::Must
            && vector.expect.ok
            && library_format(&vector.cookie_name).is_some()
            && vector.salt != "other.salt"
            && !vector.cookie_header.contains("junk")
    };
    let mut seen = 0;
    for vector in SessionVector::all().iter().filter(opens) {
        let opened = vector.opened_by(&vector.keyring(None, None));
        assert!(vector.is_as(&vector.expect, &opened), "{}: {opened:?}", vector.id);
        let opened = vector.opened_by(&vector.keyring(None, Some(&vector.cookie_name)));
        assert!(vector.is_as(&vector.expect, &opened), "{}: {opened:?}", vector.id);
        seen += 1;
    }
    assert!(seen > 80, "{seen}");
}

#[derive(Deserialize)]
struct SetCookieVector {
    id: String,
    version: u8,
    cookie_name: String,
    cookie_options: Options,
    /// In the order sent.
    request_cookies: InOrder,
    token_length: Option<usize>,
    expires: Option<i64>,
    set_cookie: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    http_only: bool,
    same_site: String,
    secure: bool,
    domain: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    name: String,
    value_length: usize,
    attributes: String,
    line_length: usize,
}

/// The names of an object, in order.
struct InOrder(Vec<String>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&serde_json::value::RawValue>::deserialize(deserializer)?.get();
        let members = crate::json::members(text).unwrap();
        Ok(Self(members.into_iter().map(|member| text[member.name].to_owned()).collect()))
    }
}

#[test]
fn set_cookie_lines_are_the_libraries_lines_to_the_letter() {
    let vectors: Vec<SetCookieVector> =
        vectors(include_str!("../../../tests/vectors/set-cookie.json"));
    for vector in vectors {
        let attributes = Attributes {
            domain: vector.cookie_options.domain,
            secure: vector.cookie_options.secure,
            http_only: vector.cookie_options.http_only,
            same_site: match &*vector.cookie_options.same_site {
                "none" => SameSite::None,
                "strict" => SameSite::Strict,
                _ => SameSite::Lax,
            },
        };
        let carried: Vec<&str> = vector.request_cookies.0.iter().map(String::as_str).collect();
        let format = if vector.version == 4 { Format::NextAuthV4 } else { Format::AuthjsV5 };
        let token: Option<String> = vector.token_length.map(|length| {
            "abcdefghijklmnopqrstuvwxyz-_0123".chars().cycle().take(length).collect()
        });
        let lines = match &token {
            Some(token) => {
                let expires_at = UnixSeconds(vector.expires.unwrap());
                attributes.write(&vector.cookie_name, token, format, expires_at, &carried)
            }
            None => carried.iter().map(|name| attributes.clear(name, Scope::Configured)).collect(),
        };

        let mut written = 0;
        let wanted = vector.set_cookie.iter().map(|line| {
            let value = token.as_deref().unwrap_or_default();
            let value = &value[written..written + line.value_length];
            written += line.value_length;
            let wanted = [&line.name, "=", value, &line.attributes].concat();
            assert_eq!(wanted.len(), line.line_length, "{}", vector.id);
            wanted
        });
        assert_eq!(lines, wanted.collect::<Vec<_>>(), "{}", vector.id);
    }
}
