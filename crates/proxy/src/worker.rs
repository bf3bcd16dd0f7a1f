//! What the requests of one worker share.

use std::sync::Arc;

use foregate_refresh::Refresher;

use crate::capacity::Capacity;
use crate::listening::stop::Stopping;
use crate::live::Live;
use crate::redeem::HttpEndpoint;
use crate::upstream::connect::Connector;
use crate::upstream::pool::Pool;

/// One worker. Everything here is its own, or never locked.
pub struct Worker {
    pub(crate) live: Arc<Live>,
    pub(crate) refresher: Refresher<HttpEndpoint>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) connector: Connector,
    pub(crate) capacity: Capacity,
    pub(crate) stopping: Stopping,
}

impl Worker {
    pub fn new(
        live: Arc<Live>,
        refresher: Refresher<HttpEndpoint>,
        capacity: Capacity,
        stopping: Stopping,
    ) -> Self {
        let (pool, connector) = (Arc::default(), Connector::default());
        Self { live, refresher, pool, connector, capacity, stopping }
    }
}
