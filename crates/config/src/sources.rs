//! Where each value came from: a line and column of the file, or a variable. Merges the two
//! layers into one tree; the defaults are in `raw`.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::environment::Environment;
use crate::key::{Key, Step};
use crate::syntax::{self, Slip};

/// The file and the environment, merged, and the places of what is in them.
pub(crate) struct Sources {
    file: String,
    /// Byte offsets at which lines begin.
    lines: Vec<usize>,
    text: String,
    spots: BTreeMap<Key, Spot>,
    /// The values that variables set, and which variable it was.
    variables: BTreeMap<Key, String>,
    pub(crate) tree: Value,
}

/// Byte offsets into the file.
#[derive(Clone, Copy)]
struct Spot {
    name: usize,
    value: usize,
}

/// Which part of a key a problem is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Name,
    Value,
}

/// What stands in front of a problem.
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
}

/// What is wrong with the layers themselves.
pub(crate) enum LayerFault {
    Syntax(Slip),
    /// A variable whose name leads into a list.
    IntoList {
        variable: String,
        key: Key,
    },
}

impl Sources {
    pub(crate) fn read(
        file: &str,
        text: &str,
        environment: &Environment,
    ) -> (Self, Vec<LayerFault>) {
        let (toml, slips) = syntax::recover(text);
        let document = DeTable::parse_recoverable(&toml).0;
        let mut faults: Vec<LayerFault> = slips.into_iter().map(LayerFault::Syntax).collect();

        let mut spots = BTreeMap::new();
        let from_file = Value::from(table(document.get_ref(), &Key::default(), &mut spots));
        let mut variables = BTreeMap::new();
        let mut from_environment = Figment::new();
        for (variable, text) in environment.variables() {
            let Some(path) = layer_path(variable) else { continue };
            let key: Key = path.iter().cloned().map(Step::Name).collect();
            if leads_into_list(&from_file, &path) {
                faults.push(LayerFault::IntoList { variable: variable.to_owned(), key });
                continue;
            }
            let value = variable_value(text);
            note_variable(variable, &value, &key, &mut variables);
            from_environment = from_environment.merge(Layer(nested(path, value)));
        }

        let layers = Figment::from(Layer(from_file)).merge(from_environment);
        // Neither provider fails, and a tree of values deserialises into one.
        let tree = layers.extract::<Dict>().map_or_else(|_| Dict::new().into(), Value::from);
        let starts = text.match_indices('\n').map(|(end, _)| end + 1);
        let sources = Self {
            file: file.to_owned(),
            lines: std::iter::once(0).chain(starts).collect(),
            text: text.to_owned(),
            spots,
            variables,
            tree,
        };
        (sources, faults)
    }

    /// Whether the file or a variable sets `key`.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.spots.contains_key(key) || self.variable(key).is_some()
    }

    /// The variable that set `key`, or the whole of which it is a part.
    pub(crate) fn variable(&self, key: &Key) -> Option<&str> {
        let (_, variable) = self.variables.iter().find(|(set, _)| key.is_within(set))?;
        Some(variable)
    }

    /// The variable that set exactly `key`.
    pub(crate) fn exact_variable(&self, key: &Key) -> Option<&str> {
        self.variables.get(key).map(String::as_str)
    }

    /// The place of `key`, or of the nearest of its parents that the file has.
    pub(crate) fn place(&self, key: &Key, part: Part) -> Place {
        if let Some(variable) = self.variable(key) {
            return Place { file: variable.to_owned(), line: None, column: None };
        }
        if !self.spots.contains_key(key)
            && let Some((_, variable)) = self.variables.iter().find(|(set, _)| set.is_within(key))
        {
            return Place { file: variable.clone(), line: None, column: None };
        }
        let mut nearest = Some(key.clone());
        while let Some(here) = nearest {
            if let Some(spot) = self.spots.get(&here) {
                return self.place_at(if part == Part::Name { spot.name } else { spot.value });
            }
            nearest = here.split_last().map(|(parent, _)| parent);
        }
        Place { file: self.file.clone(), line: None, column: None }
    }

    pub(crate) fn place_at(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
        Place {
            file: self.file.clone(),
            line: u32::try_from(line).ok(),
            column: u32::try_from(column).ok(),
        }
    }
}

/// `FOREGATE_SERVER__HTTP` as `server` and `http`. Names without `__` are not ours: Kubernetes sets
/// `FOREGATE_PORT` and the like by itself.
fn layer_path(variable: &str) -> Option<Vec<String>> {
    let path = variable.strip_prefix("FOREGATE_")?;
    path.contains("__").then(|| path.split("__").map(str::to_ascii_lowercase).collect())
}

/// As TOML would read it, so that there are numbers and lists; what is no TOML is text as it is.
fn variable_value(text: &str) -> Value {
    match DeValue::parse(text.trim()) {
        Ok(parsed) => value(&parsed, &Key::default(), &mut BTreeMap::new()),
        Err(_) => Value::from(text),
    }
}

fn leads_into_list(tree: &Value, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else { return false };
    match tree {
        Value::Array(..) => true,
        Value::Dict(_, dict) => dict.get(name).is_some_and(|inner| leads_into_list(inner, rest)),
        _ => false,
    }
}

/// A table in a variable is merged key by key, so each of its keys is noted.
fn note_variable(variable: &str, value: &Value, key: &Key, variables: &mut BTreeMap<Key, String>) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() => {
            for (name, value) in dict {
                note_variable(variable, value, &key.name(name), variables);
            }
        }
        _ => {
            variables.insert(key.clone(), variable.to_owned());
        }
    }
}

fn nested(path: Vec<String>, value: Value) -> Value {
    path.into_iter().rev().fold(value, |inner, name| Dict::from([(name, inner)]).into())
}

fn table(table: &DeTable<'_>, key: &Key, spots: &mut BTreeMap<Key, Spot>) -> Dict {
    let mut dict = Dict::new();
    for (name, inner) in table {
        let key = key.name(name.get_ref());
        spots.insert(key.clone(), Spot { name: name.span().start, value: inner.span().start });
        dict.insert(name.get_ref().to_string(), value(inner, &key, spots));
    }
    dict
}

fn value(spanned: &Spanned<DeValue<'_>>, key: &Key, spots: &mut BTreeMap<Key, Spot>) -> Value {
    match spanned.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        // A number too large for its type stays text, and so a fault where a number is wanted.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Boolean(flag) => Value::from(*flag),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                let key = key.index(index);
                let start = item.span().start;
                spots.insert(key.clone(), Spot { name: start, value: start });
                value(item, &key, spots)
            });
            Value::from(items.collect::<Vec<_>>())
        }
        DeValue::Table(inner) => table(inner, key, spots).into(),
    }
}

struct Layer(Value);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::default()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = self.0.as_dict().cloned().unwrap_or_default();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}
