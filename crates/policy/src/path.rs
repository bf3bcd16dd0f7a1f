//! The one form of a path that rules see and apps get, or why a path has none.
//!
//! Servers differ in how they read dot segments, doubled slashes, backslashes and escapes. A path
//! that two of them could read differently is refused rather than repaired.

use std::borrow::Cow;
use std::fmt;

/// A path in canonical form: it begins with `/`, holds visible ASCII only, escapes unreserved
/// characters never and all others in upper case, and has neither empty nor dot segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalPath<'a>(Cow<'a, str>);

impl<'a> CanonicalPath<'a> {
    /// Reads a path as it stood in the request target, without the query. Copies only where an
    /// escape may have to change.
    pub fn parse(raw: &'a str) -> Result<Self, PathFault> {
        let mut has_escape = false;
        for byte in raw.bytes() {
            match byte {
                b'%' => has_escape = true,
                b'\\' => return Err(PathFault::Backslash),
                b'#' => return Err(PathFault::Fragment),
                b'!'..=b'~' => {}
                _ => return Err(PathFault::RawByte),
            }
        }
        let canonical = if has_escape { Cow::Owned(unescape(raw)?) } else { Cow::Borrowed(raw) };
        check_segments(&canonical)?;
        Ok(Self(canonical))
    }

    /// The path as it goes upstream.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a path has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathFault {
    /// It does not begin with `/`.
    NotAbsolute,
    /// `.` or `..`, however spelled, with `;parameters` or without.
    DotSegment,
    /// `//`, with `;parameters` in between or without.
    EmptySegment,
    /// A raw `\`.
    Backslash,
    /// A raw `#`.
    Fragment,
    /// A raw byte that is no visible ASCII character.
    RawByte,
    /// An escape that some server takes for structure: the byte is one of `/ \ NUL ; ? #`.
    EscapedDelimiter(u8),
    /// An escaped `%` before two hex digits: decoded twice it is something else.
    DoubleEscape,
    /// A `%` without two hex digits behind it.
    BadEscape,
    /// Escapes whose bytes are not UTF-8.
    NotUtf8,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("the path does not begin with a slash"),
            Self::DotSegment => f.write_str("the path has a segment of one or two dots"),
            Self::EmptySegment => f.write_str("the path has two slashes in a row"),
            Self::Backslash => f.write_str("the path has a backslash"),
            Self::Fragment => f.write_str("the request target has a raw `#`"),
            Self::RawByte => f.write_str("the path has a raw byte outside visible ASCII"),
            Self::EscapedDelimiter(byte) => write!(f, "the path has the escape %{byte:02X}"),
            Self::DoubleEscape => f.write_str("the path has an escape inside an escape (%25…)"),
            Self::BadEscape => f.write_str("the path has a `%` without two hex digits"),
            Self::NotUtf8 => f.write_str("the path's escapes are not UTF-8"),
        }
    }
}

/// Decodes escapes of unreserved characters (RFC 3986 §2.3) and writes all others in upper case.
fn unescape(raw: &str) -> Result<String, PathFault> {
    let mut canonical = String::with_capacity(raw.len());
    let mut pieces = raw.split('%');
    canonical.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let escaped = escaped_byte(piece.as_bytes()).ok_or(PathFault::BadEscape)?;
        match escaped {
            b'/' | b'\\' | 0 | b';' | b'?' | b'#' => {
                return Err(PathFault::EscapedDelimiter(escaped));
            }
            _ if is_unreserved(escaped) => canonical.push(char::from(escaped)),
            _ => push_escape(&mut canonical, escaped),
        }
        canonical.push_str(&piece[2..]);
    }
    // Looked at now, because what follows `%25` may itself have been an escape.
    let doubled = canonical
        .match_indices("%25")
        .any(|(at, _)| escaped_byte(&canonical.as_bytes()[at + 3..]).is_some());
    if doubled {
        return Err(PathFault::DoubleEscape);
    }
    if percent_encoding::percent_decode_str(&canonical).decode_utf8().is_err() {
        return Err(PathFault::NotUtf8);
    }
    Ok(canonical)
}

/// The byte that the two hex digits at the front stand for.
pub(crate) fn escaped_byte(text: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*text.first()?)?, digit(*text.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
}

pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Writes `%XX` in upper case.
pub(crate) fn push_escape(text: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(HEX[usize::from(byte >> 4)]));
    text.push(char::from(HEX[usize::from(byte & 15)]));
}

/// No empty segment but the last, and none of dots alone, whatever parameters follow them.
fn check_segments(path: &str) -> Result<(), PathFault> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(PathFault::NotAbsolute);
    }
    for slash in memchr::memchr_iter(b'/', bytes) {
        let rest = &bytes[slash + 1..];
        match rest {
            [b'/', ..] => return Err(PathFault::EmptySegment),
            // Without its parameters it would be `//`.
            [b';', ..] if rest.contains(&b'/') => return Err(PathFault::EmptySegment),
            [b'.', b'.', ends @ ..] | [b'.', ends @ ..]
                if matches!(ends.first(), None | Some(b'/' | b';')) =>
            {
                return Err(PathFault::DotSegment);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(raw: &str, expected: Result<&str, PathFault>) {
        let path = CanonicalPath::parse(raw);
        assert_eq!(path.as_ref().map(CanonicalPath::as_str), expected.as_ref().copied(), "{raw}");
    }

    #[test]
    fn a_plain_path_stays_as_it_is_and_is_not_copied() {
        for raw in [
            "/",
            "/a/b",
            "/a/b/",
            "/a.b/...",
            "/.well-known/x",
            "/a;b=1/c",
            "/;b",
            "/a/;b=1",
            "/!$&'()*+,=:@",
        ] {
            check(raw, Ok(raw));
            assert!(matches!(CanonicalPath::parse(raw), Ok(CanonicalPath(Cow::Borrowed(_)))));
        }
    }

    #[test]
    fn escapes_get_one_spelling() {
        check("/%61dmin", Ok("/admin"));
        check("/x%2Dy%2ez%5f%7E", Ok("/x-y.z_~"));
        check("/caf%c3%a9", Ok("/caf%C3%A9"));
        check("/100%25", Ok("/100%25"));
        check("/a%20b%2c", Ok("/a%20b%2C"));
        check("/%E2%80%A8", Ok("/%E2%80%A8"));
    }

    #[test]
    fn what_two_servers_could_read_differently_has_no_form() {
        use PathFault::*;
        for raw in
            ["/.", "/..", "/a/./b", "/a/../b", "/%2e", "/%2E%2e/b", "/.%2e", "/..;x/b", "/.;"]
        {
            check(raw, Err(DotSegment));
        }
        for raw in ["//", "//a", "/a//b", "/a//", "/;x/a", "/a/;/"] {
            check(raw, Err(EmptySegment));
        }
        check("/a\\b", Err(Backslash));
        check("/a#b", Err(Fragment));
        for raw in ["/a b", "/caf\u{e9}", "/\u{7f}", "/\u{0}", "/\t"] {
            check(raw, Err(RawByte));
        }
        for (raw, byte) in [
            ("/a%2Fb", b'/'),
            ("/a%2fb", b'/'),
            ("/%5C", b'\\'),
            ("/%5c", b'\\'),
            ("/%00", 0),
            ("/%3B", b';'),
            ("/%3f", b'?'),
            ("/%23", b'#'),
        ] {
            check(raw, Err(EscapedDelimiter(byte)));
        }
        for raw in ["/%2541", "/%25%34%31", "/%252e%252e", "/%25%32%35", "/%25ff"] {
            check(raw, Err(DoubleEscape));
        }
        for raw in ["/%", "/%4", "/%zz", "/%2%65", "/a%/b", "/%+1"] {
            check(raw, Err(BadEscape));
        }
        for raw in ["/%FF", "/caf%E9", "/%C0%AF", "/%ED%A0%80", "/%C3", "/%C3/%A9"] {
            check(raw, Err(NotUtf8));
        }
        for raw in ["", "a", "%2Fa", "*"] {
            assert!(CanonicalPath::parse(raw).is_err(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(raw in "/[a-zA-Z%0-9./;\\\\#é ~-]{0,24}") {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                let once = path.as_str();
                prop_assert_eq!(&CanonicalPath::parse(once).unwrap(), &path);
                let decoded = |text| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
                prop_assert_eq!(decoded(once), decoded(&raw));
            }
        }

        #[test]
        fn no_escape_hides_structure(raw in "/(%[0-9a-fA-F]{2}|[a.]){0,8}") {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                let decoded = percent_encoding::percent_decode_str(path.as_str()).decode_utf8().unwrap();
                prop_assert!(!decoded[1..].contains(['/', '\\', '\0', ';', '?', '#']));
                prop_assert!(!["/.", "/.."].contains(&&*decoded));
            }
        }
    }
}
