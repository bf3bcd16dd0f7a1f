//! Finds every slip in the TOML itself. A parser makes nonsense of what follows a slip, so the
//! statement at fault is blanked out and the rest read again, until all of it is TOML.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::Fault;

/// What is no TOML, and at which byte.
pub(crate) struct Slip {
    pub(crate) offset: usize,
    pub(crate) fault: Fault,
}

/// The slips, and `text` with blanks in their place: every other byte stands where it stood.
pub(crate) fn recover(text: &str) -> (String, Vec<Slip>) {
    let mut text = text.to_owned();
    let mut slips = Vec::new();
    loop {
        let (document, errors) = DeTable::parse_recoverable(&text);
        let offset_of = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let Some(error) = errors.iter().min_by_key(|error| offset_of(error)) else {
            return (text, slips);
        };
        let offset = offset_of(error).min(text.len());
        let starts = statements(&text);
        let broken = starts.iter().rposition(|start| start.offset <= offset);
        let first = broken.map_or(0, |index| starts[index].offset);
        let slip;
        let (from, to) =
            match value_around(document.get_ref(), offset, &text).filter(|at| *at < first) {
                // The next statement begins where the value should have ended.
                Some(at) => {
                    let fault = Fault::new("not TOML: a value that does not end");
                    slip = Slip { offset: at, fault: fault.hint("a ], } or quote is missing") };
                    let owner = starts.iter().rev().find(|start| start.offset <= at);
                    (owner.map_or(0, |start| start.offset), first)
                }
                None => {
                    let rest = &starts[broken.map_or(0, |index| index + 1)..];
                    let is_header = broken.is_some_and(|index| starts[index].is_header);
                    // Nobody knows where what stands under a broken header belongs.
                    let next = rest.iter().find(|start| start.is_header || !is_header);
                    slip = Slip { offset, fault: fault(&text, offset, error.message()) };
                    (first, next.map_or(text.len(), |start| start.offset))
                }
            };
        slips.push(slip);
        text = if text[from..to].trim().is_empty() {
            blank(&text)
        } else {
            [&text[..from], &blank(&text[from..to]), &text[to..]].concat()
        };
    }
}

/// A line that looks as if a statement began there.
struct Start {
    offset: usize,
    /// `[table]`, and not `key = value`.
    is_header: bool,
}

fn statements(text: &str) -> Vec<Start> {
    let mut offset = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        offset += line.len();
        (offset - line.len(), line.trim_start_matches(['\u{feff}', ' ', '\t']))
    });
    let starts = lines.filter_map(|(offset, line)| {
        let name = line.strip_prefix("[[").or_else(|| line.strip_prefix('['));
        let is_header =
            name.is_some_and(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()));
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.\"' \t".contains(&byte);
        let is_value = line
            .split_once('=')
            .is_some_and(|(key, _)| !key.trim().is_empty() && key.bytes().all(is_key));
        (is_header || is_value).then_some(Start { offset, is_header })
    });
    starts.collect()
}

/// Where the outermost value begins that has `offset` inside.
fn value_around(table: &DeTable<'_>, offset: usize, text: &str) -> Option<usize> {
    table.values().find_map(|value| around(value, offset, text))
}

fn around(value: &Spanned<DeValue<'_>>, offset: usize, text: &str) -> Option<usize> {
    let span = value.span();
    match value.get_ref() {
        // The span of a table, or of a list of tables, may be that of its header.
        DeValue::Table(inner)
            if !text.get(span.start..).is_some_and(|text| text.starts_with('{')) =>
        {
            value_around(inner, offset, text)
        }
        DeValue::Array(items) if items.iter().any(|item| item.span().start == span.start) => {
            items.iter().find_map(|item| around(item, offset, text))
        }
        _ => (span.start < offset && offset <= span.end).then_some(span.start),
    }
}

/// What the parser says of the commonest slip, `http = 0.0.0.0:8080`, helps nobody.
fn fault(text: &str, offset: usize, message: &str) -> Fault {
    let start = text[..offset].rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let value = line.split_once('=').map_or("", |(_, value)| value.trim());
    let value = value.split('#').next().unwrap_or_default();
    let begins_bare =
        value.starts_with(|letter: char| letter.is_alphanumeric() || "./*:".contains(letter));
    let is_word = value.contains(|letter: char| letter.is_alphabetic() || ":/".contains(letter));
    if begins_bare && is_word && offset > start {
        return Fault::new("not TOML: a string without quotes").hint("put \" before and behind it");
    }
    let message = message.strip_suffix(", expected nothing").unwrap_or(message);
    Fault::new(format!("not TOML: {message}"))
}

fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, left: &str, offsets: &[usize]) {
        let (recovered, slips) = recover(text);
        assert_eq!(recovered.len(), text.len());
        let lines: Vec<&str> = recovered.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        assert_eq!(lines.join("\n"), left, "{text}");
        let found: Vec<usize> = slips.iter().map(|slip| slip.offset).collect();
        assert_eq!(found, offsets, "{text}");
    }

    #[test]
    fn what_is_toml_is_left_as_it_is() {
        check("a = 1\n[b]\nc = [\n  2,\n]", "a = 1\n[b]\nc = [\n2,\n]", &[]);
        check("", "", &[]);
    }

    #[test]
    fn a_slip_costs_its_own_statement() {
        check("a = 1\nb = \nc = 3\n", "a = 1\nc = 3", &[10]);
        check("a = \"x\nb = 2\n", "b = 2", &[6]);
        check("a = 1 1\nb = c\nd = 4\n", "d = 4", &[4, 12]);
    }

    #[test]
    fn a_broken_header_costs_its_table() {
        check("[a\nb = 1\n[c]\nd = 1\n", "[c]\nd = 1", &[2]);
        check("[[a]\nb = 1\n[c]\nd = 1\n", "[c]\nd = 1", &[4]);
    }

    #[test]
    fn a_value_without_an_end_costs_nothing_behind_it() {
        check(
            "[[a]]\nb = { c = 1\n[[a]]\nb = [{ c = 1 }\nd = 1\n",
            "[[a]]\n[[a]]\nd = 1",
            &[10, 28],
        );
        check("a = [1, 2\nb = 3\n[c]\nd = 1\n", "b = 3\n[c]\nd = 1", &[4]);
        check("a = \"\"\"x\nb = 3\n", "b = 3", &[4]);
    }
}
