//! Who redeems the token of a session, among all processes.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foregate_session::UnixSeconds;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::StoreFault;
use crate::ledger::redis::scripts::{CLAIM, RELEASE, RENEW};
use crate::ledger::redis::{
    CHANNEL, FAILED, REFUSED, RELEASED, RedisStore, claim_key, random, record_key,
};
use crate::ledger::seal::{self, MOVES, Page, Record};
use crate::lineage::{Lineage, TokenKeys};

/// What came of an attempt to take a claim.
pub(crate) enum Claimed {
    Mine(Claim),
    Theirs(Waiting),
}

/// How the holder of a claim has fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimEnd {
    /// The record has changed, whoever it was.
    Settled,
    /// The backend will not have the token any more.
    Refused,
    /// Nothing came of it, for now.
    Failed,
}

/// What was heard of a claim. Everybody who reaches Redis can say such a thing.
#[derive(Clone)]
pub(super) struct Word {
    pub(super) end: ClaimEnd,
    /// Of a refusal: [`seal::seal_refusal`].
    pub(super) proof: Vec<u8>,
}

/// The right to redeem the token of one session. It ends by itself.
pub(crate) struct Claim {
    store: RedisStore,
    token: TokenKeys,
    record: Lineage,
    owner: [u8; 16],
    life: Duration,
    /// When its last renewal was asked for. `None`: it is somebody else's by now.
    renewed: Mutex<Option<Instant>>,
}

/// A seat for those who wait until another process has redeemed the token.
pub(crate) struct Waiting {
    store: RedisStore,
    token: TokenKeys,
    record: Lineage,
    ends: watch::Receiver<Option<Word>>,
    poll: Duration,
}

impl RedisStore {
    /// Takes the claim on the session of a token, and says what is known of the session then.
    pub(in crate::ledger) async fn claim(
        &self,
        token: &TokenKeys,
        backend_timeout: Duration,
        now: UnixSeconds,
    ) -> Result<(Claimed, Lineage, Option<Record>), StoreFault> {
        let mut links = self.links().await?;
        let (owner, life) = (random(), backend_timeout.saturating_mul(3) / 2);
        let mut moves = 0;
        let (record, waiting, asked, taken, found) = loop {
            let sight = self.sight(&links, token, now).await;
            let thread = sight.map_err(|error| self.fell(&error))?.thread;
            let record = thread.name;
            // Before the attempt: what ends between it and the waiting must not be missed.
            let waiting = self.wait_for(token, record, backend_timeout);
            let asked = Instant::now();
            let taken = CLAIM
                .key(claim_key(record))
                .key(record_key(record))
                .arg(&owner[..])
                .arg(millis(life))
                .invoke_async::<(u8, Vec<u8>)>(&mut links.quick)
                .await;
            let (taken, found) = taken.map_err(|error| self.fell(&error))?;
            match seal::open_page(&thread, &found) {
                // A moment ago: nobody asks for this claim any more.
                Some(Page::Moved(_)) if moves < MOVES => moves += 1,
                Some(Page::Record(found)) if found.until > now => {
                    break (record, waiting, asked, taken, Some(found));
                }
                Some(_) | None => break (record, waiting, asked, taken, None),
            }
        };
        let claimed = if taken == 1 {
            let renewed = Mutex::new(Some(asked));
            let (store, token) = (self.clone(), token.clone());
            Claimed::Mine(Claim { store, token, record, owner, life, renewed })
        } else {
            Claimed::Theirs(waiting)
        };
        Ok((claimed, record, found))
    }

    fn wait_for(&self, token: &TokenKeys, record: Lineage, backend_timeout: Duration) -> Waiting {
        let mut waiters = self.waiters();
        let waiter = waiters.entry(record).or_insert_with(|| watch::Sender::new(None));
        let mut ends = waiter.subscribe();
        ends.mark_unchanged();
        let poll = (backend_timeout / 4).min(LONGEST_POLL);
        Waiting { store: self.clone(), token: token.clone(), record, ends, poll }
    }
}

impl Claim {
    /// Whether the claim will outlive a call that begins now. A process that was stopped for a while
    /// finds out here.
    pub(crate) fn allows_a_call(&self) -> bool {
        // A third of its life is half a time-out, two thirds are a whole one.
        self.renewed().is_some_and(|renewed| renewed.elapsed() < self.life / 3)
    }

    /// Whether somebody else may have taken it.
    pub(crate) fn has_lapsed(&self) -> bool {
        self.renewed().is_none_or(|renewed| renewed.elapsed() >= self.life)
    }

    /// Renews the claim for as long as this is waited for, or until it is lost.
    pub(crate) async fn keep(&self) -> Infallible {
        loop {
            sleep(self.life / 4).await;
            let Ok(mut links) = self.store.links().await else { continue };
            let asked = Instant::now();
            let renewed = RENEW
                .key(claim_key(self.record))
                .arg(&self.owner[..])
                .arg(millis(self.life))
                .invoke_async::<u8>(&mut links.quick)
                .await;
            match renewed {
                Ok(1) => *self.lock() = Some(asked),
                Ok(_) => {
                    *self.lock() = None;
                    return std::future::pending().await;
                }
                Err(error) => drop(self.store.fell(&error)),
            }
        }
    }

    /// Gives it back and tells those who wait for it. If that fails it ends by itself.
    pub(crate) async fn release(self, end: ClaimEnd) {
        let Ok(mut links) = self.store.links().await else { return };
        let (kind, proof) = match end {
            ClaimEnd::Settled => (RELEASED, Vec::new()),
            ClaimEnd::Refused => (REFUSED, seal::seal_refusal(&self.token)),
            ClaimEnd::Failed => (FAILED, Vec::new()),
        };
        let released = RELEASE
            .key(claim_key(self.record))
            .arg(&self.owner[..])
            .arg(CHANNEL)
            .arg([self.store.message(kind, self.record), proof].concat())
            .invoke_async::<u8>(&mut links.quick)
            .await;
        if let Err(error) = released {
            self.store.fell(&error);
        }
    }

    fn renewed(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Waits until the holder tells how he has fared. `None`: nothing was heard for a while, or of a
    /// refusal without proof that it was of this very token.
    pub(crate) async fn end(mut self) -> Option<ClaimEnd> {
        match timeout(self.poll, self.ends.changed()).await {
            Ok(Ok(())) => {
                let word = self.ends.borrow_and_update().clone()?;
                let is_true = || seal::is_refusal(&self.token, &word.proof);
                (word.end != ClaimEnd::Refused || is_true()).then_some(word.end)
            }
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiters = self.store.waiters();
        // This one is still counted.
        if waiters.get(&self.record).is_some_and(|waiter| waiter.receiver_count() <= 1) {
            waiters.remove(&self.record);
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The news say when a claim has ended. Should they be lost, this is how late one finds out.
const LONGEST_POLL: Duration = Duration::from_secs(1);
