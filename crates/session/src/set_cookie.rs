//! `Set-Cookie` lines: how the session cookie is written and cleared, attribute for attribute and
//! line for line as the libraries do it (`SessionStore` in packages/core/src/lib/utils/cookie.ts
//! and, on branch `v4`, packages/next-auth/src/core/lib/cookie.ts), and what an app's own line does
//! to it.

use std::fmt::Write;

use crate::keys::Format;
use crate::time::UnixSeconds;

/// `SameSite` of the session cookie: which requests from other sites carry it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SameSite {
    /// Navigations only, the libraries' default.
    Lax,
    /// None.
    Strict,
    /// All; browsers then demand `Secure`.
    None,
}

/// What stands behind the value of every session cookie.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    /// `None`: host-only.
    pub(crate) domain: Option<String>,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
}

/// For whom a cookie is cleared. A browser keeps one for the host alone beside one for the domain,
/// and clearing one leaves the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    Host,
    /// The configured domain; the host where none is.
    Configured,
}

impl Attributes {
    /// The lines that put `token` into the session cookie `name`. `carried` are the names in the
    /// request that begin alike, in order: what the new cookies do not replace is cleared.
    pub(crate) fn write(
        &self,
        name: &str,
        token: &str,
        format: Format,
        expires_at: UnixSeconds,
        carried: &[&str],
    ) -> Vec<String> {
        let mut chunks = chunks(name, token, format);
        let mut lines = Vec::with_capacity(chunks.len() + carried.len());
        for carried in carried {
            lines.push(match chunks.iter().position(|(name, _)| name == carried) {
                Some(position) => {
                    let (name, chunk) = chunks.remove(position);
                    self.set(&name, chunk, expires_at)
                }
                None => self.clear(carried, Scope::Configured),
            });
        }
        lines.extend(chunks.iter().map(|(name, chunk)| self.set(name, chunk, expires_at)));
        lines
    }

    fn set(&self, name: &str, value: &str, expires_at: UnixSeconds) -> String {
        let mut line = format!("{name}={value}");
        self.append(&mut line, name, Scope::Configured, Some(expires_at));
        line
    }

    /// The line that makes a browser forget `name`.
    pub(crate) fn clear(&self, name: &str, scope: Scope) -> String {
        let mut line = format!("{name}=; Max-Age=0");
        self.append(&mut line, name, scope, None);
        line
    }

    /// Adds the attributes in the order of the `cookie` package. A browser ignores a line that
    /// breaks the promise of its name's prefix, even one that clears (RFC 6265bis §4.1.3).
    fn append(&self, line: &mut String, name: &str, scope: Scope, expires_at: Option<UnixSeconds>) {
        let host_prefix = has_prefix(name, "__Host-");
        let domain = self.domain.as_ref().filter(|_| scope == Scope::Configured && !host_prefix);
        if let Some(domain) = domain {
            line.push_str("; Domain=");
            line.push_str(domain);
        }
        line.push_str("; Path=/");
        if let Some(at) = expires_at {
            line.push_str("; Expires=");
            append_http_date(line, at);
        }
        if self.http_only {
            line.push_str("; HttpOnly");
        }
        if self.secure || host_prefix || has_prefix(name, "__Secure-") {
            line.push_str("; Secure");
        }
        line.push_str(match self.same_site {
            SameSite::Lax => "; SameSite=Lax",
            SameSite::Strict => "; SameSite=Strict",
            SameSite::None => "; SameSite=None",
        });
    }
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The cookies that hold `token`: one called `name` if it fits, else `name.0`, `name.1`, …, each
/// full but the last.
pub(crate) fn chunks<'t>(name: &str, token: &'t str, format: Format) -> Vec<(String, &'t str)> {
    let size = match format {
        Format::NextAuthV4 => 4096 - 163,
        Format::AuthjsV5 => 4096 - 160,
    };
    if token.len() <= size {
        return vec![(name.to_owned(), token)];
    }
    let mut chunks = Vec::new();
    let mut rest = token;
    while !rest.is_empty() {
        // A sealed token is ASCII, so every position is a boundary.
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        chunks.push((format!("{name}.{}", chunks.len()), chunk));
        rest = after;
    }
    chunks
}

/// Appends `at` as an IMF-fixdate (RFC 9110 §5.6.7), which has four digits for the year.
fn append_http_date(line: &mut String, at: UnixSeconds) {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    const END_OF_9999: i64 = 253_402_300_799;

    let seconds = at.0.clamp(0, END_OF_9999);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March on, so that a leap day ends one: 400 of them have 146,097 days.
    let since_0000 = days + 719_468;
    let (era, day) = (since_0000 / 146_097, since_0000 % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + i64::from(month >= 10);

    let written = write!(
        line,
        "{}, {day_of_month:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60,
    );
    written.expect("writing to a string cannot fail");
}

/// What an app's `Set-Cookie` line says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AppSetCookie<'a> {
    /// The cookie's name: the session's own or that of a chunk.
    pub name: &'a str,
    /// Its value as it stands.
    pub value: &'a str,
    /// Whether the line makes the browser forget the cookie: it has no value, or no life.
    pub clears: bool,
    /// Without the dot in front; `None`: for the host alone.
    domain: Option<&'a str>,
    path: Option<&'a str>,
}

impl<'a> AppSetCookie<'a> {
    /// Reads a line as browsers do (RFC 6265 §5.2), as far as it matters here. `None` for one that
    /// is no text or has no name.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.split(|byte| *byte == b';');
        let (name, value) = str::from_utf8(parts.next()?).ok()?.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let (mut domain, mut path, mut age_over, mut date_over) = (None, None, None, false);
        for attribute in parts {
            let attribute = str::from_utf8(attribute).ok().and_then(|text| text.split_once('='));
            let Some((key, told)) = attribute.map(|(key, told)| (key.trim(), told.trim())) else {
                continue;
            };
            // Of two equal attributes the last counts, and an age before a date (§5.3).
            if key.eq_ignore_ascii_case("Max-Age") {
                age_over = told.parse().ok().map(|age: i64| age <= 0).or(age_over);
            } else if key.eq_ignore_ascii_case("Expires") {
                date_over = told.contains(LONG_AGO);
            } else if key.eq_ignore_ascii_case("Domain") {
                domain =
                    Some(told.strip_prefix('.').unwrap_or(told)).filter(|told| !told.is_empty());
            } else if key.eq_ignore_ascii_case("Path") {
                path = Some(told).filter(|told| told.starts_with('/'));
            }
        }
        let clears = value.is_empty() || age_over.unwrap_or(date_over);
        (!name.is_empty()).then_some(Self { name, value, clears, domain, path })
    }

    /// Whether a browser has one place for both cookies: the later line overwrites the earlier.
    pub(crate) fn is_same_cookie(&self, other: &Self) -> bool {
        let domains = match (self.domain, other.domain) {
            (Some(one), Some(two)) => one.eq_ignore_ascii_case(two),
            (one, two) => one == two,
        };
        domains && (self.name, self.path) == (other.name, other.path)
    }
}

/// The year in which whoever clears a cookie by its date lets it end.
const LONG_AGO: &str = "1970";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_writes_them() {
        let check = |at: i64, wanted: &str| {
            let mut line = String::new();
            append_http_date(&mut line, UnixSeconds(at));
            assert_eq!(line, wanted);
        };
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT");
        check(1_769_817_600, "Sat, 31 Jan 2026 00:00:00 GMT");
        check(2_147_483_648, "Tue, 19 Jan 2038 03:14:08 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
        check(-1, "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn a_prefix_keeps_its_promise_whatever_is_configured() {
        let attributes = Attributes {
            domain: Some(".example.com".to_owned()),
            secure: false,
            http_only: true,
            same_site: SameSite::Lax,
        };
        let clear = |name| attributes.clear(name, Scope::Configured);
        assert_eq!(
            clear("a"),
            "a=; Max-Age=0; Domain=.example.com; Path=/; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            clear("__Secure-a"),
            "__Secure-a=; Max-Age=0; Domain=.example.com; Path=/; HttpOnly; Secure; SameSite=Lax",
        );
        assert_eq!(
            clear("__Host-a"),
            "__Host-a=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax",
        );
    }

    #[test]
    fn a_line_of_the_app_is_read_as_browsers_read_it() {
        let check = |line: &str, wanted: Option<(&str, &str, bool)>| {
            let read = AppSetCookie::parse(line.as_bytes());
            assert_eq!(read.map(|read| (read.name, read.value, read.clears)), wanted, "{line}");
        };
        check("a=b; Path=/; HttpOnly", Some(("a", "b", false)));
        check(" a = b ;max-age= 60", Some(("a", "b", false)));
        check("a=; Path=/", Some(("a", "", true)));
        check("a=b; Max-Age=0", Some(("a", "b", true)));
        check("a=b; MAX-AGE=-1; Path=/", Some(("a", "b", true)));
        check("a=b; Expires=Thu, 01 Jan 1970 00:00:00 GMT", Some(("a", "b", true)));
        check("a=b; expires=Thu, 01-Jan-1970 00:00:01 GMT", Some(("a", "b", true)));
        check("a=b; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", Some(("a", "b", false)));
        check("a=b; Max-Age=0; Max-Age=60", Some(("a", "b", false)));
        check("a=b; Max-Age=0; Max-Age=x", Some(("a", "b", true)));
        check("a=b=c", Some(("a", "b=c", false)));
        check("a", None);
        check("=b", None);
        assert!(AppSetCookie::parse(b"a=\xff").is_none());
    }

    #[test]
    fn a_cookie_is_its_name_domain_and_path() {
        let check = |one: &str, two: &str, same| {
            let [first, second] = [one, two].map(|line| AppSetCookie::parse(line.as_bytes()));
            assert_eq!(first.unwrap().is_same_cookie(&second.unwrap()), same, "{one}, {two}");
        };
        check("a=1; Domain=x.test; Path=/", "a=; Path=/; Domain=.X.test; Max-Age=0", true);
        check("a=1", "a=2; Domain=", true);
        check("a=1", "b=1", false);
        check("a=1; Domain=x.test", "a=1", false);
        check("a=1; Path=/", "a=1; Path=/b", false);
        check("a=1; Path=/", "a=1; Path=b", false);
    }
}
