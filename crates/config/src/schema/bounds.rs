//! What `check` demands of a value beside its type, so far as a schema can say it without asking
//! another table: that one may be set by a variable, which no editor sees.

use serde_json::{Map, Value, json};

/// Adds the bounds to the tables of a schema.
pub(super) fn add(schema: &mut Value) {
    let tables = &mut schema["$defs"];
    for (table, key, pattern) in PATTERNS {
        bound(&mut tables[table]["properties"][key], "string", "pattern", &json!(pattern));
    }
    for (table, key, kind, keyword, value) in BOUNDS {
        bound(&mut tables[table]["properties"][key], kind, keyword, &json!(value));
    }
    tables["Redemption"]["properties"]["method"]["enum"] = json!(["GET", "POST", "PUT", "PATCH"]);
    tables["App"]["dependentSchemas"] =
        json!({ "matcher": { "properties": { "rule": false, "access": false } } });
    tables["App"]["dependentRequired"] =
        json!({ "locales": ["default_locale"], "default_locale": ["locales"] });
    tables["Rule"]["dependentSchemas"] =
        json!({ "roles": { "properties": { "access": { "const": "session" } } } });
    bound(&mut schema["properties"]["app"], "array", "minItems", &json!(1));
}

/// Of texts, wherever in the key's value they stand. Empty is what leaves a key unset.
const PATTERNS: [(&str, &str, &str); 21] = [
    ("Server", "http", LISTENER),
    ("Server", "https", r"^$|:[0-9]+$"),
    ("Server", "admin", LISTENER),
    ("Server", "trusted_proxies", r"^unix$|^[0-9A-Fa-f.:]+(/[0-9]+)?$"),
    ("Session", "cookie", r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{0,128}$"),
    ("Session", "domain", r"^[^:/*]*$"),
    ("Backend", "refresh_url", r"^https?://"),
    ("Backend", "issuer", r"^https?://"),
    ("Refresh", "ledger", r"^memory$|^file:/|^rediss?(\+sentinel|\+cluster)?://"),
    ("Login", "url", r"^$|^https?://"),
    ("Login", "forbidden_url", r"^$|^https?://"),
    ("Csrf", "allowed_origins", r"^https?://[^/?#]+$"),
    ("Roles", "claims", CLAIM),
    ("Roles", "flags", CLAIM),
    ("App", "host", r"^(\*\.)?[^*/]+$"),
    ("App", "upstream", r"^(https?|h2c)://|^unix:/"),
    ("App", "base_path", r"^$|^/.*[^/]$"),
    ("App", "headers", CLAIM),
    ("Rule", "path", r"^/"),
    ("Rule", "method", r"^[A-Z0-9_-]+$"),
    ("MatcherTable", "source", r"^/"),
];

const LISTENER: &str = r"^$|^unix:/|:[0-9]+$";
const CLAIM: &str = r"^(session|access_token)\..";

/// Of the values of one type, wherever in the key's value they stand.
const BOUNDS: [(&str, &str, &str, &str, u32); 7] = [
    ("Server", "workers", "integer", "maximum", 1024),
    ("Limits", "headers", "integer", "minimum", 1),
    ("Session", "secrets", "array", "minItems", 1),
    ("Redemption", "refused", "integer", "minimum", 400),
    ("Redemption", "refused", "integer", "maximum", 499),
    ("App", "upstream", "array", "minItems", 1),
    ("Rule", "path", "array", "minItems", 1),
];

fn bound(schema: &mut Value, kind: &str, keyword: &str, value: &Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("type").is_some_and(|found| found == kind) {
        object.insert(keyword.to_owned(), value.clone());
    }
    inner(object).for_each(|inner| bound(inner, kind, keyword, value));
}

/// The schemas of what stands inside, and of each of a choice.
fn inner(object: &mut Map<String, Value>) -> impl Iterator<Item = &mut Value> {
    let members = object
        .iter_mut()
        .filter(|(name, _)| matches!(name.as_str(), "items" | "additionalProperties" | "anyOf"));
    members.flat_map(|(_, value)| match value {
        Value::Array(choices) => choices.iter_mut().collect::<Vec<_>>(),
        schema => vec![schema],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_finds_its_key() {
        let schema = crate::schema();
        let rows = PATTERNS.map(|(table, key, _)| (table, key, "\"pattern\""));
        let bounds = BOUNDS.map(|(table, key, _, keyword, _)| (table, key, keyword));
        for (table, key, keyword) in rows.into_iter().chain(bounds) {
            let property = schema["$defs"][table]["properties"][key].to_string();
            assert!(property.contains(keyword), "{table}.{key} has no {keyword}: {property}");
        }
    }
}
