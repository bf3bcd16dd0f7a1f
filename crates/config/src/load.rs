//! The tree of both layers into [`raw::File`], noting every key that does not fit.

use figment::error::{Actual, Kind};
use figment::value::Value;
use serde::{Deserialize, Deserializer};

use crate::environment::Environment;
use crate::key::{Key, Step};
use crate::problem::Fault;
use crate::report::{Report, find};
use crate::scalar::one_of;
use crate::sources::Sources;
use crate::{later, raw, schema};

/// Reads the layers. What does not fit is in the report, and has its default in the file.
pub(crate) fn read(file: &str, text: &str, environment: &Environment) -> (raw::File, Report) {
    let (sources, faults) = Sources::read(file, text, environment);
    let mut tree = sources.tree.clone();
    let mut report = Report::new(sources, faults);
    later::refuse(&mut tree, &mut report);
    (fit(tree, environment, &mut report), report)
}

/// serde stops at the first fault, so each is noted and taken out until nothing is left to say.
fn fit(mut tree: Value, environment: &Environment, report: &mut Report) -> raw::File {
    loop {
        let error = match tree.deserialize::<Fitted>() {
            Ok(fitted) => {
                for key in &fitted.unknown {
                    note_unknown(key, report);
                }
                return fitted.file;
            }
            Err(error) => error,
        };
        let key = key_of(&error.path, &tree);
        let known = report.as_in_the_file(&key);
        // `FOREGATE_LOGIN__CALLBACK_PARAM=1` looks like a number, but is read as text as well.
        let variable = report.sources().exact_variable(&known);
        if let Kind::InvalidType(..) = error.kind
            && let Some(text) = variable.and_then(|name| environment.variable(name))
            && let Some(value @ (Value::Bool(..) | Value::Num(..))) = find(&mut tree, &key)
        {
            *value = Value::from(text);
            continue;
        }
        report.error(&key, misfit(error.kind, variable.is_some()));
        if report.take_out(&key, &mut tree).is_none() {
            return raw::File::default();
        }
    }
}

/// The file, and what it has that `raw` has no place for.
struct Fitted {
    file: raw::File,
    unknown: Vec<Key>,
}

impl<'de> Deserialize<'de> for Fitted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut unknown = Vec::new();
        let note = |path: serde_ignored::Path<'_>| unknown.push(ignored_key(&path));
        let file = serde_ignored::deserialize(deserializer, note)?;
        Ok(Self { file, unknown })
    }
}

fn ignored_key(path: &serde_ignored::Path<'_>) -> Key {
    use serde_ignored::Path;
    match path {
        Path::Root => Key::default(),
        Path::Seq { parent, index } => ignored_key(parent).index(*index),
        Path::Map { parent, key } => ignored_key(parent).name(key),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => ignored_key(parent),
    }
}

/// figment writes indices as text; the tree tells which they are.
fn key_of(path: &[String], tree: &Value) -> Key {
    let mut here = Some(tree);
    let steps = path.iter().map(|part| match here {
        Some(Value::Array(_, items)) => {
            let index = part.parse().unwrap_or(usize::MAX);
            here = items.get(index);
            Step::Index(index)
        }
        _ => {
            here = here.and_then(Value::as_dict).and_then(|dict| dict.get(part));
            Step::Name(part.clone())
        }
    });
    steps.collect()
}

/// In words of ours, since serde's quote the value, which may be a secret.
fn misfit(kind: Kind, is_variable: bool) -> Fault {
    match kind {
        Kind::InvalidType(_, expected) if is_variable && expected == "a sequence" => {
            Fault::new("expected a list").hint("write it as [\"…\", \"…\"]")
        }
        Kind::InvalidType(found, expected) => {
            let expected = match expected.as_str() {
                "a sequence" => "a list",
                "a map" => "a table",
                "a boolean" => "true or false",
                other => other,
            };
            Fault::new(format!("expected {expected}, found {}", noun(&found)))
        }
        Kind::InvalidValue(_, expected) => Fault::new(format!("expected {expected}")),
        Kind::UnknownVariant(found, known) => {
            let fault = Fault::new(format!("expected {}", one_of(known)));
            match closest(&found, known.iter().copied()) {
                Some(word) => fault.hint(format!("did you mean {word:?}?")),
                None => fault,
            }
        }
        _ => Fault::new("does not fit"),
    }
}

fn noun(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(true) => "true",
        Actual::Bool(false) => "false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a number",
        Actual::Float(_) => "a fraction",
        Actual::Char(_) | Actual::Str(_) => "a string",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

fn note_unknown(key: &Key, report: &mut Report) {
    let Some((parent, Step::Name(name))) = key.split_last() else { return };
    let known = schema::keys_under(&parent);
    let meant = closest(name, known.iter().map(String::as_str));
    let fault = Fault::new("unknown key");
    report.unknown(
        key,
        match &meant {
            Some(word) => fault.hint(format!("did you mean {word:?}?")),
            None if known.is_empty() => fault,
            None => fault.hint(format!("known here: {}", known.join(", "))),
        },
    );
    if let Some(word) = meant {
        report.excuse(&parent.name(word));
    }
}

/// The word that a slip of the hand would turn into `found`.
fn closest<'w>(found: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let found = found.to_ascii_lowercase().replace('-', "_");
    words
        .map(|word| (strsim::damerau_levenshtein(&found, &word.replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= (word.len() / 3).max(1))
        .min()
        .map(|(_, word)| word)
}
