//! The harness of the integration tests: a [`Gate`] (the built program as a process of its own), a
//! [`Browser`] with a cookie jar, and a [`Connection`] for whoever wants to send raw bytes. The
//! backend and the apps come from `foregate-stage`.
//!
//! It is for tests, so what goes wrong here panics, with what the gate had to say about it.

mod answer;
mod browser;
mod certificates;
mod connection;
mod directory;
mod gate;
pub mod h2;
mod http2;
mod jar;
mod redis;

pub use answer::Answer;
pub use browser::{Browser, Request};
pub use certificates::Certificates;
pub use connection::Connection;
pub use directory::Directory;
pub use gate::{Gate, free_port, program, program_with_fail_points};
pub use http2::{Fate, Frames, Http2};
pub use redis::{RedisServer, redis_cluster};
