//! Fresh tokens for old ones: one redemption per refresh token, however many ask for it.
//!
//! ```text
//! request ──> ledger: a newer pair that is good? ──────────────────────────────> here it is
//!                │ no
//!             table: who leads? ── somebody ──> a seat in his flight ──────────────┐
//!                │ this one                                                        │
//!             a task of its own: turn, send, ledger, table, and only then wake ────┴──> answer
//! ```
//!
//! The task belongs to nobody's request, so a visitor who hangs up takes no rotated token with him.
//! After `timeout` it tells the waiters that there is no answer, but it listens on for [`PATIENCE`]
//! more of them. To hang up would be to lose the new refresh token, and to send the old one again
//! looks like theft to a backend that is only slow.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foregate_session::{Jwt, Secret, Session, UnixSeconds};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::answer::{Redeemed, Verdict};
use crate::backend::Backend;
use crate::clock::Clock;
use crate::endpoint::TokenEndpoint;
use crate::ledger::{Known, Ledger, Pair};
use crate::lineage::{Lineage, could_be_strong};
use crate::outcome::{Event, Fault, Outcome, RefreshError};
use crate::table::{Entry, FIRST_DELAY, Table};
use crate::tokens::{Held, SubjectChanged, Tokens};

/// What the configuration says of refreshing as a whole.
#[derive(Clone, Copy, Debug)]
pub struct RefreshSettings {
    /// Of how many refresh tokens it is remembered that they were refused, or must not be tried
    /// yet: as many as the ledger has entries.
    pub ledger_entries: usize,
    /// How long a refresh token is taken to live that does not tell: `session.max_age`, since no
    /// cookie gets older.
    pub remember: Duration,
}

/// Refreshes sessions. Cheap to clone; all clones are one.
pub struct Refresher<E>(Arc<Shared<E>>);

impl<E> Clone for Refresher<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<E> {
    endpoint: E,
    ledger: Ledger,
    table: Mutex<Table<Seat>>,
    runtime: Handle,
    settings: RefreshSettings,
    report: Box<dyn Fn(Event) + Send + Sync>,
    /// When the table's time began.
    began: Instant,
    /// How many flights there are.
    running: watch::Sender<usize>,
    /// [`Event::weak_token`] is said once.
    told_of_weakness: AtomicBool,
}

type Answer = Result<Arc<Tokens>, RefreshError>;
/// Where a waiter sits until there is an answer.
type Seat = watch::Receiver<Option<Answer>>;

/// A request for other tokens than a session has.
struct Ask<'a> {
    backend: &'a Arc<Backend>,
    session: &'a Session,
    /// That of `session`.
    refresh_token: &'a str,
    /// An app has rejected the access token, so that any other one is better, even one that ends
    /// earlier.
    was_rejected: bool,
    now: UnixSeconds,
}

/// How such a request begins.
enum Begun {
    Known(Answer),
    Wait(Seat),
}

impl<E: TokenEndpoint> Refresher<E> {
    /// Redemptions run on `runtime`, which must have its timer enabled and outlive the visitors.
    /// `report` is called there at the end of each; it must not block.
    pub fn new(
        endpoint: E,
        ledger: Ledger,
        runtime: Handle,
        settings: RefreshSettings,
        report: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            endpoint,
            ledger,
            table: Mutex::new(Table::new(settings.ledger_entries)),
            runtime,
            settings,
            report: Box::new(report),
            began: Instant::now(),
            running: watch::Sender::new(0),
            told_of_weakness: AtomicBool::new(false),
        }))
    }

    /// The newest tokens of the session, if they are newer than its own and their access token is
    /// good. Never waits. Nothing is settled for a session that was signed out.
    pub fn settled(&self, session: &Session, now: UnixSeconds) -> Option<Arc<Tokens>> {
        let token = Lineage::of(session.refresh_token()?);
        match self.0.ledger.find(&token, now)? {
            Known::Pair(pair) => {
                let good = is_newer(&pair, session)
                    && pair.tokens.good_at(now)
                    && is_for(session, &pair.tokens);
                good.then(|| Arc::clone(&pair.tokens))
            }
            Known::SignedOut => None,
        }
    }

    /// Begins a redemption behind the request, unless one is under way, the last one failed a
    /// moment ago, or the session's tokens are the newest and younger than half their life. What
    /// comes of it is heard by the next request. `Some`: the session is known to be over, which
    /// counts once its access token has ended.
    pub fn start(
        &self,
        backend: &Arc<Backend>,
        session: &Session,
        now: UnixSeconds,
    ) -> Option<RefreshError> {
        let refresh_token = session.refresh_token()?;
        if let Some(Known::Pair(pair)) = self.0.ledger.find(&Lineage::of(refresh_token), now)
            && is_its_own(&pair, session)
            && pair.young_at(now)
        {
            return None;
        }
        let ask = Ask { backend, session, refresh_token, was_rejected: false, now };
        match self.begin(self.0.table(), &ask) {
            Begun::Known(Err(error)) if error.retry_after().is_none() => Some(error),
            Begun::Known(_) | Begun::Wait(_) => None,
        }
    }

    /// Tokens that are newer than the session's own, from the ledger or from the backend. Waits
    /// for at most twice the backend's `timeout`: for a turn, and for the answer. May be dropped at
    /// any time; the redemption goes on.
    pub async fn refresh(
        &self,
        backend: &Arc<Backend>,
        session: &Session,
        now: UnixSeconds,
    ) -> Result<Arc<Tokens>, RefreshError> {
        let Some(refresh_token) = session.refresh_token() else {
            return Err(RefreshError::Refused);
        };
        let ask = Ask { backend, session, refresh_token, was_rejected: false, now };
        let begun = self.begin(self.0.table(), &ask);
        answer(session, begun).await
    }

    /// Sign-out: no copy of this session, older or newer, is refreshed any more. A copy whose
    /// access token is still good passes until that ends.
    pub fn end(&self, session: &Session, now: UnixSeconds) {
        if let Some(token) = session.refresh_token() {
            let until = now.saturating_add(self.0.settings.remember);
            self.0.ledger.end(Lineage::of(token), now, until);
        }
    }

    /// Waits until no redemption is under way.
    pub async fn drain(&self) {
        // The sender lives as long as `self`, so there is always an answer.
        let _ = self.0.running.subscribe().wait_for(|flights| *flights == 0).await;
    }

    /// How many ledger entries had to go before their time, for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.0.ledger.forgotten()
    }

    /// The ledger is asked under the table's lock: a flight is in the table until its result is in
    /// the ledger, so whoever finds neither a result nor a flight is the first.
    fn begin(&self, mut table: MutexGuard<'_, Table<Seat>>, ask: &Ask<'_>) -> Begun {
        let Ask { session, refresh_token, now, .. } = *ask;
        let token = Lineage::of(refresh_token);
        let (answers, seat) = watch::channel(None);
        let is_better = |pair: &Pair| match ask.was_rejected {
            true => !is_its_own(pair, session),
            false => is_newer(pair, session),
        };
        let (token, held) = match self.0.ledger.find(&token, now) {
            Some(Known::SignedOut) => return Begun::Known(Err(RefreshError::SignedOut)),
            Some(Known::Pair(pair)) if is_better(&pair) && pair.tokens.good_at(now) => {
                return Begun::Known(Ok(Arc::clone(&pair.tokens)));
            }
            Some(Known::Pair(pair)) if is_newer(&pair, session) || is_its_own(&pair, session) => {
                (pair.refresh_token, held_by_ledger(&pair))
            }
            Some(Known::Pair(_)) | None => (token, held_by_session(session, refresh_token)),
        };
        if held.refresh_expires_at.is_some_and(|end| end <= now) {
            return Begun::Known(Err(RefreshError::Refused));
        }
        let seat = match table.enter(token, seat, self.0.at()) {
            Entry::Lead(seat) => seat,
            Entry::Wait(seat) => return Begun::Wait(seat),
            Entry::No(error) => return Begun::Known(Err(error)),
        };
        let flight = Flight::new(Arc::clone(&self.0), token, answers);
        // A runtime that has ended drops the task at once, and that takes the lock.
        drop(table);
        let clock = Clock::starting(now);
        self.0.runtime.spawn(flight.run(Arc::clone(ask.backend), held, clock));
        Begun::Wait(seat)
    }
}

impl<E> Shared<E> {
    /// No code panics under this lock.
    fn table(&self) -> MutexGuard<'_, Table<Seat>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the ledger keeps a pair. Not before the access token ends: until then an old cookie
    /// is worth an answer.
    fn keep_until(&self, tokens: &Tokens, now: UnixSeconds) -> UnixSeconds {
        match tokens.refresh_expires_at {
            Some(end) => tokens.access_expires_at.map_or(end, |access_end| end.max(access_end)),
            None => now.saturating_add(self.settings.remember),
        }
    }

    /// The table's time.
    fn at(&self) -> Duration {
        self.began.elapsed()
    }
}

/// One redemption. Whatever happens to it, its place in the table is free in the end.
struct Flight<E> {
    shared: Arc<Shared<E>>,
    token: Lineage,
    answers: watch::Sender<Option<Answer>>,
}

impl<E> Drop for Flight<E> {
    fn drop(&mut self) {
        self.shared.table().leave(self.token);
        self.shared.running.send_modify(|flights| *flights -= 1);
    }
}

impl<E: TokenEndpoint> Flight<E> {
    fn new(shared: Arc<Shared<E>>, token: Lineage, answers: watch::Sender<Option<Answer>>) -> Self {
        shared.running.send_modify(|flights| *flights += 1);
        Self { shared, token, answers }
    }

    async fn run(self, backend: Arc<Backend>, held: Held, clock: Clock) {
        let verdict = self.redeem(&backend, &held, clock).await;
        // From here to the waiters there is nothing to wait for: what the backend said is settled
        // or, if the process dies, lost as a whole.
        let (answer, outcome) = self.settle(verdict, &held, clock.now());
        self.answers.send_replace(Some(answer));
        let weak_token = !could_be_strong(held.refresh_token.expose())
            && !self.shared.told_of_weakness.swap(true, Ordering::Relaxed);
        let (backend, took) = (Arc::clone(&backend.name), clock.elapsed());
        (self.shared.report)(Event { backend, took, outcome, weak_token });
    }

    async fn redeem(&self, backend: &Backend, held: &Held, clock: Clock) -> Verdict {
        let Ok(_turn) = timeout(backend.timeout, backend.turn()).await else {
            return Fault::Busy.into();
        };
        if self.is_overtaken(clock.now()) {
            return Verdict::Refused;
        }
        let sent = Instant::now();
        let mut redeeming = pin!(async {
            let verdict = backend.redeem(&self.shared.endpoint, held, clock).await;
            match verdict {
                // A connection that broke says nothing of the token. The second try must have the
                // time for an answer, or it would only spend the token for nothing.
                Verdict::Unavailable { fault: fault @ Fault::AnswerLost(_), .. }
                    if sent.elapsed() < backend.timeout / 2 =>
                {
                    self.failed(self.token, fault, None);
                    if self.is_overtaken(clock.now()) {
                        return Verdict::Refused;
                    }
                    backend.redeem(&self.shared.endpoint, held, clock).await
                }
                verdict => verdict,
            }
        });
        if let Ok(verdict) = timeout(backend.timeout, &mut redeeming).await {
            return verdict;
        }
        self.shared.table().overdue(self.token);
        let fault = Fault::TimedOut;
        let overdue = RefreshError::Unavailable { retry_after: FIRST_DELAY, fault: fault.clone() };
        self.answers.send_replace(Some(Err(overdue)));
        let patience = backend.timeout.saturating_mul(PATIENCE);
        timeout(patience, redeeming).await.unwrap_or_else(|_| fault.into())
    }

    /// Whether an app has found the successor, or somebody has signed out, while there was time:
    /// the backend would take a token that is spent for a thief's.
    fn is_overtaken(&self, now: UnixSeconds) -> bool {
        match self.shared.ledger.find(&self.token, now) {
            Some(Known::Pair(pair)) => pair.refresh_token != self.token,
            Some(Known::SignedOut) => true,
            None => false,
        }
    }

    /// Writes down what the backend said: first the ledger, then the table.
    fn settle(&self, verdict: Verdict, held: &Held, now: UnixSeconds) -> (Answer, Outcome) {
        match verdict {
            Verdict::Redeemed(redeemed) => self.renewed(redeemed, held, now),
            Verdict::Refused => self.refused(now),
            Verdict::Unavailable { fault, retry_after } => {
                let error = self.failed(self.token, fault.clone(), retry_after);
                (Err(error), Outcome::Unavailable(fault))
            }
        }
    }

    fn renewed(&self, redeemed: Redeemed, held: &Held, now: UnixSeconds) -> (Answer, Outcome) {
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
        let known = self.shared.ledger.settle(self.token, pair, now, until);
        let Known::Pair(pair) = known else {
            self.shared.table().renewed(self.token);
            return (Err(RefreshError::SignedOut), Outcome::SignedOut);
        };
        match usable(&pair, now) {
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
    fn refused(&self, now: UnixSeconds) -> (Answer, Outcome) {
        let known = self.shared.ledger.find(&self.token, now);
        let mut table = self.shared.table();
        match known {
            Some(Known::SignedOut) => (Err(RefreshError::SignedOut), Outcome::SignedOut),
            Some(Known::Pair(pair)) if pair.refresh_token != self.token => {
                let retry_after = FIRST_DELAY;
                let answer = usable(&pair, now)
                    .map_err(|fault| RefreshError::Unavailable { retry_after, fault });
                (answer, Outcome::Overtaken)
            }
            _ => {
                let answer_lost = table.answer_lost(&self.token);
                table.over(self.token, RefreshError::Refused);
                (Err(RefreshError::Refused), Outcome::Refused { answer_lost })
            }
        }
    }

    /// Nothing came of it; `next` is the refresh token to try after a pause.
    fn failed(&self, next: Lineage, fault: Fault, retry_after: Option<Duration>) -> RefreshError {
        let at = self.shared.at();
        self.shared.table().failed(self.token, next, at, fault, retry_after)
    }
}

/// What comes of a request for tokens. The tokens are the session's, as far as two JWTs tell.
async fn answer(session: &Session, begun: Begun) -> Answer {
    let stopped = || RefreshError::Unavailable { retry_after: FIRST_DELAY, fault: Fault::Stopped };
    let answer = match begun {
        Begun::Known(answer) => answer,
        Begun::Wait(mut seat) => match seat.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_else(|| Err(stopped())),
            Err(_) => Err(stopped()),
        },
    };
    match answer {
        Ok(tokens) if !is_for(session, &tokens) => Err(RefreshError::SubjectChanged),
        answer => answer,
    }
}

/// The tokens, if their access token may be sent to an app.
fn usable(pair: &Pair, now: UnixSeconds) -> Result<Arc<Tokens>, Fault> {
    match pair.tokens.access_expires_at {
        Some(end) if end <= now => Err(Fault::EndedOnArrival(end)),
        _ => Ok(Arc::clone(&pair.tokens)),
    }
}

/// Whether the session holds the very access token that the ledger knows as the newest.
fn is_its_own(pair: &Pair, session: &Session) -> bool {
    session.access_token() == Some(pair.tokens.access_token.expose())
}

/// Whether the ledger knows better than the session. A session that holds the newest refresh token
/// may still have a newer access token, where tokens do not rotate and somebody else refreshed.
fn is_newer(pair: &Pair, session: &Session) -> bool {
    let tokens = &pair.tokens;
    if is_its_own(pair, session) {
        return false;
    }
    if session.refresh_token() != Some(tokens.refresh_token.expose()) {
        return true;
    }
    match (session.access_expires_at(), tokens.access_expires_at) {
        (Some(own), Some(known)) => own <= known,
        _ => true,
    }
}

/// Whether tokens that another request has fetched are this session's, as far as two JWTs tell. A
/// backend whose refresh tokens are not its visitors' own must not hand one visitor's to the next.
fn is_for(session: &Session, tokens: &Tokens) -> bool {
    let new = Jwt::read(tokens.access_token.expose());
    let new = new.as_ref().and_then(Jwt::subject);
    match (session.access_subject(), new) {
        (Some(old), Some(new)) => *old == *new,
        _ => true,
    }
}

fn held_by_ledger(pair: &Pair) -> Held {
    Held {
        access_token: Some(pair.tokens.access_token.clone()),
        refresh_token: pair.tokens.refresh_token.clone(),
        refresh_expires_at: pair.tokens.refresh_expires_at,
    }
}

fn held_by_session(session: &Session, refresh_token: &str) -> Held {
    Held {
        access_token: session.access_token().map(Secret::new),
        refresh_token: Secret::new(refresh_token),
        refresh_expires_at: session.refresh_expires_at(),
    }
}

/// How many more time-outs an answer is listened for when nobody waits for it any more.
const PATIENCE: u32 = 2;

mod adoption;
mod rejection;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
