//! The counters of one app, of its rules and its upstreams.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::{Count, Histogram, UPSTREAM};
use crate::answers::respond::Failure;

/// What became of the requests to one app.
#[derive(Debug)]
pub(crate) struct AppCounters {
    /// As in the configuration; empty for requests that no app is behind.
    pub(crate) host: String,
    /// By decision, by reason, by class of status.
    outcomes: [[[Count; CLASSES.len()]; REASONS.len()]; 2],
    /// From the decision to the head of the app's answer.
    pub(crate) upstream: Histogram,
    /// From the request's head to the answer's, whoever answered.
    pub(crate) request: Histogram,
}

/// What was decided on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Pass,
    Refuse,
}

impl Decision {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Refuse => "refuse",
        }
    }
}

/// One kind of requests, and how many there were.
pub(crate) struct Outcome {
    pub(crate) decision: Decision,
    /// Empty where nothing was in the way.
    pub(crate) reason: &'static str,
    /// `2xx` and so on; empty where the visitor left before there was an answer.
    pub(crate) class: &'static str,
    pub(crate) count: u64,
}

impl AppCounters {
    pub(crate) fn new(host: String) -> Self {
        Self {
            host,
            outcomes: Default::default(),
            upstream: Histogram::new(&UPSTREAM),
            request: Histogram::new(&UPSTREAM),
        }
    }

    pub(crate) fn count(
        &self,
        decision: Decision,
        reason: Option<&'static str>,
        status: Option<StatusCode>,
    ) {
        let reason = reason.unwrap_or_default();
        let known = REASONS.iter().position(|known| *known == reason);
        debug_assert!(known.is_some(), "{reason} is not among REASONS");
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100));
        let class = if class < CLASSES.len() { class } else { 0 };
        self.outcomes[decision as usize][known.unwrap_or(OTHER)][class].add();
    }

    /// Every kind that there was at least once.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        let decisions = [Decision::Pass, Decision::Refuse].into_iter().zip(&self.outcomes);
        decisions.flat_map(|(decision, reasons)| {
            REASONS.into_iter().zip(reasons).flat_map(move |(reason, classes)| {
                let counts = CLASSES.into_iter().zip(classes);
                counts.filter_map(move |(class, count)| {
                    let count = count.get();
                    (count > 0).then_some(Outcome { decision, reason, class, count })
                })
            })
        })
    }
}

const CLASSES: [&str; 6] = ["", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// All reason words that an answer can have. A word that is forgotten here counts as `other`.
const REASONS: [&str; 30] = [
    "",
    "other",
    "backend_unavailable",
    "bad_expectation",
    "bad_host",
    "bad_method",
    "bad_path",
    "bad_target",
    "cross_site",
    "denied",
    "ledger_unavailable",
    "malformed",
    "method_not_allowed",
    "misdirected",
    "no_session",
    "overloaded",
    "refresh_pending",
    "repeated_header",
    "role_missing",
    "target_too_long",
    "unclear_question",
    "unknown_host",
    "unknown_reserved_path",
    "untrusted_peer",
    "upload_cut_off",
    "upload_timeout",
    "upstream_broken",
    "upstream_timeout",
    "upstream_unreachable",
    VISITOR_LEFT,
];
const OTHER: usize = 1;

/// There was nobody left to answer.
pub(crate) const VISITOR_LEFT: &str = "visitor_left";

/// How often each rule of an app spoke.
#[derive(Debug)]
pub(crate) struct RuleHits {
    /// By the rule's number; the last is for paths that no rule names.
    pub(crate) passed: Box<[Count]>,
    pub(crate) refused: Box<[Count]>,
}

impl RuleHits {
    pub(crate) fn new(rules: usize) -> Self {
        let counts = || (0..=rules).map(|_| Count::default()).collect();
        Self { passed: counts(), refused: counts() }
    }

    pub(crate) fn count(&self, rule: Option<usize>, decision: Decision) {
        let counts = match decision {
            Decision::Pass => &self.passed,
            Decision::Refuse => &self.refused,
        };
        let last = counts.len() - 1;
        counts[rule.unwrap_or(last).min(last)].add();
    }
}

/// How one upstream of an app fares, as requests tell: nobody probes.
#[derive(Debug)]
pub(crate) struct UpstreamCounters {
    /// As in the configuration.
    pub(crate) url: String,
    /// By [`UPSTREAM_FAILURES`].
    pub(crate) failures: [Count; UPSTREAM_FAILURES.len()],
    /// Times it was passed over for a while, by a worker each.
    pub(crate) ejections: Count,
    fails: AtomicBool,
    has_answered: AtomicBool,
    /// What the log says of the latest failure.
    words: Mutex<String>,
    /// Of the latest failure: an index into [`UPSTREAM_FAILURES`], and milliseconds since `began`.
    latest: AtomicU8,
    latest_at: AtomicU64,
    began: Instant,
}

/// The latest failure of an upstream that has not answered since.
pub(crate) struct Failing {
    pub(crate) reason: &'static str,
    pub(crate) ago: Duration,
    /// What happened, as the log has it.
    pub(crate) words: String,
}

impl UpstreamCounters {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            failures: Default::default(),
            ejections: Count::default(),
            fails: AtomicBool::new(false),
            has_answered: AtomicBool::new(false),
            words: Mutex::default(),
            latest: AtomicU8::new(0),
            latest_at: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    /// While all is well this only reads.
    pub(crate) fn answered(&self) {
        if self.fails.load(Ordering::Relaxed) {
            self.fails.store(false, Ordering::Relaxed);
        }
        if !self.has_answered() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
    }

    /// It has given at least one answer.
    pub(crate) fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// What a visitor did wrong is not the app's, nor is what we lack. `ejected`: it is passed over from now on.
    pub(crate) fn failed(&self, failure: &Failure, ejected: bool) {
        if ejected {
            self.ejections.add();
        }
        let kind: u8 = match failure {
            Failure::Unreachable(_) => 0,
            Failure::TooSlow => 1,
            Failure::Broken(..) | Failure::UnaskedSwitch | Failure::UnaskedCoding => 2,
            Failure::Overloaded
            | Failure::CutOff(_)
            | Failure::BrokenUpload
            | Failure::StalledUpload => return,
        };
        self.failures[usize::from(kind)].add();
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = failure.to_string();
        self.latest.store(kind, Ordering::Relaxed);
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.latest_at.store(at, Ordering::Relaxed);
        self.fails.store(true, Ordering::Relaxed);
    }

    pub(crate) fn failing(&self) -> Option<Failing> {
        if !self.fails.load(Ordering::Relaxed) {
            return None;
        }
        let reason = UPSTREAM_FAILURES[usize::from(self.latest.load(Ordering::Relaxed))];
        let at = Duration::from_millis(self.latest_at.load(Ordering::Relaxed));
        let ago = self.began.elapsed().saturating_sub(at);
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(Failing { reason, ago, words })
    }
}

/// The reason words of the answers that a failing upstream leads to.
pub(crate) const UPSTREAM_FAILURES: [&str; 3] =
    ["upstream_unreachable", "upstream_timeout", "upstream_broken"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_request_is_counted_by_itself() {
        let counters = AppCounters::new("app.test".to_owned());
        counters.count(Decision::Pass, None, Some(StatusCode::OK));
        counters.count(Decision::Pass, None, Some(StatusCode::NO_CONTENT));
        counters.count(Decision::Refuse, Some("no_session"), Some(StatusCode::FOUND));
        counters.count(Decision::Pass, Some(VISITOR_LEFT), None);
        let told = counters.outcomes().map(|outcome| {
            let Outcome { decision, reason, class, count } = outcome;
            format!("{} {reason} {class} {count}", decision.as_str())
        });
        let wanted = ["pass  2xx 2", "pass visitor_left  1", "refuse no_session 3xx 1"];
        assert_eq!(told.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn an_upstream_fails_until_it_answers_and_never_for_its_visitors() {
        let upstream = UpstreamCounters::new("http://127.0.0.1:1".to_owned());
        upstream.failed(&Failure::BrokenUpload, false);
        assert!(upstream.failing().is_none());
        upstream.failed(&Failure::TooSlow, true);
        let failing = upstream.failing().unwrap();
        let told = (failing.reason, failing.words.as_str());
        assert_eq!(told, ("upstream_timeout", "the app did not answer in time"));
        assert!(!upstream.has_answered());
        upstream.answered();
        assert!(upstream.failing().is_none());
        assert_eq!(upstream.failures.each_ref().map(Count::get), [0, 1, 0]);
        assert_eq!(upstream.ejections.get(), 1);
    }

    #[test]
    fn rules_are_counted_by_number_and_what_no_rule_names_at_the_end() {
        let hits = RuleHits::new(2);
        hits.count(Some(1), Decision::Pass);
        hits.count(None, Decision::Refuse);
        let [passed, refused] = [&hits.passed, &hits.refused]
            .map(|counts| counts.iter().map(Count::get).collect::<Vec<_>>());
        assert_eq!((passed, refused), (vec![0, 1, 0], vec![0, 0, 1]));
    }
}
