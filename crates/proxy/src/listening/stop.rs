//! The end of the workers, in two steps: answers say good-bye, then doors close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Ends the workers, in two steps.
pub struct Stop {
    begun: Arc<AtomicBool>,
    closing: watch::Sender<bool>,
}

/// The workers' side of [`Stop`].
#[derive(Clone)]
pub struct Stopping {
    begun: Arc<AtomicBool>,
    closing: watch::Receiver<bool>,
}

impl Stop {
    pub fn new() -> (Self, Stopping) {
        let begun = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = watch::channel(false);
        let stopping = Stopping { begun: Arc::clone(&begun), closing: receiver };
        (Self { begun, closing: sender }, stopping)
    }

    /// From here on every answer asks its visitor to come back on another connection.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// No new connections; idle ones close, the others after their answer.
    pub fn close(&self) {
        self.begin();
        self.closing.send_replace(true);
    }
}

impl Stopping {
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    pub(crate) async fn closing(&mut self) {
        // An error means that the other side is gone, and with it the program.
        let _ = self.closing.wait_for(|closing| *closing).await;
    }
}
