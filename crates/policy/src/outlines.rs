//! Patterns held against one another, as far as they go segment by segment.

use std::collections::HashMap;

use crate::pattern::{Outline, Segment, Tail};

/// Patterns that are made of whole segments, in a tree of these, each with its rule.
#[derive(Debug)]
pub(crate) struct Outlines {
    /// `nodes[0]` is the root.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    texts: HashMap<String, usize>,
    any: Option<usize>,
    /// What ends here.
    ends: Vec<(usize, Tail)>,
}

impl Outlines {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::default()] }
    }

    /// Adds a pattern, unless more than segments make it.
    pub(crate) fn add(&mut self, rule: usize, outline: &Outline) {
        let tail = match &outline.ending {
            Some(Tail::AllBut(exclusions)) if !exclusions.is_empty() => return,
            // Behind the root there is always a `/`, so `/(.*)` is everything.
            Some(Tail::AllBut(_)) if outline.way.is_empty() => Tail::Star,
            Some(Tail::AllBut(_)) => Tail::Plus,
            Some(Tail::End) => Tail::End,
            Some(Tail::Optional) => Tail::Optional,
            Some(Tail::Star) => Tail::Star,
            Some(Tail::Plus) => Tail::Plus,
            None => return,
        };
        let mut node = 0;
        for segment in &outline.way {
            let new = self.nodes.len();
            node = match segment {
                Segment::Text(text) => *self.nodes[node].texts.entry(text.clone()).or_insert(new),
                Segment::Any => *self.nodes[node].any.get_or_insert(new),
            };
            if node == new {
                self.nodes.push(Node::default());
            }
        }
        self.nodes[node].ends.push((rule, tail));
    }

    /// A rule that takes everything which `outline` takes.
    pub(crate) fn covering(
        &self,
        outline: &Outline,
        speaks: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        self.cover(0, &outline.way, outline.ending.as_ref(), speaks)
    }

    fn cover(
        &self,
        node: usize,
        way: &[Segment],
        tail: Option<&Tail>,
        speaks: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let node = &self.nodes[node];
        let covers = |other: &Tail| match other {
            Tail::Star => true,
            Tail::Plus | Tail::AllBut(_) => !way.is_empty() || matches!(tail, Some(Tail::Plus)),
            Tail::End => way.is_empty() && matches!(tail, Some(Tail::End)),
            Tail::Optional => match tail {
                Some(Tail::End) => way.len() <= 1,
                Some(Tail::Optional) => way.is_empty(),
                _ => false,
            },
        };
        let mut ends = node.ends.iter().filter(|(rule, other)| speaks(*rule) && covers(other));
        if let Some((rule, _)) = ends.next() {
            return Some(*rule);
        }
        let (next, rest) = way.split_first()?;
        let text = match next {
            Segment::Text(text) => node.texts.get(text),
            Segment::Any => None,
        };
        text.into_iter().chain(&node.any).find_map(|child| self.cover(*child, rest, tail, speaks))
    }

    /// A rule that takes something which `outline` takes. Looks at a bounded number of nodes.
    pub(crate) fn overlapping(
        &self,
        outline: &Outline,
        speaks: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let tail = match outline.ending.as_ref()? {
            Tail::AllBut(_) => return None,
            tail => tail,
        };
        let mut budget = NODE_LIMIT;
        self.overlap(0, &outline.way, tail, speaks, &mut budget)
    }

    fn overlap(
        &self,
        node: usize,
        way: &[Segment],
        tail: &Tail,
        speaks: &impl Fn(usize) -> bool,
        budget: &mut usize,
    ) -> Option<usize> {
        *budget = budget.checked_sub(1)?;
        let node = &self.nodes[node];
        let may_end = way.is_empty() && !matches!(tail, Tail::Plus);
        let may_go_on = !way.is_empty() || !matches!(tail, Tail::End);
        let meets = |other: &Tail| match other {
            Tail::Star => true,
            Tail::Plus | Tail::AllBut(_) => may_go_on,
            Tail::End => may_end,
            Tail::Optional => way.is_empty() || way.len() == 1 && !matches!(tail, Tail::Plus),
        };
        let mut ends = node.ends.iter().filter(|(rule, other)| speaks(*rule) && meets(other));
        if let Some((rule, _)) = ends.next() {
            return Some(*rule);
        }
        let (text, rest, tail) = match (way, tail) {
            ([Segment::Text(text), rest @ ..], tail) => (Some(text), rest, tail),
            ([Segment::Any, rest @ ..], tail) => (None, rest, tail),
            ([], Tail::End) => return None,
            ([], Tail::Optional) => (None, way, &Tail::End),
            ([], Tail::Star | Tail::Plus | Tail::AllBut(_)) => (None, way, &Tail::Star),
        };
        let texts: Vec<usize> = match text {
            Some(text) => node.texts.get(text).copied().into_iter().collect(),
            None => node.texts.values().copied().collect(),
        };
        let mut children = texts.into_iter().chain(node.any);
        children.find_map(|child| self.overlap(child, rest, tail, speaks, budget))
    }
}

/// A few paths that the pattern is likely to take.
pub(crate) fn samples(outline: &Outline) -> Vec<String> {
    let mut path = String::new();
    for segment in &outline.way {
        path.push('/');
        path.push_str(match segment {
            Segment::Text(text) => text,
            Segment::Any => "x",
        });
    }
    let end = if path.is_empty() { "/".to_owned() } else { path.clone() };
    vec![end, format!("{path}/x"), format!("{path}/x/x"), format!("{path}/1")]
}

/// Bounds the time that one pattern's check takes.
const NODE_LIMIT: usize = 10_000;
