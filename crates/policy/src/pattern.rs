//! Path patterns as Next.js reads them, compiled to the cheapest form that means the same.
//!
//! A pattern is path-to-regexp's (`source`), wrapped by Next.js so that it also matches the
//! addresses under which the same page's data are fetched (`getMiddlewareMatchers` in Next.js'
//! `build/analysis/get-page-static-info.ts`). What it means is a [`Node`]; what is run is a walk
//! over segments where the pattern is made of them ([`Outline`]), and else a [`Program`].

mod examples;
mod literal;
mod negative;
mod node;
mod outline;
mod program;
mod regexp;
mod source;

use std::fmt;

pub(crate) use examples::Examples;
pub(crate) use literal::Form;
pub(crate) use negative::Exclusions;
pub(crate) use outline::{Outline, Segment, Tail};
pub(crate) use program::Program;
pub(crate) use regexp::Reader;

use node::{Node, UnitSet};
use source::{Modifier, Token, Value};

/// Why a pattern is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PatternError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl PatternError {
    pub(crate) fn new(message: String, hint: Option<&str>) -> Self {
        Self { message, hint: hint.map(str::to_owned) }
    }

    fn regexp(fault: &str) -> Self {
        Self::new(format!("not a regular expression that can be read: {fault}"), None)
    }

    fn look_around(what: &str) -> Self {
        Self::new(
            format!("`{what}` cannot be matched in linear time here"),
            Some(
                "only a negative look-ahead at the start of a group is read, \
                 `/((?!api|_next/static).*)`; say the rest with rules, the first match wins",
            ),
        )
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What Next.js puts in front of every pattern of an app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wrapper {
    /// `basePath`, or empty.
    pub(crate) base: String,
    /// Whether a locale follows it.
    pub(crate) localized: bool,
}

/// What decides once the way has been gone.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The path ends here.
    End,
    /// One segment more, or none.
    Optional,
    /// Any number of segments.
    Star,
    /// At least one segment.
    Plus,
    /// Anything that the exclusions do not name; the program where they cannot tell.
    AllBut(Exclusions, Program),
    /// The page `/`: the path ends here, or `index` in one of its spellings follows.
    Root(Program),
    /// Whatever the program takes; the way is only what all of that has in common.
    Program(Program),
}

/// A compiled pattern: [`Segment`]s that every matching path begins with (behind what the
/// wrapper takes), and what decides then.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) way: Vec<Segment>,
    /// Text that the next segment begins with; only for [`Ending::Program`].
    pub(crate) lead: String,
    pub(crate) ending: Ending,
    /// Whether letter case makes a difference to it.
    pub(crate) case_matters: bool,
}

impl Pattern {
    /// Compiles `source` for paths in `reader`'s form.
    pub(crate) fn compile(
        source: &str,
        wrapper: &Wrapper,
        reader: Reader,
    ) -> Result<Self, PatternError> {
        let builder = Builder { wrapper, reader };
        let tokens = builder.tokens(source)?;
        let case_matters = builder.case_matters(&tokens)?;
        let Outline { mut way, ending, lead } = builder.outline(&tokens)?;
        let starts_anywhere = way.is_empty() && (!wrapper.base.is_empty() || wrapper.localized);
        let ending = if source == "/" {
            way.clear();
            Ending::Root(builder.program(source, &tokens)?)
        } else {
            match ending {
                Some(Tail::End) => Ending::End,
                // What may be empty could begin within a segment that the wrapper takes.
                Some(Tail::Star) if !starts_anywhere => Ending::Star,
                Some(Tail::Optional) if !way.is_empty() => Ending::Optional,
                Some(Tail::Plus) => Ending::Plus,
                Some(Tail::AllBut(exclusions)) => {
                    Ending::AllBut(exclusions, builder.program(source, &tokens)?)
                }
                _ => Ending::Program(builder.program(source, &tokens)?),
            }
        };
        Ok(Self { way, lead, ending, case_matters })
    }

    /// The pattern's whole meaning, whatever its cheapest form is.
    #[cfg(test)]
    pub(crate) fn reference(
        source: &str,
        wrapper: &Wrapper,
        reader: Reader,
    ) -> Result<Program, PatternError> {
        let builder = Builder { wrapper, reader };
        builder.program(source, &builder.tokens(source)?)
    }
}

struct Builder<'a> {
    wrapper: &'a Wrapper,
    reader: Reader,
}

impl Builder<'_> {
    /// The pieces of `source`, text in the reader's form. Where a group repeats without text
    /// around it, Next.js (15.5 on) reads all such groups as if a `/` stood in front of them.
    fn tokens(&self, source: &str) -> Result<Vec<Token>, PatternError> {
        if !source.starts_with('/') {
            return Err(PatternError::new(
                "a path pattern starts with `/`".to_owned(),
                Some("name the host in `host` of the app, not in the pattern"),
            ));
        }
        let wrapped = source.encode_utf16().count() + self.wrapper.length(source);
        if wrapped > SOURCE_LIMIT {
            return Err(PatternError::new(
                format!("the pattern is longer than Next.js allows ({SOURCE_LIMIT})"),
                Some("split it into several"),
            ));
        }
        let mut tokens = source::parse(source)?;
        let cannot_repeat = |token: &Token| match token {
            Token::Key { prefix, suffix, value, modifier: Modifier::Star | Modifier::Plus } => {
                prefix.is_empty() && suffix.is_empty() && *value != Value::None
            }
            _ => false,
        };
        let normalise = tokens.iter().any(cannot_repeat);
        for token in &mut tokens {
            match token {
                Token::Text(text) => *text = self.reader.form.of(text),
                Token::Key { prefix, suffix, value, modifier } => {
                    let repeats = matches!(modifier, Modifier::Star | Modifier::Plus);
                    if normalise && repeats && prefix.is_empty() && suffix.is_empty() {
                        prefix.push('/');
                    }
                    *prefix = self.reader.form.of(prefix);
                    *suffix = self.reader.form.of(suffix);
                    if let Value::SegmentWithout(text) = value {
                        *text = self.reader.form.of(text);
                    }
                }
            }
        }
        Ok(tokens)
    }

    /// Reads every expression on the way, so that none is left unread in an outline.
    fn case_matters(&self, tokens: &[Token]) -> Result<bool, PatternError> {
        let has_upper = |text: &str| text.bytes().any(|byte| byte.is_ascii_uppercase());
        let mut matters = false;
        for token in tokens {
            matters |= match token {
                Token::Text(text) => has_upper(text),
                Token::Key { prefix, suffix, value, .. } => {
                    let in_value = match value {
                        Value::None | Value::Segment => false,
                        Value::SegmentWithout(text) => has_upper(text),
                        Value::Regexp(text) => self.reader.read(text)?.1,
                    };
                    has_upper(prefix) || has_upper(suffix) || in_value
                }
            };
        }
        Ok(matters)
    }

    /// The pattern as path-to-regexp's `tokensToRegexp` and Next.js mean it.
    fn program(&self, source: &str, tokens: &[Token]) -> Result<Program, PatternError> {
        let mut nodes = vec![Node::Start, self.literal(&self.reader.form.of(&self.wrapper.base))];
        nodes.push(self.expression("/_next/data/[^/]{1,}")?.optional());
        if self.wrapper.localized {
            nodes.push(self.literal("/"));
            nodes.push(self.expression("(?!_next/)[^/.]{1,}")?);
        }
        let is_root = source == "/";
        if !is_root {
            for token in tokens {
                nodes.push(self.token(token)?);
            }
        }
        let suffix = match (is_root, self.wrapper.localized) {
            (false, _) => self.expression(PAGE_SUFFIX)?,
            (true, true) => self.expression(&format!("|\\.json|{ROOT_SUFFIX}"))?,
            // Without a locale the pattern's own `/` stands in front of the group.
            (true, false) => Node::Concat(vec![self.literal("/"), self.expression(ROOT_SUFFIX)?]),
        };
        nodes.push(suffix.optional());
        nodes.push(self.expression("[\\/#\\?]")?.optional());
        nodes.push(Node::End);
        Program::compile(&Node::Concat(nodes))
    }

    fn literal(&self, text: &str) -> Node {
        Node::literal(text, self.reader.fold)
    }

    fn expression(&self, text: &str) -> Result<Node, PatternError> {
        Ok(self.reader.read(text)?.0)
    }

    fn token(&self, token: &Token) -> Result<Node, PatternError> {
        let (prefix, suffix, value, modifier) = match token {
            Token::Text(text) => return Ok(self.literal(text)),
            Token::Key { prefix, suffix, value, modifier } => {
                (self.literal(prefix), self.literal(suffix), value, *modifier)
            }
        };
        if *value == Value::None {
            let text = Node::Concat(vec![prefix, suffix]);
            return Ok(match modifier {
                Modifier::Once => text,
                Modifier::Optional => text.optional(),
                Modifier::Star => text.repeated(0),
                Modifier::Plus => text.repeated(1),
            });
        }
        let value = self.value(value)?;
        let once = Node::Concat(vec![prefix.clone(), value.clone()]);
        let again = Node::Concat(vec![suffix.clone(), prefix, value]);
        let several = Node::Concat(vec![once.clone(), again.repeated(0), suffix.clone()]);
        Ok(match modifier {
            Modifier::Once => Node::Concat(vec![once, suffix]),
            Modifier::Optional => Node::Concat(vec![once, suffix]).optional(),
            Modifier::Star => several.optional(),
            Modifier::Plus => several,
        })
    }

    fn value(&self, value: &Value) -> Result<Node, PatternError> {
        let unit = || Node::Unit(UnitSet::of(DELIMITERS).negated());
        Ok(match value {
            Value::None => Node::empty(),
            Value::Segment => unit().repeated(1),
            Value::SegmentWithout(text) => {
                let not_ahead = Node::NotAhead(Box::new(self.literal(text)));
                Node::Concat(vec![not_ahead, unit()]).repeated(1)
            }
            Value::Regexp(text) => self.expression(text)?,
        })
    }
}

impl Wrapper {
    /// How many characters Next.js adds to `source`.
    fn length(&self, source: &str) -> usize {
        let locale = if self.localized { "/:nextInternalLocale((?!_next/)[^/.]{1,})" } else { "" };
        let suffix = match (source == "/", self.localized) {
            (false, _) => PAGE_SUFFIX.len() + "{()}?".len(),
            (true, false) => ROOT_SUFFIX.len() + "()?".len(),
            (true, true) => ROOT_SUFFIX.len() + "(|\\.json|)?".len(),
        };
        self.base.len() + "/:nextData(_next/data/[^/]{1,})?".len() + locale.len() + suffix
    }
}

/// What may follow a page's address (Next.js 16.2.5 on).
const PAGE_SUFFIX: &str = "\\.json|\\.rsc|\\.segments/.+\\.segment\\.rsc";
/// What may follow the address of the page `/`.
const ROOT_SUFFIX: &str = "/?index|/?index\\.json|/?index(?:\\.rsc|\\.segments/.+\\.segment\\.rsc)";
/// path-to-regexp's default: what a parameter stops at.
const DELIMITERS: &[(u16, u16)] = &[(0x2F, 0x2F), (0x23, 0x23), (0x3F, 0x3F)];
/// Longest source with all that is put around it, in UTF-16 units.
const SOURCE_LIMIT: usize = 4096;
