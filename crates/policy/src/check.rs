//! Warnings: rules that are legal but hardly meant. False alarms cost trust in the true ones, so
//! each warning rests on a proof, or on a path that shows it.

use std::collections::HashMap;

use crate::access::Access;
use crate::app::{App, Guard, Rule};
use crate::outlines::{Outlines, samples};
use crate::path::{CanonicalPath, PathFault};
use crate::pattern::{Form, Outline, Reader};
use crate::reading::Reading;
use crate::spec::{AppSpec, Finding, MatcherSpec, Place, RuleSpec};
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
    let name = |rule: usize| specs[rule].paths.first().map_or("", String::as_str);
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
        if let Some(other) = above.silences(index, &paths) {
            let message = format!("it can never speak: `{}` above it matches first", name(other));
            let hint = "put the narrower rule first, or take this one out".to_owned();
            found.push(Finding { place, message, hint: Some(hint) });
        } else if let Some(other) = above.opens(index, &paths) {
            let message =
                format!("`{}` above it is public and opens a part of what it guards", name(other));
            let hint = "if that is not meant, put this rule first".to_owned();
            found.push(Finding { place, message, hint: Some(hint) });
        }
        above.add(index, paths);
    }
    found
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

    /// Why no request has this path, where it is one path only.
    fn fault(&self) -> Option<PathFault> {
        CanonicalPath::parse(&self.outline.as_ref()?.only_text()?).err()
    }
}

/// The rules above the one that is looked at.
struct Above<'a> {
    app: &'a App,
    rules: &'a [Rule],
    all: Outlines,
    public: Outlines,
    /// Public rules, each with a path that it takes.
    openings: Vec<(usize, String)>,
    /// Rules by their patterns as written.
    sources: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Above<'a> {
    fn nothing(app: &'a App, rules: &'a [Rule]) -> Self {
        let (all, public) = (Outlines::new(), Outlines::new());
        Self { app, rules, all, public, openings: Vec::new(), sources: HashMap::new() }
    }

    fn add(&mut self, index: usize, paths: Vec<OnePath<'a>>) {
        for OnePath { source, outline } in paths {
            self.sources.entry(source).or_default().push(index);
            let Some(outline) = outline else { continue };
            if self.rules[index].access == Access::Public {
                self.public.add(index, &outline);
            }
            if self.rules[index].access == Access::Public && index < SAMPLED_RULES {
                let texts = samples(&outline).into_iter();
                let mut texts = texts.filter(|text| self.takes(index, text));
                let opening = texts.next().map(|text| (index, text));
                self.openings.extend(opening);
            }
            self.all.add(index, &outline);
        }
    }

    /// A rule above that matches whatever `index` does, for every one of its paths and methods;
    /// the first of them, if it takes several.
    fn silences(&self, index: usize, paths: &[OnePath<'_>]) -> Option<usize> {
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
                let mut same = same.filter(|other| speaks(*other));
                let covering = || self.all.covering(path.outline.as_ref()?, &speaks);
                let other = same.next().or_else(covering)?;
                first.get_or_insert(other);
            }
        }
        first
    }

    /// A public rule above that matches some path which `index` guards.
    fn opens(&self, index: usize, paths: &[OnePath<'_>]) -> Option<usize> {
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
                own.find_map(|text| self.first(&text, is_open_above))
            };
            let takes_opening = || {
                // Where the pattern is made of segments, the tree has said all there is to say.
                let limit = if outline.ending.is_some() { 0 } else { OPENING_LIMIT };
                let mut openings = self.openings.iter().take(limit);
                openings.find(|(other, text)| is_open(*other) && self.takes(index, text))
            };
            let by_segments = self.public.overlapping(outline, &is_open_above);
            if index >= SAMPLED_RULES {
                return by_segments;
            }
            by_segments.or_else(taken_first).or_else(|| Some(takes_opening()?.0))
        })
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
