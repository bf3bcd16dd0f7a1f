//! Connections of visitors: how they come in, how long they may keep us waiting, and how they end.

pub(crate) mod frames;
pub(crate) mod handed;
pub(crate) mod listener;
pub(crate) mod pace;
pub(crate) mod server;
pub(crate) mod standstill;
pub(crate) mod stop;
pub(crate) mod tls;
