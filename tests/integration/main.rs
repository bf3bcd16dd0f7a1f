//! The built program, from outside: one binary, a module for each side of it.

mod admission;
mod architecture;
mod backends;
mod demo;
mod forwarding;
mod interop;
mod minted_cookies;
mod refresh;
mod reserved;
mod world;
