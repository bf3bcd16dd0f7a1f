//! Whether a request may pass, and as whom. No clock, no I/O, no logging; cookies and tokens are
//! somebody else's.
//!
//! ```text
//! RawHead ──> Head ──> Rules::route ──> Route ──> Pass or Refusal
//!             one host, one path        every reading of the path, decided by first match
//! ```

mod access;
mod app;
mod check;
mod compile;
mod explain;
mod head;
mod host;
mod outlines;
mod path;
mod pattern;
mod reading;
mod roles;
mod route;
mod rules;
mod same_site;
mod spec;
mod table;
mod tables;
mod text;

pub use access::{Access, Pass, Refusal};
pub use explain::{Explained, ExplainedReading};
pub use head::{Field, Head, RawHead, TARGET_LIMIT};
pub use host::{BadHost, Host};
pub use path::{CanonicalPath, PathFault};
pub use roles::RoleSet;
pub use route::Route;
pub use rules::Rules;
pub use spec::{AppSpec, ConditionSpec, Finding, MatcherSpec, Place, PolicySpec, RuleSpec};
