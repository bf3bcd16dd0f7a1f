//! What a pattern says, as a tree over UTF-16 units: JavaScript's idea of a character where a
//! regular expression has no `u` flag.

/// A regular expression without what linear time rules out: no back-references, and no
/// look-around but the negative look-ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// One unit out of a set.
    Unit(UnitSet),
    Concat(Vec<Self>),
    Either(Vec<Self>),
    /// At least `min` times; `max` of none is without bound.
    Repeat {
        node: Box<Self>,
        min: u32,
        max: Option<u32>,
    },
    /// `^`
    Start,
    /// `$`
    End,
    /// `\b`, or `\B` for `false`.
    WordBoundary(bool),
    /// `(?!…)`; holds no further one inside.
    NotAhead(Box<Self>),
}

impl Node {
    pub(crate) fn empty() -> Self {
        Self::Concat(Vec::new())
    }

    /// The text itself.
    pub(crate) fn literal(text: &str, fold: bool) -> Self {
        Self::Concat(text.encode_utf16().map(|unit| Self::Unit(UnitSet::one(unit, fold))).collect())
    }

    pub(crate) fn optional(self) -> Self {
        Self::Repeat { node: Box::new(self), min: 0, max: Some(1) }
    }

    pub(crate) fn repeated(self, min: u32) -> Self {
        Self::Repeat { node: Box::new(self), min, max: None }
    }

    /// Whether some text that the tree takes may hold `unit`.
    pub(crate) fn may_take(&self, unit: u16) -> bool {
        match self {
            Self::Unit(set) => set.contains(unit),
            Self::Concat(nodes) | Self::Either(nodes) => {
                nodes.iter().any(|node| node.may_take(unit))
            }
            Self::Repeat { node, .. } => node.may_take(unit),
            Self::Start | Self::End | Self::WordBoundary(_) | Self::NotAhead(_) => false,
        }
    }

    /// Whether the tree may take no unit at all.
    pub(crate) fn may_be_empty(&self) -> bool {
        match self {
            Self::Unit(_) => false,
            Self::Concat(nodes) => nodes.iter().all(Self::may_be_empty),
            Self::Either(nodes) => nodes.iter().any(Self::may_be_empty),
            Self::Repeat { node, min, .. } => *min == 0 || node.may_be_empty(),
            Self::Start | Self::End | Self::WordBoundary(_) | Self::NotAhead(_) => true,
        }
    }
}

/// A set of UTF-16 units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitSet {
    /// Bit `n` for unit `n` below 128: what nearly every test asks about.
    ascii: u128,
    /// From 128 on: sorted, apart from one another, both ends included.
    above: Vec<(u16, u16)>,
}

impl UnitSet {
    pub(crate) const fn none() -> Self {
        Self { ascii: 0, above: Vec::new() }
    }

    /// One unit; with `fold` both cases of an ASCII letter.
    pub(crate) fn one(unit: u16, fold: bool) -> Self {
        let mut set = Self::none();
        set.add(unit, unit);
        if fold {
            set.fold();
        }
        set
    }

    pub(crate) fn of(ranges: &[(u16, u16)]) -> Self {
        let mut set = Self::none();
        ranges.iter().for_each(|(first, last)| set.add(*first, *last));
        set
    }

    /// Adds `first` to `last`, both included.
    pub(crate) fn add(&mut self, first: u16, last: u16) {
        for unit in first..=last.min(127) {
            self.ascii |= 1 << unit;
        }
        if last >= 128 {
            self.above.push((first.max(128), last));
            self.above.sort_unstable();
            let mut merged: Vec<(u16, u16)> = Vec::with_capacity(self.above.len());
            for (first, last) in self.above.drain(..) {
                match merged.last_mut() {
                    Some(before) if first <= before.1.saturating_add(1) => {
                        before.1 = before.1.max(last);
                    }
                    _ => merged.push((first, last)),
                }
            }
            self.above = merged;
        }
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        self.ascii |= other.ascii;
        other.above.iter().for_each(|(first, last)| self.add(*first, *last));
    }

    pub(crate) fn negated(&self) -> Self {
        let mut above = Vec::new();
        let mut next = 128;
        for (first, last) in &self.above {
            if next < u32::from(*first) {
                above.push((next, u32::from(*first) - 1));
            }
            next = u32::from(*last) + 1;
        }
        if next <= 0xFFFF {
            above.push((next, 0xFFFF));
        }
        let narrow = |unit: u32| u16::try_from(unit).unwrap_or(u16::MAX);
        let above = above.into_iter().map(|(first, last)| (narrow(first), narrow(last)));
        Self { ascii: !self.ascii, above: above.collect() }
    }

    /// Adds the other case of every ASCII letter.
    pub(crate) fn fold(&mut self) {
        let (upper, lower) = (self.ascii & UPPER, self.ascii & LOWER);
        self.ascii |= upper << 32 | lower >> 32;
    }

    /// Whether folding changes what the set says of lower-case letters.
    pub(crate) fn case_matters(&self) -> bool {
        (self.ascii & UPPER) << 32 & !(self.ascii & LOWER) != 0
    }

    pub(crate) fn contains(&self, unit: u16) -> bool {
        if unit < 128 {
            return self.ascii >> unit & 1 == 1;
        }
        let after = self.above.partition_point(|(first, _)| *first <= unit);
        after > 0 && self.above[after - 1].1 >= unit
    }
}

const UPPER: u128 = 0x07FF_FFFE << 64;
const LOWER: u128 = 0x07FF_FFFE << 96;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_holds_what_was_added_and_its_negation_the_rest(
            ranges in prop::collection::vec((any::<u16>(), 0_u16..300), 0..6),
            unit in any::<u16>(),
        ) {
            let ranges: Vec<_> =
                ranges.iter().map(|(first, size)| (*first, first.saturating_add(*size))).collect();
            let set = UnitSet::of(&ranges);
            let expected = ranges.iter().any(|(first, last)| (*first..=*last).contains(&unit));
            prop_assert_eq!(set.contains(unit), expected);
            prop_assert_eq!(set.negated().contains(unit), !expected);
            prop_assert_eq!(set.negated().negated(), set);
        }

        #[test]
        fn folding_adds_the_other_case_of_letters_only(first in 0_u16..200, size in 0_u16..9) {
            let set = UnitSet::of(&[(first, first + size)]);
            let mut folded = set.clone();
            folded.fold();
            for unit in 0..200_u8 {
                let other = |case: u8| set.contains(case.into());
                let expected = other(unit.to_ascii_lowercase()) || other(unit.to_ascii_uppercase());
                prop_assert_eq!(folded.contains(unit.into()), expected);
                if unit.is_ascii_lowercase() && expected != set.contains(unit.into()) {
                    prop_assert!(set.case_matters());
                }
            }
        }
    }
}
