//! What is counted, and nothing of who reads it. All of it is numbers of a fixed shape, found by
//! index, so that a request locks nothing and allocates nothing to be counted. No label ever comes
//! out of a request.

mod app;
mod doubts;
mod histogram;
mod refreshes;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use foregate_session::NoSession;

pub(crate) use app::{
    AppCounters, Decision, Failing, RuleHits, UPSTREAM_FAILURES, UpstreamCounters, VISITOR_LEFT,
};
pub(crate) use doubts::Doubts;
pub(crate) use histogram::{ADMISSION, Histogram, UPSTREAM};
pub(crate) use refreshes::Refreshes;

/// A number that only grows, or one that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn take_away(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn add_many(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of the process. Those of an app are the configuration's: [`crate::live`].
pub(crate) struct Metrics {
    /// Requests that no app is behind: another host, or a head that cannot be read.
    pub(crate) nobody: AppCounters,
    /// From a head to the decision, redemptions included that were waited for.
    pub(crate) admission: Histogram,
    /// Session cookies that did not open, by [`COOKIE_REASONS`].
    pub(crate) unopened: [Count; COOKIE_REASONS.len()],
    /// Requests with a session that was sealed in the future.
    pub(crate) from_the_future: Count,
    /// Requests with another cookie beside the one that counts.
    pub(crate) duplicates: Count,
    /// The plain listener's, and the one for https.
    pub(crate) listeners: [ListenerCounters; 2],
    pub(crate) tunnels: Count,
    /// By [`TUNNEL_ENDS`].
    pub(crate) tunnel_ends: [Count; TUNNEL_ENDS.len()],
    pub(crate) refreshes: Refreshes,
    pub(crate) failed_reloads: Count,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            nobody: AppCounters::new(String::new()),
            admission: Histogram::new(&ADMISSION),
            unopened: Default::default(),
            from_the_future: Count::default(),
            duplicates: Count::default(),
            listeners: Default::default(),
            tunnels: Count::default(),
            tunnel_ends: Default::default(),
            refreshes: Refreshes::default(),
            failed_reloads: Count::default(),
        }
    }

    pub(crate) fn listener(&self, secure: bool) -> &ListenerCounters {
        &self.listeners[usize::from(secure)]
    }

    /// A cookie that is not there is no cookie that did not open.
    pub(crate) fn unopened(&self, why: NoSession) {
        let reason = why.reason();
        if let Some(index) = COOKIE_REASONS.iter().position(|known| *known == reason) {
            self.unopened[index].add();
        }
    }

    pub(crate) fn tunnel_ended(&self, reason: &str) {
        if let Some(index) = TUNNEL_ENDS.iter().position(|known| *known == reason) {
            self.tunnel_ends[index].add();
        }
    }
}

/// The words of [`NoSession::reason`], but for a cookie that is not there, or does not count.
pub(crate) const COOKIE_REASONS: [&str; 4] = ["expired", "not_yet_valid", "invalid", "bad_token"];

/// Why tunnels end.
pub(crate) const TUNNEL_ENDS: [&str; 5] = ["closed", "broken", "idle", "session_ended", "unopened"];

/// The names of the public listeners, in the order of their counters.
pub(crate) const LISTENERS: [&str; 2] = ["http", "https"];

/// What becomes of the connections to one listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) accepted: Count,
    /// Found no place free, and had to wait for one.
    pub(crate) delayed: Count,
    /// Ended before they spoke HTTP.
    pub(crate) broken: Count,
    /// Said nothing in `limits.header_timeout`, or not all of a handshake.
    pub(crate) silent: Count,
    pub(crate) open_http1: Count,
    pub(crate) open_http2: Count,
}

impl ListenerCounters {
    /// A connection ended before it spoke HTTP.
    pub(crate) fn unopened(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::TimedOut => self.silent.add(),
            _ => self.broken.add(),
        }
    }

    pub(crate) fn open(&self, http2: bool) -> &Count {
        if http2 { &self.open_http2 } else { &self.open_http1 }
    }
}
