//! What a store outside of the process holds: sealed with keys out of refresh tokens alone, so that
//! the store by itself tells nothing.
//!
//! ```text
//! sealed = nonce (12 bytes, random), AES-256-GCM ciphertext, tag (16 bytes)
//! entry  = sealed by the token's key: the session's thread (32 bytes)
//! record = sealed by the thread's key: JSON, the members of `Text`, or as a string the thread
//!          (base64url) in whose record the session goes on
//! ```
//!
//! The name under which a thing is stored is authenticated with it: nobody with write access to the
//! store can put one session's record in the place of another's.

use std::borrow::Cow;
use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use foregate_session::{Secret, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::ledger::{Known, Pair};
use crate::lineage::{Lineage, Thread, TokenKeys};
use crate::tokens::Tokens;

/// What is known of a session, and until when it counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) known: Known,
    pub(super) until: UnixSeconds,
}

/// What stands in a record's place.
#[derive(Clone)]
pub(super) enum Page {
    Record(Record),
    /// The session goes on in the record of this thread.
    Moved(Thread),
}

impl Page {
    /// When it ends. A way on is needed for as long as the names that lead to it, until `names`.
    pub(super) fn until(&self, names: UnixSeconds) -> UnixSeconds {
        match self {
            Self::Record(record) => record.until,
            Self::Moved(_) => names,
        }
    }
}

/// Members that are absent are unknown. Short names: there are a million of these.
#[derive(Serialize, Deserialize)]
struct Text<'a> {
    #[serde(rename = "u")]
    until: i64,
    /// Absent: signed out.
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    pair: Option<PairText<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PairText<'a> {
    #[serde(rename = "a")]
    access_token: Cow<'a, str>,
    #[serde(rename = "ae", skip_serializing_if = "Option::is_none")]
    access_expires_at: Option<i64>,
    #[serde(rename = "r")]
    refresh_token: Cow<'a, str>,
    #[serde(rename = "re", skip_serializing_if = "Option::is_none")]
    refresh_expires_at: Option<i64>,
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    id_token: Option<Cow<'a, str>>,
    #[serde(rename = "o")]
    obtained_at: i64,
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    is_the_same_again: bool,
}

/// The entry of a token: which session it belongs to.
pub(super) fn seal_entry(token: &TokenKeys, thread: &Thread) -> Vec<u8> {
    seal(&token.seal, token.name, thread.as_bytes())
}

/// `None`: not what we wrote for this token.
pub(super) fn open_entry(token: &TokenKeys, sealed: &[u8]) -> Option<Thread> {
    let secret = open(&token.seal, token.name, sealed)?;
    Some(Thread::from_bytes(secret.try_into().ok()?))
}

/// The news that a backend refused a token, which only those tell and believe who have the token.
pub(super) fn seal_refusal(token: &TokenKeys) -> Vec<u8> {
    seal(&token.seal, token.name, REFUSAL)
}

pub(super) fn is_refusal(token: &TokenKeys, sealed: &[u8]) -> bool {
    open(&token.seal, token.name, sealed).is_some_and(|text| text == REFUSAL)
}

const REFUSAL: &[u8] = b"refused";

pub(super) fn seal_page(thread: &Thread, page: &Page) -> Vec<u8> {
    let text = match page {
        Page::Record(record) => record_text(record),
        Page::Moved(to) => format!("\"{}\"", BASE64URL.encode(to.as_bytes())).into_bytes(),
    };
    seal(&thread.seal(), thread.name, &text)
}

fn record_text(record: &Record) -> Vec<u8> {
    let pair = match &record.known {
        Known::SignedOut => None,
        Known::Pair(pair) => Some(PairText {
            access_token: pair.tokens.access_token.expose().into(),
            access_expires_at: pair.tokens.access_expires_at.map(|end| end.0),
            refresh_token: pair.tokens.refresh_token.expose().into(),
            refresh_expires_at: pair.tokens.refresh_expires_at.map(|end| end.0),
            id_token: pair.tokens.id_token.as_ref().map(|token| token.expose().into()),
            obtained_at: pair.obtained_at.0,
            is_the_same_again: pair.is_the_same_again,
        }),
    };
    let text = Text { until: record.until.0, pair };
    serde_json::to_vec(&text).expect("strings and numbers have a JSON form")
}

/// `None`: not what we wrote for this session.
pub(super) fn open_page(thread: &Thread, sealed: &[u8]) -> Option<Page> {
    let text = open(&thread.seal(), thread.name, sealed)?;
    if let Ok(to) = serde_json::from_slice::<&str>(&text) {
        let secret = BASE64URL.decode(to).ok()?;
        return Some(Page::Moved(Thread::from_bytes(secret.try_into().ok()?)));
    }
    let text: Text<'_> = serde_json::from_slice(&text).ok()?;
    let known = match text.pair {
        None => Known::SignedOut,
        Some(pair) => {
            let tokens = Tokens {
                access_token: Secret::new(pair.access_token),
                access_expires_at: pair.access_expires_at.map(UnixSeconds),
                refresh_token: Secret::new(pair.refresh_token),
                refresh_expires_at: pair.refresh_expires_at.map(UnixSeconds),
                id_token: pair.id_token.map(Secret::new),
            };
            let is_the_same_again = pair.is_the_same_again;
            let pair = Pair::new(tokens, UnixSeconds(pair.obtained_at));
            Known::Pair(Arc::new(Pair { is_the_same_again, ..pair }))
        }
    };
    Some(Page::Record(Record { known, until: UnixSeconds(text.until) }))
}

fn seal(key: &[u8; 32], name: Lineage, text: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).expect("the kernel gives random bytes");
    let payload = Payload { msg: text, aad: name.as_bytes() };
    let sealed = Aes256Gcm::new(key.into())
        .encrypt(&nonce.into(), payload)
        .expect("AES-GCM seals up to 64 GiB");
    [&nonce[..], &sealed].concat()
}

fn open(key: &[u8; 32], name: Lineage, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload { msg: sealed, aad: name.as_bytes() };
    Aes256Gcm::new(key.into()).decrypt(nonce.into(), payload).ok()
}

/// Random, so that a value which is written again is another one: by it a store can tell whether a
/// record has changed.
pub(super) const NONCE_BYTES: usize = 12;
/// How often a session may have gone on in another record. One that is led in a circle begins anew.
pub(super) const MOVES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id_token: Option<&str>) -> Record {
        let tokens = Tokens {
            access_token: Secret::new("an-access-token"),
            access_expires_at: Some(UnixSeconds(1_800_000_060)),
            refresh_token: Secret::new("a \"quoted\" token"),
            refresh_expires_at: id_token.map(|_| UnixSeconds(1_900_000_000)),
            id_token: id_token.map(Secret::new),
        };
        let pair = Pair::new(tokens, UnixSeconds(1_800_000_000));
        let pair = Pair { is_the_same_again: id_token.is_some(), ..pair };
        Record { known: Known::Pair(Arc::new(pair)), until: UnixSeconds(1_900_000_000) }
    }

    #[test]
    fn what_is_sealed_opens_as_it_was() {
        let thread = TokenKeys::of("first").thread;
        let ended = Record { known: Known::SignedOut, until: UnixSeconds(7) };
        for record in [record(None), record(Some("id")), ended] {
            let page = Page::Record(record.clone());
            let sealed = seal_page(&thread, &page);
            assert!(matches!(open_page(&thread, &sealed), Some(Page::Record(it)) if it == record));
            assert_ne!(seal_page(&thread, &page), sealed, "a nonce serves once");
        }
        let later = TokenKeys::of("later");
        let sealed = seal_page(&thread, &Page::Moved(later.thread.clone()));
        let Some(Page::Moved(to)) = open_page(&thread, &sealed) else { panic!("another page") };
        assert_eq!(to.as_bytes(), later.thread.as_bytes());
        let entry = seal_entry(&later, &thread);
        assert_eq!(entry.len(), 60);
        assert_eq!(open_entry(&later, &entry).unwrap().as_bytes(), thread.as_bytes());
    }

    #[test]
    fn nothing_opens_with_another_token_under_another_name_or_altered() {
        let (first, other) = (TokenKeys::of("first"), TokenKeys::of("other"));
        let sealed = seal_page(&first.thread, &Page::Record(record(None)));
        assert!(open_page(&other.thread, &sealed).is_none());
        let entry = seal_entry(&other, &first.thread);
        assert!(open_entry(&first, &entry).is_none());
        let refusal = seal_refusal(&first);
        assert!(is_refusal(&first, &refusal));
        assert!(!is_refusal(&other, &refusal) && !is_refusal(&other, &entry));
        let moved = TokenKeys { name: first.name, ..other.clone() };
        assert!(open_entry(&moved, &entry).is_none());
        for at in 0..entry.len() {
            let mut altered = entry.clone();
            altered[at] ^= 1;
            assert!(open_entry(&other, &altered).is_none(), "{at}");
            assert!(open_entry(&other, &entry[..at]).is_none(), "{at}");
        }
        for text in ["an-access-token", "quoted", "1800000060"] {
            let is_seen = sealed.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!is_seen, "{text}");
        }
    }
}
