//! Reads path patterns as path-to-regexp 6.3 does (`lexer` and `parse` of its `index.ts`), which
//! Next.js carries from 15.5 on.

use super::PatternError;

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Text(String),
    Key { prefix: String, suffix: String, value: Value, modifier: Modifier },
}

/// What a key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing: a group of text alone.
    None,
    /// `[^\/#\?]+?`
    Segment,
    /// The same, but not across this text, which stands in front of the key.
    SegmentWithout(String),
    /// A regular expression of the pattern's own.
    Regexp(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modifier {
    Once,
    Optional,
    Star,
    Plus,
}

/// Splits a pattern into its pieces.
pub(crate) fn parse(source: &str) -> Result<Vec<Token>, PatternError> {
    let mut parser = Parser { lexemes: lex(source)?, at: 0, tokens: Vec::new(), keys: Vec::new() };
    parser.parse()?;
    Ok(parser.tokens)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Lexeme {
    Char(char),
    Escaped(char),
    Open,
    Close,
    Name(String),
    Pattern(String),
    Modifier(char),
    End,
}

impl Lexeme {
    /// path-to-regexp's word for it, which its messages use.
    fn word(&self) -> &'static str {
        match self {
            Self::Char(_) => "CHAR",
            Self::Escaped(_) => "ESCAPED_CHAR",
            Self::Open => "OPEN",
            Self::Close => "CLOSE",
            Self::Name(_) => "NAME",
            Self::Pattern(_) => "PATTERN",
            Self::Modifier(_) => "MODIFIER",
            Self::End => "END",
        }
    }
}

fn lex(source: &str) -> Result<Vec<(usize, Lexeme)>, PatternError> {
    let chars: Vec<char> = source.chars().collect();
    let mut lexemes = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        at += 1;
        let lexeme = match chars[start] {
            modifier @ ('*' | '+' | '?') => Lexeme::Modifier(modifier),
            '\\' => {
                let escaped = chars.get(at).ok_or_else(|| {
                    PatternError::new(format!("a backslash escapes nothing at {start}"), None)
                })?;
                at += 1;
                Lexeme::Escaped(*escaped)
            }
            '{' => Lexeme::Open,
            '}' => Lexeme::Close,
            ':' => {
                let is_part = |it: &&char| it.is_ascii_alphanumeric() || **it == '_';
                let name: String = chars[at..].iter().take_while(is_part).collect();
                if name.is_empty() {
                    return Err(PatternError::new(
                        format!("missing parameter name at {start}"),
                        Some("write a name behind the colon, or `\\:` for the colon itself"),
                    ));
                }
                at += name.len();
                Lexeme::Name(name)
            }
            '(' => {
                let pattern = lex_regexp(&chars, at)?;
                at += pattern.chars().count() + 1;
                Lexeme::Pattern(pattern)
            }
            other => Lexeme::Char(other),
        };
        lexemes.push((start, lexeme));
    }
    lexemes.push((at, Lexeme::End));
    Ok(lexemes)
}

/// What stands between `(` and its `)`; `start` is behind the opening one.
fn lex_regexp(chars: &[char], start: usize) -> Result<String, PatternError> {
    if chars.get(start) == Some(&'?') {
        return Err(PatternError::new(
            format!("a group cannot start with `?` at {start}"),
            Some("wrap it once more: `/((?!api).*)`"),
        ));
    }
    let mut depth = 1;
    let mut at = start;
    while let Some(char) = chars.get(at) {
        match char {
            '\\' => at += 1,
            ')' => depth -= 1,
            '(' => {
                depth += 1;
                if chars.get(at + 1) != Some(&'?') {
                    return Err(PatternError::new(
                        format!("capturing groups are not allowed at {at}"),
                        Some("write `(?:…)` inside a group"),
                    ));
                }
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        at += 1;
    }
    if depth > 0 {
        return Err(PatternError::new(
            format!("unbalanced group at {}", start - 1),
            Some("close it with `)`, or write `\\(` for the parenthesis itself"),
        ));
    }
    if at == start {
        return Err(PatternError::new(format!("empty group at {}", start - 1), None));
    }
    Ok(chars[start..at].iter().collect())
}

struct Parser {
    lexemes: Vec<(usize, Lexeme)>,
    at: usize,
    tokens: Vec<Token>,
    /// Names of the keys so far, for messages.
    keys: Vec<String>,
}

impl Parser {
    fn take<T>(&mut self, pick: impl Fn(&Lexeme) -> Option<T>) -> Option<T> {
        let taken = pick(&self.lexemes.get(self.at)?.1)?;
        self.at += 1;
        Some(taken)
    }

    fn take_char(&mut self) -> Option<char> {
        self.take(|lexeme| if let Lexeme::Char(char) = lexeme { Some(*char) } else { None })
    }

    fn take_escaped(&mut self) -> Option<char> {
        self.take(|lexeme| if let Lexeme::Escaped(char) = lexeme { Some(*char) } else { None })
    }

    fn take_name(&mut self) -> Option<String> {
        self.take(|lexeme| if let Lexeme::Name(name) = lexeme { Some(name.clone()) } else { None })
    }

    fn take_pattern(&mut self) -> Option<String> {
        self.take(|lexeme| if let Lexeme::Pattern(it) = lexeme { Some(it.clone()) } else { None })
    }

    fn take_modifier(&mut self) -> Modifier {
        let taken =
            self.take(|lexeme| if let Lexeme::Modifier(it) = lexeme { Some(*it) } else { None });
        match taken {
            None => Modifier::Once,
            Some('?') => Modifier::Optional,
            Some('*') => Modifier::Star,
            Some(_) => Modifier::Plus,
        }
    }

    fn take_text(&mut self) -> String {
        let mut text = String::new();
        while let Some(char) = self.take_char().or_else(|| self.take_escaped()) {
            text.push(char);
        }
        text
    }

    fn must_be(&mut self, expected: &Lexeme) -> Result<(), PatternError> {
        if self.take(|lexeme| (lexeme == expected).then_some(())).is_some() {
            return Ok(());
        }
        let (index, found) = self.lexemes.get(self.at).map_or((0, "END"), |it| (it.0, it.1.word()));
        let hint = (found == "MODIFIER").then_some(
            "`*`, `+` and `?` stand behind a parameter or a group: `/a/:path*`, `/a(.*)`",
        );
        let expected = expected.word();
        Err(PatternError::new(format!("unexpected {found} at {index}, expected {expected}"), hint))
    }

    fn parse(&mut self) -> Result<(), PatternError> {
        let mut text = String::new();
        while self.at < self.lexemes.len() {
            let char = self.take_char();
            let (name, pattern) = (self.take_name(), self.take_pattern());
            if name.is_some() || pattern.is_some() {
                let prefix = match char {
                    Some(prefix @ ('.' | '/')) => prefix.to_string(),
                    Some(other) => {
                        text.push(other);
                        String::new()
                    }
                    None => String::new(),
                };
                self.flush(&mut text);
                let value = self.value(name.as_deref(), pattern, &prefix)?;
                self.keys.push(name.unwrap_or_default());
                let modifier = self.take_modifier();
                self.tokens.push(Token::Key { prefix, suffix: String::new(), value, modifier });
                continue;
            }
            if let Some(char) = char.or_else(|| self.take_escaped()) {
                text.push(char);
                continue;
            }
            self.flush(&mut text);
            if self.take(|lexeme| (*lexeme == Lexeme::Open).then_some(())).is_none() {
                self.must_be(&Lexeme::End)?;
                continue;
            }
            let prefix = self.take_text();
            let (name, pattern) = (self.take_name(), self.take_pattern());
            let suffix = self.take_text();
            self.must_be(&Lexeme::Close)?;
            let value = self.value(name.as_deref(), pattern, &prefix)?;
            self.keys.push(name.unwrap_or_default());
            let modifier = self.take_modifier();
            self.tokens.push(Token::Key { prefix, suffix, value, modifier });
        }
        Ok(())
    }

    fn flush(&mut self, text: &mut String) {
        if !text.is_empty() {
            self.tokens.push(Token::Text(std::mem::take(text)));
        }
    }

    /// A key without a pattern of its own ends where the text in front of it comes again, lest
    /// two keys fight over the same text.
    fn value(
        &self,
        name: Option<&str>,
        pattern: Option<String>,
        prefix: &str,
    ) -> Result<Value, PatternError> {
        if let Some(pattern) = pattern {
            return Ok(Value::Regexp(pattern));
        }
        if name.is_none() {
            return Ok(Value::None);
        }
        let before = match self.tokens.last() {
            _ if !prefix.is_empty() => prefix,
            Some(Token::Text(text)) => text,
            Some(Token::Key { .. }) => {
                let key = self.keys.last().map_or("", String::as_str);
                return Err(PatternError::new(
                    format!("must have text between two parameters, missing text after `{key}`"),
                    Some("put a `/`, `-` or `.` between them"),
                ));
            }
            None => "",
        };
        if before.is_empty() || before.contains(['/', '#', '?']) {
            Ok(Value::Segment)
        } else {
            Ok(Value::SegmentWithout(before.to_owned()))
        }
    }
}
