//! The wire as this crate sees it: bytes to a token endpoint, bytes back, and what can go wrong
//! between. Who carries them, over which connection, is the implementor's business.

use std::fmt;
use std::time::Duration;

/// Carries one request to a token endpoint.
///
/// Follows no redirect (it would hand the refresh token to a stranger), reads at most 256 KiB of
/// an answer, and bounds its own connecting; the [`crate::Refresher`] bounds the whole. A future
/// that is dropped may stop where it is.
pub trait TokenEndpoint: Send + Sync + 'static {
    fn send(
        &self,
        request: TokenRequest,
    ) -> impl Future<Output = Result<TokenAnswer, SendError>> + Send;
}

/// An HTTP request to a backend. Its headers and body hold secrets.
pub struct TokenRequest {
    pub method: String,
    /// Absolute, `http` or `https`, without credentials or a fragment.
    pub url: String,
    /// Names and values that HTTP allows. `Content-Length` and `Host` are left to the carrier.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// What a backend answered. Its body holds secrets.
pub struct TokenAnswer {
    pub status: u16,
    /// `Retry-After`, where it names seconds.
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} bytes", self.status, self.body.len())
    }
}

/// Why there is no answer. The texts are for the log and name no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No byte of the request left us, so the backend cannot have acted on it.
    #[error("{0}")]
    NeverSent(String),
    /// The backend may or may not have acted on the request.
    #[error("{0}")]
    Broken(String),
    /// The answer passed the bound. The backend has acted on the request, as far as one can tell.
    #[error("the answer is too large")]
    TooLarge,
}
