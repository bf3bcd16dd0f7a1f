//! Warnings: rules that are legal but hardly meant. False alarms cost trust in the true ones, so
//! each warning rests on a proof, or on a path that shows it.

use std::collections::HashMap;

use crate::access::Access;
use crate::app::{App, Guard, Rule};
use crate::outlines::{Outlines, samples};
use crate::path::{CanonicalPath, PathFault};
use crate::pattern::{Form, Outline, Pattern, Reader, Wrapper};
use crate::reading::Reading;
use crate::spec::{AppSpec, Finding, MatcherSpec, Place, RuleSpec};
use crate::table::Table;
use crate::text::Text;

/// What is risky about an app that compiled.
pub(crate) fn warnings(index: usize, spec: &AppSpec, app: &App) -> Vec<Finding> {
    let mut found = match &app.guard {
        Guard::Matcher(_) => {
            let entries = spec.matcher.iter().flatten().enumerate();
            entries.flat_map(|(item, entry)| warn_of_entry(spec, item, entry)).collect()
        }
        Guard::Rules { rules, .. } => warn_of_rules(app, rules, spec),
    };
    for finding in &mut found {
        finding.place.app = Some(index);
    }
    found
}

fn warn_of_entry(spec: &AppSpec, item: usize, entry: &MatcherSpec) -> Vec<Finding> {
    let place = Place { key: "matcher", item: Some(item), ..Place::default() };
    let names_locale = entry.locale == Some(false);
    let unheard = unheard(spec, &entry.source, names_locale, place);
    let mut conditions = entry.has.iter().chain(&entry.missing);
    let chosen = conditions.find(|condition| condition.kind != "host").map(|condition| Finding {
        place,
        message: format!(
            "the visitor chooses the {} `{}`, so this condition never lifts the guard",
            condition.kind,
            condition.key.as_deref().unwrap_or_default(),
        ),
        hint: Some("take the condition out; only `host` counts".to_owned()),
    });
    let ends_with_slash = entry.source.len() > 1 && entry.source.ends_with('/');
    let idle = ends_with_slash.then(|| Finding {
        place,
        message: "Next.js never runs for a pattern with `/` at its end".to_owned(),
        hint: Some("take the slash out; the pattern then matches with and without it".to_owned()),
    });
    chosen.into_iter().chain(idle).chain(unheard).collect()
}

/// A pattern that is taken, and that waits for other paths than whoever wrote it believes.
fn unheard(spec: &AppSpec, source: &str, names_locale: bool, place: Place) -> Option<Finding> {
    let (first, rest) = match source.strip_prefix('/')?.split_once('/') {
        Some((first, rest)) => (first, rest),
        None => (&source[1..], ""),
    };
    let is_whole = spec.base_path.is_empty() && spec.locales.is_empty();
    if is_whole && first.trim_start_matches('\\') == ".foregate" {
        let message = "no rule is asked below `/.foregate/`: Foregate itself answers there";
        let hint = Some("take it out".to_owned());
        return Some(Finding { place, message: message.to_owned(), hint });
    }
    let is_locale = |locale: &String| locale.eq_ignore_ascii_case(first);
    if names_locale || !spec.locales.iter().any(is_locale) {
        return None;
    }
    let message = format!("the locale goes in front by itself: this waits for `/{first}{source}`");
    Some(Finding { place, message, hint: Some(format!("write `/{rest}`")) })
}

/// Rules from the first to the last, each held against those above it.
fn warn_of_rules(app: &App, rules: &[Rule], spec_of_app: &AppSpec) -> Vec<Finding> {
    let specs: &[RuleSpec] = &spec_of_app.rules;
    let mut found = Vec::new();
    let mut above = Above::nothing(app, rules);
    for (index, spec) in specs.iter().enumerate() {
        let place = Place { rule: Some(index), key: "rule", ..Place::default() };
        let paths: Vec<OnePath<'_>> = spec.paths.iter().map(|source| OnePath::of(source)).collect();
        for (item, path) in paths.iter().enumerate() {
            let place = Place { key: "path", item: Some(item), ..place };
            found.extend(unheard(spec_of_app, path.source, false, place));
            if let Some(fault) = path.fault() {
                found.push(Finding {
                    place,
                    message: format!("no request gets here: {fault}"),
                    hint: None,
                });
            }
        }
        if let Some((other, source)) = above.silences(index, &paths) {
            let mut message = format!("it can never speak: `{source}` above it matches first");
            if let Some(whom) = weaker(&rules[other], &rules[index]) {
                message += &format!(", so `{}` is {whom}", paths[0].source);
            }
            let hint = "put the narrower rule first, or take this one out".to_owned();
            found.push(Finding { place, message, hint: Some(hint) });
        } else if let Some(source) = above.opens(index, &paths) {
            let message =
                format!("`{source}` above it is public and opens a part of what it guards");
            let hint = "if that is not meant, put this rule first".to_owned();
            found.push(Finding { place, message, hint: Some(hint) });
        } else {
            found.extend(bare(app, rules, index, &paths, spec_of_app));
        }
        above.add(index, paths);
    }
    found
}

/// Whom `rule` lets in and `other` does not, where that is told by a word.
fn weaker(rule: &Rule, other: &Rule) -> Option<&'static str> {
    open_to(rule.access, rule.roles.is_empty(), other)
}

/// The same of an access with or without roles.
fn open_to(access: Access, any_role: bool, other: &Rule) -> Option<&'static str> {
    match (access, other.access) {
        (Access::Public, Access::Session | Access::Deny) => Some("open to everybody"),
        (Access::Session, Access::Deny) => Some("not denied"),
        (Access::Session, Access::Session) if any_role && !other.roles.is_empty() => {
            Some("for every session")
        }
        _ => None,
    }
}

/// A rule for `/admin` alone, by someone who meant all below it: nothing else speaks of what is
/// below, and that is open wider.
fn bare(
    app: &App,
    rules: &[Rule],
    index: usize,
    paths: &[OnePath<'_>],
    spec: &AppSpec,
) -> Option<Finding> {
    let rule = &rules[index];
    let is_strict = rule.access == Access::Deny || !rule.roles.is_empty();
    let is_whole = spec.base_path.is_empty() && spec.locales.is_empty();
    // Whoever writes both kinds of pattern side by side knows them apart.
    let knows = paths.len() > 1 && paths.iter().any(|path| path.only_text().is_none());
    if !is_strict || !is_whole || knows || !rule.methods.0.is_empty() || index >= SAMPLED_RULES {
        return None;
    }
    paths.iter().enumerate().find_map(|(item, path)| {
        let text = path.only_text()?;
        CanonicalPath::parse(&text).ok()?;
        let last =
            text.rsplit('/').next().filter(|last| !last.is_empty() && !last.contains('.'))?;
        let inside = format!("{}/", path.source);
        let is_named = |rule: &RuleSpec| rule.paths.iter().any(|path| path.starts_with(&inside));
        if !path.source.ends_with(last) || spec.rules.iter().any(is_named) {
            return None;
        }
        let below = format!("{inside}x");
        let first = |text: &str, counts: &dyn Fn(usize) -> bool| {
            app.tables.first(Reading::default(), &Text::new(text), counts)
        };
        // One of several that end here, as `/r/one` above `/r/:code`.
        let family = first(&text, &|other| other > index);
        if family.is_some_and(|family| first(&below, &|other| other == family).is_none()) {
            return None;
        }
        let whom = match first(&below, &|_| true) {
            Some(first) => weaker(&rules[first], rule),
            None => open_to(spec.access, true, rule),
        };
        let message = format!("`{below}` is {}", whom?);
        let hint = format!("`{inside}:path*` names all below it, and `{}` as well", path.source);
        let place = Place { rule: Some(index), key: "path", item: Some(item), ..Place::default() };
        Some(Finding { place, message, hint: Some(hint) })
    })
}

/// A pattern as written, and how far it goes by segments.
struct OnePath<'a> {
    source: &'a str,
    outline: Option<Outline>,
}

impl<'a> OnePath<'a> {
    fn of(source: &'a str) -> Self {
        Self { source, outline: Outline::of(source, Reader { form: Form::Raw, fold: false }).ok() }
    }

    /// The path, where it is one only.
    fn only_text(&self) -> Option<String> {
        self.outline.as_ref()?.only_text()
    }

    /// Why no request has this path, where it is one path only.
    fn fault(&self) -> Option<PathFault> {
        CanonicalPath::parse(&self.only_text()?).err()
    }
}

/// The rules above the one that is looked at.
struct Above<'a> {
    app: &'a App,
    rules: &'a [Rule],
    all: Outlines,
    public: Outlines,
    /// Patterns of public rules, each with a path that it takes.
    openings: Vec<(usize, String)>,
    /// What `all`, `public` and `openings` count: patterns as written, each with its rule.
    patterns: Vec<(usize, &'a str)>,
    /// Rules by their patterns as written.
    sources: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Above<'a> {
    fn nothing(app: &'a App, rules: &'a [Rule]) -> Self {
        let (all, public) = (Outlines::new(), Outlines::new());
        let (openings, patterns) = (Vec::new(), Vec::new());
        Self { app, rules, all, public, openings, patterns, sources: HashMap::new() }
    }

    fn add(&mut self, index: usize, paths: Vec<OnePath<'a>>) {
        for OnePath { source, outline } in paths {
            self.sources.entry(source).or_default().push(index);
            let Some(outline) = outline else { continue };
            let pattern = self.patterns.len();
            self.patterns.push((index, source));
            if self.rules[index].access == Access::Public {
                self.public.add(pattern, &outline);
            }
            if self.rules[index].access == Access::Public && index < SAMPLED_RULES {
                let texts = samples(&outline).into_iter();
                let mut texts = texts.filter(|text| self.takes(index, text));
                let opening = texts.next().map(|text| (pattern, text));
                self.openings.extend(opening);
            }
            self.all.add(pattern, &outline);
        }
    }

    /// A rule above that matches whatever `index` does, for every one of its paths and methods,
    /// with its pattern; the first of them, if it takes several.
    fn silences<'b>(&'b self, index: usize, paths: &[OnePath<'b>]) -> Option<(usize, &'b str)> {
        let methods = &self.rules[index].methods.0;
        let mut first = None;
        for path in paths {
            // No method stands for all of them.
            let each = methods.iter().map(|method| Some(&**method));
            for method in each.chain(methods.is_empty().then_some(None)) {
                let speaks = |other: usize| match method {
                    Some(method) => self.rules[other].methods.include(method),
                    None => self.rules[other].methods.0.is_empty(),
                };
                let same = self.sources.get(path.source).into_iter().flatten().copied();
                let mut same = same.filter(|other| speaks(*other)).map(|rule| (rule, path.source));
                let covering = || {
                    let speaks = |pattern: usize| speaks(self.patterns[pattern].0);
                    Some(self.patterns[self.all.covering(path.outline.as_ref()?, &speaks)?])
                };
                let other = same.next().or_else(covering)?;
                first.get_or_insert(other);
            }
        }
        first
    }

    /// The pattern of a public rule above that matches some path which `index` guards.
    fn opens(&self, index: usize, paths: &[OnePath<'_>]) -> Option<&str> {
        let rule = &self.rules[index];
        if rule.access == Access::Public {
            return None;
        }
        let is_open = |other: usize| {
            let other = &self.rules[other];
            other.access == Access::Public && other.methods.overlap(&rule.methods)
        };
        let is_open_above = |other: usize| other < index && is_open(other);
        paths.iter().filter_map(|path| path.outline.as_ref()).find_map(|outline| {
            let taken_first = || {
                let mut own = samples(outline).into_iter().filter(|text| self.takes(index, text));
                own.find_map(|text| self.pattern(self.first(&text, is_open_above)?, &text))
            };
            let takes_opening = || {
                // Where the pattern is made of segments, the tree has said all there is to say.
                let limit = if outline.ending.is_some() { 0 } else { OPENING_LIMIT };
                let mut openings = self.openings.iter().take(limit);
                let is_open = |pattern: usize| is_open(self.patterns[pattern].0);
                openings.find(|(other, text)| is_open(*other) && self.takes(index, text))
            };
            let is_open_pattern = |pattern: usize| is_open_above(self.patterns[pattern].0);
            let by_segments = self.public.overlapping(outline, &is_open_pattern);
            let by_segments = by_segments.map(|pattern| self.patterns[pattern].1);
            if index >= SAMPLED_RULES {
                return by_segments;
            }
            let taken = by_segments.or_else(taken_first);
            taken.or_else(|| Some(self.patterns[takes_opening()?.0].1))
        })
    }

    /// Which pattern of the rule `other` takes `text`.
    fn pattern(&self, other: usize, text: &str) -> Option<&'a str> {
        let mut own = self.patterns.iter().filter(|(rule, _)| *rule == other);
        let takes = |source: &str| {
            let reader = Reader { form: Form::Raw, fold: false };
            let pattern = Pattern::compile(source, &Wrapper::default(), reader);
            let table = pattern.map(|it| Table::new(Wrapper::default(), [(other, it)]));
            table.is_ok_and(|table| table.first(&Text::new(text), |_| true).is_some())
        };
        own.clone().find(|(_, source)| takes(source)).or_else(|| own.next()).map(|(_, it)| *it)
    }

    fn first(&self, text: &str, counts: impl Fn(usize) -> bool) -> Option<usize> {
        self.app.tables.first(Reading::default(), &Text::new(text), counts)
    }

    fn takes(&self, index: usize, text: &str) -> bool {
        self.first(text, |other| other == index).is_some()
    }
}

/// Bound the time of the check: rules beyond are held against others by segments only, and an
/// expression against so many openings.
const SAMPLED_RULES: usize = 1000;
const OPENING_LIMIT: usize = 100;
