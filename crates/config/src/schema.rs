//! The JSON Schema of proxy.toml, for editors and for "did you mean".

use std::collections::BTreeSet;

use serde_json::Value;

use crate::key::{Key, Step};
use crate::raw;

/// The JSON Schema (draft 2020-12) of proxy.toml. Keys whose feature does not exist yet are not
/// in it.
pub fn schema() -> Value {
    schemars::schema_for!(raw::File).to_value()
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
