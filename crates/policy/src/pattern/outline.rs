//! How far a pattern goes segment by segment: what a tree of segments can decide, or narrow down.

use super::negative::Exclusions;
use super::source::{Modifier, Token, Value};
use super::{Builder, PatternError, Reader, Wrapper};

/// How far a pattern goes by whole segments, and how it ends where that is all of it.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) way: Vec<Segment>,
    pub(crate) ending: Option<Tail>,
    /// Without an ending: text that the segment behind the way begins with.
    pub(crate) lead: String,
}

impl Outline {
    fn whole(way: Vec<Segment>, ending: Tail) -> Self {
        Self { way, ending: Some(ending), lead: String::new() }
    }

    fn partial(way: Vec<Segment>, open: Option<Segment>) -> Self {
        let lead = match open {
            Some(Segment::Text(text)) => text,
            Some(Segment::Any) | None => String::new(),
        };
        Self { way, ending: None, lead }
    }

    /// The outline of a pattern without a wrapper.
    pub(crate) fn of(source: &str, reader: Reader) -> Result<Self, PatternError> {
        let builder = Builder { wrapper: &Wrapper::default(), reader };
        builder.outline(&builder.tokens(source)?)
    }

    /// The path, where it is the only one.
    pub(crate) fn only_text(&self) -> Option<String> {
        let text = |segment: &Segment| match segment {
            Segment::Text(text) => Some(format!("/{text}")),
            Segment::Any => None,
        };
        matches!(self.ending, Some(Tail::End)).then(|| self.way.iter().map(text).collect())?
    }
}

/// An ending that needs no program.
#[derive(Debug)]
pub(crate) enum Tail {
    End,
    Optional,
    Star,
    Plus,
    AllBut(Exclusions),
}

/// One step of the way to a pattern in a tree of segments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    Text(String),
    /// Any text but none.
    Any,
}

impl Builder<'_> {
    /// Follows the pattern as long as it goes segment by segment.
    pub(super) fn outline(&self, tokens: &[Token]) -> Result<Outline, PatternError> {
        let mut way = Vec::new();
        // The segment that is being read: it counts once something ends it.
        let mut open: Option<Segment> = None;
        let mut exact = true;
        for (index, token) in tokens.iter().enumerate() {
            let is_last = index + 1 == tokens.len();
            match token {
                Token::Text(text) => {
                    if !self.follow_text(text, &mut way, &mut open) {
                        return Ok(Outline::partial(way, open));
                    }
                }
                Token::Key { prefix, suffix, value, modifier } => {
                    let by_segment = prefix == "/" && suffix.is_empty();
                    let ends_before = by_segment
                        && (matches!(modifier, Modifier::Once | Modifier::Plus)
                            || is_last && *value == Value::Segment);
                    if !ends_before || !close(&mut way, &mut open) {
                        return Ok(Outline::partial(way, open));
                    }
                    match (value, modifier) {
                        (Value::Segment, Modifier::Once) => open = Some(Segment::Any),
                        (Value::Segment, modifier) if exact && is_last => {
                            let tail = match modifier {
                                Modifier::Optional => Tail::Optional,
                                Modifier::Star => Tail::Star,
                                Modifier::Once | Modifier::Plus => Tail::Plus,
                            };
                            return Ok(Outline::whole(way, tail));
                        }
                        (Value::Regexp(text), Modifier::Once) => {
                            let node = self.expression(text)?;
                            if exact
                                && is_last
                                && let Some(all_but) = Exclusions::of(&node)
                            {
                                return Ok(Outline::whole(way, Tail::AllBut(all_but)));
                            }
                            if node.may_take(u16::from(b'/')) || node.may_be_empty() {
                                return Ok(Outline::partial(way, open));
                            }
                            exact = false;
                            open = Some(Segment::Any);
                        }
                        _ => return Ok(Outline::partial(way, open)),
                    }
                }
            }
        }
        Ok(match close(&mut way, &mut open) && exact {
            true => Outline::whole(way, Tail::End),
            false => Outline::partial(way, None),
        })
    }

    /// False where the text does not go on by whole, non-empty segments.
    fn follow_text(&self, text: &str, way: &mut Vec<Segment>, open: &mut Option<Segment>) -> bool {
        let mut pieces = text.split('/');
        let first = pieces.next().unwrap_or_default();
        match open {
            _ if first.is_empty() => {}
            Some(Segment::Text(segment)) => segment.push_str(&self.cased(first)),
            Some(Segment::Any) | None => return false,
        }
        pieces.all(|piece| {
            let closed = close(way, open);
            *open = closed.then(|| Segment::Text(self.cased(piece)));
            closed
        })
    }

    fn cased(&self, text: &str) -> String {
        if self.reader.fold { text.to_ascii_lowercase() } else { text.to_owned() }
    }
}

/// Ends the open segment; false where it is empty.
fn close(way: &mut Vec<Segment>, open: &mut Option<Segment>) -> bool {
    let Some(segment) = open.take() else { return true };
    let empty = segment == Segment::Text(String::new());
    if !empty {
        way.push(segment);
    }
    !empty
}
