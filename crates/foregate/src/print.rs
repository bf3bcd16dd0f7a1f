//! What commands print. A reader who has seen enough (`| head -1`) is no failure.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};

/// Writes to stdout, in one go.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut text = Vec::new();
    write(&mut text)?;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(&harmless(&text)).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// What a terminal might take for a command is escaped as JSON escapes it: a claim is whatever a
/// visitor made the sign-in write.
fn harmless(text: &[u8]) -> Cow<'_, [u8]> {
    let is_command = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t' | '\r');
    match std::str::from_utf8(text) {
        Ok(text) if text.contains(is_command) => {
            let escaped = text.chars().map(|letter| match is_command(letter) {
                true => format!("\\u{:04x}", u32::from(letter)),
                false => letter.to_string(),
            });
            Cow::Owned(escaped.collect::<String>().into_bytes())
        }
        _ => Cow::Borrowed(text),
    }
}

/// Writes a line to stderr. Where nobody reads that, there is nobody to tell.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_claim_commands_the_terminal() {
        let check = |text: &str, expected: &str| {
            assert_eq!(harmless(text.as_bytes()), expected.as_bytes());
        };
        check("role \u{1b}[31m\n", "role \\u001b[31m\n");
        check("{\"sub\": \"\u{9b}2J\"}\n", "{\"sub\": \"\\u009b2J\"}\n");
        check("tab\tand é\n", "tab\tand é\n");
    }
}
