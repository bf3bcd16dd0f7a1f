//! HTTP in, HTTP out: listeners, the admission of requests, the apps behind, and what Foregate
//! answers by itself. It reads no file and no argument, and does not know which ledger renews
//! tokens.
//!
//! ```text
//! listening ── exchange ── request     bytes to a head that has one reading
//!                 │    └── admission   the order of all checks
//!                 ├─────── upstream    to the app and back
//!                 ├─────── answers     what goes out when a request goes nowhere, and /.foregate/*
//!                 └─────── record      its line in the log, and the counters that admin shows
//! ```

mod admin;
mod admission;
mod answers;
mod auth;
mod capacity;
mod clock;
mod exchange;
mod explain;
mod listening;
mod live;
mod metrics;
mod peer;
mod record;
mod redeem;
mod request;
mod request_id;
mod stream;
mod upstream;
mod visitor;
mod worker;

#[cfg(test)]
mod fixtures;

pub use admin::Admin;
pub use capacity::Capacity;
pub use explain::{Explanation, Forwarded, Question, Refusing, explain};
pub use listening::handed::{Handed, HandedError};
pub use listening::listener::{ListenError, Listeners, SocketFiles};
pub use listening::stop::{Stop, Stopping};
pub use live::Live;
pub use redeem::HttpEndpoint;
pub use worker::Worker;
