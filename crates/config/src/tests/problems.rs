//! Broken files and environments, and the exact text that a person sees: the table is in
//! `problems.txt`.

use proptest::prelude::*;

use super::{SECRET, SOUND, bare_environment, environment, problems, shown};
use crate::parse;

/// A case begins with `--- ` and how its input is meant; the text behind `>>>` is what is shown.
const TABLE: &str = include_str!("problems.txt");

/// Every key there is.
const FULL: &str = include_str!("full.toml");

struct Case {
    file: String,
    variables: Vec<(String, String)>,
    expected: String,
}

fn cases() -> Vec<Case> {
    let cases = TABLE.split("\n--- ").skip(1).map(|case| {
        let (meaning, rest) = case.split_once('\n').unwrap();
        let (input, expected) = rest.split_once(">>>\n").unwrap();
        let mut variables = Vec::new();
        let file = match meaning {
            "a file" => input.to_owned(),
            "added to the sound file" => format!("{SOUND}{input}"),
            "in the environment" => {
                let pairs = input.lines().map(|line| line.split_once('=').unwrap());
                variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                SOUND.to_owned()
            }
            instead => {
                let line = instead.strip_prefix("instead of ").unwrap();
                assert!(SOUND.contains(line), "{line}");
                SOUND.replacen(line, input.trim_end(), 1)
            }
        };
        let expected = expected.split("\n===").next().unwrap().trim().to_owned();
        Case { file, variables, expected }
    });
    cases.collect()
}

#[test]
fn every_broken_file_is_told_in_these_words() {
    let mut wrong = String::new();
    for Case { file, variables, expected } in cases() {
        let pairs: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let of_its_own = ["trusted_proxies", "# in the clear", "server = "];
        let speaks_of_tls = of_its_own.iter().any(|text| file.contains(text));
        let around = if speaks_of_tls { bare_environment } else { environment };
        let found = shown(&problems(&file, &around(&pairs)));
        if found.trim() != expected {
            wrong += &format!("{file}{variables:?}\nexpected:\n{expected}\nfound:\n{found}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases().len() >= 60, "a person makes more mistakes than these");
}

proptest! {
    /// Slips of the hand anywhere in a file that has every key, and a secret of its own.
    #[test]
    fn no_file_brings_it_down_or_shows_its_secret(
        at in 0..FULL.len(),
        cut in 0..12_usize,
        put in "[\\[\\]{}\"=,.#\\n a-z0-9é'-]{0,6}",
    ) {
        let file = FULL.replace(r#"{ env = "SECRET" }"#, &format!("{SECRET:?}"));
        let around = file.get(..at).zip(file.get(at + cut..));
        let (before, behind) = around.unwrap_or(("", &file));
        let found = shown(&problems(&[before, &put, behind].concat(), &environment(&[])));
        prop_assert!(!found.contains(&SECRET[8..]), "{found}");
    }

    #[test]
    fn no_text_brings_it_down(text in "\\PC{0,200}", variable in "\\PC{0,40}") {
        let variables = [
            ("FOREGATE_SESSION__SECRETS", variable.as_str()),
            ("FOREGATE_LOGIN__CALLBACK_PARAM", variable.as_str()),
        ];
        let _ = parse("proxy.toml", &text, &environment(&variables));
    }
}
