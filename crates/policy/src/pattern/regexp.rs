//! Reads JavaScript's regular expressions (ECMA-262 §22.2.1 with Annex B.1.2, no flags).
//!
//! Left out is what cannot run in linear time or what Next.js' own patterns never need:
//! back-references, octal escapes, and every look-around but a negative look-ahead in front.

use super::PatternError;
use super::literal::Form;
use super::node::{Node, UnitSet};

/// How a text is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    /// How text outside of ASCII and escapes are taken.
    pub(crate) form: Form,
    /// Without regard to ASCII letter case.
    pub(crate) fold: bool,
}

impl Reader {
    /// Reads a whole expression. The second part says whether letter case makes a difference.
    pub(crate) fn read(self, text: &str) -> Result<(Node, bool), PatternError> {
        let mut parser = Parser {
            units: text.encode_utf16().collect(),
            at: 0,
            depth: 0,
            case_matters: false,
            reader: self,
        };
        let node = parser.either()?;
        if parser.at < parser.units.len() {
            return Err(PatternError::regexp("`)` without `(`"));
        }
        Ok((node, parser.case_matters))
    }
}

struct Parser {
    units: Vec<u16>,
    at: usize,
    /// How many groups are open.
    depth: usize,
    case_matters: bool,
    reader: Reader,
}

/// What stands for one or more units in a class or outside.
enum Atom {
    Unit(u16),
    Set(UnitSet),
}

impl Parser {
    fn peek(&self) -> Option<u16> {
        self.units.get(self.at).copied()
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = text.encode_utf16().eq(self.units[self.at..].iter().copied().take(text.len()));
        if found {
            self.at += text.len();
        }
        found
    }

    fn either(&mut self) -> Result<Node, PatternError> {
        if self.depth > MAX_DEPTH {
            return Err(PatternError::regexp("groups are nested too deeply"));
        }
        let mut choices = vec![self.sequence()?];
        while self.eat("|") {
            choices.push(self.sequence()?);
        }
        Ok(if choices.len() == 1 { choices.remove(0) } else { Node::Either(choices) })
    }

    fn sequence(&mut self) -> Result<Node, PatternError> {
        let mut nodes = Vec::new();
        while let Some(unit) = self.peek() {
            if unit == u16::from(b'|') || unit == u16::from(b')') {
                break;
            }
            if self.eat("(?!") {
                let in_front = nodes.iter().all(|node| matches!(node, Node::NotAhead(_)));
                nodes.push(self.not_ahead(in_front)?);
                continue;
            }
            if let Some(node) = self.assertion() {
                if self.quantifier()?.is_some() {
                    return Err(PatternError::regexp("nothing to repeat"));
                }
                nodes.push(node);
                continue;
            }
            let node = match self.literal_run() {
                Some(run) => run,
                None => self.atom()?,
            };
            nodes.push(match self.quantifier()? {
                Some((min, max)) => Node::Repeat { node: Box::new(node), min, max },
                None => node,
            });
        }
        Ok(Node::Concat(nodes))
    }

    /// Behind `(?!`.
    fn not_ahead(&mut self, in_front: bool) -> Result<Node, PatternError> {
        if !in_front || self.depth > 0 {
            return Err(PatternError::look_around("(?!"));
        }
        self.depth += 1;
        let node = self.either()?;
        self.depth -= 1;
        if !self.eat(")") {
            return Err(PatternError::regexp("`(` without `)`"));
        }
        if self.quantifier()?.is_some() {
            return Err(PatternError::look_around("a repeated (?!"));
        }
        Ok(Node::NotAhead(Box::new(node)))
    }

    fn assertion(&mut self) -> Option<Node> {
        [
            ("^", Node::Start),
            ("$", Node::End),
            ("\\b", Node::WordBoundary(true)),
            ("\\B", Node::WordBoundary(false)),
        ]
        .into_iter()
        .find(|(text, _)| self.eat(text))
        .map(|(_, node)| node)
    }

    fn atom(&mut self) -> Result<Node, PatternError> {
        if self.eat("(") {
            return self.group();
        }
        if self.eat("[") {
            return self.class();
        }
        if self.eat(".") {
            return Ok(Node::Unit(UnitSet::of(LINE_ENDS).negated()));
        }
        if self.eat("*") || self.eat("+") || self.eat("?") || self.quantifier()?.is_some() {
            return Err(PatternError::regexp("nothing to repeat"));
        }
        let atom = if self.eat("\\") { self.escape(false)? } else { Atom::Unit(self.next()?) };
        Ok(Node::Unit(match atom {
            Atom::Unit(unit) => self.finished(UnitSet::one(unit, false)),
            Atom::Set(set) => set,
        }))
    }

    fn next(&mut self) -> Result<u16, PatternError> {
        let unit = self.peek().ok_or_else(|| PatternError::regexp("it ends too early"))?;
        self.at += 1;
        Ok(unit)
    }

    /// Behind `(`.
    fn group(&mut self) -> Result<Node, PatternError> {
        for look_around in ["?=", "?<=", "?<!"] {
            if self.eat(look_around) {
                return Err(PatternError::look_around(&format!("({look_around}")));
            }
        }
        if self.eat("?<") {
            let name_end = self.units[self.at..].iter().position(|unit| *unit == u16::from(b'>'));
            match name_end {
                Some(length) if length > 0 => self.at += length + 1,
                _ => return Err(PatternError::regexp("a group's name has no end")),
            }
        } else if !self.eat("?:") && self.peek() == Some(u16::from(b'?')) {
            return Err(PatternError::regexp("an unknown kind of group"));
        }
        self.depth += 1;
        let node = self.either()?;
        self.depth -= 1;
        if self.eat(")") { Ok(node) } else { Err(PatternError::regexp("`(` without `)`")) }
    }

    /// Behind `[`.
    fn class(&mut self) -> Result<Node, PatternError> {
        let negated = self.eat("^");
        let mut set = UnitSet::none();
        loop {
            if self.eat("]") {
                break;
            }
            let first = self.class_atom()?;
            let is_range = self.peek() == Some(u16::from(b'-'))
                && !matches!(self.units.get(self.at + 1), None | Some(0x5D));
            if !is_range {
                add_atom(&mut set, &first);
                continue;
            }
            self.at += 1;
            match (first, self.class_atom()?) {
                (Atom::Unit(first), Atom::Unit(last)) if first <= last => set.add(first, last),
                (Atom::Unit(_), Atom::Unit(_)) => {
                    return Err(PatternError::regexp("a range in a class runs backwards"));
                }
                // Annex B: with a class escape at either end the hyphen stands for itself.
                (first, last) => {
                    add_atom(&mut set, &first);
                    add_atom(&mut set, &last);
                    set.add(u16::from(b'-'), u16::from(b'-'));
                }
            }
        }
        let set = self.finished(set);
        Ok(Node::Unit(if negated { set.negated() } else { set }))
    }

    fn class_atom(&mut self) -> Result<Atom, PatternError> {
        if self.peek().is_none() {
            return Err(PatternError::regexp("`[` without `]`"));
        }
        if self.eat("\\") { self.escape(true) } else { Ok(Atom::Unit(self.next()?)) }
    }

    /// Behind a backslash.
    fn escape(&mut self, in_class: bool) -> Result<Atom, PatternError> {
        let unit = self.next()?;
        let byte = u8::try_from(unit).unwrap_or(0);
        Ok(match byte {
            b'd' => Atom::Set(UnitSet::of(DIGITS)),
            b'D' => Atom::Set(UnitSet::of(DIGITS).negated()),
            b'w' => Atom::Set(UnitSet::of(WORD)),
            b'W' => Atom::Set(UnitSet::of(WORD).negated()),
            b's' => Atom::Set(UnitSet::of(SPACE)),
            b'S' => Atom::Set(UnitSet::of(SPACE).negated()),
            b't' => Atom::Unit(9),
            b'n' => Atom::Unit(10),
            b'v' => Atom::Unit(11),
            b'f' => Atom::Unit(12),
            b'r' => Atom::Unit(13),
            b'b' if in_class => Atom::Unit(8),
            b'x' => Atom::Unit(self.hex(2).unwrap_or(unit)),
            b'u' => Atom::Unit(self.hex(4).unwrap_or(unit)),
            b'0' if !self.peek().is_some_and(|unit| (0x30..=0x39).contains(&unit)) => Atom::Unit(0),
            b'0'..=b'9' => {
                return Err(PatternError::regexp("back-references and octal escapes are not read"));
            }
            b'k' if self.peek() == Some(u16::from(b'<')) => {
                return Err(PatternError::regexp("back-references are not read"));
            }
            b'c' => match self.peek().map(u8::try_from) {
                Some(Ok(letter)) if letter.is_ascii_alphabetic() => {
                    self.at += 1;
                    Atom::Unit(u16::from(letter % 32))
                }
                // Annex B: the backslash stands for itself, and `c` is read once more.
                _ => {
                    self.at -= 1;
                    Atom::Unit(u16::from(b'\\'))
                }
            },
            _ => Atom::Unit(unit),
        })
    }

    fn hex(&mut self, digits: usize) -> Option<u16> {
        let text = String::from_utf16(self.units.get(self.at..self.at + digits)?).ok()?;
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let unit = is_hex.then(|| u16::from_str_radix(&text, 16).ok()).flatten()?;
        self.at += digits;
        Some(unit)
    }

    /// Annex B: a brace that begins no quantifier stands for itself.
    fn quantifier(&mut self) -> Result<Option<(u32, Option<u32>)>, PatternError> {
        let bounds = if self.eat("*") {
            (0, None)
        } else if self.eat("+") {
            (1, None)
        } else if self.eat("?") {
            (0, Some(1))
        } else {
            match self.braces() {
                Some(bounds) => bounds,
                None => return Ok(None),
            }
        };
        self.eat("?");
        match bounds {
            (min, Some(max)) if min > max => {
                Err(PatternError::regexp("a repetition's bounds run backwards"))
            }
            bounds => Ok(Some(bounds)),
        }
    }

    fn braces(&mut self) -> Option<(u32, Option<u32>)> {
        let rest = self.units[self.at..].strip_prefix(&[u16::from(b'{')])?;
        let length = rest.iter().position(|unit| *unit == u16::from(b'}'))?;
        let inside = String::from_utf16(&rest[..length]).ok()?;
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().unwrap_or(u32::MAX))
        };
        let bounds = match inside.split_once(',') {
            None => (number(&inside)?, Some(number(&inside)?)),
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        self.at += length + 2;
        Some(bounds)
    }

    /// A run of escapes (`%C3%A9`), or one character outside of ASCII, in the form that is asked
    /// for. None where the text stands as it is.
    fn literal_run(&mut self) -> Option<Node> {
        let rest = &self.units[self.at..];
        let is_escape = |units: &[u16]| {
            let is_hex = |unit: &u16| u8::try_from(*unit).is_ok_and(|it| it.is_ascii_hexdigit());
            matches!(units, [0x25, digits @ ..] if digits.iter().take(2).filter(|unit| is_hex(unit)).count() == 2)
        };
        let mut length = 0;
        while is_escape(&rest[length..]) {
            length += 3;
        }
        if length == 0 {
            length = match rest {
                [0xD800..=0xDBFF, 0xDC00..=0xDFFF, ..] => 2,
                [unit, ..] if *unit >= 0x80 => 1,
                _ => return None,
            };
        }
        // A quantifier would speak of the last unit alone.
        let repeats = |unit: &u16| matches!(unit, 0x2A | 0x2B | 0x3F | 0x7B);
        if length > 1 && rest.get(length).is_some_and(repeats) {
            return None;
        }
        let text = String::from_utf16(&rest[..length]).ok()?;
        let in_form = self.reader.form.of(&text);
        if in_form == text {
            return None;
        }
        self.at += length;
        self.case_matters |= in_form.bytes().any(|byte| byte.is_ascii_uppercase());
        Some(Node::literal(&in_form, self.reader.fold))
    }

    fn finished(&mut self, mut set: UnitSet) -> UnitSet {
        self.case_matters |= set.case_matters();
        if self.reader.fold {
            set.fold();
        }
        set
    }
}

fn add_atom(set: &mut UnitSet, atom: &Atom) {
    match atom {
        Atom::Unit(unit) => set.add(*unit, *unit),
        Atom::Set(other) => set.add_all(other),
    }
}

const MAX_DEPTH: usize = 100;

pub(crate) const LINE_ENDS: &[(u16, u16)] = &[(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)];
const DIGITS: &[(u16, u16)] = &[(0x30, 0x39)];
pub(crate) const WORD: &[(u16, u16)] = &[(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)];
const SPACE: &[(u16, u16)] = &[
    (0x09, 0x0D),
    (0x20, 0x20),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Program;

    fn matches(expression: &str, fold: bool, text: &str) -> bool {
        let reader = Reader { form: Form::Written, fold };
        let (node, _) = reader.read(&format!("^(?:{expression})$")).unwrap();
        let units: Vec<u16> = text.encode_utf16().collect();
        Program::compile(&node).unwrap().matches(&units)
    }

    /// Answers as Node 20 gives them.
    #[test]
    fn an_expression_means_what_it_means_in_javascript() {
        let check = |expression: &str, yes: &[&str], no: &[&str]| {
            for text in yes {
                assert!(matches(expression, false, text), "{expression} {text:?}");
            }
            for text in no {
                assert!(!matches(expression, false, text), "{expression} {text:?}");
            }
        };
        check("a|bc?", &["a", "b", "bc"], &["", "ab", "c"]);
        check("a{2}b{1,}c{0,1}?", &["aab", "aabbc"], &["ab", "aac", "aabcc"]);
        check("a{,2}", &["a{,2}"], &["", "aa"]);
        check("x{a}]", &["x{a}]"], &["x"]);
        check(".", &["a", "\u{e9}", "\u{85}"], &["", "\n", "\r", "\u{2028}", "\u{1f600}"]);
        check("..", &["ab", "\u{1f600}"], &["\u{e9}"]);
        check("[\u{1f600}]", &[], &["\u{1f600}"]);
        check("\u{1f600}+", &["\u{1f600}"], &["\u{1f600}\u{1f600}"]);
        check("\\d\\w", &["1_", "0Z"], &["\u{664}a", "1\u{e9}", "1-"]);
        check("\\s", &[" ", "\u{a0}", "\u{feff}", "\u{3000}", "\u{2029}"], &["\u{85}", "\u{200b}"]);
        check("[\\d-x]+", &["1-x"], &["5y"]);
        check("[^]", &["a", "\n"], &[""]);
        check("[]", &[], &["", "a"]);
        check("[]a]", &[], &["a", "]"]);
        check("[\\]\\-a^]+", &["]-a^"], &["b"]);
        check("[a\\b]", &["a", "\u{8}"], &["b"]);
        check("\\x41\\u0042\\cA\\0\\t", &["AB\u{1}\u{0}\t"], &[]);
        check("\\xg\\u12\\c1\\p{2}", &["xgu12\\c1pp"], &["xgu12c1pp"]);
        check("\\bab\\b.\\Bc", &[], &["ab.c", "abc"]);
        check("a\\b-\\bc", &["a-c"], &[]);
        check("(?<name>a)(?:b)(c)", &["abc"], &[]);
        check("(a*)*b", &["b", "aab"], &["a"]);
        check("$a|^", &[""], &["a"]);
    }

    #[test]
    fn case_is_folded_for_ascii_letters_alone() {
        let check = |expression, text, expected| {
            assert_eq!(matches(expression, true, text), expected, "{expression} {text}");
        };
        check("aB", "Ab", true);
        check("[a-c]+", "ABC", true);
        check("[^x]", "X", false);
        check("\u{e9}", "\u{c9}", false);
        check("[@-Z]", "z", true);
        check("\\x41", "a", true);
        check("\\W", "a", false);
    }

    #[test]
    fn what_has_no_linear_meaning_is_refused() {
        let check = |expression: &str, part: &str| {
            let error = Reader { form: Form::Written, fold: false }.read(expression).unwrap_err();
            assert!(error.message.contains(part), "{expression}: {error}");
        };
        for expression in
            ["(?=a)", "(?<=a)b", "(?<!a)b", "a(?!b)", "(?:(?!a)b)*", "(?!a(?!b))", "(?!a)*"]
        {
            check(expression, "linear time");
        }
        for expression in ["(a)\\1", "\\01", "[\\2]", "(?<n>a)\\k<n>"] {
            check(expression, "not read");
        }
        for expression in [
            "*", "a**", "^*", "{1}", "(", ")", "a)", "[a", "\\", "[b-a]", "a{2,1}", "(?i:a)",
            "(?<n",
        ] {
            check(expression, "not a regular expression");
        }
        assert!(
            Program::compile(
                &Reader { form: Form::Written, fold: false }.read("((a{99}){99}){99}").unwrap().0
            )
            .is_err()
        );
    }
}
