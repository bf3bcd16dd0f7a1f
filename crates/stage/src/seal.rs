//! Seals session cookies as the two libraries do, by a hand other than the gate's.
//!
//! v4: compact JWE, `dir`, A256GCM, HKDF without salt (nextauthjs/next-auth, branch `v4`,
//! packages/next-auth/src/jwt/index.ts). v5: compact JWE, `dir`, A256CBC-HS512, HKDF salted with
//! the cookie's name, `kid` (nextauthjs/next-auth, packages/core/src/jwt.ts).

use std::fmt::Write as _;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};

/// A secret for tests. It is public: never guard anything with it.
pub const SECRET: &str = "a-public-test-secret-do-not-use-0123456789";

/// Seals `claims` (JSON, taken as it stands: `iat`, `exp` and `jti` are the caller's) as a
/// NextAuth.js v4 token. The first 12 bytes of `random` become the nonce.
pub fn seal_v4(secret: &str, claims: &str, random: [u8; 16]) -> String {
    let key: [u8; 32] = derive(secret, b"", "NextAuth.js Generated Encryption Key");
    let header = BASE64URL.encode(r#"{"alg":"dir","enc":"A256GCM"}"#);
    let [nonce @ .., _, _, _, _] = random;

    let plain = Payload { msg: claims.as_bytes(), aad: header.as_bytes() };
    let sealed = Aes256Gcm::new(&key.into())
        .encrypt(&nonce.into(), plain)
        .expect("claims are shorter than 64 GiB");
    let (body, tag) = sealed.split_at(sealed.len() - 16);
    compact(&header, &nonce, body, tag)
}

/// Seals `claims` (as for [`seal_v4`]) as an Auth.js v5 token for the cookie called `cookie_name`,
/// which salts the key: under another name the token does not open.
pub fn seal_v5(secret: &str, cookie_name: &str, claims: &str, random: [u8; 16]) -> String {
    let info = format!("Auth.js Generated Encryption Key ({cookie_name})");
    let key: [u8; 64] = derive(secret, cookie_name.as_bytes(), &info);
    let header = BASE64URL
        .encode(format!(r#"{{"alg":"dir","enc":"A256CBC-HS512","kid":"{}"}}"#, thumbprint(&key)));
    let (mac_key, aes_key) = key.split_at(32);

    let mut body = claims.as_bytes().to_vec();
    body.resize((claims.len() / 16 + 1) * 16, 0);
    cbc::Encryptor::<aes::Aes256>::new_from_slices(aes_key, &random)
        .expect("the key has 32 bytes and the IV 16")
        .encrypt_padded::<Pkcs7>(&mut body, claims.len())
        .expect("the padding has its room");
    // RFC 7518 §5.2.2.1: the tag covers header, IV, body and the header's length in bits.
    let mut mac = Hmac::<Sha512>::new_from_slice(mac_key).expect("HMAC takes a key of any length");
    mac.update(header.as_bytes());
    mac.update(&random);
    mac.update(&body);
    mac.update(&(header.len() as u64 * 8).to_be_bytes());
    let tag = mac.finalize().into_bytes();
    compact(&header, &random, &body, &tag[..32])
}

/// A `Cookie` header's value for `token`, cut into chunks `name.0`, `name.1`, … where the library
/// that the name belongs to would cut it.
pub fn cookie_header(name: &str, token: &str) -> String {
    let size = if name.contains("authjs") { CHUNK_V5 } else { CHUNK_V4 };
    if token.len() <= size {
        return format!("{name}={token}");
    }
    let mut header = String::new();
    for (number, chunk) in token.as_bytes().chunks(size).enumerate() {
        let separator = if number == 0 { "" } else { "; " };
        let chunk = std::str::from_utf8(chunk).expect("tokens are ASCII");
        write!(header, "{separator}{name}.{number}={chunk}").expect("a String takes all");
    }
    header
}

/// `N` bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

fn derive<const N: usize>(secret: &str, salt: &[u8], info: &str) -> [u8; N] {
    let mut key = [0; N];
    hkdf::Hkdf::<Sha256>::new(Some(salt), secret.as_bytes())
        .expand(info.as_bytes(), &mut key)
        .expect("HKDF-SHA256 yields up to 8160 bytes");
    key
}

/// RFC 7638 over the derived key, with SHA-512 as Auth.js has it.
fn thumbprint(key: &[u8]) -> String {
    let jwk = format!(r#"{{"k":"{}","kty":"oct"}}"#, BASE64URL.encode(key));
    BASE64URL.encode(Sha512::digest(jwk))
}

fn compact(header: &str, nonce: &[u8], body: &[u8], tag: &[u8]) -> String {
    let [nonce, body, tag] = [nonce, body, tag].map(|part| BASE64URL.encode(part));
    format!("{header}..{nonce}.{body}.{tag}")
}

/// Characters of value in one cookie: 4096 less what each library sets aside for the rest.
const CHUNK_V4: usize = 3933;
const CHUNK_V5: usize = 3936;

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of next-auth 4.24.15 and @auth/core 0.41.3, one per line, with the text that was
    /// sealed. Sealed again with the same nonce, each must come out letter for letter.
    const SEALED: &str = include_str!("../testdata/sealed.json");

    #[derive(serde::Deserialize)]
    struct Sealed {
        id: String,
        secret: String,
        cookie_name: String,
        claims: String,
        token: String,
    }

    #[test]
    fn what_the_libraries_sealed_comes_out_letter_for_letter() {
        let known: Vec<Sealed> = serde_json::from_str(SEALED).unwrap();
        for Sealed { id, secret, cookie_name, claims, token } in &known {
            let nonce = BASE64URL.decode(token.split('.').nth(2).unwrap()).unwrap();
            let mut random = [0; 16];
            random[..nonce.len()].copy_from_slice(&nonce);
            let again = match nonce.len() {
                12 => seal_v4(secret, claims, random),
                _ => seal_v5(secret, cookie_name, claims, random),
            };
            assert_eq!(&again, token, "{id}");
        }
    }

    #[test]
    fn long_tokens_are_cut_where_the_libraries_cut_them() {
        let check = |name: &str, length: usize, lengths: &[usize]| {
            let header = cookie_header(name, &"x".repeat(length));
            let cut: Vec<_> =
                header.split("; ").map(|pair| pair.split_once('=').unwrap().1.len()).collect();
            assert_eq!(cut, lengths, "{name} {length}");
        };
        check("next-auth.session-token", 3933, &[3933]);
        check("next-auth.session-token", 3934, &[3933, 1]);
        check("authjs.session-token", 3936, &[3936]);
        check("__Secure-authjs.session-token", 7873, &[3936, 3936, 1]);
        let header = cookie_header("next-auth.session-token", &"x".repeat(4000));
        assert!(header.starts_with("next-auth.session-token.0=x"), "{header}");
        assert!(header.contains("x; next-auth.session-token.1=x"), "{header}");
    }
}
