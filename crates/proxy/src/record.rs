//! One line in the log for each request. It names what was decided and why, and never a cookie, a
//! token or a query.

use std::net::IpAddr;
use std::time::Instant;

use foregate_policy::Head;
use http::StatusCode;
use http::request::Parts;

use crate::peer::Connection;
use crate::respond::Failure;

/// What is known of a request so far. Where nobody listens it costs nothing.
pub(crate) struct Record(Option<Entry>);

struct Entry {
    started: Instant,
    client: IpAddr,
    method: String,
    host: String,
    path: String,
    reason: Option<&'static str>,
    failure: Option<String>,
}

impl Record {
    pub(crate) fn new(connection: &Connection) -> Self {
        let listened = tracing::enabled!(target: TARGET, tracing::Level::INFO);
        Self(listened.then(|| Entry {
            started: Instant::now(),
            client: connection.address,
            method: String::new(),
            host: String::new(),
            path: String::new(),
            reason: None,
            failure: None,
        }))
    }

    pub(crate) fn read(&mut self, head: &Head<'_>) {
        let Some(entry) = &mut self.0 else { return };
        head.method().clone_into(&mut entry.method);
        head.authority().clone_into(&mut entry.host);
        head.path().as_str().clone_into(&mut entry.path);
    }

    /// A head that has no one reading is logged as it came, escaped.
    pub(crate) fn unreadable(&mut self, parts: &Parts) {
        let Some(entry) = &mut self.0 else { return };
        parts.method.as_str().clone_into(&mut entry.method);
        entry.path = parts.uri.path().escape_debug().to_string();
    }

    pub(crate) fn refused(&mut self, reason: &'static str) {
        let Some(entry) = &mut self.0 else { return };
        entry.reason = Some(reason);
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        let Some(entry) = &mut self.0 else { return };
        entry.failure = Some(failure.to_string());
    }

    pub(crate) fn write(self, status: StatusCode) {
        let Some(entry) = self.0 else { return };
        let decision = if entry.reason.is_some() { "refuse" } else { "pass" };
        tracing::info!(
            target: TARGET,
            client = %entry.client,
            method = %entry.method,
            host = %entry.host,
            path = %entry.path,
            status = status.as_u16(),
            decision,
            reason = entry.reason,
            failure = entry.failure,
            micros = entry.started.elapsed().as_micros() as u64,
            "request"
        );
    }
}

const TARGET: &str = "foregate::request";
