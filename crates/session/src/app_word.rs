//! What an app's answer does to the session cookie: its `Set-Cookie` lines, taken together as a
//! browser takes them.

use crate::cookie::Cookies;
use crate::keyring::Keyring;
use crate::session::Session;
use crate::set_cookie::AppSetCookie;
use crate::time::UnixSeconds;

/// What the `Set-Cookie` lines of one answer come to.
#[derive(Debug)]
pub enum AppWord {
    /// None of them is about a session cookie.
    Silent,
    /// The browser forgets its session and gets no other.
    Cleared,
    /// The browser gets this session.
    Given(Box<Session>),
    /// The browser gets something that does not open here, or only in part.
    Unreadable,
}

impl Keyring {
    /// Puts together what a browser that had no cookies would hold after an answer's `Set-Cookie`
    /// `lines`, and opens it as of `now`. Later lines overwrite earlier ones of the same name,
    /// domain and path, so that a session which moves from one cookie into chunks is not cleared.
    ///
    /// Of more lines about sessions than an answer could need nothing is made.
    pub fn app_word<'l>(
        &self,
        lines: impl IntoIterator<Item = &'l [u8]>,
        now: UnixSeconds,
    ) -> AppWord {
        let mut held: Vec<AppSetCookie<'l>> = Vec::new();
        let mut count = 0;
        for cookie in lines.into_iter().filter_map(|line| self.session_set_cookie(line)) {
            count += 1;
            if count > MAX_LINES {
                return AppWord::Unreadable;
            }
            held.retain(|before| !before.is_same_cookie(&cookie));
            if !cookie.clears {
                held.push(cookie);
            }
        }
        if count == 0 {
            return AppWord::Silent;
        }
        if held.is_empty() {
            return AppWord::Cleared;
        }
        let pairs: Vec<String> =
            held.iter().map(|cookie| [cookie.name, "=", cookie.value].concat()).collect();
        match self.open(&Cookies::parse(pairs.iter().map(String::as_bytes)), now) {
            Ok(session) => AppWord::Given(Box::new(session)),
            Err(_) => AppWord::Unreadable,
        }
    }
}

/// Twice a session in the most chunks: those that are set, and those that are cleared.
const MAX_LINES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::{NOW, keyring, token};
    use crate::keys::Format;

    /// What the lines come to, in a word: the subject, where there is one.
    fn told(lines: &[String]) -> String {
        match keyring().app_word(lines.iter().map(String::as_bytes), NOW) {
            AppWord::Silent => "silent".to_owned(),
            AppWord::Cleared => "cleared".to_owned(),
            AppWord::Given(session) => session.subject().unwrap().into_owned(),
            AppWord::Unreadable => "unreadable".to_owned(),
        }
    }

    fn check(lines: &[&str], wanted: &str) {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(told(&lines), wanted, "{lines:?}");
    }

    #[test]
    fn the_last_line_of_a_cookie_counts() {
        let name = "next-auth.session-token";
        let one = |sub: &str| {
            let claims = format!(r#"{{"sub":"{sub}"}}"#);
            format!("{name}={}; Path=/", token(&keyring(), Format::NextAuthV4, &claims))
        };
        let (ann, bob) = (one("ann"), one("bob"));
        let clear = format!("{name}=; Max-Age=0; Path=/");
        check(&[], "silent");
        check(&["next-auth.csrf-token=x", "theme=dark"], "silent");
        check(&[&ann], "ann");
        check(&[&ann, &bob], "bob");
        check(&[&clear, &ann], "ann");
        check(&[&ann, &clear], "cleared");
        check(&[&clear, "theme=dark"], "cleared");
        check(&[&format!("{name}.0=; Max-Age=0"), &format!("{name}.1=; Max-Age=0")], "cleared");
        check(&[&format!("{name}=junk")], "unreadable");
        check(&[&clear, &format!("{name}.1=half")], "unreadable");
    }

    #[test]
    fn clearing_a_host_s_cookie_leaves_that_of_the_domain() {
        let name = "authjs.session-token";
        let token = token(&keyring(), Format::AuthjsV5, r#"{"sub":"ann"}"#);
        let set = format!("{name}={token}; Domain=.example.com; Path=/");
        let clear = format!("{name}=; Max-Age=0; Path=/");
        check(&[&set, &clear], "ann");
        check(&[&set, &format!("{clear}; Domain=example.com")], "cleared");
    }

    #[test]
    fn of_too_many_lines_nothing_is_made() {
        let line = format!(
            "next-auth.session-token={}",
            token(&keyring(), Format::NextAuthV4, r#"{"sub":"ann"}"#)
        );
        assert_eq!(told(&vec![line.clone(); MAX_LINES]), "ann");
        assert_eq!(told(&vec![line; MAX_LINES + 1]), "unreadable");
        assert_eq!(told(&vec!["theme=dark".to_owned(); 1000]), "silent");
    }

    proptest! {
        #[test]
        fn what_we_write_ourselves_is_understood(pad in 0_usize..12_000, v5: bool, had: bool) {
            let format = if v5 { Format::AuthjsV5 } else { Format::NextAuthV4 };
            let claims = format!(r#"{{"sub":"ann","pad":"{}"}}"#, "p".repeat(pad));
            let session = keyring().session_from_claims(&claims, Some(format)).unwrap();
            let sealed = keyring().seal(&session, NOW, [3; 32]);
            let name = sealed.cookie_name();
            let carried = if had { format!("{name}=x; {name}.0=y; {name}.7=z") } else { String::new() };
            let request = Cookies::parse([carried.as_bytes()]);
            prop_assert_eq!(told(&keyring().set_cookies(&sealed, &request)), "ann");
            let cleared = keyring().sign_out_cookies(&request);
            prop_assert_eq!(told(&cleared), "cleared");
        }

        #[test]
        fn any_lines_come_to_something(
            lines in prop::collection::vec(
                (r"(authjs|next-auth)\.session-token(\.[0-3])?", r"\PC{0,40}", any::<bool>()),
                0..40,
            ),
        ) {
            let lines: Vec<String> = lines
                .into_iter()
                .map(|(name, rest, own)| if own { format!("{name}={rest}") } else { rest })
                .collect();
            prop_assert!(["silent", "cleared", "unreadable"].contains(&&*told(&lines)));
        }
    }
}
