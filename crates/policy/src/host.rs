//! Host names, so that one host has one spelling: lower case, no port, no trailing dot, ASCII.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// A host name in its one spelling (a bracketed literal for IPv6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host<'a>(Cow<'a, str>);

/// Not a host name. Says no more, because the text may come from a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a host name")]
pub struct BadHost;

impl<'a> Host<'a> {
    /// Reads `name`, `name:port` or `name.`; letters outside ASCII become Punycode (UTS 46).
    /// Punycode that is not what its own decoding gives is refused: it would be a second name
    /// for another host.
    pub fn parse(text: &'a str) -> Result<Self, BadHost> {
        Ok(Authority::parse(text)?.host)
    }

    /// The name, for comparing.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, independent of the text it was read from.
    pub fn into_owned(self) -> Host<'static> {
        Host(Cow::Owned(self.0.into_owned()))
    }
}

/// A host and the port that was named with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    pub(crate) host: Host<'a>,
    pub(crate) port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, BadHost> {
        if let Some(literal) = text.strip_prefix('[') {
            let (address, behind) = literal.split_once(']').ok_or(BadHost)?;
            let address: Ipv6Addr = address.parse().map_err(|_| BadHost)?;
            let port = match behind.strip_prefix(':') {
                Some(digits) => Some(parse_port(digits)?),
                None if behind.is_empty() => None,
                None => return Err(BadHost),
            };
            return Ok(Self { host: Host(Cow::Owned(format!("[{address}]"))), port });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, digits)) => (name, Some(parse_port(digits)?)),
            None => (text, None),
        };
        Ok(Self { host: Host(parse_name(name)?), port })
    }

    /// `host` or `host:port`, as it goes upstream.
    pub(crate) fn into_text(self) -> Cow<'a, str> {
        match self.port {
            None => self.host.0,
            Some(port) => Cow::Owned(format!("{}:{port}", self.host.0)),
        }
    }
}

fn parse_port(digits: &str) -> Result<u16, BadHost> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().map_err(|_| BadHost) } else { Err(BadHost) }
}

fn parse_name(name: &str) -> Result<Cow<'_, str>, BadHost> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let ascii = if !name.is_ascii() {
        let ascii = idna::domain_to_ascii(name).map_err(|_| BadHost)?;
        Cow::Owned(ascii)
    } else if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    let fits = ascii.len() <= 253 && ascii.split('.').all(is_label);
    if !fits {
        return Err(BadHost);
    }
    let is_punycode = ascii.split('.').any(|label| label.starts_with("xn--"));
    if is_punycode && idna::domain_to_ascii(&ascii).ok().as_deref() != Some(&*ascii) {
        return Err(BadHost);
    }
    Ok(ascii)
}

/// Letters, digits, hyphens (RFC 1123 §2.1), and the underscore that container networks use.
fn is_label(label: &str) -> bool {
    let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let host = Host::parse(text).ok();
        assert_eq!(host.as_ref().map(Host::as_str), expected, "{text}");
    }

    #[test]
    fn one_host_has_one_spelling() {
        for text in
            ["app.example.com", "APP.Example.com", "app.example.com.", "app.example.com:443"]
        {
            check(text, Some("app.example.com"));
        }
        check("App.Example.Com.:8080", Some("app.example.com"));
        check("localhost", Some("localhost"));
        check("my_app", Some("my_app"));
        check("127.0.0.1:80", Some("127.0.0.1"));
        check("[::1]", Some("[::1]"));
        check("[0:0::1]:80", Some("[::1]"));
        check("b\u{fc}cher.example", Some("xn--bcher-kva.example"));
        check("B\u{dc}CHER.example", Some("xn--bcher-kva.example"));
        check("xn--bcher-kva.example", Some("xn--bcher-kva.example"));
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "a b",
            "a/b",
            "a@b",
            "user@app.example.com",
            "a:",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:+1",
            "a%2eb",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[x]",
            "a\u{0}",
            "xn--example-.org",
            "xn--a",
            "*.example.com",
            "app.example.com,evil.com",
        ] {
            check(text, None);
        }
        check(&"a".repeat(64), None);
        check(&["a"; 128].join("."), None);
    }

    proptest! {
        #[test]
        fn a_parsed_host_parses_to_itself(text in "[a-zA-Z0-9.:\\[\\]ü-]{0,20}|xn--[a-z0-9-]{0,9}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(&Host::parse(host.as_str()).unwrap(), &host);
            }
        }
    }
}
