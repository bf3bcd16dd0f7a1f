//! A path as a pattern sees it.

use std::borrow::Cow;

use crate::pattern::Program;

/// One reading of a path. It begins with `/` and has no two slashes in a row.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    text: Cow<'a, str>,
    /// UTF-16 units, only where the text is not ASCII.
    units: Option<Vec<u16>>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: impl Into<Cow<'a, str>>) -> Self {
        let text = text.into();
        let units = (!text.is_ascii()).then(|| text.encode_utf16().collect());
        Self { text, units }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_matched_by(&self, program: &Program) -> bool {
        match &self.units {
            None => program.matches(self.text.as_bytes()),
            Some(units) => program.matches(units),
        }
    }

    /// Whether it is ASCII, and `.` matches all of it.
    pub(crate) fn is_plain(&self) -> bool {
        self.units.is_none() && memchr::memchr2(b'\n', b'\r', self.text.as_bytes()).is_none()
    }

    /// The text without one slash at the end, where it is more than that slash.
    pub(crate) fn without_trailing_slash(&self) -> Option<Text<'_>> {
        let shorter = self.text.strip_suffix('/').filter(|text| !text.is_empty())?;
        Some(Text::new(shorter))
    }
}
