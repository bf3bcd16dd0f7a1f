//! docs/reference.md holds every key of the schema. With `UPDATE_DOCS=1` this test writes what it
//! would else compare.

use std::process::Command;

use foregate_tests::program;
use serde_json::Value;

use super::{anchor, path, read};
use crate::recipes::Folder;

const PAGE: &str = "docs/reference.md";
const BEGIN: &str = "<!-- from `foregate schema` -->\n";
const END: &str = "<!-- end -->\n";

/// The tables of the file in the order in which one writes them, by their names in the schema.
const SECTIONS: [(&str, &str); 17] = [
    ("Server", "[server]"),
    ("Limits", "[limits]"),
    ("Tls", "[tls]"),
    ("CertificateFiles", "An item of tls.certificates"),
    ("Session", "[session]"),
    ("Tokens", "[tokens]"),
    ("Backend", "[backend]"),
    ("Redemption", "[backend.refresh]"),
    ("Refresh", "[refresh]"),
    ("Login", "[login]"),
    ("Csrf", "[csrf]"),
    ("Roles", "[roles]"),
    ("App", "[[app]]"),
    ("Rule", "[[app.rule]]"),
    ("MatcherTable", "A table in app.matcher"),
    ("Condition", "An item of has or missing"),
    ("SecretReference", "A secret"),
];

pub(super) fn schema() -> Value {
    let output = Command::new(program()).arg("schema").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_reference_has_every_key_as_the_schema_describes_it() {
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (stands, after) = rest.split_once(END).unwrap();
    let expected = keys(&schema());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let page = [before, BEGIN, &expected, END, after].concat();
        std::fs::write(path(PAGE), page).unwrap();
    } else {
        assert!(stands == expected, "{PAGE} is out of date: UPDATE_DOCS=1 writes it");
    }
}

#[test]
fn every_key_is_described_and_shown() {
    let schema = schema();
    let tables = schema["$defs"].as_object().unwrap();
    let mut count = 0;
    for (name, table) in tables {
        let Some(properties) = table["properties"].as_object() else { continue };
        assert!(SECTIONS.iter().any(|(known, _)| known == name), "{name} has no section");
        for (key, property) in properties {
            let text = |member: &str| property[member].as_str().unwrap_or_default();
            assert!(text("description").ends_with('.'), "{name}.{key}: {property}");
            let is_plain = property["enum"].is_array() || property["title"] == "duration";
            let is_table = refers_to_table(property, &schema);
            let has_value = property["default"].as_str().is_some_and(|text| !text.is_empty())
                || property["default"].is_boolean()
                || property["default"].is_number();
            let is_shown = property["examples"].is_array() || has_value || is_plain || is_table;
            assert!(is_shown || !property["default"].is_null(), "{name}.{key}: no example");
            count += 1;
        }
    }
    assert!(count > 80, "only {count} keys");
}

/// What a key's example is added to, so that it is a whole file: the lines of its table.
const NEIGHBOURS: [(&str, &[(&str, &str)]); 5] = [
    ("[session]", &[("secrets", "[{ env = \"NEXTAUTH_SECRET\" }]")]),
    ("[backend]", &[("refresh_url", "\"https://api.example.com/r\"")]),
    ("[backend.refresh]", &[]),
    ("[[app]]", &[("host", "\"app.example.com\""), ("upstream", "\"https://127.0.0.1:3000\"")]),
    ("[[app.rule]]", &[("path", "\"/admin\"")]),
];

/// What a key does not stand without.
const COMPANIONS: [(&str, &str); 4] = [
    ("issuer", "dialect = \"oauth2\"\nclient_id = \"gate\"\n"),
    ("client_secret", "client_id = \"gate\"\n"),
    ("locales", "default_locale = \"en\"\n"),
    ("default_locale", "locales = [\"en\"]\n"),
];

#[test]
fn check_takes_every_example() {
    let schema = schema();
    let mut count = 0;
    for (name, header) in SECTIONS {
        if !header.starts_with('[') {
            continue;
        }
        for (key, property) in schema["$defs"][name]["properties"].as_object().unwrap() {
            for example in property["examples"].as_array().into_iter().flatten() {
                let found = faults(header, key, &toml(example));
                assert!(found.is_empty(), "{header} {key} = {example}: {found:?}");
                let found = faults(header, key, "[[1]]");
                assert!(!found.is_empty(), "{header} {key}: this test looks in the wrong place");
                count += 1;
            }
        }
    }
    assert!(count > 40, "only {count} examples");
}

/// What `check` says of a value.
fn faults(header: &str, key: &str, value: &str) -> Vec<String> {
    let line = format!("{key} = {value}\n");
    let mut file = String::new();
    for (table, neighbours) in NEIGHBOURS {
        file += &format!("{table}\n");
        for (other, value) in neighbours.iter().filter(|it| (table, it.0) != (header, key)) {
            file += &format!("{other} = {value}\n");
        }
        if table == header {
            let companions =
                COMPANIONS.iter().filter(|(of, _)| *of == key).map(|(_, lines)| *lines);
            file += &companions.chain([&*line]).collect::<String>();
        }
    }
    if !NEIGHBOURS.iter().any(|(table, _)| *table == header) {
        file += &format!("{header}\n{line}");
    }
    // A matcher takes the place of rules.
    if key == "matcher" {
        file = file.split("[[app.rule]]").next().unwrap().to_owned();
    }
    let table = header.trim_matches(['[', ']']).replace("app", "app[0]").replace("rule", "rule[0]");
    let place = format!("{table}.{key}");
    let checked = Folder::new(&file).json(&["check", "--json"]);
    let problems = checked["problems"].as_array().unwrap().iter();
    let problems = problems.filter(|problem| {
        let message = problem["message"].as_str().unwrap();
        // Files that are not there, and what is needed beside a key.
        let is_excused = message.contains("there is no such file")
            || (place == "server.https" && message.contains("certificate"));
        let is_there = problem["key"].as_str().unwrap().starts_with(&place);
        problem["severity"] == "error" && is_there && !is_excused
    });
    problems.map(Value::to_string).collect()
}

fn keys(schema: &Value) -> String {
    let mut page = String::new();
    for (name, heading) in SECTIONS {
        let table = &schema["$defs"][name];
        let level = if is_root(name, schema) { "##" } else { "###" };
        let heading =
            if heading.starts_with('[') { format!("`{heading}`") } else { heading.into() };
        page += &format!("\n{level} {heading}\n\n");
        let above = schema["properties"].as_object().unwrap().values();
        let mut above = above.filter(|key| key["$ref"].is_null() && refers_to(key, name));
        let texts = [table, above.next().unwrap_or(&Value::Null)].map(|it| &it["description"]);
        let texts: Vec<&str> = texts.into_iter().filter_map(Value::as_str).collect();
        page += &format!("{}\n\n", texts.join(" "));
        page += "| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
        for (key, property) in table["properties"].as_object().unwrap() {
            let required = table["required"].as_array().into_iter().flatten().any(|it| it == key);
            let default = match &property["default"] {
                _ if required => "required".to_owned(),
                Value::Null => String::new(),
                default => format!("`{}`", toml(default)),
            };
            let examples = property["examples"].as_array().into_iter().flatten();
            let examples: Vec<_> = examples.map(|it| format!("`{}`", toml(it))).collect();
            let example = match examples.is_empty() {
                true => String::new(),
                false => format!(" Example: {}", examples.join(", ")),
            };
            let (kind, meaning) = (noun(property, false), property["description"].as_str());
            let row =
                [&format!("`{key}`"), &kind, &default, &format!("{}{example}", meaning.unwrap())]
                    .map(|cell| cell.replace('|', "\\|"));
            page += &format!("| {} |\n", row.join(" | "));
        }
    }
    page + "\n"
}

fn is_root(name: &str, schema: &Value) -> bool {
    name == "SecretReference"
        || schema["properties"].as_object().unwrap().values().any(|key| refers_to(key, name))
}

fn refers_to(property: &Value, name: &str) -> bool {
    property.to_string().contains(&format!("\"#/$defs/{name}\""))
}

fn refers_to_table(property: &Value, schema: &Value) -> bool {
    let tables = schema["$defs"].as_object().unwrap().keys();
    tables.into_iter().any(|name| refers_to(property, name))
}

/// The type of a value, in words.
fn noun(schema: &Value, plural: bool) -> String {
    let s = if plural { "s" } else { "" };
    if let Some(reference) = schema["$ref"].as_str() {
        return match reference.trim_start_matches("#/$defs/") {
            "SecretSource" => format!("[secret{s}](#a-secret)"),
            "Matcher" => format!("pattern{s} or [table{s}](#a-table-in-appmatcher)"),
            name => {
                let heading = SECTIONS.iter().find(|(known, _)| *known == name).unwrap().1;
                format!("[table{s}](#{})", anchor(heading))
            }
        };
    }
    if let Some([one, many]) = schema["anyOf"].as_array().map(Vec::as_slice) {
        assert_eq!(&many["items"], one, "one, or a list of such");
        return format!("{}, or a list", noun(one, false));
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().map(|word| format!("`{}`", toml(word))).collect();
        return words.join(", ");
    }
    match (schema["title"].as_str(), schema["type"].as_str().unwrap()) {
        (Some(title), _) => format!("{title}{s}"),
        (None, "integer") => format!("whole number{s}"),
        (None, "boolean") => "true or false".to_owned(),
        (None, "array") => format!("list of {}", noun(&schema["items"], true)),
        (None, "object") => match &schema["additionalProperties"] {
            Value::Object(_) => {
                format!("names and {}", noun(&schema["additionalProperties"], true))
            }
            _ => "table of any shape".to_owned(),
        },
        (None, kind) => format!("{kind}{s}"),
    }
}

/// A value as TOML writes it on one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let bare = |name: &str| {
                name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter))
            };
            let pairs = members.iter().map(|(name, value)| {
                let name = if bare(name) { name.clone() } else { format!("{name:?}") };
                format!("{name} = {}", toml(value))
            });
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}
