//! How long a refresh token is taken to live that does not tell. It may change while we run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Whole seconds. Each reader wants the newest value and nothing else, so it goes by itself.
pub(crate) struct Remember(AtomicU64);

impl Remember {
    pub(crate) fn new(span: Duration) -> Self {
        Self(AtomicU64::new(span.as_secs()))
    }

    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, span: Duration) {
        self.0.store(span.as_secs(), Ordering::Relaxed);
    }
}
