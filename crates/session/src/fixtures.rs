//! What the tests of several modules begin with.

use std::time::Duration;

use crate::keyring::{Keyring, KeyringSettings};
use crate::keys::Format;
use crate::secret::Secret;
use crate::session::Session;
use crate::set_cookie::SameSite;
use crate::time::UnixSeconds;
use crate::tokens::TokenPaths;

pub(crate) const NOW: UnixSeconds = UnixSeconds(1_767_225_600);

/// Two secrets, both formats under the libraries' names, the host alone.
pub(crate) fn settings() -> KeyringSettings {
    KeyringSettings {
        format: None,
        secrets: ["the newer secret", "the older secret"].map(Secret::new).to_vec(),
        cookie_name: None,
        domain: None,
        secure: false,
        same_site: SameSite::Lax,
        max_age: Duration::from_secs(3600),
        tokens: TokenPaths::default(),
    }
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new(settings())
}

pub(crate) fn session(claims: &str) -> Session {
    keyring().session_from_claims(claims, None).unwrap()
}

/// `claims` sealed by `keyring` at [`NOW`].
pub(crate) fn token(keyring: &Keyring, format: Format, claims: &str) -> String {
    let session = keyring.session_from_claims(claims, Some(format)).unwrap();
    keyring.seal(&session, NOW, [7; 32]).token().to_owned()
}
