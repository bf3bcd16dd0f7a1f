//! The built program, from outside: one binary, a module for each side of it.

#![expect(clippy::unwrap_used, reason = "a test that misses a value has failed")]

mod admission;
mod architecture;
mod backends;
mod commands;
mod demo;
mod differential;
mod explain;
mod forwarding;
mod interop;
mod minted_cookies;
mod recipes;
mod refresh;
mod reserved;
mod world;
