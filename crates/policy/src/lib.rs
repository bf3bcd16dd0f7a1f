//! Whether a request may pass, and as whom. It refuses to know clocks, networks, logs, cookies and
//! tokens: a session comes in opened, a request as its parts, and a decision goes out.
//!
//! ```text
//! PolicySpec ──> Rules ───────────┐
//! RawHead ─────> Head ──> Rules::route ──> Route ──> Pass or Refusal
//!                │                         │
//!                one host, one path        what every reading of the path asks for
//! ```
//!
//! A path has one canonical form or none ([`CanonicalPath`]); it is what rules see and what the
//! app gets. Servers behind the gate may still read that form differently, so a route holds the
//! decision of each such reading, and a request must satisfy them all.

mod access;
mod head;
mod host;
mod path;

mod pattern;
mod reading;
mod table;
mod tables;
mod text;

mod app;
mod explain;
mod roles;
mod route;
mod rules;
mod same_site;

mod check;
mod compile;
mod outlines;
mod spec;

mod opened;

pub use access::{Access, Pass, Refusal};
pub use explain::{Explained, ExplainedReading};
pub use head::{Field, Head, RawHead, TARGET_LIMIT};
pub use host::{BadHost, Host};
pub use opened::Opened;
pub use path::{CanonicalPath, PathFault};
pub use roles::RoleSet;
pub use route::Route;
pub use rules::Rules;
pub use spec::{AppSpec, ConditionSpec, Finding, MatcherSpec, Place, PolicySpec, RuleSpec};
