//! One redemption: a place among those that the backend bears, the turn among all processes, the
//! backend, the ledger's word, and only then the waiters.

use std::convert::Infallible;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{SemaphorePermit, watch};
use tokio::time::{Instant, timeout};

use crate::answer::{Redeemed, Verdict};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::endpoint::TokenEndpoint;
use crate::fail_point::fail_point;
use crate::ledger::{Claim, ClaimEnd, Known, Pair, Turn};
use crate::lineage::{Lineage, could_be_strong};
use crate::outcome::{Event, Fault, Outcome, RefreshError, RefusalAnswer};
use crate::refresher::look::Busy;
use crate::refresher::{Answer, Shared, answered, held_by_ledger, usable};
use crate::table::{Entry, FIRST_DELAY};
use crate::tokens::{Held, SubjectChanged};

/// One redemption. Whatever happens to it, its place in the table is free in the end.
pub(super) struct Flight<E> {
    shared: Arc<Shared<E>>,
    token: Lineage,
    answers: watch::Sender<Option<Answer>>,
    _busy: Busy<E>,
}

impl<E> Drop for Flight<E> {
    fn drop(&mut self) {
        self.shared.table().leave(self.token);
    }
}

/// What a redemption came to, and the claim under which it was made.
struct Landing {
    end: End,
    claim: Option<Claim>,
}

enum End {
    Said(Verdict),
    /// Nothing was sent, or not again: somebody else has found the successor, or signed out.
    Overtaken(Known),
}

impl From<Fault> for Landing {
    fn from(fault: Fault) -> Self {
        Self { end: End::Said(fault.into()), claim: None }
    }
}

impl<E: TokenEndpoint> Flight<E> {
    pub(super) fn new(
        shared: Arc<Shared<E>>,
        token: Lineage,
        answers: watch::Sender<Option<Answer>>,
    ) -> Self {
        let busy = shared.busy();
        Self { shared, token, answers, _busy: busy }
    }

    pub(super) async fn run(self, backend: Arc<Backend>, held: Held, clock: Clock) {
        let Landing { end, claim } = self.redeem(&backend, &held, clock).await;
        // If the process dies before the ledger has spoken, what the backend said is lost.
        let (answer, outcome) = match end {
            End::Said(verdict) => {
                self.settle(verdict, &backend, &held, claim.as_ref(), clock).await
            }
            End::Overtaken(known) => {
                (self.follow(&known, &backend, clock).await, Outcome::Overtaken)
            }
        };
        fail_point!(Settled.await);
        self.answers.send_replace(Some(answer));
        fail_point!(Told.await);
        if let Some(claim) = claim {
            claim.release(claim_end(&outcome)).await;
        }
        fail_point!(Released.await);
        let weak_token = !could_be_strong(held.refresh_token.expose())
            && !self.shared.told_of_weakness.swap(true, Ordering::Relaxed);
        let (backend, took) = (Arc::clone(&backend.name), clock.elapsed());
        (self.shared.report)(Event { backend, took, outcome, weak_token });
    }

    async fn redeem(&self, backend: &Backend, held: &Held, clock: Clock) -> Landing {
        let Ok(place) = timeout(backend.timeout, backend.turn()).await else {
            return Fault::Busy.into();
        };
        let mut asking = pin!(self.ask(backend, held, clock, place));
        if let Ok(landing) = timeout(backend.timeout, &mut asking).await {
            return landing;
        }
        self.shared.table().overdue(self.token);
        let fault = Fault::TimedOut;
        let overdue = RefreshError::Unavailable { retry_after: FIRST_DELAY, fault };
        self.answers.send_replace(Some(Err(overdue)));
        asking.await
    }

    /// Waits for the turn among all processes, and sends. Who waits for another process takes up no
    /// place among those that the backend bears.
    async fn ask(
        &self,
        backend: &Backend,
        held: &Held,
        clock: Clock,
        place: SemaphorePermit<'_>,
    ) -> Landing {
        let (mut place, mut has_waited) = (Some(place), false);
        loop {
            if place.is_none() {
                let Ok(taken) = timeout(backend.timeout, backend.turn()).await else {
                    return Fault::Busy.into();
                };
                place = Some(taken);
            }
            fail_point!(BeforeClaim.await);
            let token = held.refresh_token.expose();
            let turn = self.shared.ledger.turn(token, backend.timeout, clock.now()).await;
            let (turn, known) = match turn {
                Ok(turn) => turn,
                Err(fault) => return Fault::Ledger(fault.to_string()).into(),
            };
            let is_newer = |pair: &Pair| {
                has_waited
                    && pair.tokens.good_at(clock.now())
                    && held.access_token.as_ref() != Some(&pair.tokens.access_token)
            };
            match (turn, known) {
                (turn, Some(known)) if self.is_overtaken_by(&known, is_newer) => {
                    let claim = if let Turn::Ours(claim) = turn { claim } else { None };
                    return Landing { end: End::Overtaken(known), claim };
                }
                (Turn::Ours(claim), _) => {
                    fail_point!(Claimed.await);
                    let end = tokio::select! {
                        end = self.send(backend, held, claim.as_ref(), clock) => end,
                        never = kept(claim.as_ref()) => match never {},
                    };
                    match (end, claim) {
                        (Some(end), claim) => return Landing { end, claim },
                        (None, Some(claim)) => claim.release(ClaimEnd::Settled).await,
                        (None, None) => {}
                    }
                }
                (Turn::Theirs(waiting), _) => {
                    place = None;
                    has_waited = true;
                    match waiting.end().await {
                        Some(ClaimEnd::Refused) => {
                            return Landing { end: End::Said(Verdict::Refused(None)), claim: None };
                        }
                        Some(ClaimEnd::Failed) => return Fault::Elsewhere.into(),
                        Some(ClaimEnd::Settled) | None => {}
                    }
                }
            }
        }
    }

    /// Sends, and listens for [`PATIENCE`] more time-outs than anybody waits for an answer. `None`:
    /// nothing was sent, since this process stood still for a while, and the claim may be another's
    /// before the backend has answered.
    async fn send(
        &self,
        backend: &Backend,
        held: &Held,
        claim: Option<&Claim>,
        clock: Clock,
    ) -> Option<End> {
        let patience = backend.timeout.saturating_mul(1 + PATIENCE);
        let sent = timeout(patience, self.send_at_most_twice(backend, held, claim, clock)).await;
        sent.unwrap_or_else(|_| Some(End::Said(Fault::TimedOut.into())))
    }

    async fn send_at_most_twice(
        &self,
        backend: &Backend,
        held: &Held,
        claim: Option<&Claim>,
        clock: Clock,
    ) -> Option<End> {
        let may_send = || claim.is_none_or(Claim::allows_a_call);
        fail_point!(BeforeSending.await);
        if !may_send() {
            return None;
        }
        let sent = Instant::now();
        let verdict = backend.redeem(&self.shared.endpoint, held, clock).await;
        // A connection that broke says nothing of the token. The second try must have the time for
        // an answer, or it would only spend the token for nothing.
        let Verdict::Unavailable { fault: fault @ Fault::AnswerLost(_), .. } = verdict else {
            return Some(End::Said(verdict));
        };
        if sent.elapsed() >= backend.timeout / 2 || !may_send() {
            return Some(End::Said(fault.into()));
        }
        self.failed(self.token, fault, None);
        Some(match self.shared.ledger.find(&self.token, clock.now()) {
            Some(known) if self.is_overtaken_by(&known, |_| false) => End::Overtaken(known),
            _ => End::Said(backend.redeem(&self.shared.endpoint, held, clock).await),
        })
    }

    /// Whether somebody has found the successor, or has signed out, while there was time: the
    /// backend would take a token that is spent for a thief's. Where the token stays, `is_newer`
    /// tells.
    fn is_overtaken_by(&self, known: &Known, is_newer: impl FnOnce(&Pair) -> bool) -> bool {
        match known {
            Known::Pair(pair) => pair.refresh_token != self.token || is_newer(pair),
            Known::SignedOut => true,
        }
    }

    /// Writes down what the backend said: first the ledger, then the table.
    async fn settle(
        &self,
        verdict: Verdict,
        backend: &Arc<Backend>,
        held: &Held,
        claim: Option<&Claim>,
        clock: Clock,
    ) -> (Answer, Outcome) {
        match verdict {
            Verdict::Redeemed(redeemed) => self.renewed(redeemed, held, claim, clock).await,
            Verdict::Refused(answer) => self.refused(answer, backend, held, clock).await,
            Verdict::Unavailable { fault, retry_after } => {
                let error = self.failed(self.token, fault.clone(), retry_after);
                (Err(error), Outcome::Unavailable(fault))
            }
        }
    }

    async fn renewed(
        &self,
        redeemed: Redeemed,
        held: &Held,
        claim: Option<&Claim>,
        clock: Clock,
    ) -> (Answer, Outcome) {
        fail_point!(Answered.await);
        let now = clock.now();
        let tokens = match held.renewed(redeemed) {
            Ok(tokens) => tokens,
            Err(SubjectChanged) => {
                self.shared.table().over(self.token, RefreshError::SubjectChanged);
                return (Err(RefreshError::SubjectChanged), Outcome::SubjectChanged);
            }
        };
        let until = self.shared.keep_until(&tokens, now);
        let mut pair = Pair::new(tokens, now);
        pair.is_the_same_again = held.access_token.as_ref() == Some(&pair.tokens.access_token);
        let spent = held.refresh_token.expose();
        let late = claim.is_some_and(Claim::has_lapsed);
        let known = self.shared.ledger.settle(spent, pair, late, now, until).await;
        fail_point!(Spoken.await);
        let Known::Pair(pair) = known else {
            self.shared.table().renewed(self.token);
            return (Err(RefreshError::SignedOut), Outcome::SignedOut);
        };
        match usable(&pair, clock.now()) {
            Ok(tokens) => {
                self.shared.table().renewed(self.token);
                (Ok(tokens), Outcome::Renewed)
            }
            // The new refresh token is safe, but without a pause each request would spend another.
            Err(fault) => {
                let error = self.failed(pair.refresh_token, fault.clone(), None);
                (Err(error), Outcome::Unavailable(fault))
            }
        }
    }

    /// The session is over, unless somebody else has found the successor meanwhile.
    async fn refused(
        &self,
        answer: Option<RefusalAnswer>,
        backend: &Arc<Backend>,
        held: &Held,
        clock: Clock,
    ) -> (Answer, Outcome) {
        let token = held.refresh_token.expose();
        let known = match self.shared.ledger.look(token, clock.now()).await {
            Ok(known) => known,
            // Nobody is signed out because a ledger is away that may know better.
            Err(fault) => {
                let fault = Fault::Ledger(fault.to_string());
                let error = self.failed(self.token, fault.clone(), None);
                return (Err(error), Outcome::Unavailable(fault));
            }
        };
        match known {
            Some(Known::SignedOut) => (Err(RefreshError::SignedOut), Outcome::SignedOut),
            Some(known) if self.is_overtaken_by(&known, |_| false) => {
                (self.follow(&known, backend, clock).await, Outcome::Overtaken)
            }
            _ => {
                let mut table = self.shared.table();
                let answer_lost = table.answer_lost(&self.token);
                table.over(self.token, RefreshError::Refused);
                drop(table);
                let error = self.shared.counted(RefreshError::Refused);
                (Err(error), Outcome::Refused { answer_lost, answer })
            }
        }
    }

    /// What waiters get where somebody else was first: his pair, or what comes after it if its
    /// access token has ended, too.
    async fn follow(&self, known: &Known, backend: &Arc<Backend>, clock: Clock) -> Answer {
        let pair = match known {
            Known::Pair(pair) => pair,
            Known::SignedOut => return Err(RefreshError::SignedOut),
        };
        if pair.tokens.good_at(clock.now()) || pair.refresh_token == self.token {
            let retry_after = FIRST_DELAY;
            return usable(pair, clock.now())
                .map_err(|fault| RefreshError::Unavailable { retry_after, fault });
        }
        let (answers, seat) = watch::channel(None);
        let entry = self.shared.table().enter(pair.refresh_token, seat, self.shared.at());
        let seat = match entry {
            Entry::Lead(seat) => {
                let next = Self::new(Arc::clone(&self.shared), pair.refresh_token, answers);
                next.run_boxed(Arc::clone(backend), held_by_ledger(pair), clock).await;
                seat
            }
            Entry::Wait(seat) => seat,
            Entry::No(error) => return Err(self.shared.counted(error)),
        };
        answered(seat).await
    }

    /// One redemption may lead to the next one.
    fn run_boxed(
        self,
        backend: Arc<Backend>,
        held: Held,
        clock: Clock,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.run(backend, held, clock))
    }

    /// Nothing came of it; `next` is the refresh token to try after a pause.
    fn failed(&self, next: Lineage, fault: Fault, retry_after: Option<Duration>) -> RefreshError {
        let at = self.shared.at();
        self.shared.table().failed(self.token, next, at, fault, retry_after)
    }
}

/// Keeps a claim, where there is one, for as long as this is waited for.
async fn kept(claim: Option<&Claim>) -> Infallible {
    match claim {
        Some(claim) => claim.keep().await,
        None => pending().await,
    }
}

/// What other processes hear that wait for the same token.
fn claim_end(outcome: &Outcome) -> ClaimEnd {
    match outcome {
        Outcome::Renewed | Outcome::SignedOut | Outcome::Overtaken => ClaimEnd::Settled,
        Outcome::Refused { .. } | Outcome::SubjectChanged => ClaimEnd::Refused,
        Outcome::Unavailable(_) => ClaimEnd::Failed,
    }
}

/// How many more time-outs an answer is listened for when nobody waits for it any more.
const PATIENCE: u32 = 2;
