//! One app's rules, compiled: what each reading of a path comes to.

use std::borrow::Cow;

use crate::access::Access;
use crate::head::Head;
use crate::pattern::Program;
use crate::reading::{Reading, without_parameters};
use crate::route::Hit;
use crate::tables::Tables;
use crate::text::Text;

/// An app as requests use it.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) guard: Guard,
    pub(crate) tables: Tables,
    pub(crate) case_sensitive: bool,
}

/// What decides once a pattern has matched.
#[derive(Debug)]
pub(crate) enum Guard {
    /// First match, else the app's own access.
    Rules { rules: Vec<Rule>, otherwise: Access },
    /// A session for what some entry matches; all else is public.
    Matcher(Vec<Entry>),
}

/// What one `[[app.rule]]` asks for.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) methods: Methods,
    pub(crate) access: Access,
    /// Any one of these; none but for [`Access::Session`].
    pub(crate) roles: Vec<Box<str>>,
}

/// The methods that a rule speaks of; none means any.
#[derive(Debug)]
pub(crate) struct Methods(pub(crate) Vec<Box<str>>);

impl Methods {
    /// GET names HEAD as well.
    pub(crate) fn include(&self, method: &str) -> bool {
        let names = |method: &str| self.0.iter().any(|named| **named == *method);
        self.0.is_empty() || names(method) || method == "HEAD" && names("GET")
    }

    /// Whether some method is among both.
    pub(crate) fn overlap(&self, other: &Self) -> bool {
        let any = self.0.is_empty() || other.0.is_empty();
        any || self.0.iter().any(|method| other.include(method))
            || other.0.iter().any(|method| self.include(method))
    }
}

/// What a matcher entry asks beside its pattern. Conditions that the visitor controls are not
/// among it: they would let him choose whether he is checked.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// All of these match the host.
    pub(crate) has_host: Vec<Program>,
    /// None of these matches the host.
    pub(crate) missing_host: Vec<Program>,
}

impl Entry {
    fn concerns(&self, host: &str) -> bool {
        let matches = |program: &Program| program.matches(host.as_bytes());
        self.has_host.iter().all(matches) && !self.missing_host.iter().any(matches)
    }
}

impl App {
    /// Decides every reading of the request's path, in the order in which they are explained.
    /// Readings that cannot differ from an earlier one are left out.
    pub(crate) fn each_reading<'r>(
        &'r self,
        head: &Head<'_>,
        mut visit: impl FnMut(Reading, &Text<'_>, Hit<'r>),
    ) {
        let path = head.path().as_str();
        let has_upper = path.bytes().any(|byte| byte.is_ascii_uppercase());
        let decodes = path.contains('%') || self.tables.form_matters;
        let folds = !self.case_sensitive && (has_upper || self.tables.case_matters);

        if let (Guard::Matcher(_), Some(sent)) = (&self.guard, head.respelled_path()) {
            let reading = Reading { sent: true, ..Reading::default() };
            let layout = self.tables.layout(reading);
            let raw = Text::new(layout.with_locale(sent));
            let decoded = decode(sent);
            let decoded = Text::new(layout.with_locale(&decoded));
            visit(reading, &raw, self.decide(reading, &decoded, Some(&raw), head));
        }
        for any_case in [false, true].into_iter().take(1 + usize::from(folds)) {
            let lower = any_case && has_upper;
            let raw = if lower { Cow::Owned(path.to_ascii_lowercase()) } else { path.into() };
            let decoded = decodes.then(|| decode(&raw));
            let raw = self.variants(&raw, Reading { any_case, ..Reading::default() });
            let decoded = decoded.as_ref().map(|text| {
                self.variants(text, Reading { any_case, decoded: true, ..Reading::default() })
            });

            let mut decoded = decoded.into_iter().flatten();
            for (reading, raw) in raw {
                visit(reading, &raw, self.decide(reading, &raw, None, head));
                if let Some((reading, text)) = decoded.next() {
                    visit(reading, &text, self.decide(reading, &text, Some(&raw), head));
                }
            }
        }
    }

    /// The text, and what servers make of it that know parameters, or addresses of Next.js. Raw
    /// and decoded texts have theirs in the same order, since nothing that decides about it can
    /// be escaped in a canonical path.
    fn variants<'t>(&self, text: &'t str, reading: Reading) -> Variants<'t> {
        let layout = self.tables.layout(reading);
        let first = (reading, Text::new(layout.with_locale(text)));
        let page = Reading { page: true, ..reading };
        let mut others: Vec<(Reading, Text<'_>)> =
            layout.pages(text).into_iter().map(|text| (page, Text::new(text))).collect();
        if let Some(bare) = without_parameters(text) {
            let reading = Reading { without_parameters: true, ..reading };
            let page = Reading { page: true, ..reading };
            others.push((reading, Text::new(layout.with_locale(&bare).into_owned())));
            let pages = layout.pages(&bare).into_iter();
            others.extend(pages.map(|text| (page, Text::new(text.to_owned()))));
        }
        std::iter::once(first).chain(others)
    }

    /// `raw` is the same reading before it was decoded.
    fn decide(
        &self,
        reading: Reading,
        text: &Text<'_>,
        raw: Option<&Text<'_>>,
        head: &Head<'_>,
    ) -> Hit<'_> {
        match &self.guard {
            Guard::Rules { rules, otherwise } => {
                let counts = |rule: usize| rules[rule].methods.include(head.method());
                match self.tables.first(reading, text, counts) {
                    Some(rule) => {
                        let Rule { access, roles, .. } = &rules[rule];
                        Hit { rule: Some(rule), access: *access, roles }
                    }
                    None => Hit { rule: None, access: *otherwise, roles: &[] },
                }
            }
            Guard::Matcher(entries) => {
                let counts = |entry: usize| entries[entry].concerns(head.host().as_str());
                match self.match_as_nextjs(reading, text, raw, counts) {
                    Some(entry) => Hit { rule: Some(entry), access: Access::Session, roles: &[] },
                    None => Hit { rule: None, access: Access::Public, roles: &[] },
                }
            }
        }
    }

    /// Next.js asks twice, the second time without a slash at the end, and each time about the
    /// raw and about the decoded path. It runs the middleware if both times some entry matches.
    fn match_as_nextjs(
        &self,
        reading: Reading,
        text: &Text<'_>,
        raw: Option<&Text<'_>>,
        counts: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let ask = |text: &Text<'_>, raw: Option<&Text<'_>>| {
            let before_decoding = Reading { decoded: false, ..reading };
            let matched = self.tables.first(reading, text, &counts);
            matched.or_else(|| self.tables.first(before_decoding, raw?, &counts))
        };
        let first = ask(text, raw)?;
        let shorter = text.without_trailing_slash();
        let shorter_raw = raw.and_then(Text::without_trailing_slash);
        match shorter {
            Some(text) => ask(&text, shorter_raw.as_ref()).map(|second| first.min(second)),
            None => Some(first),
        }
    }
}

type Variants<'t> =
    std::iter::Chain<std::iter::Once<(Reading, Text<'t>)>, std::vec::IntoIter<(Reading, Text<'t>)>>;

fn decode(text: &str) -> Cow<'_, str> {
    // A canonical path decodes to UTF-8, or it would not be one.
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}
