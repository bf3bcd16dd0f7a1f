//! Keys of the contract whose feature does not exist yet. They are refused by name, so that
//! nobody believes in a protection that is not there. When one is built, its line goes.

use figment::value::Value;

use crate::key::Key;
use crate::problem::Fault;
use crate::report::Report;

/// A key, with `[]` for any item of a list; whether its value asks for the feature; the feature.
type Later = (&'static str, fn(&Value) -> bool, &'static str);

const LATER: &[Later] = &[
    ("app[].session_api", anything, "answering next-auth's own endpoints"),
    ("backend[].login_url", anything, "signing in at Foregate itself"),
    ("auth", anything, "signing in at Foregate itself"),
];

/// Notes what asks for a later feature, and takes it out of `tree`.
pub(crate) fn refuse(tree: &mut Value, report: &mut Report) {
    for (pattern, asks, feature) in LATER {
        let mut found = Vec::new();
        collect(tree, pattern, &Key::default(), &mut |key, value| {
            if asks(value) {
                found.push(key);
            }
        });
        // From the end, since taking out an item moves those behind it.
        for key in found.iter().rev() {
            let fault = Fault::new(format!("not yet: {feature}"));
            report.error(key, fault.hint("leave it out until a release has it"));
            report.take_out(key, tree);
        }
    }
}

/// Calls `visit` with everything that `pattern` names. One value in place of a list counts as its
/// only item.
fn collect(tree: &Value, pattern: &str, key: &Key, visit: &mut impl FnMut(Key, &Value)) {
    let Some((name, rest)) = pattern
        .split_once('.')
        .map_or_else(|| (!pattern.is_empty()).then_some((pattern, "")), Some)
    else {
        return visit(key.clone(), tree);
    };
    let (name, of_items) = match name.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let Some(value) = tree.as_dict().and_then(|dict| dict.get(name)) else { return };
    let key = key.name(name);
    match value {
        Value::Array(_, items) if of_items => {
            for (index, item) in items.iter().enumerate() {
                collect(item, rest, &key.index(index), visit);
            }
        }
        _ => collect(value, rest, &key, visit),
    }
}

fn anything(_: &Value) -> bool {
    true
}
