//! `refresh.ledger`: every text is an address or is refused, and no password is shown. Behind a line
//! feed stands a password for the address, which then must read as it does with any other.

#![no_main]

use foregate_refresh::LedgerAddress;
use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

fuzz_target!(|text: &str| {
    let (text, password) = text.split_once('\n').unwrap_or((text, ""));
    let address = LedgerAddress::parse(text);
    if let Ok(LedgerAddress::File(path)) = &address {
        assert!(path.is_absolute());
    }
    // A path may hold `://`, so the first colon ends the scheme.
    let Some((scheme, rest)) = text.split_once(':') else { return };
    let Some(rest) = rest.strip_prefix("//") else { return };
    if scheme == "file" || password.is_empty() {
        return;
    }
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let with = |password: &str| {
        let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
        LedgerAddress::parse(&format!("{scheme}://user:{password}@{rest}"))
    };
    let shown = format!("{:?}", with("another"));
    assert_eq!(format!("{:?}", with(password)), shown, "{text}");
    assert!(!shown.contains("another") || rest.contains("another"), "{shown}");
});
