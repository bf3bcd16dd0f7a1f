//! `config.matcher` as Next.js 16 decides it: tests/vectors/path-matcher.json, made by the real one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use foregate_policy::{
    Access, AppSpec, ConditionSpec, Finding, Head, MatcherSpec, PolicySpec, RawHead, Refusal, Rules,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
    rejected: Vec<Rejected>,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    matcher: Value,
    config: Option<Config>,
    path: String,
    headers: Option<BTreeMap<String, String>>,
    matches: bool,
}

#[derive(Deserialize)]
struct Rejected {
    id: String,
    matcher: Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Config {
    #[serde(default)]
    base_path: String,
    i18n: Option<I18n>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct I18n {
    locales: Vec<String>,
    default_locale: String,
}

/// The shapes that Next.js takes; whoever reads a file refuses the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Matcher {
    One(String),
    Many(Vec<Entry>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Source(String),
    Object(Object),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    source: String,
    #[serde(default)]
    has: Vec<Condition>,
    #[serde(default)]
    missing: Vec<Condition>,
    locale: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    r#type: String,
    key: Option<String>,
    value: Option<String>,
}

fn entries(matcher: &Value) -> Option<Vec<MatcherSpec>> {
    let condition = |it: Condition| ConditionSpec { kind: it.r#type, key: it.key, value: it.value };
    let conditions = |them: Vec<Condition>| them.into_iter().map(condition).collect();
    let plain = |source| MatcherSpec { source, ..MatcherSpec::default() };
    let entry = |entry| match entry {
        Entry::Source(source) => plain(source),
        Entry::Object(Object { source, has, missing, locale }) => {
            MatcherSpec { source, has: conditions(has), missing: conditions(missing), locale }
        }
    };
    Some(match serde_json::from_value(matcher.clone()).ok()? {
        Matcher::One(source) => vec![plain(source)],
        Matcher::Many(entries) => entries.into_iter().map(entry).collect(),
    })
}

fn compile(matcher: Vec<MatcherSpec>, config: Config, host: &str) -> Result<Rules, Vec<Finding>> {
    let (locales, default_locale) =
        config.i18n.map_or((Vec::new(), None), |it| (it.locales, Some(it.default_locale)));
    let app = AppSpec {
        host: host.to_owned(),
        access: Access::Session,
        rules: Vec::new(),
        matcher: Some(matcher),
        case_sensitive: false,
        base_path: config.base_path,
        locales,
        default_locale,
    };
    let spec = PolicySpec {
        apps: vec![app],
        role_claims: Vec::new(),
        role_flags: Vec::new(),
        csrf: true,
        allowed_origins: Vec::new(),
    };
    Rules::compile(&spec).map(|(rules, _)| rules)
}

fn head<'a>(host: &'a str, target: &'a str) -> Result<Head<'a>, Refusal> {
    Head::parse(RawHead::get(host, target))
}

fn file() -> File {
    serde_json::from_str(VECTORS).unwrap()
}

const VECTORS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/path-matcher.json"));

#[test]
fn every_row_is_decided_as_nextjs_decides_it() {
    let mut without_form: BTreeMap<String, usize> = BTreeMap::new();
    let (mut agreed, mut stricter, mut empty) = (0, 0, 0);
    let mut wrong = Vec::new();
    for Vector { id, matcher, config, path, headers, matches } in file().vectors {
        let entries = entries(&matcher).unwrap();
        if entries.is_empty() {
            empty += 1;
            continue;
        }
        let by_visitor = entries.iter().any(|entry| {
            entry.has.iter().chain(&entry.missing).any(|condition| condition.kind != "host")
        });
        let host = headers.as_ref().and_then(|them| them.get("host").or_else(|| them.get("Host")));
        let host = host.map_or("app.example.com", |host| host);
        let app_host = host.split(':').next().unwrap();
        let rules = compile(entries, config.unwrap_or_default(), app_host)
            .unwrap_or_else(|errors| panic!("{id} {matcher}: {errors:?}"));
        let head = match head(host, &path) {
            Ok(head) => head,
            Err(refusal) => {
                *without_form.entry(refusal.to_string()).or_default() += 1;
                continue;
            }
        };
        let explained = rules.explain_route(&head).unwrap();
        // Where an escape is spelled in an odd way, Next.js looks at the path as sent.
        let first: &[&str] = match &*explained.readings[0].name {
            "as sent" => &["as sent"],
            _ => &["as it stands", "percent-decoded"],
        };
        let mut first = explained.readings.iter().filter(|it| first.contains(&&*it.name));
        let ours = first.any(|reading| reading.access == Access::Session);
        if ours == matches {
            agreed += 1;
        } else if by_visitor && ours {
            stricter += 1;
        } else {
            wrong.push(format!("{id} {matcher} {path}: {ours}, Next.js {matches}"));
        }
        if matches && rules.route(&head).unwrap().access() != Access::Session {
            wrong.push(format!("{id}: the route is weaker than its first reading"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // An empty matcher builds in Next.js and then guards nothing; here it is an error.
    assert_eq!((agreed, stricter, empty), (971, 18, 19));
    let without_form: Vec<_> = without_form.into_iter().collect();
    let expected = [
        ("the path has a `%` without two hex digits", 1),
        ("the path has a backslash", 2),
        ("the path has a raw byte outside visible ASCII", 9),
        ("the path has a segment of one or two dots", 58),
        ("the path has the escape %00", 1),
        ("the path has the escape %23", 1),
        ("the path has the escape %2F", 9),
        ("the path has the escape %3F", 4),
        ("the path has two slashes in a row", 64),
        ("the path's escapes are not UTF-8", 2),
        ("the request target has a raw `#`", 3),
    ];
    assert_eq!(without_form, expected.map(|(reason, count)| (reason.to_owned(), count)));
}

#[test]
fn every_rejected_matcher_is_refused_with_its_reason() {
    let mut by_shape = Vec::new();
    let mut messages = Vec::new();
    for Rejected { id, matcher } in file().rejected {
        match entries(&matcher) {
            // What is no string or list of entries never becomes a specification.
            None => by_shape.push(id),
            Some(entries) => {
                let errors = compile(entries, Config::default(), "app.example.com").unwrap_err();
                let place = errors[0].place;
                assert_eq!((errors.len(), place.key, place.item), (1, "matcher", Some(0)), "{id}");
                messages.push(errors[0].message.clone());
            }
        }
    }
    assert_eq!(by_shape, [17, 18, 19, 22, 23].map(|row| format!("pm-err-{row}")));
    let expected = [
        "a path pattern starts with `/`",
        "a path pattern starts with `/`",
        "missing parameter name at 1",
        "a group cannot start with `?` at 2",
        "capturing groups are not allowed at 4",
        "unexpected MODIFIER at 2, expected END",
        "unexpected MODIFIER at 2, expected END",
        "unbalanced group at 1",
        "unexpected END at 3, expected CLOSE",
        "must have text between two parameters, missing text after `a`",
        "must have text between two parameters, missing text after `a`",
        "unexpected MODIFIER at 2, expected END",
        "a path pattern starts with `/`",
        "unexpected MODIFIER at 1, expected END",
        "unexpected MODIFIER at 1, expected END",
        "a path pattern starts with `/`",
        "a condition on the host has a `value` and no `key`",
        "`locale` can only be false",
        "the pattern is longer than Next.js allows (4096)",
    ];
    assert_eq!(messages, expected);
}
