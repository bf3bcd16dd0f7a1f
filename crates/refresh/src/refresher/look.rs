//! What takes a moment because a ledger outside of the process is asked. None of it belongs to a
//! visitor's request, and the end of the process waits for all of it.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use foregate_session::{Secret, Session, UnixSeconds};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::endpoint::TokenEndpoint;
use crate::ledger::{Ledger, StoreFault};
use crate::lineage::Lineage;
use crate::outcome::{Fault, RefreshError};
use crate::refresher::{Refresher, Shared};
use crate::table::FIRST_DELAY;
use crate::tokens::Tokens;

/// Where those wait who ask the ledger for the same token. `Ok`: it has told all it knows.
pub(super) type LookSeat = watch::Receiver<Option<Result<(), StoreFault>>>;

/// As long as this lives, the process has something to bring to its end.
pub(super) struct Busy<E>(Arc<Shared<E>>);

impl<E> Drop for Busy<E> {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

/// One question to the ledger. Its place is free in the end.
struct Look<E> {
    shared: Arc<Shared<E>>,
    token: Lineage,
    answers: watch::Sender<Option<Result<(), StoreFault>>>,
    _busy: Busy<E>,
}

impl<E> Drop for Look<E> {
    fn drop(&mut self) {
        self.shared.looks().remove(&self.token);
    }
}

impl<E> Shared<E> {
    pub(super) fn busy(self: &Arc<Self>) -> Busy<E> {
        self.running.send_modify(|running| *running += 1);
        Busy(Arc::clone(self))
    }

    /// No code panics under this lock.
    fn looks(&self) -> MutexGuard<'_, HashMap<Lineage, LookSeat>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: TokenEndpoint> Shared<E> {
    /// Whatever becomes of the caller, `work` is done. `None`: the runtime has ended.
    pub(super) async fn see_through<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if let Ledger::Memory(_) = self.ledger {
            return Some(work.await);
        }
        let busy = self.busy();
        let working = self.runtime.spawn(async move {
            let _busy = busy;
            work.await
        });
        working.await.ok()
    }
}

impl<E: TokenEndpoint> Refresher<E> {
    /// What [`Refresher::settled`] says once a ledger outside of the process has had 50 ms to
    /// tell what it knows: right after a start that is more. One that is known to be away is not
    /// waited for; what it says later is heard by the next request. Needs a timer.
    pub async fn glance(&self, session: &Session, now: UnixSeconds) -> Option<Arc<Tokens>> {
        let looking = self.look(session.refresh_token()?, now);
        let _ = timeout(GLANCE, looking).await;
        self.settled(session, now)
    }

    /// Whether the ledger may know more of the token than it says at once. Nothing is to be looked
    /// up while a redemption is under way, or must not begin.
    pub(super) fn must_look(&self, token: &Lineage, now: UnixSeconds) -> bool {
        self.0.ledger.must_look(token, now) && self.0.table().may_enter(token, self.0.at())
    }

    /// Sees to it that the ledger tells at once all that it knows of the token. Any number of
    /// visitors who ask for the same one make one question.
    pub(super) async fn look(
        &self,
        refresh_token: &str,
        now: UnixSeconds,
    ) -> Result<(), RefreshError> {
        let token = Lineage::of(refresh_token);
        if !self.must_look(&token, now) {
            return Ok(());
        }
        let mut seat = self.look_seat(token, refresh_token, now);
        let answer = match seat.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        let fault = match answer {
            Some(Ok(())) => return Ok(()),
            Some(Err(fault)) => Fault::Ledger(fault.to_string()),
            None => Fault::Stopped,
        };
        Err(RefreshError::Unavailable { retry_after: FIRST_DELAY, fault })
    }

    fn look_seat(&self, token: Lineage, refresh_token: &str, now: UnixSeconds) -> LookSeat {
        let look = {
            let mut looks = self.0.looks();
            if let Some(seat) = looks.get(&token) {
                return seat.clone();
            }
            let (answers, seat) = watch::channel(None);
            looks.insert(token, seat);
            let (shared, busy) = (Arc::clone(&self.0), self.0.busy());
            Look { shared, token, answers, _busy: busy }
        };
        let (seat, refresh_token) = (look.answers.subscribe(), Secret::new(refresh_token));
        // A runtime that has ended drops the task at once, and that takes the lock.
        self.0.runtime.spawn(async move {
            let answer = look.shared.ledger.look(refresh_token.expose(), now).await;
            look.answers.send_replace(Some(answer.map(drop)));
        });
        seat
    }
}

/// Longer than any ledger takes that is well, and short enough for a page that needs no session.
const GLANCE: Duration = Duration::from_millis(50);
