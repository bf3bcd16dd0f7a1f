//! A gate with a thread for itself, which can be made to die like a process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::super::fake::{ENTRIES, Fake, Gate, REMEMBER};
use super::super::*;
use crate::fail_point::{FailPoint, doom};
use crate::ledger::LedgerAddress;
use crate::outcome::Outcome;

pub(super) struct Replica {
    pub(super) gate: Gate,
    pub(super) visits: JoinSet<Result<Session, RefreshError>>,
    fake: Fake,
    orders: UnboundedSender<Order>,
    thread: thread::JoinHandle<Option<FailPoint>>,
    has_ended: Arc<AtomicBool>,
}

enum Order {
    Doom(FailPoint),
    DoomNothing,
    Die,
}

/// What a gate took with it.
pub(super) enum Death {
    WithUnheardPair,
    Harmless,
}

impl Replica {
    pub(super) fn start(address: &LedgerAddress, fake: &Fake) -> Self {
        let (orders, heard) = unbounded_channel();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let has_ended = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let has_ended = Arc::clone(&has_ended);
            move || {
                let died_at = runtime.block_on(live(heard));
                // Before anybody can tell by what ends with the runtime.
                has_ended.store(true, Ordering::Release);
                runtime.shutdown_background();
                died_at
            }
        });
        let fake = fake.seen_from_elsewhere();
        let ledger = Ledger::open(address, ENTRIES, REMEMBER, &handle, |_| ()).unwrap();
        let gate = Gate::with(ledger, fake.clone(), handle, 64).patient_for(TIMEOUT);
        Self { gate, visits: JoinSet::new(), fake, orders, thread, has_ended }
    }

    /// A request of its own.
    pub(super) fn visit(&mut self, cookie: Session) -> AbortHandle {
        let (refresher, backend) = (self.gate.refresher.clone(), Arc::clone(&self.gate.backend));
        let now = self.gate.now();
        self.visits.spawn(async move {
            let tokens = refresher.refresh(&backend, &cookie, now).await?;
            Ok(cookie.renewed(&tokens.as_new_tokens()))
        })
    }

    pub(super) fn doom(&self, at: FailPoint) {
        // It may have died meanwhile.
        let _ = self.orders.send(Order::Doom(at));
    }

    pub(super) fn doom_nothing(&self) {
        let _ = self.orders.send(Order::DoomNothing);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Ends in good order: nothing is under way.
    pub(super) fn end(self) {
        let _ = self.orders.send(Order::Die);
        self.thread.join().unwrap();
    }

    /// Ends where it stands.
    pub(super) fn die(self) -> Death {
        let _ = self.orders.send(Order::Die);
        let died_at = self.thread.join().unwrap();
        let outcomes = self.gate.outcomes();
        let told = outcomes.iter().filter(|outcome| **outcome == Outcome::Renewed).count();
        // The ledger knows of the redemption that died, though its end was never told.
        let known = told + usize::from(died_at.is_some_and(|at| KNOWN_AT.contains(&at)));
        match self.fake.sent_here.load(Ordering::Relaxed) > known {
            true => Death::WithUnheardPair,
            false => Death::Harmless,
        }
    }
}

/// Until it is told to die, or its doom has come: then, where.
async fn live(mut orders: UnboundedReceiver<Order>) -> Option<FailPoint> {
    let (_never, mut doomed) = watch::channel(false);
    let mut at = None;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Ok(_) = doomed.wait_for(|is_here| *is_here) => return at,
        };
        at = match order {
            Some(Order::Doom(point)) => Some(point),
            Some(Order::DoomNothing) => None,
            Some(Order::Die) | None => return None,
        };
        doomed = doom::arm(at);
    }
}

/// From the ledger's word on, to the last report.
const KNOWN_AT: [FailPoint; 6] = [
    FailPoint::Scripted,
    FailPoint::Replicated,
    FailPoint::Spoken,
    FailPoint::Settled,
    FailPoint::Told,
    FailPoint::Released,
];
/// Of the backend. Who waits for a dead gate's claim has an answer within twice this.
const TIMEOUT: Duration = Duration::from_millis(400);
