//! The JSON Schema of proxy.toml, for editors, for docs/reference.md and for "did you mean".

mod bounds;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::key::{Key, Step};
use crate::raw;

/// The JSON Schema (draft 2020-12) of proxy.toml: every key with its meaning, its default where it
/// has one, and examples. Keys whose feature does not exist yet are not in it.
///
/// It says less than `check` where a value must agree with one of another table, or is more than a
/// pattern can tell.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(raw::File).to_value();
    tidy(&mut schema);
    bounds::add(&mut schema);
    schema
}

/// TOML has no null, so absent is not a value; and the comments are one line each.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(tidy);
            tidy_object(object);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn tidy_object(object: &mut Map<String, Value>) {
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(words)) = object.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = &mut choices[..] {
            let only = std::mem::take(only);
            object.remove("anyOf");
            for (name, value) in only {
                object.entry(name).or_insert(value);
            }
        }
    }
}

/// The names that the table at `key` may have; none where any will do.
pub(crate) fn keys_under(key: &Key) -> Vec<String> {
    let root = schema();
    let mut here = vec![&root];
    for step in key.steps() {
        here = here
            .into_iter()
            .flat_map(|schema| alternatives(schema, &root))
            .filter_map(|schema| match step {
                Step::Name(name) => schema
                    .get("properties")
                    .and_then(|properties| properties.get(name))
                    .or_else(|| schema.get("additionalProperties")),
                Step::Index(_) => schema.get("items"),
            })
            .collect();
    }
    let tables = here.into_iter().flat_map(|schema| alternatives(schema, &root));
    let names: BTreeSet<String> = tables
        .filter_map(|schema| schema.get("properties")?.as_object())
        .flat_map(|properties| properties.keys().cloned())
        .collect();
    names.into_iter().collect()
}

/// The schemas that `schema` stands for: itself, what it refers to, and each of a choice.
fn alternatives<'s>(schema: &'s Value, root: &'s Value) -> Vec<&'s Value> {
    let referred = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?));
    let choices = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    std::iter::once(schema)
        .chain(referred.into_iter().chain(choices).flat_map(|inner| alternatives(inner, root)))
        .collect()
}
