//! The built program, from outside: one binary, a module for each side of it.

#![expect(clippy::unwrap_used, reason = "a test that misses a value has failed")]

mod admin;
mod admission;
mod adoption;
mod answers;
mod architecture;
mod auth;
mod backends;
mod commands;
mod cookies;
mod crashes;
mod demo;
mod deploy;
mod differential;
mod docs;
mod drain;
mod explain;
mod faults;
mod forwarding;
mod headers;
mod interop;
mod ledgers;
mod limits;
mod minted_cookies;
mod names;
mod pages;
mod real_backends;
mod recipes;
mod refresh;
mod reload;
mod reserved;
mod secrecy;
mod tls;
mod tunnels;
mod upstreams;
mod wire;
mod world;
