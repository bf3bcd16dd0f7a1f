//! Runs a pattern over a path in linear time: all states that some prefix of the path leads to
//! are followed at once, so nothing is ever tried twice (Thompson's construction).
//!
//! A negative look-ahead is answered beforehand for every place of the path, by one sweep of its
//! own states from the path's end to its beginning; then it costs no more than `$` does.

use super::PatternError;
use super::node::{Node, UnitSet};
use super::regexp::WORD;

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Program {
    code: Code,
    /// One for each look-ahead, read from right to left.
    ahead: Vec<Code>,
    sets: Vec<UnitSet>,
    word: UnitSet,
}

#[derive(Debug)]
struct Code {
    steps: Vec<Step>,
    /// Whether a match can begin at the path's beginning only.
    anchored: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Takes one unit of `sets[_]` and goes on with the next step.
    Take(usize),
    /// Goes on with the next step and with this one.
    Fork(usize),
    Jump(usize),
    Start,
    End,
    WordBoundary(bool),
    /// Goes on where `ahead[_]` does not match.
    NotAhead(usize),
    Match,
}

impl Program {
    /// Fails where the pattern needs more than [`STEP_LIMIT`] steps.
    pub(crate) fn compile(node: &Node) -> Result<Self, PatternError> {
        let mut writer = Writer { sets: Vec::new(), ahead: Vec::new(), size: 0 };
        let code = writer.code(node, false)?;
        let Writer { sets, ahead, .. } = writer;
        Ok(Self { code, ahead, sets, word: UnitSet::of(WORD) })
    }

    /// Whether the pattern matches somewhere in `text` (its anchors say where it may).
    pub(crate) fn matches<U: Copy + Into<u16>>(&self, text: &[U]) -> bool {
        self.run(text, &mut || ())
    }

    /// The same, calling `count` for every step that is looked at.
    fn run<U: Copy + Into<u16>>(&self, text: &[U], count: &mut impl FnMut()) -> bool {
        let mut facts = Facts { text, sets: &self.sets, word: &self.word, ahead: Vec::new() };
        for code in &self.ahead {
            let matched = facts.sweep_back(code, count);
            facts.ahead.push(matched);
        }
        facts.sweep(&self.code, count)
    }
}

struct Writer {
    sets: Vec<UnitSet>,
    ahead: Vec<Code>,
    size: usize,
}

impl Writer {
    fn code(&mut self, node: &Node, backwards: bool) -> Result<Code, PatternError> {
        let mut steps = Vec::new();
        self.write(node, backwards, &mut steps)?;
        steps.push(Step::Match);
        let starts = |node: &Node| matches!(node, Node::Start);
        let anchored = matches!(node, Node::Concat(nodes) if nodes.first().is_some_and(starts));
        Ok(Code { steps, anchored: anchored && !backwards })
    }

    fn push(&mut self, steps: &mut Vec<Step>, step: Step) -> Result<usize, PatternError> {
        self.grow()?;
        steps.push(step);
        Ok(steps.len() - 1)
    }

    fn grow(&mut self) -> Result<(), PatternError> {
        self.size += 1;
        if self.size <= STEP_LIMIT {
            return Ok(());
        }
        Err(PatternError::new(
            "the pattern is too large".to_owned(),
            Some("make the repetitions `{n,m}` smaller, or split the pattern"),
        ))
    }

    fn write(
        &mut self,
        node: &Node,
        backwards: bool,
        steps: &mut Vec<Step>,
    ) -> Result<(), PatternError> {
        match node {
            Node::Unit(set) => {
                let known = self.sets.iter().position(|other| other == set);
                let index = known.unwrap_or_else(|| {
                    self.sets.push(set.clone());
                    self.sets.len() - 1
                });
                self.push(steps, Step::Take(index))?;
            }
            Node::Concat(nodes) if backwards => {
                nodes.iter().rev().try_for_each(|node| self.write(node, true, steps))?;
            }
            Node::Concat(nodes) => {
                nodes.iter().try_for_each(|node| self.write(node, false, steps))?;
            }
            Node::Either(choices) => {
                let mut ends = Vec::new();
                for (index, choice) in choices.iter().enumerate() {
                    if index + 1 == choices.len() {
                        self.write(choice, backwards, steps)?;
                    } else {
                        let fork = self.push(steps, Step::Fork(0))?;
                        self.write(choice, backwards, steps)?;
                        ends.push(self.push(steps, Step::Jump(0))?);
                        steps[fork] = Step::Fork(steps.len());
                    }
                }
                for end in ends {
                    steps[end] = Step::Jump(steps.len());
                }
            }
            Node::Repeat { node, min, max } => {
                for _ in 0..*min {
                    self.grow()?;
                    self.write(node, backwards, steps)?;
                }
                match max {
                    None => {
                        let fork = self.push(steps, Step::Fork(0))?;
                        self.write(node, backwards, steps)?;
                        self.push(steps, Step::Jump(fork))?;
                        steps[fork] = Step::Fork(steps.len());
                    }
                    Some(max) => {
                        let mut forks = Vec::new();
                        for _ in *min..*max {
                            forks.push(self.push(steps, Step::Fork(0))?);
                            self.write(node, backwards, steps)?;
                        }
                        for fork in forks {
                            steps[fork] = Step::Fork(steps.len());
                        }
                    }
                }
            }
            Node::Start => _ = self.push(steps, Step::Start)?,
            Node::End => _ = self.push(steps, Step::End)?,
            Node::WordBoundary(is) => _ = self.push(steps, Step::WordBoundary(*is))?,
            Node::NotAhead(node) => {
                let code = self.code(node, true)?;
                self.ahead.push(code);
                self.push(steps, Step::NotAhead(self.ahead.len() - 1))?;
            }
        }
        Ok(())
    }
}

/// What the steps may ask about the text.
struct Facts<'t, U> {
    text: &'t [U],
    sets: &'t [UnitSet],
    word: &'t UnitSet,
    /// For each look-ahead, at which places it matches.
    ahead: Vec<Vec<bool>>,
}

impl<U: Copy + Into<u16>> Facts<'_, U> {
    fn sweep(&self, code: &Code, count: &mut impl FnMut()) -> bool {
        let (mut now, mut next) = (States::new(code), States::new(code));
        for place in 0..=self.text.len() {
            let may_begin = place == 0 || !code.anchored;
            if may_begin && self.enter(code, &mut now, 0, place, count) {
                return true;
            }
            if now.list.is_empty() && code.anchored {
                return false;
            }
            let Some(unit) = self.text.get(place) else { return false };
            if self.advance(code, &mut now, &mut next, (*unit).into(), place + 1, count) {
                return true;
            }
        }
        false
    }

    /// For every place, whether `code`, which reads backwards, matches what follows it.
    fn sweep_back(&self, code: &Code, count: &mut impl FnMut()) -> Vec<bool> {
        let (mut now, mut next) = (States::new(code), States::new(code));
        let mut matched = vec![false; self.text.len() + 1];
        for place in (0..=self.text.len()).rev() {
            // A match may end anywhere, so one begins here, too.
            matched[place] |= self.enter(code, &mut now, 0, place, count);
            if let Some(before) = place.checked_sub(1) {
                let unit = self.text[before].into();
                matched[before] = self.advance(code, &mut now, &mut next, unit, before, count);
            }
        }
        matched
    }

    /// Moves every state over `unit` to `place`; true where one of them then matches.
    fn advance(
        &self,
        code: &Code,
        now: &mut States,
        next: &mut States,
        unit: u16,
        place: usize,
        count: &mut impl FnMut(),
    ) -> bool {
        let mut matched = false;
        next.clear();
        for state in now.list.iter().copied() {
            count();
            if let Step::Take(set) = code.steps[state]
                && self.sets[set].contains(unit)
            {
                matched |= self.enter(code, next, state + 1, place, count);
            }
        }
        std::mem::swap(now, next);
        matched
    }

    /// Adds `state` and all that it leads to without taking a unit; true where that is a match.
    fn enter(
        &self,
        code: &Code,
        states: &mut States,
        state: usize,
        place: usize,
        count: &mut impl FnMut(),
    ) -> bool {
        let mut matched = false;
        states.open.push(state);
        while let Some(state) = states.open.pop() {
            count();
            if std::mem::replace(&mut states.seen[state], states.round) == states.round {
                continue;
            }
            let goes_on = match code.steps[state] {
                Step::Take(_) => {
                    states.list.push(state);
                    false
                }
                Step::Fork(other) => {
                    states.open.push(other);
                    true
                }
                Step::Jump(target) => {
                    states.open.push(target);
                    false
                }
                Step::Start => place == 0,
                Step::End => place == self.text.len(),
                Step::WordBoundary(is) => self.is_word_boundary(place) == is,
                Step::NotAhead(index) => !self.ahead[index][place],
                Step::Match => {
                    matched = true;
                    false
                }
            };
            if goes_on {
                states.open.push(state + 1);
            }
        }
        matched
    }

    fn is_word_boundary(&self, place: usize) -> bool {
        let is_word = |at: Option<usize>| {
            let unit = at.and_then(|at| self.text.get(at));
            unit.is_some_and(|unit| self.word.contains((*unit).into()))
        };
        is_word(place.checked_sub(1)) != is_word(Some(place))
    }
}

/// The steps that wait for the next unit, each once.
struct States {
    list: Vec<usize>,
    /// The round in which a step was last entered.
    seen: Vec<usize>,
    round: usize,
    open: Vec<usize>,
}

impl States {
    fn new(code: &Code) -> Self {
        Self { list: Vec::new(), seen: vec![0; code.steps.len()], round: 1, open: Vec::new() }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.round += 1;
    }
}

/// Bounds what one pattern costs per character.
const STEP_LIMIT: usize = 20_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pattern::{Form, Reader};

    fn steps(expression: &str, text: &str) -> usize {
        let reader = Reader { form: Form::Written, fold: false };
        let program = Program::compile(&reader.read(expression).unwrap().0).unwrap();
        let mut steps = 0;
        program.run(text.as_bytes(), &mut || steps += 1);
        steps
    }

    #[test]
    fn patterns_that_ruin_a_backtracking_engine_take_linear_time() {
        for expression in [
            "^(?:a+)+$",
            "^(?:a|a)*$",
            "^(?:a*)*b$",
            "^(?:.*)*.*x$",
            "^(?:a?){20}a{20}$",
            "(?!(?:a+)+$).*$",
            "(?!.*a.*a.*a.*b).*$",
        ] {
            let of_length = |length: usize| steps(expression, &format!("{}!", "a".repeat(length)));
            let (short, long) = (of_length(100), of_length(800));
            assert!(long <= 9 * short, "{expression}: {short}, {long}");
        }
    }

    proptest! {
        #[test]
        fn work_is_bounded_by_pattern_size_times_path_length(
            expression in "(\\(\\?!a\\|\\.\\*b\\))?([ab.](\\*|\\+|\\?|\\{1,3\\})?|\\((\\?:)?[ab]\\|[ab.]\\*\\)[*+]?){0,8}",
            text in "[ab]{0,60}",
        ) {
            let reader = Reader { form: Form::Written, fold: false };
            let program = Program::compile(&reader.read(&expression).unwrap().0).unwrap();
            let codes = program.ahead.iter().chain([&program.code]);
            let size: usize = codes.map(|code| code.steps.len()).sum();
            prop_assert!(steps(&expression, &text) <= 4 * size * (text.len() + 1));
        }
    }
}
