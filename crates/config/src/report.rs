//! Collects every problem, each with its place, so that one run tells all of them.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use figment::value::Value;
use foregate_session::Secret;

use crate::environment::Environment;
use crate::key::{Key, Step};
use crate::problem::{Fault, Problem, Severity};
use crate::source_file::SourceFile;
use crate::sources::{LayerFault, Part, Place, Sources};
use crate::syntax::Slip;

pub(crate) struct Report {
    sources: Sources,
    problems: Vec<Problem>,
    files: Vec<SourceFile>,
    /// What was taken out of the tree, by the keys that the file knows.
    taken: BTreeSet<Key>,
    /// Something may be absent only because it is no TOML.
    incomplete: bool,
}

impl Report {
    pub(crate) fn new(sources: Sources, faults: Vec<LayerFault>) -> Self {
        let mut report = Self {
            sources,
            problems: Vec::new(),
            files: Vec::new(),
            taken: BTreeSet::new(),
            incomplete: false,
        };
        for fault in faults {
            match fault {
                LayerFault::Syntax(Slip { offset, fault }) => {
                    report.incomplete = true;
                    let place = report.sources.place_at(offset);
                    report.add(Severity::Error, place, String::new(), fault);
                }
                LayerFault::IntoList { variable, key } => {
                    let place = Place { file: variable, line: None, column: None };
                    let message = "the file has a list here, and variables set keys of tables only";
                    let fault = Fault::new(message).hint("change the file instead");
                    report.add(Severity::Error, place, key.to_string(), fault);
                }
            }
        }
        report
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    pub(crate) fn error(&mut self, key: &Key, fault: Fault) {
        self.note(Severity::Error, key, Part::Value, fault);
    }

    pub(crate) fn warning(&mut self, key: &Key, fault: Fault) {
        self.note(Severity::Warning, key, Part::Value, fault);
    }

    pub(crate) fn unknown(&mut self, key: &Key, fault: Fault) {
        self.note(Severity::Error, key, Part::Name, fault);
    }

    /// `key` must be there and is not. Nothing more is said of it, and nothing at all where what
    /// was there has been taken out.
    pub(crate) fn missing(&mut self, key: &Key, hint: &str) {
        let known = self.as_in_the_file(key);
        if !self.taken.iter().any(|taken| taken.is_within(&known)) {
            self.error(key, Fault::new("missing").hint(hint));
        }
        self.taken.insert(known);
    }

    /// The value, or `None` and a problem at `key`.
    pub(crate) fn accept<T>(&mut self, key: &Key, parsed: Result<T, Fault>) -> Option<T> {
        parsed.map_err(|fault| self.error(key, fault)).ok()
    }

    /// The text of a file that the configuration names. That it was read is noted, so that a change
    /// in it can be noticed.
    pub(crate) fn read(&mut self, path: &str, environment: &Environment) -> io::Result<Secret> {
        let contents = environment.read(path);
        let file = SourceFile::new(Path::new(path), contents.as_deref().ok());
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        let text = String::from_utf8(contents?).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Secret::new(text))
    }

    /// Whether a variable set `key`, and not the file.
    pub(crate) fn is_from_environment(&self, key: &Key) -> bool {
        self.sources.variable(&self.as_in_the_file(key)).is_some()
    }

    /// Takes `key` out of `tree`, so that what is left can be read; nothing more is said of it.
    /// `None` if it is not there.
    pub(crate) fn take_out(&mut self, key: &Key, tree: &mut Value) -> Option<Value> {
        let known = self.as_in_the_file(key);
        let (parent, last) = key.split_last()?;
        let value = match (find(tree, &parent)?, last) {
            (Value::Dict(_, dict), Step::Name(name)) => dict.remove(name),
            (Value::Array(_, items), Step::Index(index)) if *index < items.len() => {
                Some(items.remove(*index))
            }
            _ => None,
        }?;
        self.taken.insert(known);
        Some(value)
    }

    /// Another name was meant for `key`, so it is not missing as well.
    pub(crate) fn excuse(&mut self, key: &Key) {
        let known = self.as_in_the_file(key);
        self.taken.insert(known);
    }

    /// Whether something within `key` could not be read, so that what is left is not what was
    /// meant.
    pub(crate) fn has_lost(&self, key: &Key) -> bool {
        let known = self.as_in_the_file(key);
        self.taken.iter().any(|taken| taken.is_within(&known))
    }

    /// The problems, in the order of the file, then what the environment says; and the files that
    /// were read.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, Vec<SourceFile>) {
        self.problems.sort_by(|one, other| {
            let order = |problem: &Problem| {
                let elsewhere = problem.line.is_none();
                (elsewhere, problem.line, problem.column, problem.severity)
            };
            order(one).cmp(&order(other))
        });
        (self.problems, self.files)
    }

    /// The line on which `key` begins.
    pub(crate) fn line(&self, key: &Key) -> Option<u32> {
        self.sources.place(&self.as_in_the_file(key), Part::Name).line
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn note(&mut self, severity: Severity, key: &Key, part: Part, fault: Fault) {
        let known = self.as_in_the_file(key);
        let place = self.sources.place(&known, part);
        let is_settled = self.taken.iter().any(|taken| known.is_within(taken));
        let is_lost = self.incomplete && !self.sources.has(&known);
        if !is_settled && !is_lost {
            self.add(severity, place, known.to_string(), fault);
        }
    }

    fn add(&mut self, severity: Severity, place: Place, key: String, fault: Fault) {
        let Place { file, line, column } = place;
        let Fault { message, hint } = fault;
        self.problems.push(Problem { severity, file, line, column, key, message, hint });
    }

    /// Counts list items as the file has them, with those that were taken out, and drops the
    /// index where the file has one value in place of a list.
    pub(crate) fn as_in_the_file(&self, key: &Key) -> Key {
        let mut known = Key::default();
        let mut here = Some(&self.sources.tree);
        for step in key.steps() {
            match (step, here) {
                (Step::Name(name), _) => {
                    known = known.name(name);
                    here = here.and_then(Value::as_dict).and_then(|dict| dict.get(name));
                }
                (Step::Index(index), Some(Value::Array(_, items))) => {
                    let mut left =
                        (0..items.len()).filter(|at| !self.taken.contains(&known.index(*at)));
                    let index = left.nth(*index).unwrap_or(*index);
                    known = known.index(index);
                    here = items.get(index);
                }
                (Step::Index(_), Some(_)) => {}
                (Step::Index(index), None) => known = known.index(*index),
            }
        }
        known
    }
}

/// The value at `key`, whose indices are those of `tree`.
pub(crate) fn find<'t>(tree: &'t mut Value, key: &Key) -> Option<&'t mut Value> {
    key.steps().iter().try_fold(tree, |here, step| match (here, step) {
        (Value::Dict(_, dict), Step::Name(name)) => dict.get_mut(name),
        (Value::Array(_, items), Step::Index(index)) => items.get_mut(*index),
        _ => None,
    })
}
