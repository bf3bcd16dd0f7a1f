//! What Foregate answers by itself: refusals, pages, and the paths under `/.foregate/`.

pub(crate) mod cache;
pub(crate) mod callback;
pub(crate) mod own;
pub(crate) mod page;
pub(crate) mod respond;
