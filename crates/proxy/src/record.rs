//! One line in the log for each request. It names what was decided and why, and never a cookie, a
//! token or a query.

use std::time::Instant;

use foregate_config::Snapshot;
use foregate_policy::{Head, Pass};
use http::StatusCode;
use http::request::Parts;

use crate::peer::{Address, Connection};
use crate::request_id::RequestId;
use crate::respond::Failure;

/// What is known of a request so far; its end writes the line, also where the visitor left before
/// there was an answer. Where nobody listens it costs nothing.
pub(crate) struct Record(Option<Entry>);

struct Entry {
    started: Instant,
    request_id: RequestId,
    client: Address,
    method: String,
    host: String,
    path: String,
    app: Option<String>,
    rule: Option<usize>,
    refused: bool,
    reason: Option<&'static str>,
    failure: Option<String>,
    status: Option<u16>,
}

impl Record {
    pub(crate) fn new(connection: &Connection, request_id: &RequestId) -> Self {
        let listened = tracing::enabled!(target: TARGET, tracing::Level::INFO);
        Self(listened.then(|| Entry {
            started: Instant::now(),
            request_id: request_id.clone(),
            client: connection.address,
            method: String::new(),
            host: String::new(),
            path: String::new(),
            app: None,
            rule: None,
            refused: false,
            reason: None,
            failure: None,
            status: None,
        }))
    }

    pub(crate) fn read(&mut self, head: &Head<'_>) {
        let Some(entry) = &mut self.0 else { return };
        head.method().clone_into(&mut entry.method);
        head.authority().clone_into(&mut entry.host);
        entry.path = cut(head.path().as_str()).to_owned();
    }

    /// A head that has no one reading is logged as it came, escaped.
    pub(crate) fn unreadable(&mut self, parts: &Parts) {
        let Some(entry) = &mut self.0 else { return };
        cut(parts.method.as_str()).clone_into(&mut entry.method);
        entry.path = cut(parts.uri.path()).escape_debug().to_string();
    }

    /// Which app the request goes to, and by which of its rules; none: by the app's own access.
    pub(crate) fn passed(&mut self, snapshot: &Snapshot, pass: &Pass) {
        let Some(entry) = &mut self.0 else { return };
        entry.app = Some(snapshot.apps[pass.app()].host.clone());
        entry.rule = pass.rule();
    }

    pub(crate) fn refused(&mut self, reason: &'static str) {
        let Some(entry) = &mut self.0 else { return };
        entry.refused = true;
        entry.reason = Some(reason);
    }

    /// `reason` is the word that the answer has for it.
    pub(crate) fn failed(&mut self, failure: &Failure, reason: &'static str) {
        let Some(entry) = &mut self.0 else { return };
        entry.reason = Some(reason);
        entry.failure = Some(failure.to_string());
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        let Some(entry) = &mut self.0 else { return };
        entry.status = Some(status.as_u16());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(entry) = &self.0 else { return };
        let reason = match entry.status {
            Some(_) => entry.reason,
            None => Some("visitor_left"),
        };
        let decision = if entry.refused { "refuse" } else { "pass" };
        tracing::info!(
            target: TARGET,
            request_id = %entry.request_id,
            client = %entry.client,
            method = %entry.method,
            host = %entry.host,
            path = %entry.path,
            app = entry.app.as_deref(),
            rule = entry.rule,
            status = entry.status,
            decision,
            reason,
            failure = entry.failure.as_deref(),
            micros = entry.started.elapsed().as_micros() as u64,
            "request"
        );
    }
}

/// No visitor fills the log with one line. What is cut is ASCII, or falls back to nothing.
fn cut(text: &str) -> &str {
    text.get(..text.len().min(LONGEST)).unwrap_or_default()
}

const LONGEST: usize = 1024;
const TARGET: &str = "foregate::request";
