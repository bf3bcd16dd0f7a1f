//! Routing held against a reference that is slow, plain and written apart: every reading that
//! some server may make of a path is spelled out as a string, and each rule is tried in turn.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use common::{HOST, app, compile, get};
use foregate_policy::{Access, Head};
use proptest::prelude::*;

/// Whether the pattern takes exactly these segments. Knows text, `:p` and a last `:p?`, `:p*`, `:p+`.
fn takes(pattern: &[&str], segments: &[&str]) -> bool {
    match (pattern, segments) {
        ([], []) => true,
        ([":p?"], rest) => rest.len() <= 1 && rest.iter().all(|it| !it.is_empty()),
        ([":p*"], rest) => rest.iter().all(|it| !it.is_empty()),
        ([":p+"], rest) => !rest.is_empty() && rest.iter().all(|it| !it.is_empty()),
        ([":p", pattern @ ..], [segment, rest @ ..]) => !segment.is_empty() && takes(pattern, rest),
        ([text, pattern @ ..], [segment, rest @ ..]) => text == segment && takes(pattern, rest),
        _ => false,
    }
}

/// What Next.js' wrapping leaves for the pattern itself, in all ways of taking it off.
fn wrapped_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([text.to_owned()]);
    let add = |found: &mut BTreeSet<String>, of: &dyn Fn(&str) -> Vec<String>| {
        let made: Vec<String> = found.iter().flat_map(|text| of(text)).collect();
        found.extend(made);
    };
    add(&mut found, &|text| text.strip_suffix('/').map(str::to_owned).into_iter().collect());
    add(&mut found, &|text| {
        let mut pages: Vec<String> = [".json", ".rsc"]
            .iter()
            .filter_map(|it| text.strip_suffix(it))
            .map(str::to_owned)
            .collect();
        let segments = text.match_indices(".segments/").filter(|(at, found)| {
            let behind = &text[at + found.len()..];
            behind.strip_suffix(".segment.rsc").is_some_and(|between| !between.is_empty())
        });
        pages.extend(segments.map(|(at, _)| text[..at].to_owned()));
        pages
    });
    add(&mut found, &|text| {
        let Some(rest) = text.strip_prefix("/_next/data/") else { return Vec::new() };
        let build = rest.split('/').next().unwrap();
        let ends = build.char_indices().map(|(at, letter)| at + letter.len_utf8());
        ends.map(|end| rest[end..].to_owned()).collect()
    });
    found
}

fn matches(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split('/').skip(1).collect();
    wrapped_in(text).iter().any(|text| {
        let root = ["", "/", "/index", "//index"].contains(&&**text);
        let segments: Vec<&str> = text.split('/').skip(1).collect();
        match pattern {
            "/" => root,
            _ => (text.is_empty() || text.starts_with('/')) && takes(&parts, &segments),
        }
    })
}

/// Every page that may stand behind a text.
fn pages(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([text.to_owned()]);
    loop {
        let mut next = found.clone();
        for text in &found {
            let bare: Vec<&str> = text.split('/').map(|it| it.split(';').next().unwrap()).collect();
            next.insert(bare.join("/"));
            let page = text.strip_suffix('/').unwrap_or(text);
            if let Some(page) = page.strip_suffix(".rsc").filter(|it| !it.is_empty()) {
                next.insert(page.to_owned());
            }
            // Without a build there is no page behind it.
            let behind = text.strip_prefix("/_next/data/").filter(|rest| !rest.is_empty());
            if let Some(rest) = behind {
                let page = rest.find('/').map_or("/", |at| &rest[at..]);
                let page = page.strip_suffix('/').unwrap_or(page);
                next.insert(page.strip_suffix(".json").unwrap_or(page).to_owned());
            }
        }
        if next == found {
            return found;
        }
        found = next;
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// What the rules say of one reading: the first that matches, else the app.
fn decide(rules: &[(Access, &str)], text: &str) -> Access {
    let mut matching = rules.iter().filter(|(_, pattern)| matches(pattern, text));
    matching.next().map_or(Access::Session, |(access, _)| *access)
}

fn path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec![
        "a",
        "b",
        "A",
        "%61",
        "a;x",
        "B;y=1",
        "a.rsc",
        "A.RSC",
        "b.json",
        "a.segments",
        "x.segment.rsc",
        "caf%C3%A9",
        "caf%c3%a9",
        "%20",
        "_next",
        "data",
        "index",
        "index.rsc",
        "index.json",
        "b;x.rsc",
    ]);
    let prefix = prop::sample::select(vec!["", "", "/_next/data/b1", "/_next/data/b1/a.json"]);
    (prefix, prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(
        |(prefix, segments, slash)| {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            let slash = if slash || segments.is_empty() { "/" } else { "" };
            format!("{prefix}{path}{slash}")
        },
    )
}

fn rule() -> impl Strategy<Value = (Access, &'static str)> {
    let access = prop::sample::select(vec![Access::Public, Access::Session, Access::Deny]);
    let pattern = prop::sample::select(vec![
        "/",
        "/a",
        "/b",
        "/a/:p",
        "/a/:p?",
        "/a/:p*",
        "/a/:p+",
        "/:p",
        "/:p*",
        "/:p/b",
        "/:p/b/:p*",
        "/a/b",
        "/a.rsc",
        "/b.json/:p*",
        "/_next/:p*",
        "/_next/data/:p/a",
        "/index/:p*",
    ]);
    (access, pattern)
}

fn route(
    rules: &[(Access, &'static str)],
    path: &str,
) -> Option<(Access, Vec<Access>, Vec<String>)> {
    let texts: Vec<String> =
        rules.iter().map(|(access, path)| format!("{} * {path}", access.as_str())).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (rules, _) = compile(vec![app(HOST, Access::Session, &texts)]);
    let head = Head::parse(get(path)).ok()?;
    let explained = rules.explain_route(&head).unwrap().readings;
    let decided = explained.iter().map(|reading| reading.access).collect();
    let texts = explained.into_iter().map(|reading| reading.text).collect();
    Some((rules.route(&head).unwrap().access(), decided, texts))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_first_reading_is_decided_as_the_reference_does(
        rules in prop::collection::vec(rule(), 0..5),
        path in path(),
    ) {
        if let Some((_, decided, texts)) = route(&rules, &path) {
            prop_assert_eq!(decided[0], decide(&rules, &texts[0]), "{}", texts[0]);
        }
    }

    #[test]
    fn no_reading_is_decided_more_strictly_than_the_request(
        rules in prop::collection::vec(rule(), 0..5),
        path in path(),
    ) {
        let Some((access, decided, texts)) = route(&rules, &path) else { return Ok(()) };
        prop_assert_eq!(decided.into_iter().max(), Some(access));
        let canonical = texts[0].clone();
        for text in [canonical.clone(), decoded(&canonical)] {
            for text in [text.clone(), text.to_ascii_lowercase()] {
                for page in pages(&text) {
                    prop_assert!(decide(&rules, &page) <= access, "{} under {}", page, access.as_str());
                }
            }
        }
    }

    #[test]
    fn a_path_has_few_readings_however_it_is_made(
        path in "(/(_next/data/)?((a|b;|index|\\.segments|\\.rsc|%20|A){1,6})){0,40}",
    ) {
        if let Some((_, decided, _)) = route(&[], &path) {
            prop_assert!(decided.len() <= 100, "{}", decided.len());
        }
    }
}
