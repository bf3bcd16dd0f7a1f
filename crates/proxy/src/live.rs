//! The configuration in force. A request takes it once and keeps it to its end, so a reload never
//! meets a request half way.

use std::sync::Arc;

use arc_swap::ArcSwap;
use foregate_config::Snapshot;

/// One wait-free load per request; whoever reloads stores.
pub struct Live(ArcSwap<Snapshot>);

impl Live {
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// Requests that begin from now on get this one; those in flight keep theirs.
    pub fn store(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}
