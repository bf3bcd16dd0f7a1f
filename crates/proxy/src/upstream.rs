//! The way to the apps and back: connections, headers, bodies, tunnels, and what an app's answer says
//! of the session.

pub(crate) mod app_word;
pub(crate) mod body;
pub(crate) mod connect;
pub(crate) mod forward;
pub(crate) mod headers;
pub(crate) mod pool;
pub(crate) mod tls_fault;
pub(crate) mod upstream_401;
pub(crate) mod websocket;
