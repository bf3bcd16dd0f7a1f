//! Names of session cookies: ours, their chunks, and what others could take for either.

use crate::keys::Format;

/// The libraries' own names, in the order in which they are tried: `__Secure-` before plain, v5
/// before v4.
pub(crate) const LIBRARY_NAMES: [(&str, Format); 4] = [
    ("__Secure-authjs.session-token", Format::AuthjsV5),
    ("__Secure-next-auth.session-token", Format::NextAuthV4),
    ("authjs.session-token", Format::AuthjsV5),
    ("next-auth.session-token", Format::NextAuthV4),
];

/// The library that has `name` as its own.
pub(crate) fn library_format(name: &str) -> Option<Format> {
    LIBRARY_NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
}

/// The name under which `format` keeps its session.
pub(crate) fn library_name(format: Format, secure: bool) -> &'static str {
    match (format, secure) {
        (Format::AuthjsV5, true) => LIBRARY_NAMES[0].0,
        (Format::NextAuthV4, true) => LIBRARY_NAMES[1].0,
        (Format::AuthjsV5, false) => LIBRARY_NAMES[2].0,
        (Format::NextAuthV4, false) => LIBRARY_NAMES[3].0,
    }
}

/// The number of the chunk of `whole` that a cookie called `name` is: `3` for `whole.3`. Numbers
/// are written as the libraries write them, without leading zeros.
pub(crate) fn chunk_number(name: &[u8], whole: &str) -> Option<usize> {
    let digits = name.strip_prefix(whole.as_bytes())?.strip_prefix(b".")?;
    let sound = match digits {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 3 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    sound.then(|| digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// Whether some reader of cookies could take one called `name` for the session cookie `known` or a
/// chunk of it. Both libraries join whatever begins alike; other readers drop odd blanks, decode
/// escapes, ignore case, or write `_` for `.`.
///
/// A name of the operator's own may be short, and `sid` is no chunk of `s`: there a separator must
/// follow.
pub(crate) fn resembles(name: &[u8], known: &str) -> bool {
    let mut letters = Decoded(name).filter(u8::is_ascii_graphic).filter(|letter| *letter != b'"');
    let begins_alike =
        known.bytes().all(|wanted| letters.next().map(folded) == Some(folded(wanted)));
    begins_alike
        && (library_format(known).is_some()
            || letters.next().is_none_or(|letter| folded(letter) == b'-'))
}

fn folded(letter: u8) -> u8 {
    match letter {
        b'.' | b'_' => b'-',
        _ => letter.to_ascii_lowercase(),
    }
}

/// The bytes of a name with `%` escapes resolved; what is no escape stands for itself.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if *first == b'%'
            && let [high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            self.0 = after;
            return Some(high << 4 | low);
        }
        self.0 = rest;
        Some(*first)
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

/// `text` with its `%` escapes resolved. `None` if one of them is malformed, where the libraries'
/// parsers keep the raw text.
pub(crate) fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut escapes = text.split(|byte| *byte == b'%').skip(1);
    let sound = |after: &[u8]| after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit);
    escapes.all(sound).then(|| Decoded(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_numbered_as_the_libraries_number_them() {
        let number = |name: &str| chunk_number(name.as_bytes(), "a.b");
        assert_eq!(["a.b.0", "a.b.7", "a.b.10", "a.b.999"].map(number), [0, 7, 10, 999].map(Some));
        for name in
            ["a.b", "a.b.", "a.b.00", "a.b.01", "a.b.+1", "a.b.1000", "a.b.x", "a.b0", "A.b.0"]
        {
            assert_eq!(number(name), None, "{name}");
        }
    }

    #[test]
    fn whatever_a_reader_could_take_for_the_session_resembles_it() {
        let check = |name: &[u8], resembling| {
            assert_eq!(resembles(name, "a-b.session"), resembling, "{}", name.escape_ascii());
        };
        for name in [
            "a-b.session",
            "a-b.session.0",
            "a-b.session-backup",
            "A-B.Session",
            "a-b_session",
            "a-b%2Esession",
            "%61-b.session",
            " a-b.session",
            "\ta-b.session\t",
            "\"a-b.session\"",
            "\u{feff}a-b.session",
            "a-b. session",
        ] {
            check(name.as_bytes(), true);
        }
        check(b"\xa0a-b.session", true);
        for name in ["", "a", "a-b.sessio", "b.session", "xa-b.session", "a%2zb.session", "%"] {
            check(name.as_bytes(), false);
        }
    }

    #[test]
    fn a_name_of_ones_own_does_not_take_other_cookies_with_it() {
        let check = |name: &str, known: &str, resembling| {
            assert_eq!(resembles(name.as_bytes(), known), resembling, "{name}, {known}");
        };
        check("s", "s", true);
        check("S.0", "s", true);
        check("s-backup", "s", true);
        check("sid", "s", false);
        check("settings", "s", false);
        check("session_id", "session", true);
        check("sessions", "session", false);
        check("next-auth.session-tokens", "next-auth.session-token", true);
    }

    #[test]
    fn escapes_are_resolved_or_the_text_is_left_alone() {
        assert_eq!(percent_decoded(b"a%2Eb%5f"), Some(b"a.b_".to_vec()));
        assert_eq!(percent_decoded(b"plain"), Some(b"plain".to_vec()));
        for text in ["%", "a%2", "%zz", "%2E%"] {
            assert_eq!(percent_decoded(text.as_bytes()), None, "{text}");
        }
    }
}
