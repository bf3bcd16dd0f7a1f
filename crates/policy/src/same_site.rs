//! Whether a request comes from our own site. A cookie is sent along by the browser whoever asks,
//! so a write on its strength alone counts only if one of our pages, or no page at all, sent it.

use std::collections::HashSet;

use crate::head::Head;
use crate::host::Authority;

/// The check as one configuration has it.
#[derive(Debug)]
pub(crate) struct SameSite {
    enabled: bool,
    /// Origins as [`normal_origin`] writes them.
    allowed_origins: HashSet<Box<str>>,
}

impl SameSite {
    /// `allowed_origins` hold `scheme://host[:port]`; what is none comes back as an index.
    pub(crate) fn new(enabled: bool, allowed_origins: &[String]) -> Result<Self, Vec<usize>> {
        let normal: Vec<_> = allowed_origins.iter().map(|origin| normal_origin(origin)).collect();
        let bad: Vec<usize> = (0..normal.len()).filter(|at| normal[*at].is_none()).collect();
        if bad.is_empty() {
            let allowed_origins =
                normal.into_iter().flatten().map(String::into_boxed_str).collect();
            Ok(Self { enabled, allowed_origins })
        } else {
            Err(bad)
        }
    }

    /// Whether `origin` is one of the allowed ones.
    pub(crate) fn allows_origin(&self, origin: &str) -> bool {
        !self.allowed_origins.is_empty()
            && normal_origin(origin).is_some_and(|origin| self.allowed_origins.contains(&*origin))
    }

    /// Whether the visitor's cookie may speak for this request. `is_app_host` knows our hosts.
    pub(crate) fn admits(&self, head: &Head<'_>, is_app_host: impl Fn(&str) -> bool) -> bool {
        if !self.enabled || head.is_safe() {
            return true;
        }
        if head.origin().is_some_and(|origin| self.allows_origin(origin)) {
            return true;
        }
        match (head.fetch_site(), head.origin()) {
            (Some(site), _) => matches!(site, b"same-origin" | b"same-site" | b"none"),
            (None, Some(origin)) => is_app_origin(origin, is_app_host),
            (None, None) => true,
        }
    }
}

/// Whether an `Origin` stands for one of our hosts, whatever its port.
pub(crate) fn is_app_origin(origin: &str, is_app_host: impl Fn(&str) -> bool) -> bool {
    split_origin(origin).is_some_and(|(_, authority)| is_app_host(authority.host.as_str()))
}

/// Scheme and authority of an `http` or `https` origin; `null` and anything longer are none.
fn split_origin(origin: &str) -> Option<(&'static str, Authority<'_>)> {
    let (scheme, rest) = origin.split_once("://")?;
    let scheme = ["http", "https"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
    Some((scheme, Authority::parse(rest).ok()?))
}

/// One spelling for an origin: lower case, the scheme's own port left out.
fn normal_origin(origin: &str) -> Option<String> {
    let (scheme, authority) = split_origin(origin)?;
    let own_port = if scheme == "https" { 443 } else { 80 };
    let port = authority.port.filter(|port| *port != own_port);
    Some(format!("{scheme}://{}", Authority { port, ..authority }.into_text()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Field, RawHead};

    fn check(method: &str, site: Option<&str>, origin: Option<&str>, expected: bool) {
        fn field(value: Option<&str>) -> Field<'_> {
            value.map_or(Field::Absent, |value| Field::One(value.as_bytes()))
        }
        let raw = RawHead {
            method: if method == "WEBSOCKET" { "GET" } else { method },
            origin: field(origin),
            fetch_site: field(site),
            websocket: method == "WEBSOCKET",
            ..RawHead::get("app.example.com", "/")
        };
        let head = Head::parse(raw).unwrap();
        let same_site = SameSite::new(true, &["https://Partner.example:443".to_owned()]).unwrap();
        let is_app_host = |host: &str| host == "app.example.com";
        assert_eq!(same_site.admits(&head, is_app_host), expected, "{method} {site:?} {origin:?}");
        assert!(SameSite::new(false, &[]).unwrap().admits(&head, is_app_host));
    }

    #[test]
    fn a_foreign_site_may_read_but_not_write() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            check(method, Some("cross-site"), Some("https://evil.example"), true);
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "X", "WEBSOCKET"] {
            check(method, Some("cross-site"), None, false);
            check(method, Some("same-origin"), Some("https://evil.example"), true);
        }
    }

    #[test]
    fn fetch_metadata_rules_where_it_is_sent() {
        for site in ["same-origin", "same-site", "none"] {
            check("POST", Some(site), None, true);
            check("POST", Some(site), Some("null"), true);
        }
        for site in ["cross-site", "", "Same-Origin", "same-origin, none", "unknown"] {
            check("POST", Some(site), Some("https://app.example.com"), false);
        }
    }

    #[test]
    fn an_allowed_origin_passes_whatever_the_metadata_say() {
        for origin in ["https://partner.example", "https://PARTNER.example:443"] {
            check("POST", Some("cross-site"), Some(origin), true);
        }
        for origin in ["http://partner.example", "https://partner.example:8443"] {
            check("POST", Some("cross-site"), Some(origin), false);
        }
    }

    #[test]
    fn without_metadata_the_origin_is_one_of_our_hosts() {
        for origin in ["https://app.example.com", "http://app.example.com:3000"] {
            check("POST", None, Some(origin), true);
        }
        for origin in [
            "null",
            "",
            "https://evil.example",
            "https://app.example.com.evil.example",
            "https://app.example.com/x",
            "https://app.example.com@evil.example",
            "ftp://app.example.com",
            "app.example.com",
        ] {
            check("POST", None, Some(origin), false);
        }
        check("POST", None, None, true);
    }
}
