//! HTTP in, HTTP out: listeners, the admission of requests, the apps behind, and what Foregate
//! answers by itself. It reads no file and no argument, and does not know which ledger renews
//! tokens.
//!
//! ```text
//! server ── exchange ── request     bytes to a head that has one reading
//!              │    └── admission   the order of all checks; own: /.foregate/*
//!              ├─────── forward     headers, upstream: to the app and back
//!              └─────── respond     what goes out when a request goes nowhere
//! ```

mod admission;
mod cache;
mod callback;
mod connect;
mod exchange;
mod explain;
mod forward;
mod headers;
mod live;
mod own;
mod peer;
mod record;
mod redeem;
mod request;
mod respond;
mod server;
mod stop;
mod upstream;
mod worker;

pub use explain::{Explanation, Forwarded, Question, Refusing, explain};
pub use live::Live;
pub use redeem::HttpEndpoint;
pub use server::listen;
pub use stop::{Stop, Stopping};
pub use worker::Worker;
