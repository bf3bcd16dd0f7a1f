//! What came of redemptions, by backend. A redemption takes a call to its backend, so a lock is
//! nothing to it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use foregate_refresh::{Event, Outcome};

use super::{Histogram, UPSTREAM};

/// The tallies of all backends, by name.
#[derive(Debug, Default)]
pub(crate) struct Refreshes(Mutex<BTreeMap<String, Tally>>);

/// One backend's.
#[derive(Debug)]
pub(crate) struct Tally {
    /// By the words of [`Outcome::word`], each of which is there from the start.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    pub(crate) took: Histogram,
    pub(crate) latest: Option<Latest>,
}

/// How the latest redemption ended.
#[derive(Debug)]
pub(crate) struct Latest {
    pub(crate) at: Instant,
    pub(crate) outcome: &'static str,
    /// What was in the way, for the operator.
    pub(crate) fault: Option<String>,
}

impl Latest {
    /// Nothing that an operator should look at.
    fn is_fine(&self) -> bool {
        !matches!(self.outcome, "unavailable" | "subject_changed")
    }
}

impl Tally {
    /// How many redemptions there were, and how many of them the backend refused.
    pub(crate) fn refused(&self) -> (u64, u64) {
        (self.outcomes.values().sum(), self.outcomes.get("refused").copied().unwrap_or_default())
    }

    /// It goes well enough. A backend refuses now and then; one that refuses most tokens is another
    /// one than issued them, or somebody else redeems them.
    pub(crate) fn is_fine(&self) -> bool {
        let (all, refused) = self.refused();
        let is_habit = refused >= MANY && refused * 2 > all;
        !is_habit && self.latest.as_ref().is_none_or(Latest::is_fine)
    }
}

/// Refusals before they are called a habit.
const MANY: u64 = 3;

impl Default for Tally {
    fn default() -> Self {
        let outcomes = OUTCOMES.map(|word| (word, 0)).into();
        Self { outcomes, took: Histogram::new(&UPSTREAM), latest: None }
    }
}

impl Refreshes {
    /// Begins a tally for each of these, and forgets the others.
    pub(crate) fn keep<'b>(&self, backends: impl Iterator<Item = &'b str>) {
        let mut tallies = self.lock();
        let mut before = std::mem::take(&mut *tallies);
        for name in backends {
            let tally = before.remove(name).unwrap_or_default();
            tallies.insert(name.to_owned(), tally);
        }
    }

    pub(crate) fn count(&self, event: &Event) {
        let fault = match &event.outcome {
            Outcome::Unavailable(fault) => Some(fault.to_string()),
            _ => None,
        };
        let mut tallies = self.lock();
        // One whose backend a reload took away meanwhile counts nowhere.
        let Some(tally) = tallies.get_mut(&*event.backend) else { return };
        let outcome = event.outcome.word();
        *tally.outcomes.entry(outcome).or_default() += 1;
        tally.took.observe(event.took);
        tally.latest = Some(Latest { at: Instant::now(), outcome, fault });
    }

    /// For whoever looks at them all, for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const OUTCOMES: [&str; 6] =
    ["renewed", "signed_out", "overtaken", "refused", "subject_changed", "unavailable"];
