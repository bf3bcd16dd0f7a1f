//! Literal text of a pattern in the form of the text that it is held against.

use crate::path::{escaped_byte, is_unreserved, push_escape};

/// Which form of a path a pattern is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// As Next.js does it: literal text as written, escapes in their one spelling.
    Written,
    /// The canonical path: what cannot stand in it is escaped.
    Raw,
    /// The percent-decoded path: escapes are decoded.
    Decoded,
}

impl Form {
    /// `text` in this form.
    pub(crate) fn of(self, text: &str) -> String {
        let spelled = one_spelling(text);
        match self {
            Self::Written => spelled,
            Self::Raw => escape(&spelled),
            Self::Decoded => decode(&spelled).unwrap_or(spelled),
        }
    }

    /// Whether raw and decoded patterns may differ.
    pub(crate) fn matters(source: &str) -> bool {
        source.bytes().any(|byte| byte == b'%' || !byte.is_ascii_graphic())
    }
}

/// Escapes of unreserved characters decoded, all others in upper case: as in a canonical path.
fn one_spelling(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut spelled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match escaped_byte(piece.as_bytes()) {
            Some(byte) if is_unreserved(byte) => spelled.push(char::from(byte)),
            Some(byte) => push_escape(&mut spelled, byte),
            None => {
                spelled.push('%');
                spelled.push_str(piece);
                continue;
            }
        }
        spelled.push_str(&piece[2..]);
    }
    spelled
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_graphic() {
            escaped.push(character);
        } else {
            let mut bytes = [0; 4];
            character
                .encode_utf8(&mut bytes)
                .bytes()
                .for_each(|byte| push_escape(&mut escaped, byte));
        }
    }
    escaped
}

fn decode(text: &str) -> Option<String> {
    Some(percent_encoding::percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_text_takes_the_form_of_the_path() {
        let check = |text, written, raw, decoded| {
            assert_eq!(Form::Written.of(text), written);
            assert_eq!(Form::Raw.of(text), raw);
            assert_eq!(Form::Decoded.of(text), decoded);
        };
        check("/admin", "/admin", "/admin", "/admin");
        check("/%61dmin", "/admin", "/admin", "/admin");
        check("/caf\u{e9}", "/caf\u{e9}", "/caf%C3%A9", "/caf\u{e9}");
        check("/caf%c3%a9", "/caf%C3%A9", "/caf%C3%A9", "/caf\u{e9}");
        check("/a b%20c", "/a b%20c", "/a%20b%20c", "/a b c");
        check("/100%", "/100%", "/100%", "/100%");
        check("/%FF", "/%FF", "/%FF", "/%FF");
    }
}
