//! Roles of a session: claims that name them and flags that grant them.

use foregate_session::{Claim, ClaimPath, Session};

/// Where roles stand in a session.
#[derive(Debug, Clone)]
pub(crate) struct RoleSource {
    /// A string is one role, a list of strings several.
    pub(crate) claims: Vec<ClaimPath>,
    /// A role and the claim that grants it by being `true`.
    pub(crate) flags: Vec<(String, ClaimPath)>,
}

impl RoleSource {
    /// Whether the session has any one of `wanted`. Compares byte by byte and copies no name
    /// that stands unescaped in the claims.
    pub(crate) fn holds_any(&self, session: &Session, wanted: &[Box<str>]) -> bool {
        let is_wanted = |name: &str| wanted.iter().any(|role| **role == *name);
        let is_named = |claim: Claim<'_>| claim.as_str().is_some_and(|name| is_wanted(&name));
        let claims = self.claims.iter().filter_map(|path| session.claim(path));
        let named = claims.into_iter().any(|claim| match claim.items() {
            Some(items) => items.into_iter().any(is_named),
            None => is_named(claim),
        });
        named || self.flags.iter().any(|(role, path)| is_wanted(role) && is_true(session, path))
    }

    /// All roles of the session.
    pub(crate) fn roles(&self, session: &Session) -> RoleSet {
        let mut names = Vec::new();
        for claim in self.claims.iter().filter_map(|path| session.claim(path)) {
            match claim.items() {
                Some(items) => {
                    names.extend(items.into_iter().filter_map(Claim::as_str).map(String::from));
                }
                None => names.extend(claim.as_str().map(String::from)),
            }
        }
        let granted = self.flags.iter().filter(|(_, path)| is_true(session, path));
        names.extend(granted.map(|(role, _)| role.clone()));
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        RoleSet(names)
    }
}

/// A flag grants only when it is `true`: not 1, not "true".
fn is_true(session: &Session, path: &ClaimPath) -> bool {
    session.claim(path).and_then(Claim::as_bool) == Some(true)
}

/// The roles of one session, each once, in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleSet(Vec<String>);

impl RoleSet {
    /// Their names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
