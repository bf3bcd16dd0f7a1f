//! What stands in `deploy/`, run as an operator would run it.

mod compose;
mod containers;
mod image;
mod kubernetes;
mod nginx;
mod prometheus;
mod systemd;
