//! The usual middleware pattern, "everything but": `/((?!api|_next/static|.*\\..*).*)`.

use super::node::{Node, UnitSet};
use super::regexp::LINE_ENDS;

/// What the rest of a path must not be, read off a negative look-ahead; nothing for `(.*)`.
#[derive(Debug)]
pub(crate) struct Exclusions(Vec<Exclusion>);

#[derive(Debug)]
struct Exclusion {
    /// Whether anything may stand in front.
    anywhere: bool,
    units: Vec<UnitSet>,
    /// Whether nothing may follow.
    to_the_end: bool,
}

impl Exclusions {
    /// None where the expression is not of this kind.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let Node::Concat(nodes) = node else { return None };
        let [ahead @ .., rest] = &nodes[..] else { return None };
        if !is_rest(rest) {
            return None;
        }
        let mut exclusions = Vec::new();
        for node in ahead {
            let Node::NotAhead(node) = node else { return None };
            match &**node {
                Node::Either(choices) => {
                    for choice in choices {
                        exclusions.push(Exclusion::of(choice)?);
                    }
                }
                node => exclusions.push(Exclusion::of(node)?),
            }
        }
        Some(Self(exclusions))
    }

    /// Whether nothing is excluded.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the rest of a path is none of the excluded. `rest` is ASCII without line ends.
    pub(crate) fn admit(&self, rest: &str) -> bool {
        !self.0.iter().any(|exclusion| exclusion.holds(rest.as_bytes()))
    }
}

impl Exclusion {
    fn of(node: &Node) -> Option<Self> {
        let Node::Concat(nodes) = node else { return None };
        let (mut nodes, mut to_the_end) = match &nodes[..] {
            [before @ .., Node::End] => (before, true),
            nodes => (nodes, false),
        };
        let anywhere = nodes.first().is_some_and(is_rest);
        if anywhere {
            nodes = &nodes[1..];
        }
        // Where anything may follow, it follows up to the end.
        if let [before @ .., last] = nodes
            && is_rest(last)
        {
            (nodes, to_the_end) = (before, false);
        }
        let unit = |node: &Node| if let Node::Unit(set) = node { Some(set.clone()) } else { None };
        let units = nodes.iter().map(unit).collect::<Option<_>>()?;
        Some(Self { anywhere, units, to_the_end })
    }

    fn holds(&self, rest: &[u8]) -> bool {
        let Some(spare) = rest.len().checked_sub(self.units.len()) else { return false };
        let mut places = match (self.anywhere, self.to_the_end) {
            (false, true) if spare > 0 => return false,
            (false, _) => 0..=0,
            (true, true) => spare..=spare,
            (true, false) => 0..=spare,
        };
        places.any(|place| {
            let mut pairs = self.units.iter().zip(&rest[place..]);
            pairs.all(|(set, byte)| set.contains(u16::from(*byte)))
        })
    }
}

/// `.*`
fn is_rest(node: &Node) -> bool {
    let Node::Repeat { node, min: 0, max: None } = node else { return false };
    **node == Node::Unit(UnitSet::of(LINE_ENDS).negated())
}
