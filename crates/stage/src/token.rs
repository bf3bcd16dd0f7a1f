//! Token pairs as the backend hands them out, and the session that a sign-in makes of one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::backend::Account;
use crate::seal::random;

/// What a login or a redemption gives.
#[derive(Clone)]
pub struct Grant {
    /// Whose it is.
    pub account: Account,
    /// A JWT with `sub`, `email`, `name`, `iat`, `exp` and `realm_access.roles`, signed HS256.
    pub access_token: String,
    /// When the access token ends: milliseconds since the epoch.
    pub access_token_expiry: u64,
    /// 256 random bits, good for one redemption.
    pub refresh_token: String,
}

impl Grant {
    pub(crate) fn new(account: &Account, signing_key: &[u8], life: Duration) -> Self {
        let now = unix_millis();
        let expiry = now + life.as_millis() as u64;
        let claims = json!({
            "sub": account.subject, "email": account.email, "name": account.name,
            "iat": now / 1000, "exp": expiry / 1000, "jti": BASE64URL.encode(random::<12>()),
            "realm_access": { "roles": account.roles },
        });
        Self {
            account: account.clone(),
            access_token: sign(&claims, signing_key),
            access_token_expiry: expiry / 1000 * 1000,
            refresh_token: BASE64URL.encode(random::<32>()),
        }
    }

    /// The session payload that a NextAuth.js site in the manner of the 2022 article keeps, good for
    /// `max_age` from now on. `role` is the account's first.
    pub fn session_claims(&self, max_age: Duration) -> Value {
        let now = unix_millis() / 1000;
        json!({
            "name": self.account.name, "email": self.account.email, "sub": self.account.subject,
            "role": self.account.roles.first(),
            "accessToken": self.access_token, "accessTokenExpiry": self.access_token_expiry,
            "refreshToken": self.refresh_token,
            "iat": now, "exp": now + max_age.as_secs(), "jti": BASE64URL.encode(random::<16>()),
        })
    }
}

/// Milliseconds since the epoch, by this machine's clock.
pub fn unix_millis() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    elapsed.as_millis() as u64
}

/// The payload of a JWT, whatever its signature.
pub(crate) fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64URL.decode(payload).ok()?).ok()
}

fn sign(claims: &Value, key: &[u8]) -> String {
    let header = BASE64URL.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", BASE64URL.encode(claims.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64URL.encode(mac.finalize().into_bytes()))
}
