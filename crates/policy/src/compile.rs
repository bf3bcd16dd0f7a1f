//! From what the file says of an app to what requests use. Every error is found, not only the
//! first.

use crate::access::Access;
use crate::app::{App, Entry, Guard, Methods, Rule};
use crate::path::is_unreserved;
use crate::pattern::{Form, Pattern, PatternError, Program, Reader, Wrapper};
use crate::reading::Layout;
use crate::spec::{AppSpec, ConditionSpec, Finding, MatcherSpec, Place, RuleSpec};
use crate::table::Table;
use crate::tables::{TableFor, Tables};

/// Compiles one app; where that fails, the reasons are in `errors`.
pub(crate) fn compile_app(index: usize, spec: &AppSpec, errors: &mut Vec<Finding>) -> Option<App> {
    let mut faults = Faults { app: index, found: Vec::new() };
    let layout = faults.layout(spec);
    let (guard, sources) = match &spec.matcher {
        Some(entries) => (faults.matcher(spec, entries), matcher_sources(entries)),
        None => {
            let rules = spec.rules.iter().enumerate();
            let rules = rules.map(|(at, rule)| faults.rule(at, rule)).collect();
            (Guard::Rules { rules, otherwise: spec.access }, rule_sources(&spec.rules))
        }
    };
    let (raw, decoded) = match guard {
        Guard::Matcher(_) => (Form::Written, Form::Written),
        Guard::Rules { .. } => (Form::Raw, Form::Decoded),
    };
    // Compiled once to see what there is to tell apart.
    let plain = TableFor { fold: false, form: raw, page: false };
    let patterns = faults.patterns(&sources, &layout, plain);
    let case_matters = patterns.iter().flatten().any(|pattern| pattern.case_matters)
        || layout != layout.to_ascii_lowercase();
    let form_matters = raw != decoded && sources.iter().any(|it| Form::matters(it.text));
    let mut patterns = Some(patterns);
    let tables = Tables::new(&layout, [raw, decoded], case_matters, form_matters, |key| {
        let ready = if key == plain { patterns.take() } else { None };
        let patterns = ready.unwrap_or_else(|| faults.patterns(&sources, &layout, key));
        make_tables(&sources, patterns, &layout, key)
    });
    let failed = !faults.found.is_empty();
    errors.append(&mut faults.found);
    (!failed).then_some(App { guard, tables, case_sensitive: spec.case_sensitive })
}

/// A pattern and whose it is.
pub(crate) struct Source<'a> {
    pub(crate) text: &'a str,
    /// Index of the rule or matcher entry.
    pub(crate) rule: usize,
    /// Whether a locale stands in front of it, in an app that has locales.
    localized: bool,
    pub(crate) place: Place,
}

impl Source<'_> {
    fn wrapper(&self, layout: &Layout, key: TableFor) -> Wrapper {
        if key.page {
            return Wrapper::default();
        }
        let base = if key.fold { layout.base.to_ascii_lowercase() } else { layout.base.clone() };
        Wrapper { base, localized: self.localized && !layout.locales.is_empty() }
    }
}

fn rule_sources(rules: &[RuleSpec]) -> Vec<Source<'_>> {
    let mut sources = Vec::new();
    for (rule, spec) in rules.iter().enumerate() {
        for (item, text) in spec.paths.iter().enumerate() {
            let place = Place { rule: Some(rule), key: "path", item: Some(item), app: None };
            sources.push(Source { text, rule, localized: true, place });
        }
    }
    sources
}

fn matcher_sources(entries: &[MatcherSpec]) -> Vec<Source<'_>> {
    let mut sources = Vec::new();
    for (rule, entry) in entries.iter().enumerate() {
        let place = Place { key: "matcher", item: Some(rule), ..Place::default() };
        let localized = entry.locale.is_none();
        sources.push(Source { text: &entry.source, rule, localized, place });
    }
    sources
}

/// One table for each wrapper that occurs.
fn make_tables(
    sources: &[Source<'_>],
    patterns: Vec<Option<Pattern>>,
    layout: &Layout,
    key: TableFor,
) -> Vec<Table> {
    let mut wrapped: Vec<(Wrapper, Vec<(usize, Pattern)>)> = Vec::new();
    for (source, pattern) in sources.iter().zip(patterns) {
        let Some(pattern) = pattern else { continue };
        let wrapper = source.wrapper(layout, key);
        match wrapped.iter_mut().find(|(known, _)| *known == wrapper) {
            Some((_, patterns)) => patterns.push((source.rule, pattern)),
            None => wrapped.push((wrapper, vec![(source.rule, pattern)])),
        }
    }
    wrapped.into_iter().map(|(wrapper, patterns)| Table::new(wrapper, patterns)).collect()
}

/// Collects what is wrong with one app.
struct Faults {
    app: usize,
    found: Vec<Finding>,
}

impl Faults {
    fn add(&mut self, place: Place, message: &str, hint: &str) {
        let place = Place { app: Some(self.app), ..place };
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        let finding = Finding { place, message: message.to_owned(), hint };
        if !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    fn add_pattern(&mut self, place: Place, error: &PatternError) {
        self.add(place, &error.message, error.hint.as_deref().unwrap_or_default());
    }

    fn layout(&mut self, spec: &AppSpec) -> Layout {
        let place = |key| Place { key, ..Place::default() };
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(is_unreserved);
        let base = spec.base_path.as_str();
        let is_base = base.strip_prefix('/').is_some_and(|path| path.split('/').all(is_name));
        if !base.is_empty() && !is_base {
            self.add(
                place("base_path"),
                "not a base path",
                "write it as in next.config: `/docs`, without a slash at the end",
            );
        }
        if !spec.locales.iter().all(|locale| is_name(locale)) {
            self.add(place("locales"), "not a locale", "write it as in the path: `en-US`");
        }
        let default_locale = spec.default_locale.clone().unwrap_or_default();
        if spec.locales.is_empty() != default_locale.is_empty()
            || !default_locale.is_empty() && !spec.locales.contains(&default_locale)
        {
            self.add(
                place("default_locale"),
                "`locales` and `default_locale` go together",
                "name one of `locales`, as in next.config",
            );
        }
        Layout { base: base.to_owned(), locales: spec.locales.clone(), default_locale }
    }

    fn rule(&mut self, index: usize, spec: &RuleSpec) -> Rule {
        let place = |key, item| Place { rule: Some(index), key, item, app: None };
        if spec.paths.is_empty() {
            self.add(place("path", None), "the rule names no path", "write `/:path*` for all");
        }
        for (item, method) in spec.methods.iter().enumerate() {
            let is_name =
                |it: u8| it.is_ascii_uppercase() || it.is_ascii_digit() || b"-_".contains(&it);
            if method.is_empty() || !method.bytes().all(is_name) {
                self.add(
                    place("method", Some(item)),
                    "methods are compared letter by letter and stand in upper case",
                    "write `GET`, `POST` and so on",
                );
            }
        }
        let access = spec.access.unwrap_or(Access::Session);
        if !spec.roles.is_empty() && access != Access::Session {
            self.add(
                place("roles", None),
                "roles need a session, and this rule's access asks for none",
                "take `access` out, roles imply a session",
            );
        }
        Rule {
            methods: Methods(spec.methods.iter().map(|method| method.as_str().into()).collect()),
            access,
            roles: spec.roles.iter().map(|role| role.as_str().into()).collect(),
        }
    }

    fn matcher(&mut self, spec: &AppSpec, entries: &[MatcherSpec]) -> Guard {
        let place = Place { key: "matcher", ..Place::default() };
        if !spec.rules.is_empty() {
            self.add(
                place,
                "an app has either `matcher` or `rule`",
                "write what the matcher guards as rules, the first match wins",
            );
        }
        if entries.is_empty() {
            self.add(
                place,
                "an empty matcher guards nothing",
                "take it out to guard every path, or write `access = \"public\"`",
            );
        }
        let entries = entries.iter().enumerate();
        Guard::Matcher(entries.map(|(item, entry)| self.entry(item, entry)).collect())
    }

    fn entry(&mut self, item: usize, spec: &MatcherSpec) -> Entry {
        let place = Place { key: "matcher", item: Some(item), ..Place::default() };
        if spec.locale == Some(true) {
            self.add(place, "`locale` can only be false", "take it out");
        }
        Entry {
            has_host: self.hosts(place, &spec.has),
            missing_host: self.hosts(place, &spec.missing),
        }
    }

    /// Of the conditions only those on the host count; the others are checked for their shape.
    fn hosts(&mut self, place: Place, conditions: &[ConditionSpec]) -> Vec<Program> {
        let mut hosts = Vec::new();
        for ConditionSpec { kind, key, value } in conditions {
            match (kind.as_str(), key, value) {
                ("header" | "cookie" | "query", Some(_), _) => {}
                ("header" | "cookie" | "query", None, _) => {
                    self.add(place, "a condition on a header, cookie or query has a `key`", "");
                }
                ("host", None, Some(value)) => match compile_host(value) {
                    Ok(program) => hosts.push(program),
                    Err(error) => self.add_pattern(place, &error),
                },
                ("host", ..) => {
                    self.add(place, "a condition on the host has a `value` and no `key`", "");
                }
                _ => self.add(
                    place,
                    "not a kind of condition",
                    "write `header`, `cookie`, `query` or `host`",
                ),
            }
        }
        hosts
    }

    fn patterns(
        &mut self,
        sources: &[Source<'_>],
        layout: &Layout,
        key: TableFor,
    ) -> Vec<Option<Pattern>> {
        let reader = Reader { form: key.form, fold: key.fold };
        let mut compile = |source: &Source<'_>| {
            let pattern = Pattern::compile(source.text, &source.wrapper(layout, key), reader);
            pattern.map_err(|error| self.add_pattern(source.place, &error)).ok()
        };
        sources.iter().map(&mut compile).collect()
    }
}

/// As Next.js does it: only the ends of the whole expression are anchored, and an empty one holds
/// for every host.
fn compile_host(value: &str) -> Result<Program, PatternError> {
    let text = if value.is_empty() { String::new() } else { format!("^{value}$") };
    Program::compile(&Reader { form: Form::Written, fold: false }.read(&text)?.0)
}
