//! Paths that a pattern takes, and some just beside it: what two sets of rules are held against
//! each other by. No list of examples is a proof; one that differs is.

use super::node::{Node, UnitSet};
use super::source::Token;
use super::{Builder, Form, PatternError, Reader, Wrapper};

/// Examples for one pattern, without anything that Next.js puts around it.
#[derive(Debug)]
pub(crate) struct Examples {
    /// Likely to be taken: every choice, and each repetition none, one and two times.
    pub(crate) taken: Vec<String>,
    /// What its look-aheads exclude.
    pub(crate) beside: Vec<String>,
}

impl Examples {
    /// `word` stands for whatever may be any text; it is best one that no pattern names.
    pub(crate) fn of(source: &str, word: &str) -> Result<Self, PatternError> {
        let wrapper = Wrapper::default();
        let reader = Reader { form: Form::Written, fold: false };
        let builder = Builder { wrapper: &wrapper, reader };
        let tokens: Vec<Token> = builder.tokens(source)?;
        let nodes: Result<Vec<Node>, _> = tokens.iter().map(|token| builder.token(token)).collect();
        let nodes = Node::Concat(nodes?);
        let taken = paths(texts(&nodes, word));
        let beside = paths(excluded(&nodes, word));
        Ok(Self { taken, beside })
    }
}

/// At most so many texts for one part of a pattern.
const TEXTS: usize = 64;
/// Longest run of copies that a counted repetition gets.
const COPIES: usize = 64;

/// Texts that the tree takes, the plainest first; never none.
fn texts(node: &Node, word: &str) -> Vec<String> {
    let mut texts = match node {
        Node::Unit(set) => vec![representative(set).to_string()],
        Node::Concat(nodes) => {
            let parts: Vec<Vec<String>> = nodes.iter().map(|node| texts(node, word)).collect();
            one_at_a_time(&parts)
        }
        Node::Either(choices) => choices.iter().flat_map(|choice| texts(choice, word)).collect(),
        Node::Repeat { node, min, max } => repeated(node, *min, *max, word),
        Node::Start | Node::End | Node::WordBoundary(_) | Node::NotAhead(_) => Vec::new(),
    };
    if texts.is_empty() {
        texts.push(String::new());
    }
    texts.truncate(TEXTS);
    texts
}

/// The first text of every part, and that with each other text of each part in its place.
fn one_at_a_time(parts: &[Vec<String>]) -> Vec<String> {
    let first = |part: &Vec<String>| part.first().cloned().unwrap_or_default();
    let plain: Vec<String> = parts.iter().map(first).collect();
    let mut whole = vec![plain.concat()];
    for (place, part) in parts.iter().enumerate() {
        for other in part.iter().skip(1) {
            let (before, behind) = (plain[..place].concat(), plain[place + 1..].concat());
            whole.push([&before, other.as_str(), &behind].concat());
        }
    }
    whole
}

fn repeated(node: &Node, min: u32, max: Option<u32>, word: &str) -> Vec<String> {
    let least = usize::try_from(min).unwrap_or(COPIES).clamp(1, COPIES);
    let may_go_on = max.is_none_or(|max| max > min.max(1));
    let mut texts = match node {
        Node::Unit(set) => {
            let fits = max.is_none() && word.len() >= least && is_of(set, word);
            let one = if fits { word.to_owned() } else { unit(set).repeat(least) };
            let crosses = may_go_on && set.contains(u16::from(b'/'));
            let several = [format!("{one}/{one}"), format!("/{one}")];
            let several = several.into_iter().filter(|_| crosses);
            std::iter::once(one).chain(several).collect()
        }
        node => {
            let each = texts(node, word);
            let more = each.first().filter(|_| may_go_on).map(|text| text.repeat(least + 1));
            let mut texts: Vec<String> = each.iter().map(|text| text.repeat(least)).collect();
            texts.extend(more);
            texts
        }
    };
    if min == 0 {
        // Of further segments it is plainest to have none.
        let is_group = !matches!(node, Node::Unit(_));
        let place = if is_group && max.is_none() { 0 } else { texts.len() };
        texts.insert(place, String::new());
    }
    texts
}

/// Texts that go as far as a look-ahead and then say what it excludes, with and without a segment
/// behind it.
fn excluded(node: &Node, word: &str) -> Vec<String> {
    let mut found = match node {
        Node::NotAhead(node) => {
            let bare = texts(node, word);
            let longer: Vec<String> = bare.iter().map(|text| format!("{text}/{word}")).collect();
            [bare, longer].concat()
        }
        Node::Concat(nodes) => {
            let mut before = String::new();
            let mut found = Vec::new();
            for node in nodes {
                found.extend(excluded(node, word).iter().map(|text| format!("{before}{text}")));
                before += &texts(node, word)[0];
            }
            found
        }
        Node::Either(choices) => choices.iter().flat_map(|it| excluded(it, word)).collect(),
        Node::Repeat { node, .. } => excluded(node, word),
        Node::Unit(_) | Node::Start | Node::End | Node::WordBoundary(_) => Vec::new(),
    };
    found.truncate(TEXTS);
    found
}

fn is_of(set: &UnitSet, word: &str) -> bool {
    !word.is_empty() && word.encode_utf16().all(|unit| set.contains(unit))
}

fn unit(set: &UnitSet) -> String {
    representative(set).to_string()
}

/// Some character of the set, a harmless one if it has any.
fn representative(set: &UnitSet) -> char {
    let harmless = "x1a-_".chars().chain('!'..='~').chain(' '..='\u{FF}');
    let mut harmless = harmless.chain('\u{100}'..='\u{FFFF}');
    let in_set = |it: &char| u16::try_from(u32::from(*it)).is_ok_and(|unit| set.contains(unit));
    harmless.find(in_set).unwrap_or('x')
}

/// Each once, as it would stand in a request line.
fn paths(texts: Vec<String>) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for text in texts {
        let mut path = String::with_capacity(text.len() + 1);
        if !text.starts_with('/') {
            path.push('/');
        }
        for letter in text.chars() {
            if matches!(letter, '!'..='~') {
                path.push(letter);
            } else {
                let mut bytes = [0; 4];
                let bytes = letter.encode_utf8(&mut bytes).bytes();
                path.extend(bytes.map(|byte| format!("%{byte:02X}")));
            }
        }
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_and_every_number_of_segments_has_its_example() {
        let check = |source: &str, expected: &[&str]| {
            assert_eq!(Examples::of(source, "x").unwrap().taken, expected, "{source}");
        };
        check("/", &["/"]);
        check("/a/b", &["/a/b"]);
        check("/a/:p", &["/a/x"]);
        check("/a/:p?", &["/a/x", "/a"]);
        check("/a/:p*", &["/a/x", "/a/x/x", "/a/x/x/x", "/a"]);
        check("/a/:p+", &["/a/x", "/a/x/x", "/a/x/x/x"]);
        check("/:p(a|b)/c", &["/a/c", "/b/c"]);
        check("/n/:id(\\d+)", &["/n/1"]);
        check("/n/:id(\\d{4})", &["/n/1111"]);
        check("/a(.*)", &["/ax", "/ax/x", "/a/x", "/a"]);
        check("/caf\u{e9} au", &["/caf%C3%A9%20au"]);
        check("/:name.:ext", &["/x.x", "/x.xx"]);
    }

    #[test]
    fn what_a_look_ahead_excludes_has_examples_of_its_own() {
        let examples = Examples::of("/((?!api|_next/static).*)", "x").unwrap();
        assert_eq!(examples.beside, ["/api", "/_next/static", "/api/x", "/_next/static/x"]);
        assert!(examples.taken.contains(&"/x".to_owned()));
    }
}
