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
}

/// A prefix only: enough to follow a token through a log, too little to look it up with.
impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

/// One key per purpose: a ledger that seals what it stores takes its key from here, under an
/// `info` of its own.
fn derive(refresh_token: &str, info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, refresh_token.as_bytes())
        .expand(info, &mut key)
        .expect("HKDF-SHA256 yields up to 8160 bytes");
    key
}

const NAME_INFO: &[u8] = b"foregate refresh ledger v1: name of a refresh token";

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
}
