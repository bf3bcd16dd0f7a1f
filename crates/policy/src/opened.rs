//! What a new set of rules opens that the one before it kept shut: what an operator wants to hear
//! of when a configuration is read again.
//!
//! Both sets decide the same example requests, and where the new one admits a visitor whom the old
//! one refused, that is told. The examples come from the patterns of both: every choice, repetitions
//! none, one and two times, what a look-ahead excludes, where two patterns meet, and under each
//! method that either set names and one that neither does. So whatever is told is so. What a plain
//! edit opens is found: a rule or pattern added, removed, moved or shortened, another `access`,
//! other roles, methods, layout or letter case. Missed may be what lies between two regular
//! expressions and is an example of neither, what conditions on the host open on some hosts of a
//! `*.` app only, and where more than [`MEETINGS`] pairs of patterns could meet.

use std::collections::HashSet;

use crate::access::Access;
use crate::head::{Head, RawHead};
use crate::pattern::{Examples, Form, Outline, Reader, Segment, Tail};
use crate::rules::Rules;
use crate::spec::AppSpec;

/// A path pattern under which somebody passes who did not before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Index of the app among those of the new specification.
    pub app: usize,
    /// The rule or matcher entry that decides now; none where the app's own access does.
    pub rule: Option<usize>,
    /// As in the file; none for the paths that no rule names.
    pub pattern: Option<String>,
    /// A request that shows it, `GET /admin/x`.
    pub example: String,
    /// What was asked of a visitor: `no app`, `deny`, `role admin`, `session`.
    pub was: String,
    /// What is asked now.
    pub is: String,
}

impl Rules {
    /// Whatever these rules open that `before` kept shut, at most once for each app and pattern.
    /// Takes time: some microseconds for each pattern, and a second for thousands.
    pub fn opened_since(&self, before: &Self) -> Vec<Opened> {
        let mut found: Vec<Opened> = Vec::new();
        let word = fresh_word([self, before].into_iter().flat_map(|rules| &rules.spec.apps));
        for host in hosts(self, before, &word) {
            let Some(new) = self.app_of(&host).map(|app| &self.spec.apps[app]) else { continue };
            let old = before.app_of(&host).map(|app| &before.spec.apps[app]);
            if old == Some(new) {
                continue;
            }
            for opened in (Comparison { new: self, old: before, host, word: &word }).run(new, old) {
                // A host of its own and a `*.` may both lead to one app.
                let is_known = |it: &Opened| (it.app, &it.pattern) == (opened.app, &opened.pattern);
                if !found.iter().any(is_known) {
                    found.push(opened);
                }
            }
        }
        found
    }

    /// Settings for all apps that admit more than they did, each with its key in proxy.toml and
    /// what was added or switched.
    pub fn loosened_since(&self, before: &Self) -> Vec<(&'static str, String)> {
        let (new, old) = (&self.spec, &before.spec);
        let mut found = Vec::new();
        if old.csrf && !new.csrf {
            found.push(("csrf.enabled", "false".to_owned()));
        }
        let origins = new.allowed_origins.iter().filter(|it| !old.allowed_origins.contains(it));
        found.extend(origins.map(|origin| ("csrf.allowed_origins", origin.clone())));
        let claims = new.role_claims.iter().filter(|it| !old.role_claims.contains(it));
        found.extend(claims.map(|claim| ("roles.claims", claim.to_string())));
        let flags = new.role_flags.iter().filter(|it| !old.role_flags.contains(it));
        found.extend(flags.map(|(role, claim)| ("roles.flags", format!("{role} = {claim}"))));
        found
    }
}

/// One host under both sets of rules.
struct Comparison<'a> {
    new: &'a Rules,
    old: &'a Rules,
    host: String,
    word: &'a str,
}

impl Comparison<'_> {
    fn run(&self, new: &AppSpec, old: Option<&AppSpec>) -> Vec<Opened> {
        let mut found = Vec::new();
        let methods = methods(new, old);
        let own = sources(new);
        let old_sources = old.map(sources).unwrap_or_default();
        let mut both = own.clone();
        both.extend(old_sources.iter().filter(|source| !own.contains(source)));
        let mut told: HashSet<&str> = HashSet::new();
        let mut asked = HashSet::new();
        for source in &both {
            let Ok(examples) = Examples::of(source, self.word) else { continue };
            // A pattern that stays excludes what it did; one that goes may have excluded more.
            let stays = own.contains(source) && old_sources.contains(source);
            let beside = examples.beside.iter().filter(|_| !stays);
            let paths = examples.taken.iter().chain(beside).cloned();
            let paths: Vec<String> = paths.flat_map(|path| addresses(&path, new, old)).collect();
            let opened = paths.iter().find_map(|path| self.opened(path, &methods));
            asked.extend(paths);
            if let Some(opened) = opened {
                told.insert(source);
                found.push(Opened { pattern: Some((*source).to_owned()), ..opened });
            }
        }
        let word = self.word;
        for path in ["/".to_owned(), format!("/{word}"), format!("/{word}/{word}")] {
            let mut opened = addresses(&path, new, old).into_iter().filter_map(|path| {
                let by_rule = self.ask(self.old, &path, "GET")?.rule.is_some();
                self.opened(&path, &methods).filter(|it| it.rule.is_none() && !by_rule)
            });
            if let Some(opened) = opened.next() {
                found.push(opened);
                break;
            }
        }
        for (one, other, path) in meetings(&both, self.word) {
            if told.contains(one) || told.contains(other) || !asked.insert(path.clone()) {
                continue;
            }
            let mut paths = addresses(&path, new, old).into_iter();
            if let Some(opened) = paths.find_map(|path| self.opened(&path, &methods)) {
                told.insert(one);
                found.push(Opened { pattern: Some(one.to_owned()), ..opened });
            }
        }
        found
    }

    /// The first method by which the new rules admit somebody here whom the old ones refused.
    fn opened(&self, path: &str, methods: &[&str]) -> Option<Opened> {
        methods.iter().find_map(|method| {
            let (old, new) = (self.ask(self.old, path, method)?, self.ask(self.new, path, method)?);
            new.asks.admits_more_than(&old.asks).then(|| Opened {
                app: new.app,
                rule: new.rule,
                pattern: None,
                example: format!("{method} {path}"),
                was: old.asks.in_words(),
                is: new.asks.in_words(),
            })
        })
    }

    /// What `rules` ask of whoever sends this; nothing where it is no request.
    fn ask<'r>(&self, rules: &'r Rules, path: &str, method: &str) -> Option<Answer<'r>> {
        let head = Head::parse(RawHead { method, ..RawHead::get(&self.host, path) }).ok()?;
        let Ok(route) = rules.route(&head) else {
            return Some(Answer { app: 0, rule: None, asks: Asks::NoApp });
        };
        let asks = match route.access() {
            Access::Deny => Asks::Deny,
            Access::Session => Asks::Session(route.roles().collect()),
            Access::Public => Asks::Public,
        };
        Some(Answer { app: route.app(), rule: route.rule(), asks })
    }
}

struct Answer<'r> {
    app: usize,
    rule: Option<usize>,
    asks: Asks<'r>,
}

/// What is asked of a visitor, as all readings of his path together ask it.
#[derive(Debug, PartialEq, Eq)]
enum Asks<'r> {
    NoApp,
    Deny,
    /// And any one role of each item.
    Session(Vec<&'r [Box<str>]>),
    Public,
}

impl Asks<'_> {
    /// Whether some visitor passes here who did not there. A host that no app had is open to
    /// those with a session as its rules say, which is nothing to be told; that it is open to
    /// everybody is.
    fn admits_more_than(&self, before: &Asks<'_>) -> bool {
        match (self, before) {
            (_, Asks::Public) | (Self::NoApp | Self::Deny, _) => false,
            (Self::Public, _) => true,
            (Self::Session(_), Asks::NoApp) => false,
            (Self::Session(_), Asks::Deny) => true,
            // Somebody lacks every role of one old list, and has another one of each new list.
            (Self::Session(new), Asks::Session(old)) => old.iter().any(|missing| {
                new.iter().all(|wanted| wanted.iter().any(|role| !missing.contains(role)))
            }),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::NoApp => "no app".to_owned(),
            Self::Deny => "deny".to_owned(),
            Self::Public => "public".to_owned(),
            Self::Session(roles) if roles.is_empty() => "session".to_owned(),
            Self::Session(roles) => {
                let lists: Vec<String> = roles.iter().map(|roles| roles.join(" or ")).collect();
                format!("role {}", lists.join(", and "))
            }
        }
    }
}

/// Hosts to ask about: those of both sets, and one below each `*.`.
fn hosts(new: &Rules, old: &Rules, word: &str) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for app in new.spec.apps.iter().chain(&old.spec.apps) {
        let host = match app.host.strip_prefix("*.") {
            Some(parent) => format!("{word}.{parent}"),
            None => app.host.clone(),
        };
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// The patterns of an app, each once, in the order of the file.
fn sources(app: &AppSpec) -> Vec<&str> {
    let rules = app.rules.iter().flat_map(|rule| &rule.paths).map(String::as_str);
    let entries = app.matcher.iter().flatten().map(|entry| entry.source.as_str());
    let mut known = HashSet::new();
    rules.chain(entries).filter(|source| known.insert(*source)).collect()
}

/// Methods that some rule names, GET before all, and one that none does.
fn methods<'a>(new: &'a AppSpec, old: Option<&'a AppSpec>) -> Vec<&'a str> {
    let mut methods = vec!["GET", "POST"];
    let rules = [Some(new), old].into_iter().flatten().flat_map(|app| &app.rules);
    for method in rules.flat_map(|rule| &rule.methods) {
        if !methods.contains(&method.as_str()) {
            methods.push(method);
        }
    }
    let unnamed = ["DELETE", "PATCH", "PUT", "PURGE", "UNNAMED"];
    methods.extend(unnamed.into_iter().find(|method| !methods.contains(method)));
    methods
}

/// A word that no pattern names and no host begins with.
fn fresh_word<'a>(apps: impl Iterator<Item = &'a AppSpec> + Clone) -> String {
    let is_taken = |word: &str| {
        let names = |text: &str| text.split(|it: char| !it.is_alphanumeric()).any(|it| it == word);
        apps.clone().any(|app| {
            app.host.split('.').next() == Some(word) || sources(app).into_iter().any(names)
        })
    };
    let mut word = "x".to_owned();
    while is_taken(&word) && word.len() < LONGEST_WORD {
        word.push(if word.len() % 2 == 1 { 'y' } else { 'x' });
    }
    word
}

const LONGEST_WORD: usize = 32;

/// The addresses under which a visitor may ask for the page `path`: below a base path and behind a
/// locale of either set, and in the other letter case where the new rules tell them apart.
fn addresses(path: &str, new: &AppSpec, old: Option<&AppSpec>) -> Vec<String> {
    let mut addresses = vec![path.to_owned()];
    for app in [Some(new), old].into_iter().flatten() {
        let behind = if path == "/" { "" } else { path };
        let other = app.locales.iter().find(|it| Some(*it) != app.default_locale.as_ref());
        let locales = app.default_locale.iter().chain(other).map(|it| format!("/{it}"));
        for locale in std::iter::once(String::new()).chain(locales) {
            let address = format!("{}{locale}{behind}", app.base_path);
            if !address.is_empty() && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    if new.case_sensitive {
        let upper: Vec<String> = addresses.iter().map(|it| it.to_ascii_uppercase()).collect();
        addresses.extend(upper);
    }
    addresses
}

/// A path for each two patterns that meet somewhere, as far as segments tell.
fn meetings<'a>(
    sources: &'a [&'a str],
    word: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str, String)> {
    let reader = Reader { form: Form::Raw, fold: false };
    let outlines: Vec<(&str, Outline)> = sources
        .iter()
        .filter_map(|source| Some((*source, Outline::of(source, reader).ok()?)))
        .collect();
    let count = outlines.len();
    let pairs = (0..count).flat_map(move |one| (one + 1..count).map(move |other| (one, other)));
    pairs.take(MEETINGS).filter_map(move |(one, other)| {
        let ((one, first), (other, second)) = (&outlines[one], &outlines[other]);
        Some((*one, *other, meeting(first, second, word)?))
    })
}

/// Bounds the time that a comparison takes.
const MEETINGS: usize = 20_000;

/// The shortest path that both are likely to take.
fn meeting(one: &Outline, other: &Outline, word: &str) -> Option<String> {
    let more = |outline: &Outline| usize::from(matches!(outline.ending, Some(Tail::Plus)));
    let length = (one.way.len() + more(one)).max(other.way.len() + more(other));
    let mut path = String::new();
    for place in 0..length {
        let text = match (segment(one, place)?, segment(other, place)?) {
            (Some(one), Some(other)) if one != other => return None,
            (Some(text), _) | (_, Some(text)) => text,
            (None, None) => word,
        };
        path.push('/');
        path.push_str(text);
    }
    Some(if path.is_empty() { "/".to_owned() } else { path })
}

/// The text that a path has there; none for any text, and nothing where the pattern has ended.
fn segment(outline: &Outline, place: usize) -> Option<Option<&str>> {
    match (outline.way.get(place), &outline.ending) {
        (Some(Segment::Text(text)), _) => Some(Some(text)),
        (Some(Segment::Any), _) => Some(None),
        (None, Some(Tail::End)) => None,
        (None, Some(Tail::Optional)) => (place == outline.way.len()).then_some(None),
        (None, None | Some(Tail::Star | Tail::Plus | Tail::AllBut(_))) => Some(None),
    }
}
