//! Looks for secrets in what somebody said, whole or in part, and in the forms that they might
//! take on the way.

use std::collections::HashSet;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

/// What must not be said.
#[derive(Default)]
pub(crate) struct Search {
    secrets: HashSet<String>,
    /// Every piece of this length of every form of every secret.
    pieces: HashSet<Vec<u8>>,
}

impl Search {
    pub(crate) fn add(&mut self, secret: &str) {
        assert!(secret.len() >= PIECE, "too short to be looked for: {secret}");
        if self.secrets.insert(secret.to_owned()) {
            for form in forms(secret) {
                self.pieces.extend(form.as_bytes().windows(PIECE).map(<[u8]>::to_vec));
            }
        }
    }

    /// How many secrets there are.
    pub(crate) fn count(&self) -> usize {
        self.secrets.len()
    }

    /// The first line of `said` that has a piece of a secret.
    pub(crate) fn find<'s>(&self, said: &'s str) -> Option<&'s str> {
        said.lines()
            .find(|line| line.as_bytes().windows(PIECE).any(|window| self.pieces.contains(window)))
    }
}

/// So many bytes are no accident, and of no use to a thief if they are all that he has.
const PIECE: usize = 16;

fn forms(secret: &str) -> Vec<String> {
    let percent = |upper: bool, all: bool| {
        let byte = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() && !all => char::from(byte).to_string(),
            byte if upper => format!("%{byte:02X}"),
            byte => format!("%{byte:02x}"),
        };
        secret.bytes().map(byte).collect::<String>()
    };
    let mut forms = vec![secret.to_owned()];
    for upper in [true, false] {
        forms.extend([percent(upper, false), percent(upper, true)]);
    }
    // In base64 a text looks different by where it begins within three bytes.
    for start in 0..3 {
        for engine in [&BASE64_STANDARD, &BASE64_URL_SAFE] {
            let encoded = engine.encode(&secret[start..]);
            forms.push(encoded[..encoded.len() - 4].to_owned());
        }
    }
    // As Rust shows bytes, and as dumps do.
    forms.push(secret.bytes().map(|byte| format!("{byte}, ")).collect());
    forms.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    forms.push(secret.chars().rev().collect());
    forms
}

#[test]
fn a_secret_is_found_in_every_form_and_in_part() {
    let secret = "Zq4/wR7t+Yu9iOp2=AsDf5GhJk8LzXcVb";
    let mut search = Search::default();
    search.add(secret);
    let found = |said: &str| search.find(said).is_some();
    assert!(found(secret) && found(&format!("{:?}", secret.as_bytes())));
    assert!(found(&format!("a line\nanother, cookie=\"{}\"…", &secret[3..20])));
    for before in ["", "a", "ab", "abc"] {
        let around = format!("{before}{secret}/and more");
        assert!(found(&BASE64_STANDARD.encode(&around)) && found(&BASE64_URL_SAFE.encode(around)));
    }
    assert!(found("Zq4%2FwR7t%2BYu9iOp2") && found("Zq4%2fwR7t%2bYu9iOp2"));
    assert!(!found("Zq4/wR7 and nothing else of it; and whatever AsDf5GhJk8 may mean"));
}
