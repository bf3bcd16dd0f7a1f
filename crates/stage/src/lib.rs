//! The world around the gate, for `foregate demo` and for the tests: a backend that rotates
//! refresh tokens, apps that show what reached them, a sign-in form, an origin that records, and
//! session cookies as NextAuth.js v4 and Auth.js v5 write them.
//!
//! Nothing here uses the gate's own crates. In particular the cookies are sealed by [`seal_v4`] and
//! [`seal_v5`] alone, so that a bug in the gate's codec cannot cancel itself in a test.
//!
//! It refuses to be production: accounts stand in the source, answers are small and whole, and
//! whoever reaches the backend may read its counters.

mod apps;
mod backend;
mod demo;
mod form;
mod h2c;
mod html;
mod origin;
mod seal;
mod served;
mod sign_in;
mod token;

#[cfg(test)]
mod tests;

pub use backend::{Account, Backend, BackendSettings, Counters, Fault};
pub use demo::{Demo, DemoAddresses, DemoSettings, demo};
pub use h2c::{H2cAnswer, H2cOrigin};
pub use origin::{Origin, Script, Seen, Step};
pub use seal::{SECRET, cookie_header, random, seal_v4, seal_v5};
pub use sign_in::{SignIn, SignInSettings};
pub use token::{Grant, unix_millis};
