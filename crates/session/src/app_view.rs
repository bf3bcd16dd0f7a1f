//! What the app behind the gate sees in `Cookie`: the one session that was admitted, written so
//! that every reader finds it, or none at all. Whatever else some reader could take for a session
//! is gone, so that gate and app never speak of two different visitors.

use crate::cookie::{Cookies, Pair};
use crate::keyring::Keyring;
use crate::sealed::SealedSession;
use crate::session::Session;

/// The `Cookie` header for the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CookieView {
    /// There is at most one `Cookie` line, and it can go on as it came.
    Unchanged,
    /// One line with this value in the place of all that came.
    Replaced(Vec<u8>),
    /// No `Cookie` line at all.
    Removed,
}

/// Which session an app is to see.
#[derive(Clone, Copy, Debug)]
pub enum ShownSession<'a> {
    /// None: everything is stripped that some reader could take for one.
    None,
    /// The one opened from this very request. Of another one nothing is shown.
    AsSent(&'a Session),
    /// One sealed anew, in the place of what was sent.
    Renewed(&'a SealedSession),
}

impl Keyring {
    /// What the app sees of the request's cookies.
    #[must_use]
    pub fn cookies_for_app(&self, request: &Cookies<'_>, shown: ShownSession<'_>) -> CookieView {
        let is_session = |pair: &Pair<'_>| self.could_be_session(pair);
        match shown {
            ShownSession::None => app_view(request, is_session, &[], []),
            ShownSession::AsSent(session) => {
                app_view(request, is_session, session.source.indices(), [])
            }
            ShownSession::Renewed(sealed) => app_view(request, is_session, &[], sealed.chunks()),
        }
    }

    /// Whether another cookie of the request bears the name of the session that was opened from it,
    /// or is another session cookie: two domains, two libraries, or chunks of an older one.
    #[must_use]
    pub fn has_duplicate(&self, request: &Cookies<'_>, session: &Session) -> bool {
        let kept = session.source.indices();
        // A renewed session came from no cookie yet.
        !kept.is_empty()
            && request.pairs().iter().enumerate().any(|(index, pair)| {
                !kept.contains(&index) && pair.has_value() && self.session_name(pair.name).is_some()
            })
    }
}

/// The view of `request` that keeps the cookies at the indices `kept` (in the order of their
/// chunks), drops what else `is_session` finds, and ends with the cookies `added`.
fn app_view<'c>(
    request: &Cookies<'_>,
    is_session: impl Fn(&Pair<'_>) -> bool,
    kept: &[usize],
    added: impl IntoIterator<Item = (String, &'c str)>,
) -> CookieView {
    let pairs = request.pairs();
    let mut as_it_came = request.lines() <= 1;
    let mut line = Vec::new();
    let mut in_order = kept.iter().copied();
    // The common case ends without a byte copied: first see whether anything has to change.
    for (index, pair) in pairs.iter().enumerate() {
        let fits = if kept.contains(&index) {
            in_order.next() == Some(index) && pair.is_plain()
        } else {
            !is_session(pair)
        };
        as_it_came &= fits;
    }
    let mut added = added.into_iter().peekable();
    if as_it_came && added.peek().is_none() {
        return CookieView::Unchanged;
    }

    let mut in_order = kept.iter().filter_map(|index| pairs.get(*index));
    for (index, pair) in pairs.iter().enumerate() {
        if !kept.contains(&index) {
            if !is_session(pair) {
                append(&mut line, &[pair.text]);
            }
        } else if let Some(pair) = in_order.next() {
            append(&mut line, &[pair.name, b"=", pair.token().as_bytes()]);
        }
    }
    for (name, value) in added {
        append(&mut line, &[name.as_bytes(), b"=", value.as_bytes()]);
    }
    if line.is_empty() { CookieView::Removed } else { CookieView::Replaced(line) }
}

fn append(line: &mut Vec<u8>, parts: &[&[u8]]) {
    if !line.is_empty() {
        line.extend_from_slice(b"; ");
    }
    for part in parts {
        line.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NOW, keyring, token};
    use crate::keys::Format;

    fn seen(lines: &[&str], shown: impl Fn(&Keyring, &Cookies<'_>) -> CookieView) -> String {
        let cookies = Cookies::parse(lines.iter().map(|line| line.as_bytes()));
        match shown(&keyring(), &cookies) {
            CookieView::Unchanged => "unchanged".to_owned(),
            CookieView::Removed => "removed".to_owned(),
            CookieView::Replaced(line) => String::from_utf8(line).unwrap(),
        }
    }

    fn as_sent(keyring: &Keyring, cookies: &Cookies<'_>) -> CookieView {
        let session = keyring.open(cookies, NOW).unwrap();
        keyring.cookies_for_app(cookies, ShownSession::AsSent(&session))
    }

    #[test]
    fn a_clean_session_goes_on_as_it_came() {
        let t = token(&keyring(), Format::NextAuthV4, r#"{"sub":"a"}"#);
        let (front, back) = t.split_at(100);
        let check = |line: &str| assert_eq!(seen(&[line], as_sent), "unchanged", "{line}");
        check(&format!("next-auth.session-token={t}"));
        check(&format!("a=1;b=\"2\" ;; next-auth.session-token={t};  c"));
        check(&format!("next-auth.session-token.0={front}; next-auth.session-token.1={back}"));
    }

    #[test]
    fn the_app_sees_one_session_in_a_form_that_every_reader_reads() {
        let t = &token(&keyring(), Format::NextAuthV4, r#"{"sub":"a"}"#);
        let other = &token(&keyring(), Format::NextAuthV4, r#"{"sub":"b"}"#);
        let (front, back) = t.split_at(100);
        let escaped = t.replace('.', "%2E");
        let clean = &format!("next-auth.session-token={t}");
        let check = |line: String, wanted: String| {
            assert_eq!(seen(&[&line], as_sent), wanted, "{line}");
        };
        check(format!("a=1; next-auth.session-token = {t}"), format!("a=1; {clean}"));
        check(format!("a=1;\t{clean}"), format!("a=1; {clean}"));
        check(format!("{clean}\t;a=1"), format!("{clean}; a=1"));
        check(format!("next-auth.session-token={escaped}"), clean.clone());
        check(format!("{clean}; next-auth.session-token={other}; b=2"), format!("{clean}; b=2"));
        check(format!("next-auth.session-token=x; {clean}"), clean.clone());
        check(format!("{clean}; authjs.session-token=x; a=1"), format!("{clean}; a=1"));
        check(format!("{clean}; next-auth.session-token.3=x"), clean.clone());
        check(format!("{clean}; next-auth.session-token-backup=x"), clean.clone());
        check(format!("{clean}; NEXT-AUTH.session-token={other}"), clean.clone());
        check(format!("{clean}; next-auth%2Esession-token={other}"), clean.clone());
        check(format!("\u{a0}next-auth.session-token={other}; {clean}"), clean.clone());
        check(
            format!("next-auth.session-token.1={back}; a=1; next-auth.session-token.0={front}"),
            format!("next-auth.session-token.0={front}; a=1; next-auth.session-token.1={back}"),
        );
    }

    #[test]
    fn several_lines_become_one() {
        let t = token(&keyring(), Format::AuthjsV5, r#"{"sub":"a"}"#);
        let line = format!("authjs.session-token={t}");
        assert_eq!(seen(&["a=1", &line, "b=2"], as_sent), format!("a=1; {line}; b=2"));
        let none = |ring: &Keyring, cookies: &Cookies<'_>| {
            ring.cookies_for_app(cookies, ShownSession::None)
        };
        assert_eq!(seen(&["a=1", "b=2; c"], none), "a=1; b=2; c");
        assert_eq!(seen(&["a=1; b"], none), "unchanged");
        assert_eq!(seen(&[], none), "unchanged");
    }

    #[test]
    fn a_stranger_brings_no_session_cookie() {
        let none = |ring: &Keyring, cookies: &Cookies<'_>| {
            ring.cookies_for_app(cookies, ShownSession::None)
        };
        let check = |line: &str, wanted: &str| assert_eq!(seen(&[line], none), wanted, "{line}");
        check("next-auth.session-token=x", "removed");
        check("__Secure-authjs.session-token.0=x; a=1; authjs.session-token=", "a=1");
        check("next-auth.csrf-token=x; next-auth.callback-url=y", "unchanged");
        check("next-auth.session-token", "removed");
        check("=next-auth.session-token=x; =other", "=other");
        check("; ;", "unchanged");
    }

    #[test]
    fn a_renewed_session_takes_the_place_of_what_was_sent() {
        let ring = keyring();
        let pad = "x".repeat(4000);
        let big =
            ring.session_from_claims(&format!(r#"{{"sub":"a","pad":"{pad}"}}"#), None).unwrap();
        let sealed = ring.seal(&big, NOW, [1; 32]);
        let (front, back) = sealed.token().split_at(3933);
        let renewed = |ring: &Keyring, cookies: &Cookies<'_>| {
            ring.cookies_for_app(cookies, ShownSession::Renewed(&sealed))
        };
        assert_eq!(
            seen(&["a=1; next-auth.session-token=old; authjs.session-token=x; b=2"], renewed),
            format!(
                "a=1; b=2; next-auth.session-token.0={front}; next-auth.session-token.1={back}"
            ),
        );
    }

    #[test]
    fn of_a_session_that_did_not_come_with_the_request_nothing_is_shown() {
        let foreign = |ring: &Keyring, cookies: &Cookies<'_>| {
            let session = ring.session_from_claims(r#"{"sub":"a"}"#, None).unwrap();
            ring.cookies_for_app(cookies, ShownSession::AsSent(&session))
        };
        assert_eq!(seen(&["a=1; next-auth.session-token=x"], foreign), "a=1");
    }
}
