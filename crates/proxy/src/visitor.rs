//! Who is at the other end of a connection, for as long as anything of it is left.

use std::convert::Infallible;
use std::sync::Arc;

use foregate_config::Certificate;
use tokio::sync::mpsc;

use crate::capacity::Place;
use crate::listening::pace::Pace;
use crate::peer::Connection;
use crate::worker::Worker;

/// A visitor's connection, as all requests on it share it.
pub(crate) struct Visitor {
    pub(crate) worker: Arc<Worker>,
    pub(crate) connection: Connection,
    /// What the connection was secured with, if it was.
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) pace: Arc<Pace>,
    /// It speaks HTTP by now.
    opened: Option<Opened>,
    /// Held as long as anything of the connection is left, a tunnel, too.
    _place: Option<Place>,
    _alive: Alive,
}

impl Visitor {
    /// Nothing has come from it yet.
    pub(crate) fn new(
        worker: Arc<Worker>,
        connection: Connection,
        place: Option<Place>,
        alive: Alive,
    ) -> Self {
        let pace = Pace::new();
        Self {
            worker,
            connection,
            certificate: None,
            pace,
            opened: None,
            _place: place,
            _alive: alive,
        }
    }

    /// Its first bytes told which HTTP it speaks: from here on it counts as open.
    pub(crate) fn speaks(&mut self, http2: bool) {
        self.opened = Some(Opened::new(&self.worker, self.connection.secure, http2));
    }
}

/// A connection that is counted as open for as long as this lives.
struct Opened {
    worker: Arc<Worker>,
    secure: bool,
    http2: bool,
}

impl Opened {
    fn new(worker: &Arc<Worker>, secure: bool, http2: bool) -> Self {
        worker.live.metrics.listener(secure).open(http2).add();
        Self { worker: Arc::clone(worker), secure, http2 }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.worker.live.metrics.listener(self.secure).open(self.http2).take_away();
    }
}

/// The worker ends when the last of these is gone.
pub(crate) type Alive = mpsc::Sender<Infallible>;
