//! The documents, held to the program: the reference, the words for reasons, the commands that pages
//! show, what operators watch and do, and what a schema validator says. The configurations and recipes are in `recipes`.

mod operating;
mod operator;
mod reference;
mod shown;
mod validator;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A file of the checkout.
fn path(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("the tests stand in the checkout").join(file)
}

fn read(file: &str) -> String {
    let path = path(file);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The pages for operators, by their paths.
fn pages() -> BTreeMap<String, String> {
    let docs = std::fs::read_dir(path("docs")).unwrap();
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let names = names.chain(["README.md".to_owned()]);
    names.map(|name| (name.clone(), read(&name))).collect()
}

/// As GitHub makes an anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
}
