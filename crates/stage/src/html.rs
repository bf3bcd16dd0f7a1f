//! What the demo's pages have in common: one layout, no outside resources, everything escaped.

use std::fmt::{Display, Write as _};

/// Text that may stand in an element or in a quoted attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A whole page around `body`, which is HTML already; `title` is text.
pub(crate) fn page(title: &str, body: impl Display) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n{body}\n</body>\n</html>\n",
        escape(title)
    )
}

/// A table of names and values, both text.
pub(crate) fn table<N: AsRef<str>, V: AsRef<str>>(
    rows: impl IntoIterator<Item = (N, V)>,
) -> String {
    let mut table = String::from("<table>\n");
    for (name, value) in rows {
        let (name, value) = (escape(name.as_ref()), escape(value.as_ref()));
        // Writing to a String cannot fail.
        let _ = writeln!(table, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    }
    table + "</table>"
}

const STYLE: &str = include_str!("style.css");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let row = table([("<b>", "\"><script>alert('x')</script>&amp;")]);
        assert!(!row.contains("<script>") && !row.contains("<b>"), "{row}");
        assert!(
            page("</title><script>", "").contains("<title>&lt;/title&gt;&lt;script&gt;</title>")
        );
    }
}
