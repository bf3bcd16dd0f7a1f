//! Cookies as a browser keeps them: by name and domain.

/// A cookie jar. Paths and ends are not kept, save that a cookie which is set to end at once goes.
/// `Secure` is not looked at: the tests speak plain HTTP where TLS ends in front of the gate.
#[derive(Default)]
pub(crate) struct Jar(Vec<Cookie>);

struct Cookie {
    name: String,
    value: String,
    domain: String,
    host_only: bool,
}

impl Cookie {
    fn goes_to(&self, host: &str) -> bool {
        host == self.domain || !self.host_only && is_within(host, &self.domain)
    }
}

impl Jar {
    /// Takes a `Set-Cookie` line that came from `host`; one for a foreign domain is dropped.
    pub(crate) fn take(&mut self, line: &str, host: &str) {
        let mut parts = line.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let mut cookie = Cookie {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: host.to_owned(),
            host_only: true,
        };
        let mut ended = false;
        for part in parts {
            let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
            match attribute.to_ascii_lowercase().as_str() {
                "domain" => {
                    cookie.domain = value.trim_start_matches('.').to_ascii_lowercase();
                    cookie.host_only = false;
                }
                "max-age" => ended |= value.parse::<i64>().is_ok_and(|seconds| seconds <= 0),
                "expires" => ended |= value.contains(" 1970 "),
                _ => {}
            }
        }
        if !is_within(host, &cookie.domain) {
            return;
        }
        let known = self.0.iter().position(|old| {
            (&old.name, &old.domain, old.host_only)
                == (&cookie.name, &cookie.domain, cookie.host_only)
        });
        match (known, ended) {
            (Some(at), true) => drop(self.0.remove(at)),
            (Some(at), false) => self.0[at] = cookie,
            (None, true) => {}
            (None, false) => self.0.push(cookie),
        }
    }

    /// The `Cookie` header's value for `host`, if there is anything to send.
    pub(crate) fn header(&self, host: &str) -> Option<String> {
        let pairs: Vec<_> = self
            .0
            .iter()
            .filter(|cookie| cookie.goes_to(host))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

fn is_within(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_goes_where_its_domain_says() {
        let check = |lines: &[&str], host: &str, sent: Option<&str>| {
            let mut jar = Jar::default();
            for line in lines {
                jar.take(line, "app.a.test");
            }
            assert_eq!(jar.header(host).as_deref(), sent, "{lines:?} to {host}");
        };
        check(&["x=1"], "app.a.test", Some("x=1"));
        check(&["x=1"], "shop.a.test", None);
        check(&["x=1; Domain=.a.test"], "shop.a.test", Some("x=1"));
        check(&["x=1; Domain=a.test"], "ba.test", None);
        check(&["x=1; Domain=b.test"], "b.test", None);
        check(&["x=1", "x=2; Domain=a.test"], "app.a.test", Some("x=1; x=2"));
        check(&["x=1", "x=2", "y=3"], "app.a.test", Some("x=2; y=3"));
        check(&["x=1", "x=; Max-Age=0"], "app.a.test", None);
        check(&["x=1; Domain=a.test", "x=; Max-Age=0"], "app.a.test", Some("x=1"));
        check(&["x=1", "x=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "app.a.test", None);
    }
}
