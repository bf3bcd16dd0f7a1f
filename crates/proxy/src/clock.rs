//! The clock, read once per request.

use std::time::{SystemTime, UNIX_EPOCH};

use foregate_session::UnixSeconds;

/// A machine whose clock stands before 1970 has every session expire in
/// its future.
pub(crate) fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
