//! What a session cookie says, and how to write one.
//!
//! ```text
//! Cookie lines ──> Cookies ──> Keyring::open ──> Session ──> claims, tokens, freshness
//!                     │                             │ renewed(new tokens)
//!                     │                             v
//!                     │        Keyring::seal <── Session
//!                     v             v
//! Cookie for the app, Set-Cookie <── SealedSession
//! ```
//!
//! The cookies are those of NextAuth.js 4 and Auth.js 5, byte for byte; `docs/session-cookie.md`
//! says where the libraries leave us a choice. This crate refuses to know the time, chance, the
//! network and HTTP: the first two are arguments. It logs nothing, and no text that it gives out
//! for people holds a token.

mod no_session;
mod secret;
mod time;

mod claim_path;
mod claims;
mod json;
mod jwt;

mod freshness;
mod session;
mod tokens;

mod cookie;
mod jwe;
mod keys;
mod names;

mod app_view;
mod app_word;
mod keyring;
mod sealed;
mod set_cookie;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod vectors;

pub use app_view::{CookieView, ShownSession};
pub use app_word::AppWord;
pub use claim_path::{ClaimPath, ClaimPathError};
pub use claims::Claim;
pub use cookie::Cookies;
pub use freshness::Freshness;
pub use jwt::Jwt;
pub use keyring::{Keyring, KeyringSettings, Survey};
pub use keys::Format;
pub use no_session::{ChunkNumbers, InvalidReason, NoSession};
pub use sealed::SealedSession;
pub use secret::Secret;
pub use session::{ClaimsError, Session};
pub use set_cookie::{AppSetCookie, SameSite};
pub use time::UnixSeconds;
pub use tokens::{NewTokens, TokenPaths};
