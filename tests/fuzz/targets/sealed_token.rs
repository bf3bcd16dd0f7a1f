//! Sealed tokens: nothing opens but what was sealed, to the letter, and no header that the
//! libraries do not write gets as far as a key. A text that begins with `{` is a header in plain
//! JSON, and behind a line feed the rest of its token.

#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use foregate_fuzz::{KEYRING, NOW};
use foregate_session::{InvalidReason, NoSession};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|text: &str| {
    let header = text.split('\n').next().filter(|line| line.starts_with('{'));
    let token = match header {
        Some(header) => {
            let rest = text[header.len()..].trim_start_matches('\n');
            format!("{}..{rest}", BASE64URL.encode(header))
        }
        None => text.to_owned(),
    };
    for name in NAMES {
        let reason = match KEYRING.open_token(name, &token, NOW) {
            Err(NoSession::Invalid(reason)) => reason,
            Ok(_) | Err(_) => {
                assert!(SEALED.contains(&token), "{name}: {token}");
                return;
            }
        };
        let asked_a_key = matches!(reason, InvalidReason::NoKey | InvalidReason::BrokenSeal);
        if let Some(header) = header
            && asked_a_key
            && let Ok(header) = serde_json::from_str::<Map<String, Value>>(header)
        {
            assert_eq!(header["alg"], "dir");
            assert!(header["enc"] == "A256GCM" || header["enc"] == "A256CBC-HS512");
            assert!(!header.contains_key("zip") && !header.contains_key("crit"));
        }
    }
});

const NAMES: [&str; 3] = ["next-auth.session-token", "__Secure-authjs.session-token", "acme.sso"];

/// All tokens in the vectors, whole and in chunks, so that whatever else opens is a forgery.
static SEALED: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let mut sealed = HashSet::new();
    for file in [
        include_str!("../../vectors/session-v4.json"),
        include_str!("../../vectors/session-v5.json"),
    ] {
        let file: Value = serde_json::from_str(file).unwrap();
        for vector in file["vectors"].as_array().unwrap() {
            let header = vector["cookie_header"].as_str().unwrap();
            let values = header.split([';', '=', ' ']).filter(|it| it.len() > 20);
            sealed.extend(values.clone().map(str::to_owned));
            sealed.insert(values.collect());
        }
    }
    sealed
});
