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

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foregate_session::{Jwt, Secret, Session, UnixSeconds};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::clock::Clock;
use crate::endpoint::TokenEndpoint;
use crate::fail_point::fail_point;
use crate::ledger::{Known, Ledger, LedgerState, Pair};
use crate::lineage::Lineage;
use crate::outcome::{Event, Fault, RefreshError};
use crate::refresher::flight::Flight;
use crate::refresher::look::LookSeat;
use crate::remember::Remember;
use crate::table::{Entry, FIRST_DELAY, Table};
use crate::tokens::{Held, Tokens};

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
    looks: Mutex<HashMap<Lineage, LookSeat>>,
    runtime: Handle,
    remember: Remember,
    report: Box<dyn Fn(Event) + Send + Sync>,
    /// When the table's time began.
    began: Instant,
    /// How many flights there are, and other things that must come to their end.
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
            looks: Mutex::default(),
            runtime,
            remember: Remember::new(settings.remember),
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
        if !self.must_look(&Lineage::of(refresh_token), now) {
            return self.start_known(backend, session, now);
        }
        let (refresher, clock, busy) = (self.clone(), Clock::starting(now), self.0.busy());
        let (backend, session) = (Arc::clone(backend), session.clone());
        self.0.runtime.spawn(async move {
            let _busy = busy;
            let refresh_token = session.refresh_token().unwrap_or_default();
            if refresher.look(refresh_token, now).await.is_ok() {
                refresher.start_known(&backend, &session, clock.now());
            }
        });
        None
    }

    /// The same, once the ledger has been asked for all that it knows.
    fn start_known(
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
        self.look(refresh_token, now).await?;
        let ask = Ask { backend, session, refresh_token, was_rejected: false, now };
        let begun = self.begin(self.0.table(), &ask);
        answer(session, begun).await
    }

    /// Sign-out: no copy of this session, older or newer, is refreshed any more. A copy whose
    /// access token is still good passes until that ends. Ready when the ledger knows; whoever does
    /// not wait for that changes nothing.
    pub async fn end(&self, session: &Session, now: UnixSeconds) {
        if let Some(token) = session.refresh_token() {
            let until = now.saturating_add(self.0.remember.span());
            let (shared, token) = (Arc::clone(&self.0), Secret::new(token));
            let ending = async move { shared.ledger.end(token.expose(), now, until).await };
            self.0.see_through(ending).await;
        }
    }

    /// Waits until no redemption is under way.
    pub async fn drain(&self) {
        // The sender lives as long as `self`, so there is always an answer.
        let _ = self.0.running.subscribe().wait_for(|flights| *flights == 0).await;
    }

    /// Waits until the ledger knows what came of all of them: for ever, if it does not come back.
    pub async fn saved(&self) {
        self.0.ledger.saved().await;
    }

    /// How many results are in this process alone, since the ledger outside of it is away.
    pub fn unsaved(&self) -> usize {
        self.0.ledger.unsaved()
    }

    /// How many refresh tokens the ledger knows.
    pub fn entries(&self) -> usize {
        self.0.ledger.entries()
    }

    /// How many ledger entries had to go before their time, for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.0.ledger.forgotten()
    }

    /// From now on this is [`RefreshSettings::remember`]. What is written already stays as it is.
    pub fn remember(&self, span: Duration) {
        self.0.remember.set(span);
        self.0.ledger.remember(span);
    }

    /// Of how many writes to the ledger no replica has said in time that it has them: a failover
    /// may lose them.
    pub fn unreplicated(&self) -> u64 {
        self.0.ledger.unreplicated()
    }

    /// Whether the ledger can keep its promise.
    pub fn ledger_state(&self) -> LedgerState {
        self.0.ledger.state()
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
            Entry::No(error) => return Begun::Known(Err(self.0.counted(error))),
        };
        let flight = Flight::new(Arc::clone(&self.0), token, answers);
        // A runtime that has ended drops the task at once, and that takes the lock.
        drop(table);
        fail_point!(Entered);
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

    /// A refusal counts once the other processes can have told whether one of them has redeemed the
    /// token before: nobody is signed out because the ledger is away.
    fn counted(&self, error: RefreshError) -> RefreshError {
        if error == RefreshError::Refused && self.ledger.may_be_behind() {
            let fault = Fault::Ledger("another gate may have been first".to_owned());
            return RefreshError::Unavailable { retry_after: FIRST_DELAY, fault };
        }
        error
    }

    /// How long the ledger keeps a pair. Not before the access token ends: until then an old cookie
    /// is worth an answer.
    fn keep_until(&self, tokens: &Tokens, now: UnixSeconds) -> UnixSeconds {
        match tokens.refresh_expires_at {
            Some(end) => tokens.access_expires_at.map_or(end, |access_end| end.max(access_end)),
            None => now.saturating_add(self.remember.span()),
        }
    }

    /// The table's time.
    fn at(&self) -> Duration {
        self.began.elapsed()
    }
}

/// What comes of a request for tokens. The tokens are the session's, as far as two JWTs tell.
async fn answer(session: &Session, begun: Begun) -> Answer {
    let answer = match begun {
        Begun::Known(answer) => answer,
        Begun::Wait(seat) => answered(seat).await,
    };
    match answer {
        Ok(tokens) if !is_for(session, &tokens) => Err(RefreshError::SubjectChanged),
        answer => answer,
    }
}

/// Waits for the end of a redemption.
async fn answered(mut seat: Seat) -> Answer {
    let stopped = || RefreshError::Unavailable { retry_after: FIRST_DELAY, fault: Fault::Stopped };
    match seat.wait_for(Option::is_some).await {
        Ok(answer) => answer.clone().unwrap_or_else(|| Err(stopped())),
        Err(_) => Err(stopped()),
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

mod adoption;
mod flight;
mod look;
mod rejection;

#[cfg(test)]
mod constellations;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod glances;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod setbacks;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads;
