//! `config.matcher` as Next.js 16 decides it: tests/vectors/path-matcher.json, made by the real one.

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
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/path-matcher.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

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
        let host = headers.as_ref().and_then(|them| them.get("host").or(them.get("Host")));
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
    println!("{agreed} {stricter} {empty} {without_form:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rejected_matcher_is_refused_with_its_reason() {
    for Rejected { id, matcher } in file().rejected {
        // Shapes that are no strings or lists of entries never become a specification.
        let Some(entries) = entries(&matcher) else { continue };
        let errors = compile(entries, Config::default(), "app.example.com").unwrap_err();
        println!("{id} {}: {errors:?}", matcher.to_string().chars().take(80).collect::<String>());
    }
}
