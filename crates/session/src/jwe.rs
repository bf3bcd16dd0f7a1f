//! Compact JWE with a direct key (RFC 7516 §3.1): `enc: A256GCM`, as NextAuth.js 4 writes it
//! (nextauthjs/next-auth, branch `v4`, packages/next-auth/src/jwt/index.ts), and
//! `enc: A256CBC-HS512` (RFC 7518 §5.2.5), as Auth.js 5 does (packages/core/src/jwt.ts).
//!
//! Everything else is refused before any cryptography: another `alg` or `enc`, `zip` (a payload
//! that unpacks to more than it weighs), `crit`, a header that repeats claims, an encrypted key.
//! The text is public, so decoding it takes no constant time; comparing tags does.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use hmac::{Hmac, Mac};
use sha2::Sha512;

use crate::json;
use crate::no_session::InvalidReason;

/// How the payload is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Enc {
    A256Gcm,
    A256CbcHs512,
}

impl Enc {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::A256Gcm => "A256GCM",
            Self::A256CbcHs512 => "A256CBC-HS512",
        }
    }

    pub(crate) const fn key_bytes(self) -> usize {
        match self {
            Self::A256Gcm => 32,
            Self::A256CbcHs512 => 64,
        }
    }

    const fn iv_bytes(self) -> usize {
        match self {
            Self::A256Gcm => 12,
            Self::A256CbcHs512 => 16,
        }
    }

    const fn tag_bytes(self) -> usize {
        match self {
            Self::A256Gcm => 16,
            Self::A256CbcHs512 => 32,
        }
    }
}

/// A sealed token, taken apart and decoded, with a header that we accept. Nothing in it is
/// authentic yet.
pub(crate) struct SealedToken<'a> {
    /// The first segment as received: it is what the tag covers.
    protected: &'a str,
    pub(crate) enc: Enc,
    /// Names the key; empty if it is there but no string.
    pub(crate) kid: Option<String>,
    /// `enc.iv_bytes()` of it.
    iv: [u8; 16],
    /// `enc.tag_bytes()` of it.
    tag: [u8; 32],
    ciphertext: Vec<u8>,
}

impl<'a> SealedToken<'a> {
    /// Takes `text` apart.
    pub(crate) fn parse(text: &'a str) -> Result<Self, InvalidReason> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(InvalidReason::TooLong);
        }
        let mut segments = text.split('.');
        let mut next = || segments.next().ok_or(InvalidReason::Malformed);
        let (protected, key, iv, ciphertext, tag) = (next()?, next()?, next()?, next()?, next()?);
        if !key.is_empty() || segments.next().is_some() {
            return Err(InvalidReason::Malformed);
        }
        let Header { enc, kid } = Header::parse(protected)?;
        Ok(Self {
            protected,
            enc,
            kid,
            iv: decode_exact(iv, enc.iv_bytes())?,
            tag: decode_exact(tag, enc.tag_bytes())?,
            ciphertext: BASE64URL.decode(ciphertext).map_err(|_| InvalidReason::Malformed)?,
        })
    }
}

/// Decodes a segment of exactly `wanted` bytes into the front of an array.
fn decode_exact<const N: usize>(text: &str, wanted: usize) -> Result<[u8; N], InvalidReason> {
    // Roomier than any sound segment, since the decoder asks for its worst case.
    let mut decoded = [0; 64];
    match BASE64URL.decode_slice(text, &mut decoded) {
        Ok(length) if length == wanted => {
            let mut exact = [0; N];
            exact[..wanted].copy_from_slice(&decoded[..wanted]);
            Ok(exact)
        }
        _ => Err(InvalidReason::Malformed),
    }
}

/// What a protected header asks for.
struct Header {
    enc: Enc,
    kid: Option<String>,
}

impl Header {
    fn parse(segment: &str) -> Result<Self, InvalidReason> {
        if segment == V4_PROTECTED {
            return Ok(Self { enc: Enc::A256Gcm, kid: None });
        }
        let mut decoded = [0; MAX_HEADER_BYTES];
        let length =
            BASE64URL.decode_slice(segment, &mut decoded).map_err(|_| InvalidReason::Malformed)?;
        let text = str::from_utf8(&decoded[..length]).map_err(|_| InvalidReason::Malformed)?;
        let members = json::members(text).map_err(|_| InvalidReason::Malformed)?;
        let value = |name| {
            let member = json::find(text, &members, name)?;
            Some(&text[member.value.clone()])
        };
        let word = |name| {
            let quoted: &str = value(name)?;
            json::unescape(quoted.strip_prefix('"')?.strip_suffix('"')?)
        };

        if value("zip").is_some() {
            return Err(InvalidReason::Compressed);
        }
        // Claims repeated in the header would have to equal those inside; the libraries write none.
        if ["crit", "iss", "sub", "aud"].into_iter().any(|name| value(name).is_some()) {
            return Err(InvalidReason::BadHeader);
        }
        let (Some(alg), Some(enc)) = (word("alg"), word("enc")) else {
            return Err(InvalidReason::BadHeader);
        };
        let enc = [Enc::A256Gcm, Enc::A256CbcHs512].into_iter().find(|known| enc == known.as_str());
        let enc = enc.filter(|_| alg == "dir").ok_or(InvalidReason::Algorithm)?;
        let kid = value("kid").map(|_| word("kid").unwrap_or_default().into_owned());
        Ok(Self { enc, kid })
    }
}

/// The header of every token of NextAuth.js 4: `{"alg":"dir","enc":"A256GCM"}`.
const V4_PROTECTED: &str = "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0";
/// Sixteen full chunks, and a little more. Checked before anything is decoded.
pub(crate) const MAX_TOKEN_BYTES: usize = 64 * 1024;
const MAX_HEADER_BYTES: usize = 1024;

/// A key with its schedule worked out, so that no request pays for that.
pub(crate) enum ContentKey {
    A256Gcm(Box<Aes256Gcm>),
    /// The first half of the key is for the MAC, the second for AES.
    A256CbcHs512(Box<(Hmac<Sha512>, Aes256)>),
}

impl ContentKey {
    /// `key` has `enc.key_bytes()` bytes.
    pub(crate) fn new(enc: Enc, key: &[u8]) -> Self {
        const FITS: &str = "a key of the length that its algorithm asks for";
        match enc {
            Enc::A256Gcm => Self::A256Gcm(Box::new(Aes256Gcm::new_from_slice(key).expect(FITS))),
            Enc::A256CbcHs512 => {
                let (mac, cipher) = key.split_at(key.len() / 2);
                let mac = Hmac::new_from_slice(mac).expect(FITS);
                let cipher = Aes256::new_from_slice(cipher).expect(FITS);
                Self::A256CbcHs512(Box::new((mac, cipher)))
            }
        }
    }

    pub(crate) fn enc(&self) -> Enc {
        match self {
            Self::A256Gcm(_) => Enc::A256Gcm,
            Self::A256CbcHs512(_) => Enc::A256CbcHs512,
        }
    }

    /// The payload of `token`, decrypted where it stands. Nothing is decrypted before the tag is
    /// found true, so after a failure another key may be tried.
    pub(crate) fn open(&self, token: &mut SealedToken<'_>) -> Result<Vec<u8>, InvalidReason> {
        if token.enc != self.enc() {
            return Err(InvalidReason::NoKey);
        }
        let SealedToken { protected, iv, tag, ciphertext, .. } = token;
        let aad = protected.as_bytes();
        let length = match self {
            Self::A256Gcm(key) => {
                let (iv, _) = iv.split_first_chunk::<12>().ok_or(InvalidReason::Malformed)?;
                let (tag, _) = tag.split_first_chunk::<16>().ok_or(InvalidReason::Malformed)?;
                key.decrypt_inout_detached(
                    iv.into(),
                    aad,
                    ciphertext.as_mut_slice().into(),
                    tag.into(),
                )
                .map_err(|_| InvalidReason::BrokenSeal)?;
                ciphertext.len()
            }
            Self::A256CbcHs512(key) => {
                let (mac, cipher) = &**key;
                mac_over(mac, aad, iv, ciphertext)
                    .verify_truncated_left(tag)
                    .map_err(|_| InvalidReason::BrokenSeal)?;
                let cbc = cbc::Decryptor::inner_iv_init(cipher, (&*iv).into());
                let padded = cbc.decrypt_padded::<Pkcs7>(ciphertext);
                padded.map_err(|_| InvalidReason::BrokenSeal)?.len()
            }
        };
        ciphertext.truncate(length);
        Ok(std::mem::take(ciphertext))
    }

    /// Seals `payload` under `protected`, an encoded header that names this key's `enc`. The `iv`
    /// must be random and new for every call; A256GCM takes the first 12 bytes of it.
    pub(crate) fn seal(&self, protected: &str, iv: [u8; 16], payload: &[u8]) -> String {
        let aad = protected.as_bytes();
        let mut sealed = Vec::with_capacity(payload.len() + 16);
        sealed.extend_from_slice(payload);
        let (iv, tag) = match self {
            Self::A256Gcm(key) => {
                let (iv, _) = iv.split_first_chunk::<12>().expect("16 bytes are more than 12");
                let tag = key
                    .encrypt_inout_detached(iv.into(), aad, sealed.as_mut_slice().into())
                    .expect("a payload far below 64 GiB");
                (&iv[..], tag.to_vec())
            }
            Self::A256CbcHs512(key) => {
                let (mac, cipher) = &**key;
                let padding = 16 - payload.len() % 16;
                sealed.resize(payload.len() + padding, 0);
                cbc::Encryptor::inner_iv_init(cipher, (&iv).into())
                    .encrypt_padded::<Pkcs7>(&mut sealed, payload.len())
                    .expect("room for the padding");
                let tag = mac_over(mac, aad, &iv, &sealed).finalize().into_bytes();
                (&iv[..], tag[..Enc::A256CbcHs512.tag_bytes()].to_vec())
            }
        };
        let [iv, sealed, tag] = [iv, &sealed, &tag].map(|bytes| BASE64URL.encode(bytes));
        [protected, "", &iv, &sealed, &tag].join(".")
    }
}

/// What the tag of A256CBC-HS512 is the first half of (RFC 7518 §5.2.2.1).
fn mac_over(key: &Hmac<Sha512>, aad: &[u8], iv: &[u8; 16], ciphertext: &[u8]) -> Hmac<Sha512> {
    let aad_bits = (aad.len() as u64 * 8).to_be_bytes();
    key.clone().chain_update(aad).chain_update(iv).chain_update(ciphertext).chain_update(aad_bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 64] = [7; 64];

    fn key(enc: Enc) -> ContentKey {
        ContentKey::new(enc, &KEY[..enc.key_bytes()])
    }

    fn protected(header: &str) -> String {
        BASE64URL.encode(header)
    }

    fn sealed(enc: Enc, payload: &[u8]) -> String {
        let header = format!(r#"{{"alg":"dir","enc":"{}"}}"#, enc.as_str());
        key(enc).seal(&protected(&header), [3; 16], payload)
    }

    fn opened(enc: Enc, token: &str) -> Result<Vec<u8>, InvalidReason> {
        key(enc).open(&mut SealedToken::parse(token)?)
    }

    #[test]
    fn the_known_header_is_the_one_that_v4_writes() {
        assert_eq!(V4_PROTECTED, protected(r#"{"alg":"dir","enc":"A256GCM"}"#));
    }

    #[test]
    fn a_key_does_not_open_what_another_algorithm_sealed() {
        let token = sealed(Enc::A256Gcm, b"{}");
        assert_eq!(opened(Enc::A256CbcHs512, &token), Err(InvalidReason::NoKey));
    }

    #[test]
    fn headers_are_refused_before_any_key_is_asked() {
        let check = |header: &str, reason| {
            let token =
                format!("{}..AAAAAAAAAAAAAAAA.AA.AAAAAAAAAAAAAAAAAAAAAA", protected(header));
            assert_eq!(SealedToken::parse(&token).err(), reason, "{header}");
        };
        check(r#" { "enc":"A256\u0047CM","x":[1],"alg":"dir" }"#, None);
        check(r#"{"alg":"none","alg":"dir","enc":"A256GCM"}"#, None);
        check(r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#, Some(InvalidReason::Compressed));
        check(r#"{"alg":"dir","enc":"A256GCM","zip":null}"#, Some(InvalidReason::Compressed));
        check(r#"{"alg":"dir","enc":"A256GCM","crit":["x"]}"#, Some(InvalidReason::BadHeader));
        check(r#"{"alg":"dir","enc":"A256GCM","sub":"a"}"#, Some(InvalidReason::BadHeader));
        check(r#"{"alg":"dir","enc":1}"#, Some(InvalidReason::BadHeader));
        check(r#"{"alg":"dir"}"#, Some(InvalidReason::BadHeader));
        check(r#"{"alg":"none","enc":"A256GCM"}"#, Some(InvalidReason::Algorithm));
        check(r#"{"alg":"DIR","enc":"A256GCM"}"#, Some(InvalidReason::Algorithm));
        check(r#"{"alg":"A256KW","enc":"A256GCM"}"#, Some(InvalidReason::Algorithm));
        check(
            r#"{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2c":1e9}"#,
            Some(InvalidReason::Algorithm),
        );
        check(r#"{"alg":"dir","enc":"A128GCM"}"#, Some(InvalidReason::Algorithm));
        check(r#"[{"alg":"dir"}]"#, Some(InvalidReason::Malformed));
        check("{", Some(InvalidReason::Malformed));
        check(&"[".repeat(900), Some(InvalidReason::Malformed));
        check(&format!("{{{}", " ".repeat(2000)), Some(InvalidReason::Malformed));
    }

    #[test]
    fn a_token_over_the_limit_is_not_even_taken_apart() {
        let token = ".".repeat(MAX_TOKEN_BYTES + 1);
        assert_eq!(SealedToken::parse(&token).err(), Some(InvalidReason::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_again(payload in any::<Vec<u8>>()) {
            for enc in [Enc::A256Gcm, Enc::A256CbcHs512] {
                prop_assert_eq!(opened(enc, &sealed(enc, &payload)), Ok(payload.clone()));
            }
        }

        #[test]
        fn no_altered_character_goes_unnoticed(payload in any::<[u8; 40]>(), other in "[A-Za-z0-9_.+/ =-]") {
            for enc in [Enc::A256Gcm, Enc::A256CbcHs512] {
                let token = sealed(enc, &payload);
                for at in 0..token.len() {
                    if token[at..=at] != other {
                        let altered = [&token[..at], &other, &token[at + 1..]].concat();
                        prop_assert!(opened(enc, &altered).is_err(), "{}", altered);
                    }
                }
            }
        }

        #[test]
        fn any_text_is_opened_or_refused(text in r"([A-Za-z0-9_-]{0,60}\.){0,6}\PC{0,8}") {
            prop_assert!(opened(Enc::A256Gcm, &text).is_err());
            let text = [V4_PROTECTED, &text].concat();
            prop_assert!(opened(Enc::A256CbcHs512, &text).is_err());
        }
    }
}
