//! The gate's side of the session cookie: which cookie of a request is the session, and what
//! browser and app are told about it. Keys are derived when the ring is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cookie::{Candidate, Cookies, Pair, Source};
use crate::keys::{Format, Keys, Opened};
use crate::names::{LIBRARY_NAMES, chunk_number, library_format, resembles};
use crate::no_session::{InvalidReason, NoSession};
use crate::secret::Secret;
use crate::session::{Session, valid_claims};
use crate::set_cookie::{AppSetCookie, Attributes, SameSite};
use crate::time::UnixSeconds;
use crate::tokens::{BadToken, TokenPaths};

/// How sessions are sealed and where their cookies go.
#[derive(Clone, Debug)]
pub struct KeyringSettings {
    /// `None`: both, told apart by the cookie's name, or by what opens under a name of one's own.
    pub format: Option<Format>,
    /// The first seals, every one opens. At least one, and none empty.
    pub secrets: Vec<Secret>,
    /// `None`: the libraries' names, plain and `__Secure-`.
    pub cookie_name: Option<String>,
    /// `Domain` of the cookies; `None`: host-only.
    pub domain: Option<String>,
    /// Whether cookies are written with `Secure`, and minted under the `__Secure-` name.
    pub secure: bool,
    /// `SameSite` of the cookies.
    pub same_site: SameSite,
    /// How long a sealed session lives.
    pub max_age: Duration,
    /// Where the payload keeps the backend's tokens.
    pub tokens: TokenPaths,
}

/// Opens and seals sessions, and writes their cookies. What it does with an open session stands in
/// `sealed` and `app_view`.
pub struct Keyring {
    /// The names under which a session may come, in the order in which they are tried.
    pub(crate) names: Vec<SessionName>,
    /// Whatever resembles one of these is kept from the app: `names`, and the libraries' own.
    known: Vec<String>,
    pub(crate) attributes: Attributes,
    pub(crate) tokens: Arc<TokenPaths>,
    pub(crate) settings: KeyringSettings,
}

/// A cookie name and the keys for it.
pub(crate) struct SessionName {
    pub(crate) name: Arc<str>,
    pub(crate) keys: Keys,
}

impl Keyring {
    /// Derives the keys of every secret for every name.
    #[must_use]
    pub fn new(settings: KeyringSettings) -> Self {
        let mut known: Vec<String> = Vec::new();
        let mut names = Vec::new();
        let derive = |name: &str, format| SessionName {
            name: name.into(),
            keys: Keys::derive(formats(format), &settings.secrets, name),
        };
        for (name, format) in LIBRARY_NAMES {
            known.push(name.to_owned());
            if settings.cookie_name.is_none() && settings.format.is_none_or(|only| only == format) {
                names.push(derive(name, Some(format)));
            }
        }
        if let Some(name) = &settings.cookie_name {
            known.push(name.clone());
            names.push(derive(name, settings.format));
        }
        let attributes = Attributes {
            domain: settings.domain.clone(),
            secure: settings.secure,
            http_only: true,
            same_site: settings.same_site,
        };
        Self { names, known, attributes, tokens: Arc::new(settings.tokens.clone()), settings }
    }

    /// The session of a request, as of `now`: the first candidate that opens and names somebody.
    /// If none does, why the first did not, save that an expired one says more than a broken one.
    pub fn open(&self, cookies: &Cookies<'_>, now: UnixSeconds) -> Result<Session, NoSession> {
        let mut refusal = NoSession::Absent;
        for (_, attempt) in self.attempts(cookies, now) {
            match attempt {
                Ok(session) if session.has_identity() => return Ok(session),
                Ok(_) => refusal = refusal.or(NoSession::NoIdentity),
                Err(why) => refusal = refusal.or(why),
            }
        }
        Err(refusal)
    }

    /// What every cookie of a request is, for the operator. Where [`Keyring::open`] finds only a
    /// payload that names nobody, that is shown.
    #[must_use]
    pub fn survey(&self, cookies: &Cookies<'_>, now: UnixSeconds) -> Survey {
        let mut session = Err(NoSession::Absent);
        let mut winner = Source::Nowhere;
        let mut told = Vec::new();
        for (source, attempt) in self.attempts(cookies, now) {
            match (attempt, &mut session) {
                (Ok(opened), Err(_)) => {
                    session = Ok(opened);
                    winner = source;
                }
                (Ok(opened), Ok(before)) if opened.has_identity() && !before.has_identity() => {
                    *before = opened;
                    told.push((std::mem::replace(&mut winner, source), NoSession::NoIdentity));
                }
                (Ok(_), Ok(_)) => told.push((source, NoSession::Outranked)),
                (Err(why), Ok(_)) => told.push((source, why)),
                (Err(why), Err(refusal)) => {
                    *refusal = refusal.or(why);
                    told.push((source, why));
                }
            }
        }

        let mut others = Vec::new();
        let mut seen = winner.indices().to_vec();
        for (source, why) in &told {
            // Other ways to join the session's own chunks, or the same ones, tell nothing new.
            let indices = source.indices();
            if let [first, ..] = indices
                && !indices.iter().any(|index| winner.indices().contains(index))
            {
                if !seen.contains(first) {
                    others.push((cookies.pairs()[*first].shown_name(), *why));
                }
                seen.extend_from_slice(indices);
            }
        }
        for (index, pair) in cookies.pairs().iter().enumerate() {
            if !seen.contains(&index) && pair.has_value() && self.could_be_session(pair) {
                let why = match self.session_name(pair.name) {
                    Some(_) => NoSession::Outranked,
                    None => InvalidReason::OtherName.into(),
                };
                others.push((pair.shown_name(), why));
            }
        }
        Survey { session, others }
    }

    /// Opens a bare token as if it had come in a cookie called `name`, one of ours or not. As in a
    /// survey, it need not name anybody.
    pub fn open_token(
        &self,
        name: &str,
        token: &str,
        now: UnixSeconds,
    ) -> Result<Session, NoSession> {
        match self.names.iter().find(|ours| *ours.name == *name) {
            Some(ours) => self.unseal(ours, token, Source::Nowhere, now),
            None => {
                let formats = formats(self.settings.format.or_else(|| library_format(name)));
                let keys = Keys::derive(formats, &self.settings.secrets, name);
                let name = SessionName { name: name.into(), keys };
                self.unseal(&name, token, Source::Nowhere, now)
            }
        }
    }

    /// What a `Set-Cookie` line of the app does to the session cookie. `None` if it is about
    /// another one.
    #[must_use]
    pub fn session_set_cookie<'l>(&self, line: &'l [u8]) -> Option<AppSetCookie<'l>> {
        let cookie = AppSetCookie::parse(line)?;
        self.session_name(cookie.name.as_bytes()).map(|_| cookie)
    }

    /// Tries every candidate of a request, in the order in which they count.
    fn attempts<'r>(
        &'r self,
        cookies: &'r Cookies<'_>,
        now: UnixSeconds,
    ) -> impl Iterator<Item = (Source, Result<Session, NoSession>)> + 'r {
        self.names.iter().flat_map(move |name| {
            let mut hidden = false;
            cookies.candidates(&name.name).filter_map(move |candidate| {
                let Candidate { token, source, unreadable } = candidate;
                let whole = matches!(source, Source::Whole(_));
                if whole && hidden {
                    return None;
                }
                let attempt = token
                    .map_err(NoSession::from)
                    .and_then(|token| self.unseal(name, &token, source.clone(), now))
                    .map_err(|why| match why {
                        NoSession::Invalid(InvalidReason::Malformed) => unreadable.into(),
                        _ => why,
                    });
                // Every Auth.js reader takes the first copy; where that is no token at all, neither
                // do we look at the next.
                hidden |= whole
                    && name.keys.are_all(Format::AuthjsV5)
                    && matches!(attempt, Err(NoSession::Invalid(InvalidReason::Malformed)));
                Some((source, attempt))
            })
        })
    }

    fn unseal(
        &self,
        name: &SessionName,
        token: &str,
        source: Source,
        now: UnixSeconds,
    ) -> Result<Session, NoSession> {
        let Opened { payload, format, secret } = name.keys.open(token)?;
        let claims = valid_claims(payload, now)?;
        let (name, tokens) = (Arc::clone(&name.name), Arc::clone(&self.tokens));
        Session::new(name, (format, secret), claims, source, tokens)
            .map_err(|BadToken| NoSession::BadToken)
    }

    /// The session cookie that one called `name` is, whole or a chunk.
    pub(crate) fn session_name(&self, name: &[u8]) -> Option<&SessionName> {
        self.names
            .iter()
            .find(|ours| name == ours.name.as_bytes() || chunk_number(name, &ours.name).is_some())
    }

    /// Whether some reader could take a cookie for a session. One without a name is read by its
    /// value, since browsers send such cookies without the `=`.
    pub(crate) fn could_be_session(&self, pair: &Pair<'_>) -> bool {
        self.resembles_session(if pair.name.is_empty() { pair.value } else { pair.name })
    }

    /// Whether some reader could take a cookie called `name` for a session.
    pub(crate) fn resembles_session(&self, name: &[u8]) -> bool {
        self.known.iter().any(|known| resembles(name, known))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names.iter().map(|ours| &ours.name);
        f.debug_list().entries(names).finish()
    }
}

fn formats(format: Option<Format>) -> &'static [Format] {
    match format {
        Some(Format::NextAuthV4) => &[Format::NextAuthV4],
        Some(Format::AuthjsV5) => &[Format::AuthjsV5],
        None => &[Format::NextAuthV4, Format::AuthjsV5],
    }
}

/// What stands in a request's cookies.
#[derive(Debug)]
pub struct Survey {
    /// The session that counts, or why there is none.
    pub session: Result<Session, NoSession>,
    /// Every other cookie that some reader could take for a session: its name (that of the first
    /// chunk) and why it does not count.
    pub others: Vec<(String, NoSession)>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::{NOW, keyring, settings, token};

    fn open(keyring: &Keyring, line: &str) -> Result<String, NoSession> {
        let cookies = Cookies::parse([line.as_bytes()]);
        keyring.open(&cookies, NOW).map(|session| session.subject().unwrap().into_owned())
    }

    /// A token of the default keyring for somebody called `sub`.
    fn v4(sub: &str) -> String {
        token(&keyring(), Format::NextAuthV4, &format!(r#"{{"sub":"{sub}"}}"#))
    }

    fn v5(sub: &str) -> String {
        token(&keyring(), Format::AuthjsV5, &format!(r#"{{"sub":"{sub}"}}"#))
    }

    fn secure(format: Format, sub: &str) -> String {
        let ring = Keyring::new(KeyringSettings { secure: true, ..settings() });
        token(&ring, format, &format!(r#"{{"sub":"{sub}"}}"#))
    }

    #[test]
    fn the_first_candidate_that_opens_counts() {
        let check = |cookies: &[(&str, &str)], wanted: &str| {
            let line = cookies.iter().map(|(name, value)| format!("{name}={value}"));
            let line = line.collect::<Vec<_>>().join("; ");
            assert_eq!(open(&keyring(), &line).as_deref(), Ok(wanted), "{line}");
        };
        let (a, b, c, d) =
            (v4("a"), v5("b"), secure(Format::NextAuthV4, "c"), secure(Format::AuthjsV5, "d"));
        let four = [
            ("next-auth.session-token", &*a),
            ("authjs.session-token", &*b),
            ("__Secure-next-auth.session-token", &*c),
            ("__Secure-authjs.session-token", &*d),
        ];
        check(&four, "d");
        check(&four[..3], "c");
        check(&four[..2], "b");
        check(&four[..1], "a");
        check(&[four[0], ("__Secure-authjs.session-token", "broken")], "a");

        let (front, back) = a.split_at(50);
        let chunks = [("next-auth.session-token.0", front), ("next-auth.session-token.1", back)];
        let other = v4("other");
        check(&[chunks[1], chunks[0]], "a");
        check(&[chunks[0], chunks[1], (four[0].0, &other)], "other");
        check(&[(four[0].0, "broken"), chunks[0], chunks[1]], "a");
        check(&[(four[0].0, &other), four[0]], "other");
        check(&[(four[0].0, "broken"), four[0]], "a");
        check(&[(four[1].0, "e30..e30.e30.e30"), four[1]], "b");
    }

    #[test]
    fn under_a_v5_name_a_first_copy_that_is_no_token_hides_the_next() {
        let line = format!("authjs.session-token=junk; authjs.session-token={}", v5("b"));
        assert_eq!(open(&keyring(), &line), Err(InvalidReason::Malformed.into()));
    }

    #[test]
    fn why_there_is_no_session_is_said_by_the_cookie_that_says_most() {
        let ring = keyring();
        let late = UnixSeconds(NOW.0 + 3600 + 15);
        let (a, b) = (v4("a"), v5("b"));
        let reason = |line: &str| {
            let cookies = Cookies::parse([line.as_bytes()]);
            ring.open(&cookies, late).map(|_| ()).unwrap_err()
        };
        let expired =
            NoSession::Expired { sealed_at: Some(NOW), expires_at: UnixSeconds(NOW.0 + 3600) };
        assert_eq!(reason(""), NoSession::Absent);
        assert_eq!(reason("a=b; next-auth.session-token="), NoSession::Absent);
        assert_eq!(reason(&format!("next-auth.session-token={a}")), expired);
        let line = format!("authjs.session-token=x; next-auth.session-token={a}");
        assert_eq!(reason(&line), expired);
        let line = format!("authjs.session-token={b}; next-auth.session-token=x");
        assert_eq!(reason(&line), expired);
        let line = format!("next-auth.session-token={}", a.replace('.', ".A"));
        assert_eq!(reason(&line), InvalidReason::Malformed.into());
    }

    #[test]
    fn a_chunk_that_did_not_come_is_named() {
        let token = v4("a");
        let quarter = token.len() / 4;
        let part = |number: usize| match number {
            3 => &token[3 * quarter..],
            _ => &token[number * quarter..][..quarter],
        };
        let check = |came: &[usize], wanted: &str| {
            let name = "next-auth.session-token";
            let chunks = came.iter().map(|number| format!("{name}.{number}={}", part(*number)));
            let refusal = open(&keyring(), &chunks.collect::<Vec<_>>().join("; ")).unwrap_err();
            assert_eq!((refusal.detail().as_str(), refusal.reason()), (wanted, "invalid"));
        };
        check(&[0, 1, 3], "chunk .2 is missing (.0, .1, .3 came)");
        check(&[3, 0], "chunk .1 is missing (.0, .3 came)");
        check(&[1, 2, 3], "chunk .0 is missing (.1, .2, .3 came)");
        check(&[0, 1, 2], "its chunks end early, or one is missing");
        check(&[0], "its chunks end early, or one is missing");
        let foreign = Keyring::new(KeyringSettings {
            secrets: settings().secrets[1..].to_vec(),
            ..settings()
        });
        let cookies =
            [0, 1, 2, 3].map(|number| format!("next-auth.session-token.{number}={}", part(number)));
        let whole = open(&foreign, &cookies.join("; "));
        assert_eq!(whole, Err(InvalidReason::BrokenSeal.into()), "all came, of another secret");
        let stray = cookies.join("; ") + "; next-auth.session-token.5=x";
        assert_eq!(open(&foreign, &stray), Err(InvalidReason::BrokenSeal.into()));
    }

    #[test]
    fn a_state_cookie_sealed_with_our_key_is_no_session() {
        let ring = keyring();
        let state = token(&ring, Format::NextAuthV4, r#"{"state":"x","provider":"p"}"#);
        let line = format!("next-auth.session-token={state}");
        assert_eq!(open(&ring, &line), Err(NoSession::NoIdentity));
        let survey = ring.survey(&Cookies::parse([line.as_bytes()]), NOW);
        assert!(survey.session.unwrap().claims_json().starts_with(r#"{"state":"x""#));
        let again = format!("{line}; next-auth.session-token={}", v4("a"));
        assert_eq!(open(&ring, &again).as_deref(), Ok("a"));
        let survey = ring.survey(&Cookies::parse([again.as_bytes()]), NOW);
        assert_eq!(survey.session.unwrap().subject().as_deref(), Some("a"));
        assert_eq!(survey.others, [("next-auth.session-token".to_owned(), NoSession::NoIdentity)]);
    }

    #[test]
    fn a_token_that_could_break_a_header_makes_no_session() {
        // A ring with other paths seals what the default one then finds bad.
        let tokens = TokenPaths { access_token: Vec::new(), ..TokenPaths::default() };
        let careless = Keyring::new(KeyringSettings { tokens, ..settings() });
        let bad = token(&careless, Format::NextAuthV4, r#"{"sub":"a","accessToken":"a\r\nb"}"#);
        let line = format!("next-auth.session-token={bad}");
        assert_eq!(open(&keyring(), &line), Err(NoSession::BadToken));
        assert_eq!(NoSession::BadToken.reason(), "bad_token");
    }

    #[test]
    fn every_secret_opens_and_says_which_it_was() {
        let KeyringSettings { secrets, .. } = settings();
        let older = Keyring::new(KeyringSettings { secrets: secrets[1..].to_vec(), ..settings() });
        for format in [Format::NextAuthV4, Format::AuthjsV5] {
            let claims = r#"{"sub":"a"}"#;
            let session = older.session_from_claims(claims, Some(format)).unwrap();
            let sealed = older.seal(&session, NOW, [9; 32]);
            let line = format!("{}={}", sealed.cookie_name(), sealed.token());
            let opened = keyring().open(&Cookies::parse([line.as_bytes()]), NOW).unwrap();
            assert_eq!((opened.format(), opened.secret_index()), (format, 1));
            let resealed = keyring().seal(&opened, NOW, [9; 32]);
            let opened = keyring().open_token(opened.cookie_name(), resealed.token(), NOW).unwrap();
            assert_eq!((opened.format(), opened.secret_index()), (format, 0));
        }
    }

    #[test]
    fn a_name_of_ones_own_takes_either_format_unless_one_is_set() {
        let named = |format| {
            let cookie_name = Some("acme.sso".to_owned());
            Keyring::new(KeyringSettings { cookie_name, format, ..settings() })
        };
        for format in [Format::NextAuthV4, Format::AuthjsV5] {
            let line = format!("acme.sso={}", token(&named(None), format, r#"{"sub":"a"}"#));
            assert_eq!(open(&named(None), &line).as_deref(), Ok("a"));
            assert_eq!(open(&named(Some(format)), &line).as_deref(), Ok("a"));
            assert_eq!(open(&keyring(), &line), Err(NoSession::Absent));
        }
        let line = format!("acme.sso={}", token(&named(None), Format::AuthjsV5, r#"{"sub":"a"}"#));
        let refused = open(&named(Some(Format::NextAuthV4)), &line);
        assert_eq!(refused, Err(InvalidReason::NoKey.into()));
        assert_eq!(
            open(&named(None), &format!("next-auth.session-token={}", v4("a"))),
            Err(NoSession::Absent)
        );
    }

    #[test]
    fn a_survey_tells_what_every_cookie_is() {
        let (a, b) = (v4("a"), v4("b"));
        let check =
            |line: String, opened: Result<&str, NoSession>, others: &[(&str, NoSession)]| {
                let survey = keyring().survey(&Cookies::parse([line.as_bytes()]), NOW);
                let subject = survey.session.map(|session| session.subject().unwrap().into_owned());
                assert_eq!(subject.as_deref(), opened.as_ref().copied(), "{line}");
                let told = survey.others.iter().map(|(name, why)| (&**name, *why));
                assert_eq!(told.collect::<Vec<_>>(), others, "{line}");
            };
        let name = "next-auth.session-token";
        let malformed = NoSession::Invalid(InvalidReason::Malformed);
        let other_name = NoSession::Invalid(InvalidReason::OtherName);
        check(format!("a=1; {name}={a}; {name}.1="), Ok("a"), &[]);
        check(format!("{name}={a}; {name}={b}"), Ok("a"), &[(name, NoSession::Outranked)]);
        check(format!("{name}=x; {name}={b}"), Ok("b"), &[(name, malformed)]);
        check(
            format!("{name}={a}; {name}.0=x"),
            Ok("a"),
            &[("next-auth.session-token.0", InvalidReason::ChunksEndEarly.into())],
        );
        check(
            format!("{name}={a}; {name}-old=x; {name}.x=y; \u{a0}{name}=z"),
            Ok("a"),
            &[
                ("next-auth.session-token-old", other_name),
                ("next-auth.session-token.x", other_name),
                ("\\xc2\\xa0next-auth.session-token", other_name),
            ],
        );
        let (front, back) = a.split_at(50);
        check(
            format!("{name}.0={front}; {name}.1={back}; {name}.9=x"),
            Ok("a"),
            &[("next-auth.session-token.9", NoSession::Outranked)],
        );
        check(format!("{name}=x"), Err(malformed), &[(name, malformed)]);
        check("a=1".to_owned(), Err(NoSession::Absent), &[]);
    }

    #[test]
    fn a_bare_token_opens_under_any_name() {
        let (a, b) = (v4("a"), v5("b"));
        let opened = |name: &str, token: &str| {
            keyring().open_token(name, token, NOW).map(|session| session.format())
        };
        assert_eq!(opened("next-auth.session-token", &a), Ok(Format::NextAuthV4));
        assert_eq!(opened("elsewhere", &a), Ok(Format::NextAuthV4));
        assert_eq!(opened("authjs.session-token", &b), Ok(Format::AuthjsV5));
        assert_eq!(opened("elsewhere", &b), Err(InvalidReason::NoKey.into()));
    }

    #[test]
    fn a_line_of_the_app_concerns_the_session_by_name_or_chunk() {
        let concerns = |line: &str| keyring().session_set_cookie(line.as_bytes()).map(|c| c.clears);
        assert_eq!(concerns("next-auth.session-token=x; Path=/"), Some(false));
        assert_eq!(concerns("__Secure-authjs.session-token.2=; Max-Age=0"), Some(true));
        assert_eq!(concerns("next-auth.session-token-old=x"), None);
        assert_eq!(concerns("next-auth.csrf-token=x"), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", keyring(), settings());
        assert!(!shown.contains("the newer secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_open_or_do_not(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
        ) {
            let cookies = Cookies::parse(lines.iter().map(Vec::as_slice));
            let ring = keyring();
            prop_assert!(ring.open(&cookies, NOW).is_err());
            let _ = ring.survey(&cookies, NOW);
            let _ = ring.cookies_for_app(&cookies, crate::ShownSession::None);
            let _ = ring.sign_out_cookies(&cookies);
        }

        #[test]
        fn no_arrangement_of_session_cookies_surprises(
            parts in prop::collection::vec(
                (r"(__Secure-)?(authjs|next-auth)\.session-token(\.[0-3]|-x)?", 0_usize..5),
                0..8,
            ),
        ) {
            let ring = keyring();
            let token = v4("a");
            let (front, back) = token.split_at(100);
            let values = [&*token, front, back, "x", ""];
            let cookies = parts.iter().map(|(name, value)| format!("{name}={}", values[*value]));
            let line = cookies.collect::<Vec<_>>().join("; ");
            let cookies = Cookies::parse([line.as_bytes()]);
            // Whatever the app is shown opens as the same session, and holds no other one.
            if let Ok(session) = ring.open(&cookies, NOW) {
                let view = ring.cookies_for_app(&cookies, crate::ShownSession::AsSent(&session));
                let shown = match &view {
                    crate::CookieView::Unchanged => line.as_bytes(),
                    crate::CookieView::Replaced(line) => line,
                    crate::CookieView::Removed => b"",
                };
                let shown = Cookies::parse([shown]);
                let survey = ring.survey(&shown, NOW);
                let seen = survey.session.unwrap();
                prop_assert_eq!(seen.claims_json(), session.claims_json());
                prop_assert_eq!(survey.others, []);
            } else {
                prop_assert!(ring.survey(&cookies, NOW).session.is_err());
            }
        }
    }
}
