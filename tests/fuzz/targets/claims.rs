//! Claims: what is JSON to others is JSON to us, and every member survives sealing and renewal as
//! it was, save for those that are meant to change.

#![no_main]

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use foregate_fuzz::{KEYRING, NEW, NOW, keyring};
use foregate_session::{ClaimPath, ClaimsError, Format, Keyring, NoSession, Session, TokenPaths};
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    let sent = serde_json::from_str::<Members>(text);
    for (keyring, format) in [(&*KEYRING, Format::NextAuthV4), (&*NESTED, Format::AuthjsV5)] {
        let session = match keyring.session_from_claims(text, Some(format)) {
            Ok(session) => session,
            Err(why) => {
                assert!(why != ClaimsError::NotAnObject || sent.is_err(), "{text}");
                continue;
            }
        };
        tell(&session);
        if let Ok(sent) = &sent {
            let without = ["iat", "exp", "jti"];
            if let Some(sealed) = sealed_and_opened(keyring, &session) {
                assert_eq!(Members::of(&sealed).without(&without), sent.without(&without));
            }
            let renewed = session.renewed(&NEW);
            if session.access_token().is_some() {
                assert_eq!(renewed.access_token(), Some(NEW.access_token));
            }
            assert_eq!(renewed.refresh_token(), NEW.refresh_token);
            tell(&renewed);
            assert_eq!(Members::of(&renewed).without(RENEWED), sent.without(RENEWED));
            sealed_and_opened(keyring, &renewed);
        }
    }
});

/// `None`: the claims say that the session has not begun.
fn sealed_and_opened(keyring: &Keyring, session: &Session) -> Option<Session> {
    let sealed = keyring.seal(session, NOW, [7; 32]);
    assert!(sealed.expires_at() > NOW);
    match keyring.open_token(sealed.cookie_name(), sealed.token(), NOW) {
        Ok(opened) => {
            assert_eq!(opened.access_token(), session.access_token());
            assert_eq!(opened.refresh_token(), session.refresh_token());
            assert_eq!(opened.access_expires_at(), session.access_expires_at());
            Some(opened)
        }
        Err(NoSession::NotYetValid | NoSession::Invalid(_))
            if session.claims_json().contains("nbf") =>
        {
            None
        }
        Err(why) => panic!("{why}: {}", session.claims_json()),
    }
}

/// Asks for everything that a session tells.
fn tell(session: &Session) {
    for token in [session.access_token(), session.refresh_token()].into_iter().flatten() {
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let _ = (session.subject(), session.access_subject(), session.refresh_expires_at());
    let _ = (session.due_at(AHEAD), session.freshness(NOW, AHEAD));
    let _ = session.claim(&ACCESS_ROLES).map(|claim| claim.items());

    let Ok(all) = serde_json::from_str::<Value>(session.claims_json()) else { return };
    for (path, pointer) in PATHS.iter() {
        let claim = session.claim(path);
        let told = claim.map(|claim| serde_json::from_str(claim.text()).expect("sound JSON"));
        assert_eq!(told.as_ref(), all.pointer(pointer), "{path}");
        if let (Some(claim), Some(told)) = (claim, told) {
            assert_eq!(claim.as_str().as_deref(), told.as_str());
            assert_eq!(claim.as_bool(), told.as_bool());
            assert_eq!(claim.as_f64().is_some(), told.is_number());
            assert_eq!(claim.items().map(|it| it.len()), told.as_array().map(Vec::len));
        }
    }
}

const AHEAD: Duration = Duration::from_secs(60);

/// Each with the JSON pointer that says the same.
static PATHS: LazyLock<[(ClaimPath, &str); 3]> = LazyLock::new(|| {
    [("session.user.role", "/user/role"), ("session.sub", "/sub"), ("session.error", "/error")]
        .map(|(path, pointer)| (path_of(path), pointer))
});

static ACCESS_ROLES: LazyLock<ClaimPath> =
    LazyLock::new(|| path_of("access_token.realm_access.roles"));

fn path_of(text: &str) -> ClaimPath {
    ClaimPath::parse(text).expect("a path")
}

/// Tokens one step down.
static NESTED: LazyLock<Keyring> = LazyLock::new(|| {
    let path = |text| vec![ClaimPath::in_session(text).unwrap()];
    keyring(TokenPaths {
        access_token: path("user.accessToken"),
        expires_at: path("user.expires"),
        refresh_token: path("refreshToken"),
        refresh_expires_at: path("user.refreshExpires"),
    })
});

/// The members that a renewal may change.
const RENEWED: &[&str] = &[
    "error",
    "accessToken",
    "accessTokenExpiry",
    "accessTokenExpires",
    "access_token",
    "token",
    "expires_at",
    "refreshToken",
    "refresh_token",
    "refreshTokenExpires",
    "user",
];

/// The members of a JSON object, doubled names included, values as they stand.
#[derive(Debug, PartialEq)]
struct Members(Vec<(String, String)>);

impl Members {
    fn of(session: &Session) -> Self {
        serde_json::from_str(session.claims_json()).expect("sound JSON")
    }

    fn without(&self, names: &[&str]) -> Vec<&(String, String)> {
        self.0.iter().filter(|(name, _)| !names.contains(&name.as_str())).collect()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((name, value.get().to_owned()));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
