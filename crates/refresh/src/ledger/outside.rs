//! A ledger whose word survives the process: a store outside, and in front of it a memory that
//! answers at once.
//!
//! ```text
//! settled, begin ──> front ── knows nothing ──> look: store ──> front
//! settle, adopt, end ──> store ──> front         (the store is away: front, and the backlog)
//! ```
//!
//! The front alone is asked where nobody may wait. It says what the store has said, and forgets a
//! record of which the store tells that it has changed; while the store is away it is all there is.
//! What could not be written waits in the backlog, in its order, and goes out before anything else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foregate_session::UnixSeconds;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::ledger::file::{FileStore, Opened};
use crate::ledger::memory::{MemoryLedger, Moment, Written};
use crate::ledger::redis::{Claim, Claimed, Heard, RedisStore, Waiting};
use crate::ledger::write::{Told, Write};
use crate::ledger::{Known, LedgerEvent, LedgerState, StoreFault};
use crate::lineage::{Lineage, TokenKeys};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct OutsideLedger(Arc<Shared>);

struct Shared {
    front: MemoryLedger,
    store: Store,
    backlog: Mutex<Backlog>,
    tell: Box<dyn Fn(LedgerEvent) + Send + Sync>,
}

pub(super) enum Store {
    File(FileStore),
    Redis(RedisStore),
}

struct Backlog {
    state: LedgerState,
    /// When the store came back the last time.
    back_since: Option<Instant>,
    /// What the store does not know yet, the oldest first. Empty while the state is good.
    writes: VecDeque<(Write, UnixSeconds)>,
    /// The oldest is on its way.
    is_writing: bool,
    limit: usize,
    /// How many had to go for lack of room.
    lost: u64,
}

/// What came of an attempt to be the one who redeems a token.
pub(crate) enum Turn {
    /// Nobody else does. `None`: nobody else could, or could be asked.
    Ours(Option<Claim>),
    Theirs(Waiting),
}

impl OutsideLedger {
    /// `entries` bounds what is kept. The store is looked after on `runtime`.
    pub(super) fn new(
        store: Store,
        entries: usize,
        runtime: &Handle,
        tell: impl Fn(LedgerEvent) + Send + Sync + 'static,
    ) -> Self {
        let ledger = Self(Arc::new(Shared {
            front: MemoryLedger::new(entries.min(FRONT_ENTRIES)),
            store,
            backlog: Mutex::new(Backlog {
                state: LedgerState::Good,
                back_since: None,
                writes: VecDeque::new(),
                is_writing: false,
                limit: entries,
                lost: 0,
            }),
            tell: Box::new(tell),
        }));
        let weak = Arc::downgrade(&ledger.0);
        match &ledger.0.store {
            Store::File(file) => {
                // At the start nobody is kept waiting yet.
                ledger.0.note(file.open());
                runtime.spawn(keep_file(weak, file.clone()));
            }
            Store::Redis(redis) => drop(runtime.spawn(keep_redis(weak, redis.clone()))),
        }
        ledger
    }

    pub(super) fn find(&self, token: &Lineage, now: UnixSeconds) -> Option<Known> {
        match self.state() {
            LedgerState::Good => self.0.front.find(token, now),
            // Better what may have changed elsewhere than nothing.
            LedgerState::Waiting(_) | LedgerState::AtRisk(_) => self.0.front.recall(token, now),
        }
    }

    /// Whether the store has to be asked before the front's silence means anything.
    pub(super) fn must_look(&self, token: &Lineage, now: UnixSeconds) -> bool {
        self.0.can_be_read() && self.find(token, now).is_none()
    }

    /// Whether other processes may know better, and cannot have told: while the store is away, and
    /// for a moment after that, since not all of them come back at once.
    pub(super) fn may_be_behind(&self) -> bool {
        let is_back = |since: Instant| since.elapsed() < ALL_ARE_BACK;
        self.0.is_alone()
            || matches!(self.0.store, Store::Redis(_))
                && self.0.backlog().back_since.is_some_and(is_back)
    }

    /// Asks the store, and lets the front know. An error means that the store may know better.
    pub(super) async fn look(
        &self,
        token: &str,
        now: UnixSeconds,
    ) -> Result<Option<Known>, StoreFault> {
        let token = TokenKeys::of(token);
        for _ in 0..LOOKS {
            let (known, is_learnt) = self.look_once(&token, now).await?;
            if is_learnt {
                return Ok(known);
            }
        }
        // Whoever redeems the token asks once more.
        Ok(None)
    }

    /// What the store says, and whether the front knows it now. It does not if the record has
    /// changed while the store was asked, or if that is only heard of now.
    async fn look_once(
        &self,
        token: &TokenKeys,
        now: UnixSeconds,
    ) -> Result<(Option<Known>, bool), StoreFault> {
        if !self.0.can_be_read() {
            return Ok((self.0.front.recall(&token.name, now), true));
        }
        let is_behind = self.state() != LedgerState::Good;
        let since = self.0.moment().await;
        let found = match &self.0.store {
            Store::File(file) => file.find(token.clone(), now).await,
            Store::Redis(redis) => redis.find(token, now).await,
        };
        let mut is_learnt = true;
        let known = match found {
            Ok(None) if is_behind => self.0.front.recall(&token.name, now),
            Ok(None) => self.0.front.stand_in(since, &token.name, now),
            Ok(Some(Told { name, record: Some(record), names, .. })) if is_behind => {
                Some(self.0.front.compare(name, &names, record, now))
            }
            Ok(Some(Told { name, record, names, .. })) => {
                let known = record.as_ref().map(|record| record.known.clone());
                if let Some(record) = record {
                    is_learnt = self.0.front.learn(since, name, &names, record, now);
                }
                known
            }
            Err(fault) => self.without_store(token, &fault, now)?,
        };
        Ok((known, is_learnt))
    }

    /// Asks to be the only one who redeems a token, and lets the front know what the store knows.
    pub(super) async fn turn(
        &self,
        token: &str,
        backend_timeout: Duration,
        now: UnixSeconds,
    ) -> Result<(Turn, Option<Known>), StoreFault> {
        let redis = match &self.0.store {
            Store::Redis(redis) if !self.0.is_alone() => redis,
            // Nobody else has the file, or nobody can be asked.
            Store::File(_) | Store::Redis(_) => {
                return Ok((Turn::Ours(None), self.look(token, now).await?));
            }
        };
        let (since, keys) = (self.0.moment().await, TokenKeys::of(token));
        match redis.claim(&keys, backend_timeout, now).await {
            Ok((claimed, name, record)) => {
                let known = match record {
                    None => self.0.front.stand_in(since, &keys.name, now),
                    Some(record) => {
                        let known = record.known.clone();
                        self.0.front.learn(since, name, &[keys.name], record, now);
                        Some(known)
                    }
                };
                let turn = match claimed {
                    Claimed::Mine(claim) => Turn::Ours(Some(claim)),
                    Claimed::Theirs(waiting) => Turn::Theirs(waiting),
                };
                Ok((turn, known))
            }
            Err(fault @ StoreFault::Refused(_)) => {
                self.0.fell(&fault);
                Ok((Turn::Ours(None), self.look(token, now).await?))
            }
            Err(fault) => Ok((Turn::Ours(None), self.without_store(&keys, &fault, now)?)),
        }
    }

    /// What this process remembers where the store gives no answer. A file says by that nothing of
    /// what it knows; without Redis each process goes on alone.
    fn without_store(
        &self,
        token: &TokenKeys,
        fault: &StoreFault,
        now: UnixSeconds,
    ) -> Result<Option<Known>, StoreFault> {
        self.0.fell(fault);
        let known = self.0.front.recall(&token.name, now);
        match self.0.store {
            Store::File(_) if known.is_none() => Err(fault.clone()),
            Store::File(_) | Store::Redis(_) => Ok(known),
        }
    }

    /// Writes into the store and the front, or into the front and the backlog.
    pub(super) async fn write(&self, write: Write, now: UnixSeconds) -> Written {
        let since = self.0.moment().await;
        if !self.0.defers(&write, now) {
            match self.0.write(&write, now).await {
                Ok(Told { name, record, names, left, learnt }) => {
                    let known = record.as_ref().map(|record| record.known.clone());
                    if let Some(record) = record {
                        self.0.front.learn_own(since, name, left, &names, record, now);
                    }
                    return Written { known, learnt };
                }
                Err(fault) => self.0.keep(&write, now, &fault),
            }
        }
        self.0.front.write(&write, now)
    }

    pub(super) fn remember(&self, span: Duration) {
        match &self.0.store {
            Store::File(file) => file.remember(span),
            Store::Redis(redis) => redis.remember(span),
        }
    }

    pub(super) fn entries(&self) -> usize {
        match &self.0.store {
            Store::File(file) => file.entries(),
            Store::Redis(_) => self.0.front.entries(),
        }
    }

    pub(super) fn forgotten(&self) -> u64 {
        let forgotten = match &self.0.store {
            Store::File(file) => file.forgotten(),
            // Redis does not tell.
            Store::Redis(_) => 0,
        };
        forgotten + self.0.backlog().lost
    }

    pub(super) fn unreplicated(&self) -> u64 {
        match &self.0.store {
            Store::File(_) => 0,
            Store::Redis(redis) => redis.unreplicated(),
        }
    }

    /// Waits until the store knows all that this process does.
    pub(super) async fn saved(&self) {
        while self.unsaved() > 0 {
            sleep(TENDED_EVERY).await;
        }
    }

    /// How many writes the store does not know yet.
    pub(super) fn unsaved(&self) -> usize {
        let backlog = self.0.backlog();
        backlog.writes.len() + usize::from(backlog.is_writing)
    }

    pub(super) fn state(&self) -> LedgerState {
        self.0.backlog().state.clone()
    }
}

impl Shared {
    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment before a question. The first one waits for the connection, before which nothing
    /// that is known counts.
    async fn moment(&self) -> Moment {
        if let Store::Redis(redis) = &self.store {
            redis.tried().await;
        }
        self.front.moment()
    }

    async fn write(&self, write: &Write, now: UnixSeconds) -> Result<Told, StoreFault> {
        match &self.store {
            Store::File(file) => file.write(write.clone(), now).await,
            Store::Redis(redis) => redis.write(write, now).await,
        }
    }

    /// Whether there is nobody to ask.
    fn is_alone(&self) -> bool {
        matches!(self.store, Store::Redis(_)) && self.backlog().state != LedgerState::Good
    }

    /// Whether the store can be asked: it may be good for that, and take nothing new.
    fn can_be_read(&self) -> bool {
        match &self.store {
            Store::File(_) => true,
            Store::Redis(redis) => !self.is_alone() || redis.is_open(),
        }
    }

    /// Keeps a write for later, unless the store is there.
    fn defers(&self, write: &Write, now: UnixSeconds) -> bool {
        let mut backlog = self.backlog();
        let is_away = backlog.state != LedgerState::Good;
        if is_away {
            backlog.push(write.clone(), now);
        }
        is_away
    }

    /// Keeps a write that has just failed. Others may go on from what of it has arrived.
    fn keep(&self, write: &Write, now: UnixSeconds, fault: &StoreFault) {
        let mut write = write.clone();
        write.comes_late();
        let state = LedgerState::AtRisk(fault.to_string());
        let has_fallen = {
            let mut backlog = self.backlog();
            backlog.push(write, now);
            let has_fallen = backlog.state == LedgerState::Good;
            if has_fallen {
                backlog.state = state.clone();
            }
            has_fallen
        };
        if has_fallen {
            (self.tell)(LedgerEvent::State(state));
        }
    }

    /// Looking something up has failed. Whoever closed the store has told why.
    fn fell(&self, fault: &StoreFault) {
        if *fault != StoreFault::NotOpen {
            self.turn(LedgerState::AtRisk(fault.to_string()));
        }
    }

    /// The connection is gone; whoever used it last may have told why.
    fn fell_away(&self, why: &StoreFault) {
        if self.backlog().state == LedgerState::Good {
            self.fell(why);
        }
    }

    fn note(&self, opened: Opened) {
        match opened {
            Opened::Ready => {}
            Opened::MovedAside { to, why } => (self.tell)(LedgerEvent::MovedAside { to, why }),
            Opened::OnlyRead(fault) => self.fell(&fault),
            Opened::No(fault) => {
                let was_open = matches!(self.backlog().state, LedgerState::AtRisk(_));
                let why = fault.to_string();
                self.turn(match was_open {
                    true => LedgerState::AtRisk(why),
                    false => LedgerState::Waiting(why),
                });
            }
        }
    }

    fn turn(&self, state: LedgerState) {
        let before = std::mem::replace(&mut self.backlog().state, state.clone());
        if before != state {
            (self.tell)(LedgerEvent::State(state));
        }
    }

    /// The connection works; `refused` says why nothing new is taken.
    async fn tend(&self, refused: Option<StoreFault>) {
        match refused {
            Some(fault) => self.fell(&fault),
            None => self.catch_up().await,
        }
    }

    /// Writes what is left to write. After that the store is as good as ever.
    async fn catch_up(&self) {
        while let Some((mut write, now)) = self.next_of_backlog() {
            let written = self.write(&write, now).await;
            {
                let mut backlog = self.backlog();
                backlog.is_writing = false;
                if written.is_err() {
                    write.comes_late();
                    backlog.writes.push_front((write, now));
                }
            }
            if let Err(fault) = written {
                return self.fell(&fault);
            }
        }
    }

    /// What has waited longest. When there is nothing the store is as good as ever.
    fn next_of_backlog(&self) -> Option<(Write, UnixSeconds)> {
        let was_away = {
            let mut backlog = self.backlog();
            if let Some(next) = backlog.writes.pop_front() {
                backlog.is_writing = true;
                return Some(next);
            }
            let was_away = backlog.state != LedgerState::Good;
            if was_away {
                backlog.state = LedgerState::Good;
                backlog.back_since = Some(Instant::now());
            }
            was_away
        };
        if was_away {
            (self.tell)(LedgerEvent::State(LedgerState::Good));
        }
        None
    }
}

impl Backlog {
    fn push(&mut self, write: Write, now: UnixSeconds) {
        self.writes.push_back((write, now));
        if self.writes.len() > self.limit {
            self.writes.pop_front();
            self.lost += 1;
        }
    }
}

/// Opens the file whenever it is closed, and writes what is left to write.
async fn keep_file(ledger: Weak<Shared>, file: FileStore) {
    loop {
        sleep(TENDED_EVERY).await;
        let Some(shared) = ledger.upgrade() else { return };
        if !file.is_open() {
            let file = file.clone();
            if let Ok(opened) = spawn_blocking(move || file.open()).await {
                shared.note(opened);
            }
        }
        if file.is_open() {
            shared.catch_up().await;
        }
    }
}

/// Connects whenever there is no connection, writes what is left to write, and listens.
async fn keep_redis(ledger: Weak<Shared>, redis: RedisStore) {
    loop {
        match redis.connect().await {
            Ok((mut news, refused)) => {
                {
                    let Some(shared) = ledger.upgrade() else { return };
                    // Nobody has told us what changed meanwhile.
                    shared.front.distrust();
                    shared.tend(refused).await;
                }
                let end = loop {
                    let heard = news.next().await;
                    let Some(shared) = ledger.upgrade() else { return };
                    match heard {
                        Ok(Heard::Changed(record)) => shared.front.forget(record),
                        Ok(Heard::Heartbeat(refused)) => shared.tend(refused).await,
                        Err(end) => break end,
                    }
                };
                if let Some(shared) = ledger.upgrade() {
                    shared.fell_away(&end);
                }
            }
            Err(fault) => {
                let Some(shared) = ledger.upgrade() else { return };
                shared.fell(&fault);
            }
        }
        sleep(TENDED_EVERY).await;
    }
}

/// The front holds what is asked for again and again; the store has the rest.
const FRONT_ENTRIES: usize = 100_000;
/// How soon it is noticed that a file is free, or its disk, or Redis is back.
const TENDED_EVERY: Duration = Duration::from_millis(250);
/// How often a record may change while it is looked up. The first time it may only seem so, since
/// news of what was found may come behind it.
const LOOKS: usize = 4;
/// How long after its return another process may still be on its way to it, or be writing down what
/// it did alone: some attempts to connect.
const ALL_ARE_BACK: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
