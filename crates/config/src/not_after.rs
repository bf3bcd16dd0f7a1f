//! When a certificate ends: `validity.notAfter` (RFC 5280 §4.1.2.5), for people. Who checks
//! certificates for a living (webpki) does not tell.

use foregate_session::UnixSeconds;

/// The end of a DER certificate; `None` where it is built otherwise than the RFC says.
pub(crate) fn not_after(der: &[u8]) -> Option<UnixSeconds> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    // The version, where it is not the first.
    if let Some((_, rest)) = expect(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        // The serial number, the algorithm, the issuer.
        (_, fields) = expect(fields, tag)?;
    }
    let (validity, _) = expect(fields, SEQUENCE)?;
    let (_, _, end) = element(validity)?;
    let (tag, end, _) = element(end)?;
    time(tag, end)
}

/// The content of the first element, if it has this tag, and what follows it.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, _, _)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag, content and what follows (X.690 §8.1), with lengths of up to four bytes.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=127 => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ`, where years from 50 on are of the last century, or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &[u8]) -> Option<UnixSeconds> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut parts = [0_i64; 5];
    for (index, part) in parts.iter_mut().enumerate() {
        *part = rest.get(index * 2..index * 2 + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = parts;
    if rest.len() != 10 || !(1..=12).contains(&month) {
        return None;
    }
    let days = days(year, month, day);
    Some(UnixSeconds(((days * 24 + hour) * 60 + minute) * 60 + second))
}

/// Days since 1970 of a date of the Gregorian calendar, counted in years that begin in March, so
/// that a leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_UNTIL_1970
}

/// From the first of March of the year 0.
const DAYS_UNTIL_1970: i64 = 719_468;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_from_it() {
        for (year, month, day, expected) in [
            (2031, 3, 1, 1_930_089_600),
            (2049, 12, 31, 2_524_521_600),
            (2050, 1, 1, 2_524_608_000),
            (4096, 2, 29, 67_095_216_000),
        ] {
            let mut params = CertificateParams::new(vec!["app.example.com".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, month, day);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(UnixSeconds(expected)), "{year}");
        }
    }

    #[test]
    fn times_are_read_as_the_rfc_has_them() {
        let check = |tag, text: &str, expected: Option<i64>| {
            assert_eq!(time(tag, text.as_bytes()), expected.map(UnixSeconds), "{text}");
        };
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "000229235959Z", Some(951_868_799));
        check(GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000));
        check(UTC_TIME, "7001010000Z", None);
        check(UTC_TIME, "700101000000+0100", None);
        check(UTC_TIME, "701301000000Z", None);
        check(INTEGER, "700101000000Z", None);
        check(GENERALIZED_TIME, "-0200101004000Z", None);
        check(UTC_TIME, "70+101000000Z", None);
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = not_after(&bytes);
        }
    }
}
