//! How many connections the process holds at once, so that file handles are left for the apps, the
//! backends and the log.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for visitors' connections. All workers share one.
#[derive(Clone)]
pub struct Capacity {
    places: Arc<Semaphore>,
    /// All of them.
    count: usize,
    /// With fewer places left, visitors are asked not to linger.
    few: usize,
    /// For connections to apps: one visitor's HTTP/2 connection may want many of them.
    app_places: Arc<Semaphore>,
}

/// A connection's place, given back when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl Capacity {
    /// Places for so many `visitors` and connections to `apps` at once.
    pub fn new(visitors: usize, apps: usize) -> Self {
        let [places, app_places] =
            [visitors, apps].map(|places| places.clamp(1, Semaphore::MAX_PERMITS));
        Self {
            places: Arc::new(Semaphore::new(places)),
            count: places,
            few: places / 8,
            app_places: Arc::new(Semaphore::new(app_places)),
        }
    }

    /// A place for a connection to an app, if one is free.
    pub(crate) fn try_enter_app(&self) -> Option<Place> {
        Arc::clone(&self.app_places).try_acquire_owned().ok()
    }

    /// A place, if one is free.
    pub(crate) fn try_enter(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for a place. `None` never happens, since nobody closes the semaphore.
    pub(crate) async fn enter(&self) -> Option<Place> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// How many places there are.
    pub(crate) fn places(&self) -> usize {
        self.count
    }

    /// How many of them visitors have.
    pub(crate) fn taken(&self) -> usize {
        self.count.saturating_sub(self.places.available_permits())
    }

    /// Places are getting scarce: a connection that idles is a visitor who waits at the door.
    pub(crate) fn is_crowded(&self) -> bool {
        self.places.available_permits() <= self.few
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_ends() {
        let capacity = Capacity::new(2, 1);
        let first = capacity.try_enter();
        let second = capacity.try_enter();
        assert!(first.is_some() && second.is_some() && capacity.try_enter().is_none());
        drop(first);
        assert!(capacity.enter().await.is_some());
        let app = capacity.try_enter_app();
        assert!(app.is_some() && capacity.try_enter_app().is_none());
        drop(app);
        assert!(capacity.try_enter_app().is_some());
    }

    #[test]
    fn a_crowd_is_when_an_eighth_is_left() {
        let capacity = Capacity::new(16, 1);
        let places: Vec<_> = (0..13).map(|_| capacity.try_enter()).collect();
        assert!(!capacity.is_crowded());
        let last = capacity.try_enter();
        assert!(capacity.is_crowded());
        drop((places, last));
        assert!(!capacity.is_crowded());
    }
}
