//! The readings of one path. Behind the gate stand servers that do not read a path alike; each
//! reading is what one of them may take the path for, and the request must be allowed under all.

use std::borrow::Cow;
use std::fmt;

/// In what a reading differs from the canonical path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reading {
    /// Before escapes got their one spelling.
    pub(crate) sent: bool,
    pub(crate) any_case: bool,
    pub(crate) without_parameters: bool,
    /// The page behind an address of Next.js' own: data, locale, base path.
    pub(crate) page: bool,
    pub(crate) decoded: bool,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.sent, "as sent"),
            (self.decoded, "percent-decoded"),
            (self.any_case, "any letter case"),
            (self.without_parameters, "without ;parameters"),
            (self.page, "page behind the address"),
        ];
        let mut separator = "";
        for (_, word) in words.into_iter().filter(|(applies, _)| *applies) {
            write!(f, "{separator}{word}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("as it stands") } else { Ok(()) }
    }
}

/// Where an app's pages stand, as far as Next.js' settings say it. All in lower case where it
/// reads lower-case texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    /// `basePath`, or empty.
    pub(crate) base: String,
    pub(crate) locales: Vec<String>,
    /// Empty where there are no locales.
    pub(crate) default_locale: String,
}

impl Layout {
    pub(crate) fn is_plain(&self) -> bool {
        self.base.is_empty() && self.locales.is_empty()
    }

    pub(crate) fn to_ascii_lowercase(&self) -> Self {
        Self {
            base: self.base.to_ascii_lowercase(),
            locales: self.locales.iter().map(|locale| locale.to_ascii_lowercase()).collect(),
            default_locale: self.default_locale.to_ascii_lowercase(),
        }
    }

    /// The text as the app's own patterns see it: like Next.js, with the default locale where
    /// the path names none.
    pub(crate) fn with_locale<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(path) = self.behind_base(text) else { return Cow::Borrowed(text) };
        if self.locales.is_empty()
            || path.starts_with("/_next/")
            || self.behind_locale(path).is_some()
        {
            return Cow::Borrowed(text);
        }
        let path = if path == "/" { "" } else { path };
        Cow::Owned(format!("{}/{}{path}", self.base, self.default_locale))
    }

    /// The pages that stand behind the text's address: without base path, data prefix, suffix and
    /// locale, in every combination. The text itself is none of them.
    pub(crate) fn pages<'t>(&self, text: &'t str) -> Vec<&'t str> {
        if self.is_plain() && !is_data_address(text) {
            return Vec::new();
        }
        let Some(path) = self.behind_base(text) else { return Vec::new() };
        let mut pages = vec![path];
        add_each(&mut pages, |page| page_of_data(page).into_iter().collect());
        add_each(&mut pages, pages_of_suffix);
        let plain = if self.base.is_empty() { vec![path] } else { Vec::new() };
        let fetched: Vec<&str> = pages.iter().copied().filter(|page| *page != path).collect();
        add_each(&mut pages, |page| self.behind_locale(page).into_iter().collect());
        // `index` stands for its folder in addresses of data only.
        let names_index = !fetched.is_empty();
        if names_index {
            add_each(&mut pages, |page| page_of_index(page).into_iter().collect());
        }
        pages.retain(|page| !plain.contains(page));
        pages
    }

    fn behind_base<'t>(&self, text: &'t str) -> Option<&'t str> {
        match text.strip_prefix(&*self.base)? {
            "" => Some("/"),
            path => path.starts_with('/').then_some(path),
        }
    }

    /// Next.js finds locales whatever their case.
    fn behind_locale<'t>(&self, path: &'t str) -> Option<&'t str> {
        let first = path.strip_prefix('/')?;
        let (locale, behind) = first.split_at(first.find('/').unwrap_or(first.len()));
        let known = self.locales.iter().any(|known| known.eq_ignore_ascii_case(locale));
        known.then_some(if behind.is_empty() { "/" } else { behind })
    }
}

/// Adds what `of` makes of each, without those that are there already.
fn add_each<'t>(pages: &mut Vec<&'t str>, of: impl Fn(&'t str) -> Vec<&'t str>) {
    let made: Vec<&str> = pages.iter().flat_map(|page| of(page)).collect();
    for page in made {
        if !pages.contains(&page) {
            pages.push(page);
        }
    }
}

/// A quick look that overlooks none.
fn is_data_address(text: &str) -> bool {
    text.starts_with(DATA) || without_slash(text).ends_with(".rsc")
}

/// `/_next/data/<build>/page.json`, or the same without `.json`.
fn page_of_data(path: &str) -> Option<&str> {
    let behind = path.strip_prefix(DATA)?;
    let build = behind.find('/').unwrap_or(behind.len());
    let page = &behind[build..];
    let page = without_slash(page).strip_suffix(".json").unwrap_or(page);
    (build > 0).then_some(if page.is_empty() { "/" } else { page })
}

/// `page.rsc`, `page.segments/….segment.rsc`. Of several `.segments` Next.js takes the last, a
/// plainer reader the first.
fn pages_of_suffix(path: &str) -> Vec<&str> {
    let Some(page) = without_slash(path).strip_suffix(".rsc") else { return Vec::new() };
    let mut pages = vec![page];
    if page.ends_with(".segment") {
        pages.extend(
            [page.find(SEGMENTS), page.rfind(SEGMENTS)].into_iter().flatten().map(|at| &page[..at]),
        );
    }
    pages
}

fn page_of_index(path: &str) -> Option<&str> {
    match path.strip_prefix("/index")? {
        "" | "/" => Some("/"),
        page => page.starts_with('/').then_some(page),
    }
}

fn without_slash(text: &str) -> &str {
    text.strip_suffix('/').unwrap_or(text)
}

/// The text without `;parameters`, where it has any.
pub(crate) fn without_parameters(text: &str) -> Option<String> {
    if !text.contains(';') {
        return None;
    }
    let segment = |segment: &str| segment.find(';').map_or(segment.len(), |at| at);
    Some(text.split('/').map(|it| &it[..segment(it)]).collect::<Vec<_>>().join("/"))
}

const DATA: &str = "/_next/data/";
const SEGMENTS: &str = ".segments/";

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(base: &str, locales: &[&str]) -> Layout {
        Layout {
            base: base.to_owned(),
            locales: locales.iter().map(|locale| (*locale).to_owned()).collect(),
            default_locale: locales.first().map_or(String::new(), |locale| (*locale).to_owned()),
        }
    }

    #[test]
    fn a_page_is_found_behind_every_address_of_its_own() {
        let check = |text, expected: &[&str]| {
            assert_eq!(layout("", &[]).pages(text), expected, "{text}");
        };
        for plain in ["/", "/dashboard", "/dashboard/a.json", "/index", "/_next/static/x", "/rsc"] {
            check(plain, &[]);
        }
        check("/dashboard.rsc", &["/dashboard"]);
        check("/dashboard.rsc/", &["/dashboard"]);
        check("/index.rsc", &["/index", "/"]);
        check("/.rsc", &["/"]);
        check("/_next/data/b/dashboard.json", &["/dashboard"]);
        check("/_next/data/b/dashboard", &["/dashboard"]);
        check("/_next/data/b/index.json", &["/index", "/"]);
        check("/_next/data/b/index/a.json", &["/index/a", "/a"]);
        check("/_next/data/b", &["/"]);
        check(
            "/a.segments/$c$b/__PAGE__.segment.rsc",
            &["/a.segments/$c$b/__PAGE__.segment", "/a"],
        );
        check(
            "/a.segments/b.segments/c.segment.rsc",
            &["/a.segments/b.segments/c.segment", "/a", "/a.segments/b"],
        );
        check("/index.segments/x.segment.rsc", &["/index.segments/x.segment", "/index", "/"]);
        check("/_next/data/b/a.rsc.json", &["/a.rsc", "/a"]);
    }

    #[test]
    fn base_path_and_locale_leave_the_page() {
        let check = |text, expected: &[&str]| {
            let layout = layout("/docs", &["en", "de"]);
            assert_eq!(layout.pages(text), expected, "{text}");
        };
        check("/about", &[]);
        check("/docsabout", &[]);
        check("/docs", &["/"]);
        check("/docs/about", &["/about"]);
        check("/docs/DE/about", &["/DE/about", "/about"]);
        check("/docs/de", &["/de", "/"]);
        check(
            "/docs/_next/data/b/de/about.json",
            &["/_next/data/b/de/about.json", "/de/about", "/about"],
        );
        assert_eq!(layout("", &["en"]).pages("/en/about"), ["/about"]);
    }

    #[test]
    fn a_path_without_a_locale_gets_the_default_one() {
        let check = |base, text, expected| {
            assert_eq!(layout(base, &["en", "de"]).with_locale(text), expected);
        };
        check("", "/about", "/en/about");
        check("", "/", "/en");
        check("", "/de/about", "/de/about");
        check("", "/De", "/De");
        check("", "/_next/data/b/about.json", "/_next/data/b/about.json");
        check("/docs", "/docs/about", "/docs/en/about");
        check("/docs", "/docs", "/docs/en");
        check("/docs", "/about", "/about");
        assert_eq!(layout("", &[]).with_locale("/about"), "/about");
    }

    #[test]
    fn parameters_end_with_their_segment() {
        let check = |text, expected: Option<&str>| {
            assert_eq!(without_parameters(text).as_deref(), expected);
        };
        check("/a/b", None);
        check("/a;x=1/b;y;z", Some("/a/b"));
        check("/;x", Some("/"));
        check("/a/;x", Some("/a/"));
    }
}
