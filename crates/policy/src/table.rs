//! Many patterns, looked up at once: a tree of segments, so that ten thousand patterns cost what
//! ten cost. First match: the least index wins.

use std::collections::HashMap;

use crate::pattern::{Ending, Exclusions, Pattern, Program, Segment, Wrapper};
use crate::text::Text;

/// Patterns under one wrapper, each with the index of its rule.
#[derive(Debug)]
pub(crate) struct Table {
    /// What Next.js puts in front of every path, in this table's form and case.
    wrapper: Wrapper,
    /// `nodes[0]` is the root.
    nodes: Vec<TreeNode>,
}

/// Where the segments of some patterns lead to. The lists hold indices of rules, ascending.
#[derive(Debug, Default)]
struct TreeNode {
    texts: HashMap<Box<str>, usize>,
    any: Option<usize>,
    end: Vec<usize>,
    optional: Vec<usize>,
    star: Vec<usize>,
    plus: Vec<usize>,
    all_but: Vec<(usize, Exclusions, Program)>,
    programs: Vec<(usize, Program)>,
    /// Programs by the text that the next segment begins with; one map for each length of it.
    led: Vec<(usize, ByLead)>,
    /// For a text that may hold a spelling of the page `/`.
    root: Vec<(usize, Program)>,
}

type ByLead = HashMap<Box<str>, Vec<(usize, Program)>>;

impl TreeNode {
    fn led_by(&mut self, lead: String) -> &mut Vec<(usize, Program)> {
        let length = lead.len();
        let known = self.led.iter().position(|(other, _)| *other == length);
        let at = known.unwrap_or_else(|| {
            self.led.push((length, HashMap::new()));
            self.led.len() - 1
        });
        self.led[at].1.entry(lead.into()).or_default()
    }
}

impl Table {
    /// `patterns` come with ascending indices.
    pub(crate) fn new(
        wrapper: Wrapper,
        patterns: impl IntoIterator<Item = (usize, Pattern)>,
    ) -> Self {
        let mut table = Self { wrapper, nodes: vec![TreeNode::default()] };
        for (index, Pattern { way, lead, ending, .. }) in patterns {
            let node = way.into_iter().fold(0, |node, segment| table.child(node, segment));
            let node = &mut table.nodes[node];
            match ending {
                Ending::End => node.end.push(index),
                Ending::Optional => node.optional.push(index),
                Ending::Star => node.star.push(index),
                Ending::Plus => node.plus.push(index),
                Ending::AllBut(exclusions, program) => {
                    node.all_but.push((index, exclusions, program));
                }
                Ending::Root(program) => {
                    node.end.push(index);
                    node.root.push((index, program));
                }
                Ending::Program(program) if lead.is_empty() => node.programs.push((index, program)),
                Ending::Program(program) => node.led_by(lead).push((index, program)),
            }
        }
        table
    }

    fn child(&mut self, node: usize, segment: Segment) -> usize {
        let new = self.nodes.len();
        let child = match segment {
            Segment::Text(text) => *self.nodes[node].texts.entry(text.into()).or_insert(new),
            Segment::Any => *self.nodes[node].any.get_or_insert(new),
        };
        if child == new {
            self.nodes.push(TreeNode::default());
        }
        child
    }

    /// The least index of which a pattern matches `text` and which `counts` agrees to.
    pub(crate) fn first(&self, text: &Text<'_>, counts: impl Fn(usize) -> bool) -> Option<usize> {
        let mut walk = Walk {
            table: self,
            text,
            counts,
            segments_end: segments_end(text.as_str()),
            best: usize::MAX,
            programs: Vec::new(),
        };
        // What may be empty may begin within a segment that the wrapper takes, so at no start.
        walk.note_programs(&self.nodes[0].programs);
        let root = &self.nodes[0].root;
        let may_be_root = |text: &str| text.contains("index") || text.contains(".json");
        if !root.is_empty() && may_be_root(text.as_str()) {
            walk.note_programs(root);
        }
        for start in self.starts(text.as_str()).into_iter().flatten() {
            walk.visit(0, start, false);
        }
        walk.run_programs();
        (walk.best < usize::MAX).then_some(walk.best)
    }

    /// Where a pattern may begin: behind the base path and the locale, and, where the path is one
    /// of Next.js' data addresses, behind that, too.
    fn starts(&self, text: &str) -> [Option<usize>; 2] {
        let Some(path) = text.strip_prefix(&*self.wrapper.base) else { return [None, None] };
        let behind_data = path.strip_prefix("/_next/data/").and_then(|build| {
            let length = build.find('/').unwrap_or(build.len());
            (length > 0).then(|| &build[length..])
        });
        [Some(path), behind_data].map(|path| {
            let path = if self.wrapper.localized { behind_locale(path?)? } else { path? };
            Some(text.len() - path.len())
        })
    }
}

/// Any one segment without a dot counts as a locale; `/_next/` does not begin with one.
fn behind_locale(path: &str) -> Option<&str> {
    let locale = path.strip_prefix('/')?;
    let length = locale.find('/').unwrap_or(locale.len());
    let (locale, path) = locale.split_at(length);
    let is_locale = !locale.is_empty() && !locale.contains('.');
    let is_own = locale == "_next" && !path.is_empty();
    (is_locale && !is_own).then_some(path)
}

/// Where `….segments/…….segment.rsc` may end its page's address: the length of the text up to
/// `.segment.rsc`, if that is how it ends.
fn segments_end(text: &str) -> Option<usize> {
    let text = text.strip_suffix('/').unwrap_or(text);
    Some(text.strip_suffix(".segment.rsc")?.len())
}

/// One look-up. Every node of the tree is visited once for each start at most.
struct Walk<'a, F> {
    table: &'a Table,
    text: &'a Text<'a>,
    counts: F,
    segments_end: Option<usize>,
    best: usize,
    /// Programs that may match, to be run last, because they are dear.
    programs: Vec<(usize, &'a Program)>,
}

impl<'a, F: Fn(usize) -> bool> Walk<'a, F> {
    /// Looks on from `node`, with `at` as the place behind its segments. At the `page_end` only
    /// what the wrapper takes follows.
    fn visit(&mut self, node: usize, at: usize, page_end: bool) {
        let node: &'a TreeNode = &self.table.nodes[node];
        let rest = &self.text.as_str()[at..];
        if page_end || rest.is_empty() || rest == "/" {
            self.note(&node.end);
            self.note(&node.optional);
            self.note(&node.star);
        }
        if page_end {
            return;
        }
        let Some(behind) = rest.strip_prefix('/') else { return };
        self.note(&node.star);
        self.note_all_but(&node.all_but, behind);
        for (length, programs) in &node.led {
            let led = behind.get(..*length).and_then(|lead| programs.get(lead));
            self.note_programs(led.map_or(&[], Vec::as_slice));
        }
        if behind.is_empty() {
            return;
        }
        self.note(&node.plus);

        let length = memchr::memchr(b'/', behind.as_bytes()).unwrap_or(behind.len());
        let (segment, end) = (&behind[..length], at + 1 + length);
        let is_last = matches!(&behind[length..], "" | "/");
        if is_last {
            self.note(&node.optional);
        }
        self.descend(node, segment, end, false);
        // What the wrapper takes from the page's last segment.
        let suffixes: &[&str] = if is_last { &[".json", ".rsc"] } else { &[".segments"] };
        for page in suffixes.iter().filter_map(|suffix| segment.strip_suffix(suffix)) {
            if is_last || self.is_segments_address(end) {
                self.descend(node, page, end, true);
                if !page.is_empty() {
                    self.note(&node.optional);
                }
            }
        }
    }

    fn arrive(&mut self, node: usize, at: usize, page_end: bool) {
        let table: &'a Table = self.table;
        self.note_programs(&table.nodes[node].programs);
        self.visit(node, at, page_end);
    }

    fn descend(&mut self, node: &TreeNode, segment: &str, end: usize, page_end: bool) {
        if !node.texts.is_empty()
            && let Some(child) = node.texts.get(segment)
        {
            self.arrive(*child, end, page_end);
        }
        if let Some(child) = node.any
            && !segment.is_empty()
        {
            self.arrive(child, end, page_end);
        }
    }

    /// Whether what follows `.segments` at `at` is `/`, something on one line, `.segment.rsc`.
    fn is_segments_address(&self, at: usize) -> bool {
        let between = self.segments_end.and_then(|end| self.text.as_str().get(at + 1..end));
        let is_line_end = |it| matches!(it, '\n' | '\r' | '\u{2028}' | '\u{2029}');
        between.is_some_and(|text| !text.is_empty() && !text.contains(is_line_end))
    }

    fn note(&mut self, indices: &[usize]) {
        let better = indices.iter().take_while(|index| **index < self.best);
        if let Some(index) = better.copied().find(|index| (self.counts)(*index)) {
            self.best = index;
        }
    }

    fn note_all_but(&mut self, all_but: &[(usize, Exclusions, Program)], rest: &str) {
        for (index, exclusions, program) in all_but {
            if *index >= self.best {
                return;
            }
            let matches = || match self.text.is_plain() {
                true => exclusions.admit(rest),
                false => self.text.is_matched_by(program),
            };
            if (self.counts)(*index) && matches() {
                self.best = *index;
            }
        }
    }

    fn note_programs(&mut self, programs: &'a [(usize, Program)]) {
        let counting = programs.iter().filter(|(index, _)| (self.counts)(*index));
        self.programs.extend(counting.map(|(index, program)| (*index, program)));
    }

    fn run_programs(&mut self) {
        self.programs.sort_unstable_by_key(|(index, _)| *index);
        for (index, program) in &self.programs {
            if *index >= self.best {
                return;
            }
            if self.text.is_matched_by(program) {
                self.best = *index;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pattern::{Form, Reader};

    /// Patterns of every form, as a rule file might hold them.
    const SOURCES: &[&str] = &[
        "/",
        "/a",
        "/a/b",
        "/a/:p",
        "/a/:p?",
        "/a/:p*",
        "/a/:p+",
        "/:p",
        "/:p?",
        "/:p*",
        "/:p+",
        "/:p/b",
        "/:p/b/:q*",
        "/:p*/b",
        "/a/:p*/b",
        "/a/:p(\\d+)",
        "/:p(a|b)/:q*",
        "/:p(x?)/a",
        "/a(.*)",
        "/(.*)",
        "/a/(.*)",
        "/((?!api|_next/static|.*\\..*).*)",
        "/((?!_next|.*\\.json$|a$).*)",
        "/a/((?!b$|[a-c]x).*)",
        "/((?!a)(?!b).*)",
        "/((?!$).*)",
        "/((?!.+).*)",
        "/:a-:b",
        "/a/:n.:ext",
        "/a{/:p}?/b",
        "/a{-b}?",
        "/a{/}b",
        "/a.json",
        "/A/:p*",
        "/a/",
        "//a",
        "/en/a",
        "/x-:p/a",
        "/caf\u{e9}",
        "/:p(\\w+)",
        "/(a|index)",
    ];

    fn text() -> impl Strategy<Value = String> {
        let segment = prop::sample::select(vec![
            "a",
            "b",
            "A",
            "12",
            "ax",
            "api",
            "apiary",
            "index",
            "en",
            "de",
            "_next",
            "data",
            "static",
            "b1",
            "a.json",
            "b.json",
            "a.rsc",
            "a.segments",
            "b.segments",
            "x.segment.rsc",
            ".json",
            ".rsc",
            ".segments",
            ".segment.rsc",
            "a-b",
            "x-y",
            "a.b",
            "caf\u{e9}",
            "a\nb",
            "a\u{2028}",
            "index.json",
            "index.rsc",
            "index.segments",
            "docs",
            "docs.json",
            "enindex",
        ]);
        let prefix =
            prop::sample::select(vec!["", "/docs", "/_next/data/b1", "/docs/_next/data/b1", "/en"]);
        (prefix, prop::collection::vec(segment, 0..5), any::<bool>()).prop_map(
            |(prefix, segments, slash)| {
                let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
                let slash = if slash || prefix.is_empty() && path.is_empty() { "/" } else { "" };
                format!("{prefix}{path}{slash}")
            },
        )
    }

    fn wrapper() -> impl Strategy<Value = Wrapper> {
        let base = prop::sample::select(vec!["", "/docs"]);
        (base, any::<bool>())
            .prop_map(|(base, localized)| Wrapper { base: base.to_owned(), localized })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn every_form_of_a_pattern_means_what_its_program_means(
            wrapper in wrapper(),
            fold in any::<bool>(),
            text in text(),
        ) {
            let reader = Reader { form: Form::Decoded, fold };
            let text = if fold { text.to_ascii_lowercase() } else { text };
            let text = Text::new(&*text);
            for source in SOURCES {
                let pattern = Pattern::compile(source, &wrapper, reader).unwrap();
                let table = Table::new(wrapper.clone(), [(0, pattern)]);
                let reference = Pattern::reference(source, &wrapper, reader).unwrap();
                let expected = text.is_matched_by(&reference);
                prop_assert_eq!(table.first(&text, |_| true).is_some(), expected, "{} {:?}", source, text);
            }
        }

        #[test]
        fn the_first_of_many_patterns_wins(
            wrapper in wrapper(),
            order in prop::sample::subsequence(SOURCES.to_vec(), 0..12).prop_shuffle(),
            skipped in prop::collection::hash_set(0_usize..12, 0..6),
            text in text(),
        ) {
            let reader = Reader { form: Form::Decoded, fold: false };
            let text = Text::new(&*text);
            let compile = |source: &&str| Pattern::compile(source, &wrapper, reader).unwrap();
            let table = Table::new(wrapper.clone(), order.iter().map(compile).enumerate());
            let matches = |index: &usize| {
                let program = Pattern::reference(order[*index], &wrapper, reader).unwrap();
                !skipped.contains(index) && text.is_matched_by(&program)
            };
            let expected = (0..order.len()).find(matches);
            prop_assert_eq!(table.first(&text, |index| !skipped.contains(&index)), expected);
        }
    }
}
