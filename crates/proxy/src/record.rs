//! What is known of a request in the end: one line in the log, and the counters. The line names
//! what was decided and why, and never a cookie, a token or a query.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foregate_policy::{Head, Refusal};
use foregate_session::{CookieView, Cookies, UnixSeconds};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use crate::admission::{Found, Grant, Refused, Turned};
use crate::answers::respond::Failure;
use crate::listening::pace::InFlight;
use crate::live::Generation;
use crate::metrics::{Decision, Metrics, UpstreamCounters, VISITOR_LEFT};
use crate::peer::Address;
use crate::request_id::RequestId;
use crate::visitor::Visitor;

/// What is known of a request so far. Its end counts it and writes the line, also where the visitor
/// left before there was an answer.
pub(crate) struct Record<'r> {
    generation: &'r Generation,
    metrics: &'r Metrics,
    address: Address,
    started: Instant,
    /// When it was known where the request goes.
    decided: Option<Instant>,
    app: Option<usize>,
    rule: Option<usize>,
    decision: Decision,
    reason: Option<&'static str>,
    status: Option<StatusCode>,
    /// When the head of the answer was there.
    answered: Option<Instant>,
    /// It is the app's.
    by_app: bool,
    /// For the log: where nobody listens, there is none.
    entry: Option<Entry>,
}

#[derive(Clone)]
struct Entry {
    request_id: RequestId,
    method: String,
    host: String,
    path: String,
    found: Found,
    failure: Option<String>,
    bytes: Option<u64>,
}

impl<'r> Record<'r> {
    pub(crate) fn new(
        visitor: &'r Visitor,
        generation: &'r Generation,
        request_id: &RequestId,
    ) -> Self {
        let listened = tracing::enabled!(target: TARGET, tracing::Level::INFO);
        let entry = listened.then(|| Entry {
            request_id: request_id.clone(),
            method: String::new(),
            host: String::new(),
            path: String::new(),
            found: Found::Nothing,
            failure: None,
            bytes: None,
        });
        Self {
            generation,
            metrics: &visitor.worker.live.metrics,
            address: visitor.connection.address,
            started: Instant::now(),
            decided: None,
            app: None,
            rule: None,
            decision: Decision::Pass,
            reason: None,
            status: None,
            answered: None,
            by_app: false,
            entry,
        }
    }

    pub(crate) fn read(&mut self, head: &Head<'_>) {
        let Some(entry) = &mut self.entry else { return };
        cut(head.method()).clone_into(&mut entry.method);
        head.authority().clone_into(&mut entry.host);
        cut(head.path().as_str()).clone_into(&mut entry.path);
    }

    /// A head that has no one reading is logged as it came, escaped.
    pub(crate) fn unreadable(&mut self, parts: &Parts) {
        let Some(entry) = &mut self.entry else { return };
        cut(parts.method.as_str()).clone_into(&mut entry.method);
        entry.path = cut(parts.uri.path()).escape_debug().to_string();
    }

    /// Asked for a page of ours, on an app's host.
    pub(crate) fn own(&mut self, head: &Head<'_>) {
        let route = self.generation.snapshot.rules.route(head);
        self.app = route.ok().map(|route| route.app());
    }

    /// Which app the request goes to, and by which of its rules; none: by the app's own access.
    pub(crate) fn passed(&mut self, grant: &Grant, cookies: &Cookies<'_>) {
        self.app = Some(grant.pass.app());
        self.rule = grant.pass.rule();
        self.count_rule();
        // A view that leaves all as it is has seen no other one.
        if let Some(session) = &grant.session
            && grant.cookies != CookieView::Unchanged
            && self.generation.snapshot.keyring.has_duplicate(cookies, session)
        {
            self.metrics.duplicates.add();
        }
    }

    /// Which app and which rule turned the request away.
    pub(crate) fn turned(
        &mut self,
        head: &Head<'_>,
        turned: &Turned,
        cookies: &Cookies<'_>,
        now: UnixSeconds,
    ) {
        let snapshot = &self.generation.snapshot;
        let Ok(route) = snapshot.rules.route(head) else { return };
        self.app = Some(route.app());
        self.rule = match &turned.why {
            Refused::Policy(refusal) => {
                let open = || snapshot.keyring.open(cookies, now).ok();
                let session = (*refusal == Refusal::RoleMissing).then(open).flatten();
                route.refusing_rule(refusal, session.as_ref(), &[])
            }
            Refused::Unavailable { .. } => route.rule(),
        };
        self.decision = Decision::Refuse;
        self.count_rule();
    }

    fn count_rule(&self) {
        if let Some(counted) = self.app.and_then(|app| self.generation.counted.get(app)) {
            counted.hits.count(self.rule, self.decision);
        }
    }

    /// `/.foregate/auth` was asked by somebody whom nobody trusts.
    pub(crate) fn asked_untrusted(&self, headers: &HeaderMap) {
        self.generation.doubts.untrusted_question(self.address, headers);
    }

    /// What the visitor's cookies came to.
    pub(crate) fn found(&mut self, found: Found) {
        match found {
            Found::Nothing => {}
            Found::Unopened(why) => {
                self.metrics.unopened(why);
                self.generation.doubts.seals.unopened(why);
            }
            Found::Session { ahead } => {
                self.generation.doubts.seals.opened();
                if !ahead.is_zero() {
                    self.metrics.from_the_future.add();
                    self.generation.doubts.clocks.saw(ahead);
                }
            }
            Found::Spent | Found::Refused | Found::Pending => {
                self.generation.doubts.seals.opened();
            }
        }
        if let Some(entry) = &mut self.entry {
            entry.found = found;
        }
    }

    pub(crate) fn refused(&mut self, reason: &'static str) {
        self.decision = Decision::Refuse;
        self.reason = Some(reason);
    }

    /// From here on others are waited for.
    pub(crate) fn decided(&mut self) {
        let now = Instant::now();
        self.metrics.admission.observe(now.saturating_duration_since(self.started));
        self.decided = Some(now);
    }

    /// `reason` is the word that the answer has for it.
    pub(crate) fn failed(&mut self, failure: &Failure, reason: &'static str) {
        self.reason = Some(reason);
        if let Some(entry) = &mut self.entry {
            entry.failure = Some(failure.to_string());
        }
    }

    /// The counters of an upstream, by its place among those of its app.
    pub(crate) fn upstream(&self, app: usize, place: usize) -> Option<&UpstreamCounters> {
        Some(self.generation.counted.get(app)?.upstreams.get(place)?)
    }

    /// The head of an answer is there, the app's own or another one. `bytes`: how long its body is,
    /// where that is known.
    pub(crate) fn answered(&mut self, status: StatusCode, by_app: bool, bytes: Option<u64>) {
        self.status = Some(status);
        self.answered = Some(Instant::now());
        self.by_app = by_app;
        if let Some(entry) = &mut self.entry {
            entry.bytes = bytes;
        }
    }

    /// The request becomes a tunnel, which will have a line of its own.
    pub(crate) fn tunnel(&self, visitor: &Arc<Visitor>) -> Tunnel {
        visitor.worker.live.metrics.tunnels.add();
        let app = self.app.and_then(|app| self.generation.snapshot.apps.get(app));
        Tunnel {
            visitor: Arc::clone(visitor),
            _in_flight: visitor.pace.begin(),
            began: Instant::now(),
            app: app.map(|app| app.host.clone()).unwrap_or_default(),
            entry: self.entry.clone(),
        }
    }

    fn since(&self, from: Option<Instant>, to: Option<Instant>) -> Option<Duration> {
        Some(to?.saturating_duration_since(from?))
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let reason = match self.status {
            Some(_) => self.reason,
            None => Some(VISITOR_LEFT),
        };
        let counted = self.app.and_then(|app| self.generation.counted.get(app));
        let counters = counted.map_or(&self.metrics.nobody, |counted| &*counted.app);
        let upstream = self.since(self.decided, self.answered.filter(|_| self.by_app));
        let whole = self.since(Some(self.started), self.answered);
        counters.count(self.decision, reason, self.status);
        if let Some(took) = whole {
            counters.request.observe(took);
        }
        if let Some(took) = upstream {
            counters.upstream.observe(took);
        }

        let Some(entry) = &self.entry else { return };
        let app = self.app.and_then(|app| self.generation.snapshot.apps.get(app));
        let rule = self.rule.and_then(|rule| app?.rules.get(rule));
        tracing::info!(
            target: TARGET,
            status = self.status.map(|status| status.as_u16()),
            decision = self.decision.as_str(),
            reason,
            method = %entry.method,
            host = %entry.host,
            path = %entry.path,
            app = app.map(|app| app.host.as_str()),
            rule = rule.map(|rule| cut(&rule.path)),
            rule_line = rule.and_then(|rule| rule.line),
            cookie = entry.found.detail().as_deref(),
            failure = entry.failure.as_deref(),
            micros = micros(whole.unwrap_or_else(|| self.started.elapsed())),
            admission_micros = self.since(Some(self.started), self.decided).map(micros),
            upstream_micros = upstream.map(micros),
            bytes = entry.bytes,
            client = %self.address,
            request_id = %entry.request_id,
            "request"
        );
    }
}

/// A WebSocket that is open; its end is counted and logged.
pub(crate) struct Tunnel {
    visitor: Arc<Visitor>,
    _in_flight: InFlight,
    began: Instant,
    app: String,
    entry: Option<Entry>,
}

impl Tunnel {
    /// `reason` is one of [`crate::metrics::TUNNEL_ENDS`].
    pub(crate) fn ended(self, reason: &'static str) {
        self.visitor.worker.live.metrics.tunnel_ended(reason);
        let Some(entry) = &self.entry else { return };
        tracing::info!(
            target: TARGET,
            reason,
            host = %entry.host,
            path = %entry.path,
            app = %self.app,
            millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            client = %self.visitor.connection.address,
            request_id = %entry.request_id,
            "tunnel ended"
        );
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.visitor.worker.live.metrics.tunnels.take_away();
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// No visitor fills the log with one line. What is cut is ASCII, or falls back to nothing.
fn cut(text: &str) -> &str {
    text.get(..text.len().min(LONGEST)).unwrap_or_default()
}

const LONGEST: usize = 1024;
/// The module that `FOREGATE_LOG` knows these lines by.
pub(crate) const TARGET: &str = "foregate::request";
