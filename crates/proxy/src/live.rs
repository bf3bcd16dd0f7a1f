//! The configuration in force, and what is counted under it. A request takes it once and keeps it
//! to its end, so a reload never meets a request half way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use foregate_config::{App, Snapshot};
use foregate_refresh::Event;

use crate::metrics::{AppCounters, Doubts, Metrics, RuleHits, UpstreamCounters};

/// One wait-free load per request; whoever reloads stores.
pub struct Live {
    generation: ArcSwap<Generation>,
    pub(crate) metrics: Metrics,
    pub(crate) since: Instant,
    not_reloaded: Mutex<Option<NotReloaded>>,
    /// Keys that the configuration in force has otherwise than the process runs with.
    at_next_start: Mutex<Vec<&'static str>>,
}

/// One configuration, and the counters of its apps.
pub(crate) struct Generation {
    /// The first is 1.
    pub(crate) number: u64,
    pub(crate) since: Instant,
    pub(crate) snapshot: Arc<Snapshot>,
    /// By the numbers of the snapshot's apps.
    pub(crate) counted: Vec<Counted>,
    pub(crate) doubts: Doubts,
}

/// What is counted for one app. What a reload leaves as it was goes on counting.
pub(crate) struct Counted {
    pub(crate) app: Arc<AppCounters>,
    pub(crate) hits: Arc<RuleHits>,
    /// In the order of the app's upstreams.
    pub(crate) upstreams: Vec<Arc<UpstreamCounters>>,
}

/// A configuration that could not be used.
#[derive(Clone)]
pub(crate) struct NotReloaded {
    pub(crate) at: Instant,
    /// Why, as the operator should read it.
    pub(crate) why: String,
}

impl Live {
    pub fn new(snapshot: Snapshot) -> Self {
        let generation = Generation::new(1, snapshot, None);
        let live = Self {
            since: generation.since,
            generation: ArcSwap::from_pointee(generation),
            metrics: Metrics::new(),
            not_reloaded: Mutex::default(),
            at_next_start: Mutex::default(),
        };
        live.keep_backends();
        live
    }

    /// Requests that begin from now on get this one; those in flight keep theirs. Gives back its
    /// number.
    pub fn store(&self, snapshot: Snapshot) -> u64 {
        let before = self.generation();
        let number = before.number + 1;
        self.generation.store(Arc::new(Generation::new(number, snapshot, Some(&before))));
        self.keep_backends();
        *self.failure() = None;
        number
    }

    /// Another configuration was read and could not be used; this one stays, whose number is given
    /// back. `why` names no secret.
    pub fn keep(&self, why: String) -> u64 {
        self.metrics.failed_reloads.add();
        *self.failure() = Some(NotReloaded { at: Instant::now(), why });
        self.generation().number
    }

    /// The keys, if any, in which the file differs from what the process was started with.
    pub fn wait_for_next_start(&self, keys: Vec<&'static str>) {
        *self.at_next_start.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    pub(crate) fn waiting_for_next_start(&self) -> Vec<&'static str> {
        self.at_next_start.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn load(&self) -> Arc<Snapshot> {
        Arc::clone(&self.generation.load().snapshot)
    }

    /// The number of the configuration in force, and why a newer one is not, if there is one.
    pub fn state(&self) -> (u64, Option<String>) {
        (self.generation().number, self.not_reloaded().map(|failed| failed.why))
    }

    /// Counts what came of a redemption.
    pub fn refreshed(&self, event: &Event) {
        self.metrics.refreshes.count(event);
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    /// Why the latest attempt to reload failed, if it did.
    pub(crate) fn not_reloaded(&self) -> Option<NotReloaded> {
        self.failure().clone()
    }

    fn failure(&self) -> MutexGuard<'_, Option<NotReloaded>> {
        self.not_reloaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_backends(&self) {
        let snapshot = self.load();
        let names = snapshot.backends.iter().map(|choice| choice.backend.name());
        self.metrics.refreshes.keep(names);
    }
}

impl Generation {
    fn new(number: u64, snapshot: Snapshot, before: Option<&Self>) -> Self {
        let counted = snapshot.apps.iter().map(|app| {
            let known = before.and_then(|before| {
                let index = before.snapshot.apps.iter().position(|old| old.host == app.host)?;
                Some((before.snapshot.apps.get(index)?, before.counted.get(index)?))
            });
            Counted::new(app, known)
        });
        let counted = counted.collect();
        let (since, doubts) = (Instant::now(), Doubts::default());
        Self { number, since, snapshot: Arc::new(snapshot), counted, doubts }
    }
}

impl Counted {
    fn new(app: &App, before: Option<(&App, &Self)>) -> Self {
        let Some((old, before)) = before else {
            return Self {
                app: Arc::new(AppCounters::new(app.host.clone())),
                hits: Arc::new(RuleHits::new(app.rules.len())),
                upstreams: app.upstreams.iter().map(|it| upstream(it.url(), &[])).collect(),
            };
        };
        let same_rules = old.rules.len() == app.rules.len()
            && old.rules.iter().zip(&app.rules).all(|(old, new)| old.path == new.path);
        let hits = match same_rules {
            true => Arc::clone(&before.hits),
            false => Arc::new(RuleHits::new(app.rules.len())),
        };
        let upstreams = app.upstreams.iter().map(|it| upstream(it.url(), &before.upstreams));
        Self { app: Arc::clone(&before.app), hits, upstreams: upstreams.collect() }
    }
}

fn upstream(url: String, before: &[Arc<UpstreamCounters>]) -> Arc<UpstreamCounters> {
    let known = before.iter().find(|upstream| upstream.url == url);
    known.map_or_else(|| Arc::new(UpstreamCounters::new(url)), Arc::clone)
}

#[cfg(test)]
mod tests {
    use foregate_config::{Environment, parse};

    use super::*;
    use crate::metrics::Decision;

    fn snapshot(apps: &str) -> Snapshot {
        let text = format!("[session]\nsecrets = [\"a-secret-of-the-tests-that-is-long\"]\n{apps}");
        let environment = Environment::from_pairs::<&str, &str>([]);
        let Ok(loaded) = parse("proxy.toml", &text, &environment) else {
            panic!("the configuration of the tests is sound")
        };
        loaded.snapshot
    }

    fn app(host: &str, rule: &str) -> String {
        format!(
            "[[app]]\nhost = \"{host}\"\nupstream = \"http://127.0.0.1:1\"\n[[app.rule]]\n\
             path = \"{rule}\"\naccess = \"public\"\n"
        )
    }

    #[tokio::test]
    async fn a_reload_goes_on_counting_what_it_left_as_it_was() {
        let live = Live::new(snapshot(&[app("a.test", "/a"), app("b.test", "/b")].concat()));
        for counted in &live.generation().counted {
            counted.app.count(Decision::Pass, None, None);
            counted.hits.count(Some(0), Decision::Pass);
        }
        assert_eq!(live.keep("proxy.toml:1:1: no".to_owned()), 1);
        assert!(live.not_reloaded().is_some());
        assert_eq!(
            live.store(snapshot(&[app("b.test", "/other"), app("a.test", "/a")].concat())),
            2
        );
        assert!(live.not_reloaded().is_none());
        let generation = live.generation();
        let told = generation.counted.iter().map(|counted| {
            let requests: u64 = counted.app.outcomes().map(|outcome| outcome.count).sum();
            (counted.app.host.as_str(), requests, counted.hits.passed[0].get())
        });
        assert_eq!(told.collect::<Vec<_>>(), [("b.test", 1, 0), ("a.test", 1, 1)]);
    }
}
