//! The end of a certificate: any bytes have one or none, and where they have one it is a year of
//! four digits.

#![no_main]

#[path = "../../../crates/config/src/not_after.rs"]
mod not_after;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let Some(end) = not_after::not_after(der) else { return };
    assert!(YEARS.contains(&end.0), "{end:?}");
    // What follows the certificate is not a part of it.
    assert_eq!(not_after::not_after(&[der, b"more"].concat()), Some(end));
});

/// From the year 0 to 9999, and a hundred days for those that no month has.
const YEARS: std::ops::Range<i64> = -62_180_000_000..253_412_000_000;
