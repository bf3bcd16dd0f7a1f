//! Who redeems a refresh token, who waits for it, and who must not try again yet. Plain and
//! synchronous, without a clock: the time is an argument, as the span since the process began
//! (seconds since 1970 would be too coarse for a back-off of one).

use std::collections::HashMap;
use std::time::Duration;

use crate::bounded::Bounded;
use crate::lineage::Lineage;
use crate::outcome::{Fault, RefreshError};

/// At most one flight per refresh token. `S` is a waiter's seat in it.
pub(crate) struct Table<S> {
    /// A redemption stays here until [`Table::leave`], whatever came of it.
    flights: HashMap<Lineage, Flight<S>>,
    setbacks: Bounded<Setback>,
}

enum Flight<S> {
    Awaited(S),
    /// The backend had its time. The answer is still listened for, but nobody waits for it.
    Overdue,
}

/// What the last redemption of a token came to, if not to a new pair.
enum Setback {
    Over(RefreshError),
    Pause { until: Duration, delay: Duration, fault: Fault },
}

/// What a request for fresh tokens should do.
#[derive(Debug, PartialEq)]
pub(crate) enum Entry<S> {
    /// Redeem the token, and call [`Table::leave`] in the end.
    Lead(S),
    /// Somebody does; his seat is this.
    Wait(S),
    No(RefreshError),
}

impl<S: Clone> Table<S> {
    /// Remembers setbacks of up to `limit` refresh tokens, the latest.
    pub(crate) fn new(limit: usize) -> Self {
        Self { flights: HashMap::new(), setbacks: Bounded::new(limit) }
    }

    /// Asks for a redemption of `token`. A newcomer that is to lead takes `seat`.
    pub(crate) fn enter(&mut self, token: Lineage, seat: S, at: Duration) -> Entry<S> {
        match self.flights.get(&token) {
            Some(Flight::Awaited(seat)) => return Entry::Wait(seat.clone()),
            Some(Flight::Overdue) => return no(FIRST_DELAY, Fault::TimedOut),
            None => {}
        }
        match self.setbacks.get(&token) {
            Some(Setback::Over(error)) => return Entry::No(error.clone()),
            Some(Setback::Pause { until, fault, .. }) if *until > at => {
                return no(*until - at, fault.clone());
            }
            Some(Setback::Pause { .. }) | None => {}
        }
        if self.flights.len() >= MAX_FLIGHTS {
            return no(FIRST_DELAY, Fault::Busy);
        }
        self.flights.insert(token, Flight::Awaited(seat.clone()));
        Entry::Lead(seat)
    }

    /// Whether somebody who enters now would lead.
    pub(crate) fn may_enter(&self, token: &Lineage, at: Duration) -> bool {
        let pauses = match self.setbacks.get(token) {
            Some(Setback::Pause { until, .. }) => *until > at,
            // Somebody else may have found a successor since.
            Some(Setback::Over(_)) | None => false,
        };
        !pauses && !self.flights.contains_key(token)
    }

    /// The redemption goes on, but from now on nobody gets a seat in it.
    pub(crate) fn overdue(&mut self, token: Lineage) {
        self.flights.insert(token, Flight::Overdue);
    }

    /// The redemption is over; the next one may begin.
    pub(crate) fn leave(&mut self, token: Lineage) {
        self.flights.remove(&token);
    }

    /// The token gave a new pair: its failures are forgotten.
    pub(crate) fn renewed(&mut self, token: Lineage) {
        self.setbacks.remove(&token);
    }

    /// The token is not tried again while this is remembered.
    pub(crate) fn over(&mut self, token: Lineage, error: RefreshError) {
        self.setback(token, Setback::Over(error));
    }

    /// The redemption of `token` failed for now; `next` is the token to try after a pause: the same
    /// one, or its successor.
    pub(crate) fn failed(
        &mut self,
        token: Lineage,
        next: Lineage,
        at: Duration,
        fault: Fault,
        retry_after: Option<Duration>,
    ) -> RefreshError {
        let delay = match self.setbacks.remove(&token) {
            Some(Setback::Pause { delay, .. }) => (delay * 2).min(LAST_DELAY),
            Some(Setback::Over(_)) | None => FIRST_DELAY,
        };
        let wish = retry_after.unwrap_or_default().min(LONGEST_WISH);
        let pause = delay.max(wish);
        self.setback(next, Setback::Pause { until: at + pause, delay, fault: fault.clone() });
        RefreshError::Unavailable { retry_after: pause, fault }
    }

    /// Whether an earlier redemption of the token may have spent it without our seeing the answer.
    pub(crate) fn answer_lost(&self, token: &Lineage) -> bool {
        match self.setbacks.get(token) {
            Some(Setback::Pause { fault, .. }) => fault.answer_lost(),
            Some(Setback::Over(_)) | None => false,
        }
    }

    fn setback(&mut self, token: Lineage, setback: Setback) {
        self.setbacks.insert(token, setback);
        self.setbacks.pop_excess();
    }
}

fn no<S>(retry_after: Duration, fault: Fault) -> Entry<S> {
    Entry::No(RefreshError::Unavailable { retry_after, fault })
}

/// The pause after a first failure; each further one doubles it, up to [`LAST_DELAY`].
pub(crate) const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(10);
/// How far a backend's `Retry-After` is honoured.
const LONGEST_WISH: Duration = Duration::from_secs(30);
/// Each is a task with a few kilobytes; beyond this a wave of ended sessions comes in portions.
const MAX_FLIGHTS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Duration = Duration::from_secs(43_200);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn token(number: usize) -> Lineage {
        Lineage::of(&number.to_string())
    }

    fn pause(seconds: u64, fault: Fault) -> Entry<usize> {
        no(Duration::from_secs(seconds), fault)
    }

    #[test]
    fn one_leads_and_the_others_sit_with_him() {
        let mut table = Table::new(9);
        assert_eq!(table.enter(token(1), 10, NOON), Entry::Lead(10));
        assert_eq!(table.enter(token(1), 11, NOON), Entry::Wait(10));
        assert_eq!(table.enter(token(2), 12, NOON), Entry::Lead(12));
        table.renewed(token(1));
        assert_eq!(table.enter(token(1), 13, NOON), Entry::Wait(10));
        table.leave(token(1));
        assert_eq!(table.enter(token(1), 14, NOON), Entry::Lead(14));
    }

    #[test]
    fn nobody_waits_for_an_overdue_answer_and_nobody_leads_beside_it() {
        let mut table = Table::new(9);
        table.enter(token(1), 10, NOON);
        table.overdue(token(1));
        assert_eq!(table.enter(token(1), 11, NOON), pause(1, Fault::TimedOut));
        table.leave(token(1));
        assert_eq!(table.enter(token(1), 12, NOON), Entry::Lead(12));
    }

    #[test]
    fn pauses_double_up_to_ten_seconds_and_a_success_forgets_them() {
        let mut table = Table::new(9);
        let mut at = NOON;
        for expected in [1, 2, 4, 8, 10, 10] {
            assert_eq!(table.enter(token(1), 0, at), Entry::Lead(0));
            table.failed(token(1), token(1), at, Fault::TimedOut, None);
            table.leave(token(1));
            assert_eq!(table.enter(token(1), 0, at), pause(expected, Fault::TimedOut));
            at += seconds(expected);
        }
        table.renewed(token(1));
        table.failed(token(1), token(1), at, Fault::TimedOut, None);
        assert_eq!(table.enter(token(1), 0, at), pause(1, Fault::TimedOut));
    }

    #[test]
    fn a_backend_s_wish_counts_up_to_thirty_seconds_and_never_shortens_a_pause() {
        let check = |failures: usize, wish: u64, expected: u64| {
            let mut table: Table<()> = Table::new(9);
            let mut fail = |wish| table.failed(token(1), token(1), NOON, Fault::Busy, wish);
            for _ in 1..failures {
                fail(None);
            }
            let retry_after = fail(Some(seconds(wish))).retry_after();
            assert_eq!(retry_after, Some(seconds(expected)), "{failures}, {wish}");
        };
        check(1, 7, 7);
        check(1, 0, 1);
        check(1, 30, 30);
        check(1, u64::MAX, 30);
        check(4, 3, 8);
    }

    #[test]
    fn a_successor_inherits_the_pauses_of_its_token() {
        let mut table = Table::new(9);
        table.failed(token(1), token(1), NOON, Fault::TimedOut, None);
        table.failed(token(1), token(2), NOON, Fault::Busy, None);
        assert_eq!(table.enter(token(2), 0, NOON), pause(2, Fault::Busy));
        assert_eq!(table.enter(token(1), 0, NOON), Entry::Lead(0));
    }

    #[test]
    fn an_ended_token_stays_so_until_many_others_have_ended() {
        let mut table = Table::new(2);
        table.over(token(1), RefreshError::Refused);
        table.over(token(2), RefreshError::SubjectChanged);
        assert_eq!(table.enter(token(1), 0, Duration::MAX), Entry::No(RefreshError::Refused));
        assert_eq!(table.enter(token(2), 0, NOON), Entry::No(RefreshError::SubjectChanged));
        table.over(token(3), RefreshError::Refused);
        assert_eq!(table.enter(token(1), 0, NOON), Entry::Lead(0));
    }

    #[test]
    fn a_lost_answer_is_remembered_until_the_token_is_settled() {
        let mut table: Table<()> = Table::new(9);
        assert!(!table.answer_lost(&token(1)));
        table.failed(token(1), token(1), NOON, Fault::TimedOut, None);
        assert!(table.answer_lost(&token(1)));
        table.renewed(token(1));
        assert!(!table.answer_lost(&token(1)));
        table.failed(token(1), token(1), NOON, Fault::Unreachable(String::new()), None);
        assert!(!table.answer_lost(&token(1)));
    }

    #[test]
    fn a_wave_that_is_too_high_comes_in_portions() {
        let mut table = Table::new(9);
        for number in 0..MAX_FLIGHTS {
            assert_eq!(table.enter(token(number), number, NOON), Entry::Lead(number));
        }
        assert_eq!(table.enter(token(MAX_FLIGHTS), 0, NOON), pause(1, Fault::Busy));
        assert_eq!(table.enter(token(1), 0, NOON), Entry::Wait(1));
        table.leave(token(1));
        assert_eq!(table.enter(token(MAX_FLIGHTS), 0, NOON), Entry::Lead(0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(usize),
        Overdue(usize),
        Renewed(usize),
        Refused(usize),
        Failed(usize, u64),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let token = 0..3_usize;
        prop_oneof![
            5 => token.clone().prop_map(Step::Enter),
            1 => token.clone().prop_map(Step::Overdue),
            1 => token.clone().prop_map(Step::Renewed),
            1 => token.clone().prop_map(Step::Refused),
            2 => (token, 0..60_u64).prop_map(|(token, wish)| Step::Failed(token, wish)),
            3 => (0..12_u64).prop_map(Step::Pass),
        ]
    }

    /// What the table must do, told without one: per token its flight, its end, its failures.
    #[derive(Clone, Copy, Default)]
    struct Model {
        flight: Option<usize>,
        overdue: bool,
        refused: bool,
        failures: u32,
        closed_until: u64,
    }

    proptest! {
        #[test]
        fn any_interleaving_agrees_with_the_model(steps in prop::collection::vec(step(), 0..200)) {
            let mut table = Table::new(9);
            let mut models = [Model::default(); 3];
            let mut now = 0;
            for (seat, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Pass(span) => now += span,
                    Step::Enter(number) => {
                        let model = &mut models[number];
                        let expected = match model.flight {
                            Some(_) if model.overdue => pause(1, Fault::TimedOut),
                            Some(leader) => Entry::Wait(leader),
                            None if model.refused => Entry::No(RefreshError::Refused),
                            None if model.closed_until > now => {
                                pause(model.closed_until - now, Fault::Busy)
                            }
                            None => Entry::Lead(*model.flight.insert(seat)),
                        };
                        prop_assert_eq!(table.enter(token(number), seat, seconds(now)), expected);
                    }
                    Step::Overdue(number) if models[number].flight.is_some() => {
                        table.overdue(token(number));
                        models[number].overdue = true;
                    }
                    Step::Renewed(number) if models[number].flight.is_some() => {
                        table.renewed(token(number));
                        table.leave(token(number));
                        models[number] = Model::default();
                    }
                    Step::Refused(number) if models[number].flight.is_some() => {
                        table.over(token(number), RefreshError::Refused);
                        table.leave(token(number));
                        models[number] = Model { refused: true, ..Model::default() };
                    }
                    Step::Failed(number, wish) if models[number].flight.is_some() => {
                        let failures = models[number].failures + 1;
                        let delay = [1, 2, 4, 8, 10][failures.min(5) as usize - 1];
                        let closed_until = now + delay.max(wish.min(30));
                        let wish = Some(seconds(wish));
                        table.failed(token(number), token(number), seconds(now), Fault::Busy, wish);
                        table.leave(token(number));
                        models[number] = Model { failures, closed_until, ..Model::default() };
                    }
                    _ => {}
                }
            }
        }
    }
}
