//! A payload: one JSON object, kept as the text it came in. Claims are read from it where they
//! stand, and a changed payload carries every other value over byte for byte, so that what an app
//! put there survives a re-sealing whether we know it or not.

use std::borrow::Cow;
use std::ops::Range;

use crate::json::{self, Fault, Member};

/// A JSON object and where its members stand. Its text is sound JSON, of bounded depth.
#[derive(Clone)]
pub(crate) struct Claims {
    text: String,
    members: Vec<Member>,
}

impl Claims {
    /// Reads a payload. A byte order mark in front is dropped, as `TextDecoder` does.
    pub(crate) fn parse(mut text: String) -> Result<Self, Fault> {
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        let members = json::members(&text)?;
        Ok(Self { text, members })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The top-level claim called `name`.
    pub(crate) fn claim(&self, name: &str) -> Option<Claim<'_>> {
        let member = json::find(&self.text, &self.members, name)?;
        Some(Claim { text: &self.text[member.value.clone()] })
    }

    /// The claim that the member names in `steps` lead to.
    pub(crate) fn at(&self, steps: &[Box<str>]) -> Option<Claim<'_>> {
        Some(Claim { text: &self.text[self.span(steps)?] })
    }

    /// Where the claim of [`Claims::at`] stands in the text.
    pub(crate) fn span(&self, steps: &[Box<str>]) -> Option<Range<usize>> {
        let (first, inner) = steps.split_first()?;
        let mut span = json::find(&self.text, &self.members, first)?.value.clone();
        for step in inner {
            let object = &self.text[span.clone()];
            let found = json::find(object, &json::members(object).ok()?, step)?.value.clone();
            span = span.start + found.start..span.start + found.end;
        }
        Some(span)
    }

    /// The same claims, with `value` (JSON) at `steps`: in its place where it was, at the end of
    /// its object where it was not. Without the object that it would belong to nothing changes.
    pub(crate) fn with(&self, steps: &[Box<str>], value: &str) -> Self {
        Self::rewritten(&self.text, &self.members, steps, Some(value))
    }

    /// The same claims without the one at `steps`.
    pub(crate) fn without(&self, steps: &[Box<str>]) -> Self {
        Self::rewritten(&self.text, &self.members, steps, None)
    }

    fn rewritten(text: &str, members: &[Member], steps: &[Box<str>], value: Option<&str>) -> Self {
        let mut written = Self::empty();
        let Some((step, inner)) = steps.split_first() else { return written };
        let place = json::find(text, members, step);
        for member in members {
            let (name, old) = (&text[member.name.clone()], &text[member.value.clone()]);
            match value {
                _ if !json::is_named(name, step) => written.push(name, old),
                // Of doubled names all go, since removing the last alone would bring back another.
                None if inner.is_empty() => {}
                Some(new) if inner.is_empty() && place == Some(member) => written.push(name, new),
                _ => match json::members(old) {
                    Ok(nested) if !inner.is_empty() && place == Some(member) => {
                        written.push(name, &Self::rewritten(old, &nested, inner, value).text);
                    }
                    _ => written.push(name, old),
                },
            }
        }
        if let (None, Some(new), true) = (place, value, inner.is_empty()) {
            let quoted = json::quote(step);
            written.push(&quoted[1..quoted.len() - 1], new);
        }
        written
    }

    fn empty() -> Self {
        Self { text: "{}".to_owned(), members: Vec::new() }
    }

    /// Adds a member; `name` is as it stands between quotes.
    fn push(&mut self, name: &str, value: &str) {
        self.text.pop();
        self.text.push_str(if self.members.is_empty() { "\"" } else { ",\"" });
        let name_start = self.text.len();
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str("\":");
        let value_start = self.text.len();
        self.text.push_str(value);
        let value_end = self.text.len();
        self.text.push('}');
        self.members.push(Member { name: name_start..name_end, value: value_start..value_end });
    }
}

/// One JSON value of a payload, read when asked.
#[derive(Clone, Copy)]
pub struct Claim<'a> {
    text: &'a str,
}

impl<'a> Claim<'a> {
    /// The value as it stands in the payload, in JSON.
    #[must_use]
    pub fn text(self) -> &'a str {
        self.text
    }

    /// What a string says. `None` for any other value, and for a string with a lone surrogate.
    #[must_use]
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        json::unescape(self.quoted()?)
    }

    /// A number as JavaScript holds it: what is too large is infinite.
    #[must_use]
    pub fn as_f64(self) -> Option<f64> {
        let digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
        self.text.as_bytes().first().filter(|first| digit(first))?;
        self.text.parse().ok()
    }

    /// `true` or `false`.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        self.text.parse().ok()
    }

    /// Whether the value is `null`.
    #[must_use]
    pub fn is_null(self) -> bool {
        self.text == "null"
    }

    /// The items of a list.
    #[must_use]
    pub fn items(self) -> Option<Vec<Self>> {
        let items = json::items(self.text).ok()?;
        Some(items.into_iter().map(|item| Self { text: &self.text[item] }).collect())
    }

    /// The text of a string as it stands between its quotes, escapes unread.
    pub(crate) fn quoted(self) -> Option<&'a str> {
        self.text.strip_prefix('"')?.strip_suffix('"')
    }

    /// A number, or a string that holds nothing else: both are how apps write times.
    pub(crate) fn as_count(self) -> Option<f64> {
        match self.quoted() {
            Some(text) if text.starts_with(|first: char| first.is_ascii_digit()) => {
                text.parse().ok()
            }
            Some(_) => None,
            None => self.as_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims(text: &str) -> Claims {
        Claims::parse(text.to_owned()).unwrap()
    }

    fn steps(path: &str) -> Vec<Box<str>> {
        path.split('.').map(Box::from).collect()
    }

    #[test]
    fn a_claim_is_found_by_its_steps() {
        let payload =
            claims(r#"{"user":{"id":7,"tags":["a"],"id":8},"a":{"b":{"c":"d"}},"e":[{"f":1}]}"#);
        let text = |path: &str| payload.at(&steps(path)).map(Claim::text);
        assert_eq!(text("user.id"), Some("8"));
        assert_eq!(text("user.tags"), Some(r#"["a"]"#));
        assert_eq!(text("a.b.c"), Some(r#""d""#));
        assert_eq!(text("a.b.c.d"), None);
        assert_eq!(text("e.f"), None);
        assert_eq!(text("user.name"), None);
    }

    #[test]
    fn a_value_is_read_as_what_it_is() {
        let payload = claims(
            r#"{"s":"a\"b","n":-1.5e3,"huge":1e999,"t":true,"f":false,"z":null,"l":[1,"x"],"o":{},"bad":"\ud83d"}"#,
        );
        let claim = |name: &str| payload.claim(name).unwrap();
        assert_eq!(claim("s").as_str().unwrap(), "a\"b");
        assert_eq!(claim("n").as_f64(), Some(-1500.0));
        assert_eq!(claim("huge").as_f64(), Some(f64::INFINITY));
        assert_eq!((claim("t").as_bool(), claim("f").as_bool()), (Some(true), Some(false)));
        assert!(claim("z").is_null());
        let items: Vec<_> = claim("l").items().unwrap().into_iter().map(Claim::text).collect();
        assert_eq!(items, ["1", "\"x\""]);
        assert!(claim("bad").as_str().is_none());
        for name in ["s", "t", "z", "l", "o"] {
            assert_eq!(claim(name).as_f64(), None, "{name}");
        }
        for name in ["n", "t", "z", "l", "o"] {
            assert!(claim(name).as_str().is_none(), "{name}");
        }
    }

    #[test]
    fn a_count_may_stand_in_quotes() {
        let payload =
            claims(r#"{"a":12,"b":"12","c":"12.5","d":" 12","e":"inf","f":"","g":"2026-01-01"}"#);
        let counts =
            ["a", "b", "c", "d", "e", "f", "g"].map(|name| payload.claim(name).unwrap().as_count());
        assert_eq!(counts, [Some(12.0), Some(12.0), Some(12.5), None, None, None, None]);
    }

    #[test]
    fn a_change_leaves_every_other_value_as_it_was() {
        let payload = claims(
            "\u{feff} {\"n\" : 1e999, \"s\":\"\\ud83d\\/\", \"user\": {\"t\":1, \"x\" :2}, \"t\":[ ]}",
        );
        let check = |changed: Claims, wanted: &str| {
            assert_eq!(changed.text(), wanted);
            assert_eq!(changed.members, json::members(wanted).unwrap());
        };
        check(
            payload.with(&steps("t"), "9"),
            r#"{"n":1e999,"s":"\ud83d\/","user":{"t":1, "x" :2},"t":9}"#,
        );
        check(
            payload.with(&steps("user.t"), "9"),
            r#"{"n":1e999,"s":"\ud83d\/","user":{"t":9,"x":2},"t":[ ]}"#,
        );
        check(
            payload.with(&steps("user.new"), "9"),
            r#"{"n":1e999,"s":"\ud83d\/","user":{"t":1,"x":2,"new":9},"t":[ ]}"#,
        );
        check(
            payload.with(&steps("a\"b"), "9"),
            r#"{"n":1e999,"s":"\ud83d\/","user":{"t":1, "x" :2},"t":[ ],"a\"b":9}"#,
        );
        check(
            payload.with(&steps("nobody.new"), "9"),
            r#"{"n":1e999,"s":"\ud83d\/","user":{"t":1, "x" :2},"t":[ ]}"#,
        );
        check(payload.without(&steps("user")), r#"{"n":1e999,"s":"\ud83d\/","t":[ ]}"#);
        check(
            payload.without(&steps("user.x")),
            r#"{"n":1e999,"s":"\ud83d\/","user":{"t":1},"t":[ ]}"#,
        );
    }

    #[test]
    fn of_doubled_names_the_last_is_changed_and_all_are_removed() {
        let payload = claims(r#"{"a":1,"b":2,"\u0061":3}"#);
        assert_eq!(payload.with(&steps("a"), "9").text(), r#"{"a":1,"b":2,"\u0061":9}"#);
        assert_eq!(payload.without(&steps("a")).text(), r#"{"b":2}"#);
    }

    proptest! {
        #[test]
        fn what_was_set_is_found(
            name in "[ab\"\\\\\u{1}é]{1,3}",
            inner in "[ab]{1,2}",
            text in r#"(\{"a":(1|\{"b":2\}|"x")(,"b":\{\})?\}|\{\})"#,
        ) {
            let payload = claims(&text);
            let path = [Box::from(name.as_str())];
            let set = payload.with(&path, "[7]");
            prop_assert_eq!(set.at(&path).map(Claim::text), Some("[7]"));
            prop_assert!(set.without(&path).at(&path).is_none());
            let nested = [Box::from("a"), Box::from(inner.as_str())];
            let set = payload.with(&nested, "[7]");
            if payload.claim("a").is_some_and(|a| a.text().starts_with('{')) {
                prop_assert_eq!(set.at(&nested).map(Claim::text), Some("[7]"));
            } else {
                prop_assert_eq!(set.text(), payload.text());
            }
        }
    }
}
