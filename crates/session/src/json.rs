//! JSON as `JSON.parse` reads it, without building a tree: where members and items stand, and what
//! one value says. Lone surrogates, huge numbers and doubled names, which stricter readers refuse,
//! are legal here and stay in the text as they are (RFC 8259 §§4, 6, 8.2).
//!
//! A text is scanned once, in one pass and without allocating, and is refused beyond
//! [`MAX_DEPTH`]. How long it may be, the callers decide.

use std::borrow::Cow;
use std::ops::Range;

/// Why a text was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    NotJson,
    TooDeep,
}

/// One member of an object: where its name (without the quotes) and its value stand in the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    pub(crate) name: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// The members of the object that `text` is, in order, doubled names included. All of the text is
/// checked, at every depth.
pub(crate) fn members(text: &str) -> Result<Vec<Member>, Fault> {
    let mut members = Vec::with_capacity(16);
    let mut scanner = Scanner { text: text.as_bytes(), at: 0 };
    scanner.skip_blanks();
    if scanner.peek() != Some(b'{') {
        return Err(Fault::NotJson);
    }
    scanner.object(1, |member| members.push(member))?;
    scanner.end()?;
    Ok(members)
}

/// Where the items of the array that `text` is stand in it.
pub(crate) fn items(text: &str) -> Result<Vec<Range<usize>>, Fault> {
    let mut items = Vec::new();
    let mut scanner = Scanner { text: text.as_bytes(), at: 0 };
    scanner.skip_blanks();
    if scanner.peek() != Some(b'[') {
        return Err(Fault::NotJson);
    }
    scanner.array(1, |item| items.push(item))?;
    scanner.end()?;
    Ok(items)
}

/// The member called `name`: of several the last, as `JSON.parse` has it.
pub(crate) fn find<'m>(text: &str, members: &'m [Member], name: &str) -> Option<&'m Member> {
    members.iter().rev().find(|member| is_named(&text[member.name.clone()], name))
}

/// Whether the name between quotes, `raw`, says `name`.
pub(crate) fn is_named(raw: &str, name: &str) -> bool {
    raw == name || (raw.contains('\\') && unescape(raw).is_some_and(|told| told == name))
}

/// What the text between the quotes of a string says. `None` for a lone surrogate, which no Rust
/// string can hold.
pub(crate) fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let Some(first) = memchr::memchr(b'\\', raw.as_bytes()) else { return Some(raw.into()) };
    let (plain, mut rest) = raw.split_at(first);
    let mut told = String::with_capacity(raw.len());
    told.push_str(plain);
    while let Some(escape) = rest.strip_prefix('\\') {
        let letter = escape.chars().next()?;
        rest = &escape[letter.len_utf8()..];
        told.push(match letter {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let mut code = hex4(rest)?;
                rest = &rest[4..];
                if (0xD800..0xDC00).contains(&code) {
                    let low = rest.strip_prefix("\\u").and_then(hex4)?;
                    let low = low.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                    code = 0x10000 + ((code - 0xD800) << 10) + low;
                    rest = &rest[6..];
                }
                char::from_u32(code)?
            }
            itself => itself,
        });
        let plain = memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
        told.push_str(&rest[..plain]);
        rest = &rest[plain..];
    }
    Some(told.into())
}

fn hex4(text: &str) -> Option<u32> {
    let digits = text.get(..4)?;
    // `from_str_radix` alone would take a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

/// `text` as a JSON string, quotes included.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\0'..='\u{1f}' => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// How many objects and arrays may stand within one another. Real payloads have four or five; a
/// bound keeps a hostile one from growing the stack.
pub(crate) const MAX_DEPTH: usize = 64;

/// A position in a text. Every method begins at it and leaves it behind what it read.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.skip_blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(Fault::NotJson) }
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Fault> {
        if self.peek() != Some(wanted) {
            return Err(Fault::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Range<usize>, Fault> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'{') => self.object(depth + 1, |_| {})?,
            Some(b'[') => self.array(depth + 1, |_| {})?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            _ => self.number()?,
        }
        Ok(start..self.at)
    }

    fn object(&mut self, depth: usize, mut found: impl FnMut(Member)) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.expect(b'{')?;
        self.skip_blanks();
        if self.peek() == Some(b'}') {
            return self.expect(b'}');
        }
        loop {
            self.skip_blanks();
            let name = self.string()?;
            self.skip_blanks();
            self.expect(b':')?;
            self.skip_blanks();
            let value = self.value(depth)?;
            found(Member { name, value });
            self.skip_blanks();
            if self.peek() != Some(b',') {
                return self.expect(b'}');
            }
            self.at += 1;
        }
    }

    fn array(&mut self, depth: usize, mut found: impl FnMut(Range<usize>)) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.expect(b'[')?;
        self.skip_blanks();
        if self.peek() == Some(b']') {
            return self.expect(b']');
        }
        loop {
            self.skip_blanks();
            found(self.value(depth)?);
            self.skip_blanks();
            if self.peek() != Some(b',') {
                return self.expect(b']');
            }
            self.at += 1;
        }
    }

    /// Reads a string and says where its text stands, without the quotes.
    fn string(&mut self) -> Result<Range<usize>, Fault> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            let rest = &self.text[self.at..];
            let plain = memchr::memchr2(b'"', b'\\', rest).ok_or(Fault::NotJson)?;
            // One pass without a branch per byte.
            if rest[..plain].iter().fold(false, |seen, byte| seen | (*byte < 0x20)) {
                return Err(Fault::NotJson);
            }
            self.at += plain;
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Ok(start..self.at - 1);
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.text[self.at + 1..] {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) => {
                self.at += 6;
            }
            _ => return Err(Fault::NotJson),
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Fault::NotJson);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(Fault::NotJson) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn told(text: &str) -> Vec<(&str, &str)> {
        let members = members(text).unwrap();
        members.iter().map(|m| (&text[m.name.clone()], &text[m.value.clone()])).collect()
    }

    #[test]
    fn members_are_found_where_they_stand() {
        assert_eq!(told(r#"{"a":1,"b":[{"c":2}]}"#), [("a", "1"), ("b", r#"[{"c":2}]"#)]);
        assert_eq!(told(" {\n\"a\" : \t-1.5e+3 }\r\n"), [("a", "-1.5e+3")]);
        assert_eq!(told(r#"{"a":"}\"{","a":null}"#), [("a", r#""}\"{""#), ("a", "null")]);
        assert_eq!(told("{}"), []);
        assert_eq!(told(r#"{"":1e999}"#), [("", "1e999")]);
    }

    #[test]
    fn of_doubled_names_the_last_one_wins() {
        let text = r#"{"a":1,"\u0061":2,"b":3}"#;
        let found = find(text, &members(text).unwrap(), "a").cloned().unwrap();
        assert_eq!(&text[found.value], "2");
    }

    #[test]
    fn a_text_too_deep_is_refused() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(members(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(members(&nested(MAX_DEPTH)), Err(Fault::TooDeep));
        assert_eq!(members(&"{\"a\":".repeat(1_000_000)), Err(Fault::TooDeep));
    }

    #[test]
    fn strings_say_what_their_escapes_mean() {
        assert_eq!(unescape("plain").unwrap(), "plain");
        assert_eq!(unescape(r#"\"\\\/\b\f\n\r\t"#).unwrap(), "\"\\/\u{8}\u{c}\n\r\t");
        assert_eq!(unescape(r"a\u00e9b\uD83D\uDE00c").unwrap(), "aéb😀c");
        assert_eq!(unescape(r"\ud83d"), None);
        assert_eq!(unescape(r"\ud83d\u0041"), None);
        assert_eq!(unescape(r"\ude00"), None);
    }

    proptest! {
        #[test]
        fn what_is_json_here_is_json_elsewhere(text in r#"[\[\]{}:,"\\/a-fu0-9.eE+ \-tr-]{0,24}"#) {
            let wrapped = format!("{{\"a\":{text}}}");
            let elsewhere = serde_json::from_str::<&RawValue>(&wrapped).is_ok();
            prop_assert_eq!(members(&wrapped).is_ok(), elsewhere, "{}", wrapped);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = members(&text);
            let _ = items(&text);
        }

        #[test]
        fn what_is_quoted_is_read_back(text in any::<String>()) {
            let quoted = quote(&text);
            prop_assert_eq!(&serde_json::from_str::<String>(&quoted).unwrap(), &text);
            prop_assert_eq!(unescape(&quoted[1..quoted.len() - 1]).unwrap(), text);
        }
    }
}
