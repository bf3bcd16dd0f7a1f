//! The keys that a secret gives for one cookie name, as both libraries derive them: HKDF-SHA256
//! over the secret's bytes verbatim (`getDerivedEncryptionKey` in the files that `jwe` names).

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use hkdf::Hkdf;
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::jwe::{ContentKey, Enc, SealedToken};
use crate::no_session::InvalidReason;
use crate::secret::Secret;

/// Which library's cookie it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// NextAuth.js 4: A256GCM, a key that does not depend on the cookie's name.
    NextAuthV4,
    /// Auth.js 5: A256CBC-HS512 (A256GCM before @auth/core 0.23), the cookie's name as salt.
    AuthjsV5,
}

impl Format {
    /// As proxy.toml and the tools spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NextAuthV4 => "next-auth-v4",
            Self::AuthjsV5 => "authjs-v5",
        }
    }

    /// The ways in which this library has sealed, the one it seals in now first.
    fn encs(self) -> &'static [Enc] {
        match self {
            Self::NextAuthV4 => &[Enc::A256Gcm],
            Self::AuthjsV5 => &[Enc::A256CbcHs512, Enc::A256Gcm],
        }
    }
}

/// One key, and what is said of it in headers.
struct Key {
    format: Format,
    /// Index into the configured secrets.
    secret: usize,
    /// Auth.js 5 alone names its keys.
    kid: Option<String>,
    /// The header that its tokens carry, encoded.
    protected: String,
    content: ContentKey,
}

impl Key {
    fn derive(format: Format, enc: Enc, (index, secret): (usize, &Secret), salt: &str) -> Self {
        let mut bytes = Zeroizing::new([0; 64]);
        let bytes = &mut bytes[..enc.key_bytes()];
        let (salt, info) = match format {
            Format::NextAuthV4 => ("", "NextAuth.js Generated Encryption Key".to_owned()),
            Format::AuthjsV5 => (salt, format!("Auth.js Generated Encryption Key ({salt})")),
        };
        Hkdf::<Sha256>::new(Some(salt.as_bytes()), secret.expose().as_bytes())
            .expand(info.as_bytes(), bytes)
            .expect("HKDF-SHA256 yields up to 8160 bytes");

        let kid = (format == Format::AuthjsV5).then(|| thumbprint(bytes));
        let named = kid.as_ref().map(|kid| format!(r#","kid":"{kid}""#)).unwrap_or_default();
        let header = format!(r#"{{"alg":"dir","enc":"{}"{named}}}"#, enc.as_str());
        let (protected, content) = (BASE64URL.encode(header), ContentKey::new(enc, bytes));
        Self { format, secret: index, kid, protected, content }
    }

    /// Whether the header of `token` leaves it open that this key sealed it. NextAuth.js 4 looks at
    /// no `kid`.
    fn may_open(&self, token: &SealedToken<'_>) -> bool {
        let named = match (&self.kid, &token.kid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        named && self.content.enc() == token.enc
    }
}

/// The name of a key: its JWK thumbprint, with SHA-512, or SHA-256 for a key of 32 bytes (RFC 7638
/// §3.1).
fn thumbprint(key: &[u8]) -> String {
    let jwk = Zeroizing::new(format!(r#"{{"k":"{}","kty":"oct"}}"#, BASE64URL.encode(key)));
    if key.len() == 32 {
        BASE64URL.encode(Sha256::digest(jwk.as_bytes()))
    } else {
        BASE64URL.encode(Sha512::digest(jwk.as_bytes()))
    }
}

/// All keys for one cookie name.
pub(crate) struct Keys(Vec<Key>);

/// What a key opened.
pub(crate) struct Opened {
    pub(crate) payload: Vec<u8>,
    pub(crate) format: Format,
    /// Index into the configured secrets.
    pub(crate) secret: usize,
}

impl Keys {
    /// Derives every key of these formats. The salt is the cookie's name, save in tests.
    pub(crate) fn derive(formats: &[Format], secrets: &[Secret], salt: &str) -> Self {
        let mut keys = Vec::new();
        for format in formats {
            for enc in format.encs() {
                let secrets = secrets.iter().enumerate();
                keys.extend(secrets.map(|secret| Key::derive(*format, *enc, secret, salt)));
            }
        }
        Self(keys)
    }

    pub(crate) fn are_all(&self, format: Format) -> bool {
        self.0.iter().all(|key| key.format == format)
    }

    /// Opens a token with the key that its `kid` names, or else with the first that fits.
    pub(crate) fn open(&self, token: &str) -> Result<Opened, InvalidReason> {
        let mut token = SealedToken::parse(token)?;
        let mut failure = InvalidReason::NoKey;
        for key in &self.0 {
            if key.may_open(&token) {
                match key.content.open(&mut token) {
                    Ok(payload) => {
                        return Ok(Opened { payload, format: key.format, secret: key.secret });
                    }
                    Err(reason) => failure = reason,
                }
            }
        }
        Err(failure)
    }

    /// Seals with the first secret, as the library of that format does now. `None` if there are no
    /// keys for it.
    pub(crate) fn seal(&self, format: Format, iv: [u8; 16], payload: &str) -> Option<String> {
        let key = self.0.iter().find(|key| key.format == format)?;
        Some(key.content.seal(&key.protected, iv, payload.as_bytes()))
    }
}
