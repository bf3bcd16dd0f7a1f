//! An app's `Set-Cookie` lines: which of them are about the session, and what they do to it, alone
//! and together.

#![no_main]

use foregate_fuzz::{KEYRING, NOW};
use foregate_session::Cookies;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let _ = KEYRING.app_word(line.split(|byte| *byte == b'\n'), NOW);
    let Some(cookie) = KEYRING.session_set_cookie(line) else { return };
    let line = String::from_utf8_lossy(line);
    let (pair, attributes) = line.split_once(';').unwrap_or((&line, ""));
    let (name, value) = pair.split_once('=').expect("a pair");
    assert_eq!((cookie.name, cookie.value), (name.trim(), value.trim()));
    assert!(cookie.clears || !cookie.value.is_empty());
    assert!(!cookie.clears || value.trim().is_empty() || attributes.contains('='));

    // The browser sends it back, and then it is one of those that are kept from other apps.
    let sent = format!("{}=x", cookie.name);
    let request = Cookies::parse([sent.as_bytes()]);
    let cleared = KEYRING.clear_cookies(&request);
    assert!(!cleared.is_empty());
    for line in &cleared {
        let ours = KEYRING.session_set_cookie(line.as_bytes()).expect("our own line");
        assert!(ours.clears && ours.name == cookie.name);
    }
    assert!(KEYRING.open(&request, NOW).is_err());
});
