//! What the rules say about one request, before and after its session is known.

use foregate_session::Session;

use crate::access::{Access, Pass, Refusal};
use crate::head::Head;
use crate::rules::Rules;

/// What one reading of the path came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit<'r> {
    /// None: no rule named the path, the app's own access counts.
    pub(crate) rule: Option<usize>,
    pub(crate) access: Access,
    /// Any one of these; empty for no role.
    pub(crate) roles: &'r [Box<str>],
}

/// The app of a request and the decisions of every reading of its path. All of them must be
/// satisfied, so one reading more can only make a route stricter.
#[derive(Debug, Clone)]
pub struct Route<'r> {
    rules: &'r Rules,
    app: usize,
    first: Hit<'r>,
    /// Those that differ from `first` and from one another, in the order of the readings.
    others: Vec<Hit<'r>>,
}

impl<'r> Route<'r> {
    pub(crate) fn new(rules: &'r Rules, app: usize, first: Hit<'r>) -> Self {
        Self { rules, app, first, others: Vec::new() }
    }

    pub(crate) fn add(&mut self, hit: Hit<'r>) {
        if self.hits().all(|known| known.rule != hit.rule) {
            self.others.push(hit);
        }
    }

    fn hits(&self) -> impl Iterator<Item = &Hit<'r>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Index of the app among those of the specification.
    pub fn app(&self) -> usize {
        self.app
    }

    /// The strictest rule among those that speak, the first of equals: an index into the app's
    /// rules, or into its matcher entries. None where the app's own access is the strictest.
    pub fn rule(&self) -> Option<usize> {
        self.strictest().rule
    }

    /// The strictest access that any reading asks for.
    pub fn access(&self) -> Access {
        self.strictest().access
    }

    /// Whether a visitor without a session is refused.
    pub fn needs_session(&self) -> bool {
        self.access() == Access::Session
    }

    /// The roles asked for: any one of each item.
    pub fn roles(&self) -> impl Iterator<Item = &'r [Box<str>]> {
        self.hits().map(|hit| hit.roles).filter(|roles| !roles.is_empty())
    }

    fn strictest(&self) -> &Hit<'r> {
        let mut strictest = &self.first;
        for hit in &self.others {
            if (hit.access, !hit.roles.is_empty()) > (strictest.access, !strictest.roles.is_empty())
            {
                strictest = hit;
            }
        }
        strictest
    }

    /// A CORS preflight goes to the app as a stranger's request, since browsers send no cookie
    /// with it; to a denied path it does not go.
    pub fn preflight(&self) -> Result<Pass, Refusal> {
        match self.access() {
            Access::Deny => Err(Refusal::Denied),
            Access::Session | Access::Public => Ok(Pass::stranger(self.app, self.rule())),
        }
    }

    /// Decides for a visitor without a session, or with one that nothing speaks for any more.
    pub fn without_session(&self) -> Result<Pass, Refusal> {
        match self.access() {
            Access::Deny => Err(Refusal::Denied),
            Access::Session => Err(Refusal::NoSession),
            Access::Public => Ok(Pass::stranger(self.app, self.rule())),
        }
    }

    /// Decides for a visitor with a session. A foreign site's write is refused on a guarded path
    /// and passes as a stranger's on a public one.
    pub fn decide(&self, head: &Head<'_>, session: &Session) -> Result<Pass, Refusal> {
        self.decide_with(head, session, &[])
    }

    /// The same for a session that has these roles as well, whatever its claims say: `explain`
    /// asks for roles without a cookie.
    pub fn decide_with(
        &self,
        head: &Head<'_>,
        session: &Session,
        granted: &[String],
    ) -> Result<Pass, Refusal> {
        let admitted = self.rules.admits_site(head);
        match self.access() {
            Access::Deny => Err(Refusal::Denied),
            Access::Public if admitted => Ok(Pass::with_session(self.app, self.rule())),
            Access::Public => Ok(Pass::stranger(self.app, self.rule())),
            Access::Session if !admitted => Err(Refusal::CrossSite),
            Access::Session if self.roles().all(|roles| self.holds(session, granted, roles)) => {
                Ok(Pass::with_session(self.app, self.rule()))
            }
            Access::Session => Err(Refusal::RoleMissing),
        }
    }

    fn holds(&self, session: &Session, granted: &[String], wanted: &[Box<str>]) -> bool {
        wanted.iter().any(|role| granted.iter().any(|own| **own == **role))
            || self.rules.holds_any(session, wanted)
    }

    /// The rule to name beside `refusal`: the first whose decision it is, else the strictest.
    /// `session` is the one that [`Route::decide`] was asked about.
    pub fn refusing_rule(
        &self,
        refusal: &Refusal,
        session: Option<&Session>,
        granted: &[String],
    ) -> Option<usize> {
        let refuses = |hit: &&Hit<'_>| match refusal {
            Refusal::Denied => hit.access == Access::Deny,
            Refusal::NoSession | Refusal::CrossSite => hit.access == Access::Session,
            Refusal::RoleMissing => {
                let held = |session| self.holds(session, granted, hit.roles);
                !hit.roles.is_empty() && !session.is_some_and(held)
            }
            _ => false,
        };
        self.hits().find(refuses).unwrap_or_else(|| self.strictest()).rule
    }
}
