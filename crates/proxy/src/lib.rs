//! HTTP in, HTTP out: listeners, the admission of requests, the apps behind, and what Foregate
//! answers by itself. It reads no file and no argument, and does not know which ledger renews
//! tokens.
//!
//! ```text
//! server ── exchange ── request     bytes to a head that has one reading
//!              │    └── admission   the order of all checks; own: /.foregate/*
//!              ├─────── forward     headers, upstream: to the app and back
//!              ├─────── respond     what goes out when a request goes nowhere
//!              └─────── record      its line in the log, and the counters that admin shows
//! ```

mod admin;
mod admission;
mod app_word;
mod auth;
mod body;
mod cache;
mod callback;
mod capacity;
mod connect;
mod exchange;
mod explain;
mod forward;
mod frames;
mod headers;
mod listener;
mod live;
mod metrics;
mod own;
mod pace;
mod page;
mod peer;
mod pool;
mod record;
mod redeem;
mod request;
mod request_id;
mod respond;
mod server;
mod standstill;
mod stop;
mod stream;
mod tls;
mod upstream_401;
mod websocket;
mod worker;

#[cfg(test)]
mod fixtures;

pub use admin::Admin;
pub use capacity::Capacity;
pub use explain::{Explanation, Forwarded, Question, Refusing, explain};
pub use listener::{ListenError, Listeners, SocketFiles};
pub use live::Live;
pub use redeem::HttpEndpoint;
pub use stop::{Stop, Stopping};
pub use worker::Worker;
