//! The same routing, said aloud.

use crate::access::Access;

/// Every reading of one request's path and what it came to, in the order in which they count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Index of the app among those of the specification.
    pub app: usize,
    /// The first is the canonical path as it stands.
    pub readings: Vec<ExplainedReading>,
}

/// One reading of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedReading {
    /// In what it differs from the canonical path, in words.
    pub name: String,
    /// The path so read, as the rules saw it.
    pub text: String,
    /// The rule or matcher entry that spoke; none where the app's own access counts.
    pub rule: Option<usize>,
    /// What it asks for.
    pub access: Access,
    /// Any one of these, where there are any.
    pub roles: Vec<String>,
}

impl Explained {
    /// The first reading that came to `rule`: the one to show beside a decision.
    pub fn deciding(&self, rule: Option<usize>) -> Option<&ExplainedReading> {
        self.readings.iter().find(|reading| reading.rule == rule)
    }
}
