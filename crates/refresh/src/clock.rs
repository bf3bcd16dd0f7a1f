//! The wall clock of one request, carried on by the monotonic one.

use std::time::Duration;

use foregate_session::UnixSeconds;
use tokio::time::Instant;

/// Knows the time because it was told it once: `now` holds at `asked`.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    now: UnixSeconds,
    asked: Instant,
}

impl Clock {
    pub(crate) fn starting(now: UnixSeconds) -> Self {
        Self { now, asked: Instant::now() }
    }

    /// Whole seconds, rounded down: an access token then seems to end too early rather than late.
    pub(crate) fn now(&self) -> UnixSeconds {
        self.now.saturating_add(self.elapsed())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.asked.elapsed()
    }
}
