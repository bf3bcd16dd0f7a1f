//! What the fuzz targets share: keys that everybody knows and a time that stands still, both those
//! of `tests/vectors`, so that known answers serve as seeds.

use std::sync::LazyLock;
use std::time::Duration;

use foregate_session::{
    Keyring, KeyringSettings, NewTokens, SameSite, Secret, TokenPaths, UnixSeconds,
};

pub const NOW: UnixSeconds = UnixSeconds(1_767_225_600);

/// Both formats under the libraries' names.
pub static KEYRING: LazyLock<Keyring> = LazyLock::new(|| keyring(TokenPaths::default()));

pub fn keyring(tokens: TokenPaths) -> Keyring {
    Keyring::new(KeyringSettings {
        format: None,
        secrets: vec![Secret::new("a-public-test-secret-do-not-use-0123456789")],
        cookie_name: None,
        domain: Some(".example.com".to_owned()),
        secure: false,
        same_site: SameSite::Lax,
        max_age: Duration::from_secs(3600),
        tokens,
    })
}

/// What a backend gives for an old pair.
pub const NEW: NewTokens<'_> = NewTokens {
    access_token: "new-access-token",
    access_expires_at: Some(UnixSeconds(NOW.0 + 900)),
    refresh_token: Some("new-refresh-token"),
    refresh_expires_at: None,
    id_token: None,
};
