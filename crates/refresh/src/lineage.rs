//! Names for refresh tokens: one-way, the same on every replica, whatever the session's secrets.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;

/// The name of one refresh token, in tables and in ledgers.
///
/// It comes from the token alone, so a rotation of session secrets splits nothing. HKDF-SHA256
/// (RFC 5869) tells nothing about a token that is hard to guess; one of less than 128 bits could
/// be found by trying.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lineage([u8; 32]);

impl Lineage {
    pub(crate) fn of(refresh_token: &str) -> Self {
        Self(derive(refresh_token, NAME_INFO))
    }

    /// What stands in a store, where this is a key.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Whether a token is long enough to hold 128 random bits, as far as its letters tell: 32 hex
/// digits, or 22 of base64url.
pub(crate) fn could_be_strong(token: &str) -> bool {
    let digits = token.bytes().filter(|letter| *letter != b'-');
    let is_hex = digits.clone().all(|letter| letter.is_ascii_hexdigit());
    if is_hex { digits.count() >= 32 } else { token.len() >= 22 }
}

/// A prefix only: enough to follow a token through a log, too little to look it up with.
impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

/// All that a ledger outside of the process derives from one refresh token.
#[derive(Clone)]
pub(crate) struct TokenKeys {
    pub(crate) name: Lineage,
    /// Seals the entry of the token, which tells the thread of its session.
    pub(crate) seal: [u8; 32],
    /// The thread of the session whose first token this is. Later tokens do not know it by
    /// themselves: their entries tell them.
    pub(crate) thread: Thread,
}

impl TokenKeys {
    pub(crate) fn of(refresh_token: &str) -> Self {
        Self {
            name: Lineage::of(refresh_token),
            seal: derive(refresh_token, SEAL_INFO),
            thread: Thread::from_bytes(derive(refresh_token, THREAD_INFO)),
        }
    }
}

/// What names and opens the one record of a session. Whoever holds any refresh token of the session
/// gets it through the ledger, and nobody else.
#[derive(Clone)]
pub(crate) struct Thread {
    secret: [u8; 32],
    /// What the record is called in a store.
    pub(crate) name: Lineage,
}

impl Thread {
    pub(crate) fn from_bytes(secret: [u8; 32]) -> Self {
        Self { secret, name: Lineage(expand(&secret, RECORD_NAME_INFO)) }
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The key that seals the record.
    pub(crate) fn seal(&self) -> [u8; 32] {
        expand(&self.secret, RECORD_SEAL_INFO)
    }
}

/// One key per purpose, by its `info`.
fn derive(refresh_token: &str, info: &[u8]) -> [u8; 32] {
    expand(refresh_token.as_bytes(), info)
}

fn expand(secret: &[u8], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, secret)
        .expand(info, &mut key)
        .expect("HKDF-SHA256 yields up to 8160 bytes");
    key
}

const NAME_INFO: &[u8] = b"foregate refresh ledger v1: name of a refresh token";
const SEAL_INFO: &[u8] = b"foregate refresh ledger v1: seal of a refresh token's entry";
const THREAD_INFO: &[u8] = b"foregate refresh ledger v1: session of a first refresh token";
const RECORD_NAME_INFO: &[u8] = b"foregate refresh ledger v1: name of a session's record";
const RECORD_SEAL_INFO: &[u8] = b"foregate refresh ledger v1: seal of a session's record";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_token_s_alone_and_shows_little() {
        assert_eq!(Lineage::of("one"), Lineage::of("one"));
        assert_ne!(Lineage::of("one"), Lineage::of("two"));
        // HKDF by Python's `hmac`, as RFC 5869 spells it, so that a ledger of today opens after an update.
        assert_eq!(format!("{:?}", Lineage::of("one")), "b274fd89…");
    }

    #[test]
    fn keys_of_one_token_differ_by_their_purpose() {
        let (one, two) = (TokenKeys::of("one"), TokenKeys::of("two"));
        let all = |keys: &TokenKeys| {
            let (name, record) = (*keys.name.as_bytes(), *keys.thread.name.as_bytes());
            [name, keys.seal, *keys.thread.as_bytes(), record, keys.thread.seal()]
        };
        let mut keys = [all(&one), all(&two)].concat();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 10);
        assert_eq!(all(&one), all(&TokenKeys::of("one")));
    }

    #[test]
    fn a_token_needs_room_for_128_bits() {
        for strong in [
            "0123456789abcdef0123456789ABCDEF",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
            "Zg-_ab0123456789abcdef",
        ] {
            assert!(could_be_strong(strong), "{strong}");
        }
        for weak in ["", "ann-r0", "0123456789abcdef0123456789abcde", "Zg-_ab0123456789abcde"] {
            assert!(!could_be_strong(weak), "{weak}");
        }
    }
}
