//! The threads. Each worker is one thread with a runtime and a pool of its own, all of them accept
//! from one queue; this file alone knows.

use std::io;
use std::sync::Arc;

use foregate_proxy::{Capacity, HttpEndpoint, Listeners, Live, Stopping, Worker};
use foregate_refresh::Refresher;
use tokio::sync::mpsc;

/// Running workers.
pub(crate) struct Workers {
    all_ended: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts `count` threads that serve `listeners`.
    pub(crate) fn start(
        count: usize,
        listeners: &Listeners,
        live: &Arc<Live>,
        refresher: &Refresher<HttpEndpoint>,
        capacity: &Capacity,
        stopping: &Stopping,
    ) -> io::Result<Self> {
        let (alive, all_ended) = mpsc::channel(1);
        for number in 0..count {
            let listeners = listeners.try_clone()?;
            let (live, refresher) = (Arc::clone(live), refresher.clone());
            let worker = Worker::new(live, refresher, capacity.clone(), stopping.clone());
            let alive = alive.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                if let Err(error) = runtime.block_on(worker.serve(listeners)) {
                    tracing::error!(%error, "a worker ended");
                }
                drop(alive);
            })?;
        }
        Ok(Self { all_ended })
    }

    /// Waits until the last worker has ended.
    pub(crate) async fn ended(&mut self) {
        self.all_ended.recv().await;
    }
}
