//! The request's `Cookie` lines, and the session tokens that may stand in them. A token is a whole
//! cookie or a row of chunks; which of several is the session, the keyring finds by opening them.

use std::borrow::Cow;
use std::fmt;

use crate::names::{chunk_number, percent_decoded};
use crate::no_session::InvalidReason;

/// The cookies of one request, in the order sent. Borrows from its header values and copies none
/// of them.
pub struct Cookies<'a> {
    pairs: Vec<Pair<'a>>,
    lines: usize,
}

/// One cookie.
pub(crate) struct Pair<'a> {
    /// All between two semicolons, without the blanks in front that separate cookies.
    pub(crate) text: &'a [u8],
    /// Up to the first `=`, without outer blanks and tabs.
    pub(crate) name: &'a [u8],
    /// What follows it, likewise.
    pub(crate) value: &'a [u8],
}

impl<'a> Cookies<'a> {
    /// Reads the values of all `Cookie` lines of a request. Never fails: what is no cookie is
    /// carried along, as the parsers behind us do.
    pub fn parse(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut cookies = Self { pairs: Vec::with_capacity(8), lines: 0 };
        for mut line in lines {
            cookies.lines += 1;
            while let Some(end) = memchr::memchr(b';', line) {
                cookies.pairs.extend(Pair::parse(&line[..end]));
                line = &line[end + 1..];
            }
            cookies.pairs.extend(Pair::parse(line));
        }
        cookies
    }

    pub(crate) fn pairs(&self) -> &[Pair<'a>] {
        &self.pairs
    }

    /// How many `Cookie` lines there were.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// The tokens that may be the session `name`, in the order in which they count: whole cookies
    /// before chunks, the first copy before the second. Cookies without a value are leftovers and
    /// not looked at.
    pub(crate) fn candidates(&self, name: &str) -> impl Iterator<Item = Candidate<'a>> {
        let pairs = self.pairs.iter().enumerate();
        let wholes =
            pairs.filter(move |(_, pair)| pair.name == name.as_bytes() && pair.has_value());
        let wholes = wholes.take(MAX_COPIES).map(|(index, pair)| Candidate {
            token: Ok(pair.token()),
            source: Source::Whole(index),
            unreadable: InvalidReason::Malformed,
        });
        wholes.chain(self.chunked(name))
    }

    /// The tokens that the chunks of `name` make up: the gapless row from 0 on, once for each copy
    /// of its chunks; then, where numbers are missing, all of them, since the libraries join those
    /// too, and the seal tells whether they belong together.
    fn chunked(&self, name: &str) -> Vec<Candidate<'a>> {
        let numbered = self.pairs.iter().enumerate().filter(|(_, pair)| pair.has_value());
        let mut chunks: Vec<(usize, usize)> = numbered
            .filter_map(|(index, pair)| Some((chunk_number(pair.name, name)?, index)))
            .collect();
        chunks.sort_unstable();
        let copies: Vec<&[(usize, usize)]> =
            chunks.chunk_by(|(left, _), (right, _)| left == right).collect();
        let row = copies.iter().zip(0..).take_while(|(copy, wanted)| copy[0].0 == *wanted).count();
        let most = copies[..row].iter().map(|copy| copy.len()).max().unwrap_or(0);
        let unreadable = if row < copies.len() {
            let came = copies.iter().map(|copy| copy[0].0).collect();
            InvalidReason::ChunkMissing { came }
        } else {
            InvalidReason::ChunksEndEarly
        };

        let joined = |indices| self.joined(indices, unreadable);
        let mut candidates = Vec::new();
        for nth in 0..most.min(MAX_COPIES) {
            let row = copies[..row].iter();
            candidates.push(joined(row.map(|copy| copy[nth.min(copy.len() - 1)].1).collect()));
        }
        if row < copies.len() {
            candidates.push(joined(copies.iter().map(|copy| copy[0].1).collect()));
        }
        candidates
    }

    fn joined(&self, indices: Vec<usize>, unreadable: InvalidReason) -> Candidate<'a> {
        let parts = indices.iter().map(|index| self.pairs[*index].token());
        let token = if indices.len() > MAX_CHUNKS {
            Err(InvalidReason::TooManyChunks)
        } else {
            Ok(parts.collect::<String>().into())
        };
        Candidate { token, source: Source::Chunks(indices), unreadable }
    }
}

/// Shows no values.
impl fmt::Debug for Cookies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.pairs.iter().map(Pair::shown_name);
        f.debug_list().entries(names).finish()
    }
}

impl<'a> Pair<'a> {
    fn parse(segment: &'a [u8]) -> Option<Self> {
        let blanks = segment.iter().take_while(|byte| **byte == b' ').count();
        let text = &segment[blanks..];
        if trimmed(text).is_empty() {
            return None;
        }
        let (name, value) = match memchr::memchr(b'=', text) {
            Some(at) => (trimmed(&text[..at]), trimmed(&text[at + 1..])),
            None => (trimmed(text), &text[..0]),
        };
        Some(Self { text, name, value })
    }

    /// The value as session text: `%` escapes are resolved, as every reader does.
    pub(crate) fn token(&self) -> Cow<'a, str> {
        if memchr::memchr(b'%', self.value).is_some()
            && let Some(decoded) = percent_decoded(self.value)
        {
            return String::from_utf8_lossy(&decoded).into_owned().into();
        }
        // Sealed text is ASCII, which this check takes in strides and the lossy one byte by byte.
        match std::str::from_utf8(self.value) {
            Ok(text) => text.into(),
            Err(_) => String::from_utf8_lossy(self.value),
        }
    }

    pub(crate) fn has_value(&self) -> bool {
        !self.value.is_empty()
    }

    /// The name for people to read, whatever bytes it has.
    pub(crate) fn shown_name(&self) -> String {
        self.name.escape_ascii().to_string()
    }

    /// Whether every reader sees the same name and the same value here: nothing stands around them.
    pub(crate) fn is_plain(&self) -> bool {
        self.text.len() == self.name.len() + 1 + self.value.len()
            && memchr::memchr(b'%', self.value).is_none()
    }
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A token, and where in the request it stands.
pub(crate) struct Candidate<'a> {
    pub(crate) token: Result<Cow<'a, str>, InvalidReason>,
    pub(crate) source: Source,
    /// What it means if the token has not the shape of one.
    pub(crate) unreadable: InvalidReason,
}

/// The cookies that a session was read from, as indices into [`Cookies::pairs`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// Not from this request.
    Nowhere,
    Whole(usize),
    /// In the order in which they make up the token.
    Chunks(Vec<usize>),
}

impl Source {
    pub(crate) fn indices(&self) -> &[usize] {
        match self {
            Self::Nowhere => &[],
            Self::Whole(index) => std::slice::from_ref(index),
            Self::Chunks(indices) => indices,
        }
    }
}

/// A session in more chunks would not fit a request head that Node or we accept.
pub(crate) const MAX_CHUNKS: usize = 16;
/// A browser may hold a cookie of one name for each parent domain and path.
const MAX_COPIES: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(line: &str, name: &str) -> Vec<Result<String, InvalidReason>> {
        let cookies = Cookies::parse([line.as_bytes()]);
        cookies.candidates(name).map(|candidate| candidate.token.map(Cow::into_owned)).collect()
    }

    #[test]
    fn candidates_come_in_the_order_in_which_they_count() {
        let check = |line: &str, wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|token| Ok((*token).to_owned())).collect();
            assert_eq!(tokens(line, "s"), wanted, "{line}");
        };
        check("s=a", &["a"]);
        check("t=x; s=a;u;=;;s=b", &["a", "b"]);
        check("s.1=b; s.0=a; s=w", &["w", "ab"]);
        check("s=; s.0=a; s.1=", &["a"]);
        check("s-x=1; s.x=2; s.01=3; S=4; xs=5", &[]);
        check("s = a ;\ts=b", &["a", "b"]);
        check("s=a%2Eb; s=%zz; s=\"q\"", &["a.b", "%zz", "\"q\""]);
        check("s==a=", &["=a="]);
    }

    #[test]
    fn chunks_join_by_number_and_copy() {
        let check = |line: &str, wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|token| Ok((*token).to_owned())).collect();
            assert_eq!(tokens(line, "s"), wanted, "{line}");
        };
        check("s.10=k; s.2=c; s.0=a; s.1=b", &["abc", "abck"]);
        check("s.0=a; s.1=b; s.0=A; s.1=B", &["ab", "AB"]);
        check("s.0=a; s.1=b; s.1=B", &["ab", "aB"]);
        check("s.0=a; s.3=b; s.6=c", &["a", "abc"]);
        check("s.1=b; s.2=c", &["bc"]);
    }

    #[test]
    fn a_crowd_of_chunks_or_copies_is_not_followed() {
        let chunks = |count: usize| -> String { (0..count).map(|n| format!("s.{n}=x;")).collect() };
        assert_eq!(tokens(&chunks(MAX_CHUNKS), "s"), [Ok("x".repeat(MAX_CHUNKS))]);
        assert_eq!(tokens(&chunks(MAX_CHUNKS + 1), "s"), [Err(InvalidReason::TooManyChunks)]);
        assert_eq!(tokens(&"s=x;".repeat(1000), "s").len(), MAX_COPIES);
        assert_eq!(tokens(&"s.0=x;".repeat(1000), "s").len(), MAX_COPIES);
    }

    proptest! {
        #[test]
        fn any_bytes_are_cookies(lines in any::<Vec<Vec<u8>>>()) {
            let cookies = Cookies::parse(lines.iter().map(Vec::as_slice));
            for pair in cookies.pairs() {
                prop_assert!(!pair.text.contains(&b';'));
                prop_assert!(!pair.name.contains(&b'='));
                pair.token();
            }
            cookies.candidates("s").count();
        }

        #[test]
        fn a_cookie_is_read_as_it_was_written(
            cookies in prop::collection::vec(("[!#-.0-9A-Z^-z|~]{1,8}", "[!-+.-:<-Z^-~ -]{0,8}"), 1..6),
            separator in "; ?",
        ) {
            let line = cookies.iter().map(|(name, value)| format!("{name}={value}"));
            let line = line.collect::<Vec<_>>().join(&separator);
            let read = Cookies::parse([line.as_bytes()]);
            let read: Vec<_> = read.pairs().iter().map(|pair| (pair.name, pair.value)).collect();
            let written: Vec<_> = cookies
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.trim_matches(' ').as_bytes()))
                .collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn what_is_cut_into_chunks_joins_again(token in "[A-Za-z0-9._-]{1,200}", size in 13_usize..64) {
            let chunks = token.as_bytes().chunks(size).enumerate();
            let mut cookies: Vec<String> =
                chunks.map(|(n, chunk)| format!("s.{n}={}", chunk.escape_ascii())).collect();
            cookies.reverse();
            prop_assert_eq!(tokens(&cookies.join("; "), "s"), [Ok(token)]);
        }
    }
}
