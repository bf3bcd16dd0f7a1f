//! Secrets by variable, by file or as they stand, and whether anybody could guess them.

use std::collections::BTreeSet;

use foregate_session::Secret;

use crate::environment::Environment;
use crate::key::Key;
use crate::problem::{Fault, unread};
use crate::raw::SecretSource;
use crate::report::Report;

/// The secret, or a problem that names the variable or file but never quotes what is in it.
pub(crate) fn resolve(
    key: &Key,
    source: &SecretSource,
    environment: &Environment,
    report: &mut Report,
) -> Option<Secret> {
    let reference = match source {
        SecretSource::Literal(secret) => {
            return report.accept(key, present(secret.clone(), "the string"));
        }
        SecretSource::Reference(reference) => reference,
    };
    let resolved = match (&reference.env, &reference.file) {
        (Some(name), None) if !is_variable_name(name) => {
            Err(Fault::new("expected the name of a variable").hint("letters, digits and _"))
        }
        (Some(name), None) => match environment.variable(name) {
            Some(text) => present(Secret::new(text), &format!("the variable {name}")),
            None if could_be_secret(name) => Err(Fault::new("there is no such variable")
                .hint("write a secret itself as a plain string; env takes a variable's name")),
            None => Err(Fault::new(format!("the variable {name} is not set")).hint(format!(
                "export {name}=… before Foregate starts; one that runs needs a restart"
            ))),
        },
        (None, Some(path)) => match report.read(path, environment) {
            Ok(text) => {
                let text = text.expose();
                let text = text.strip_suffix('\n').unwrap_or(text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                present(Secret::new(text), &format!("the file {path}"))
            }
            Err(_) if could_be_secret(path) => Err(Fault::new("there is no such file")
                .hint("write a secret itself as a plain string; file takes an absolute path")),
            Err(error) => Err(Fault::new(format!("the file {path}: {}", unread(&error)))),
        },
        _ => Err(Fault::new("expected exactly one of env and file")),
    };
    report.accept(key, resolved)
}

/// Else it may be the secret itself that stands here, and must not be shown.
fn is_variable_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether somebody may have put the secret itself where the name of its place belongs. It is then
/// not shown: logs of a start that failed are passed around.
fn could_be_secret(place: &str) -> bool {
    let has = |kind: fn(&char) -> bool| place.chars().any(|letter| kind(&letter));
    let is_path = place.starts_with(['/', '.', '~']);
    let is_name =
        place.contains('_') && !(has(char::is_ascii_lowercase) && has(char::is_ascii_uppercase));
    place.len() >= SHORTEST && !is_path && !is_name
}

fn present(secret: Secret, place: &str) -> Result<Secret, Fault> {
    if secret.expose().is_empty() {
        Err(Fault::new(format!("{place} is empty")))
    } else {
        Ok(secret)
    }
}

/// Refuses what can be guessed. Whoever knows the secret can be anybody.
pub(crate) fn strength(secret: &Secret) -> Result<(), Fault> {
    let text = secret.expose();
    let advice = "make one with `openssl rand -base64 32` and give it to every app that opens the \
                  cookie; for tests there is allow_weak_secret";
    if text.len() < SHORTEST {
        let message = format!("a secret of fewer than {SHORTEST} bytes can be guessed");
        return Err(Fault::new(message).hint(advice));
    }
    let letters: BTreeSet<char> = text.chars().collect();
    if letters.len() < FEWEST_LETTERS || PUBLISHED.contains(&text) || is_placeholder(text) {
        return Err(Fault::new("everybody knows this secret, or can guess it").hint(advice));
    }
    Ok(())
}

/// Bytes, as the contract has it.
const SHORTEST: usize = 16;

/// Different characters. Sixteen random bytes in hexadecimal have fewer than this once in
/// millions.
const FEWEST_LETTERS: usize = 6;

/// Whether it is the secret of our own demo and tests, whose file people begin with.
pub(crate) fn is_the_demo_s(secret: &Secret) -> bool {
    secret.expose() == "a-public-test-secret-do-not-use-0123456789"
}

/// Copied from documentation into many a repository.
const PUBLISHED: [&str; 4] = [
    "12345678901234567890123456789012",
    "LlKq6ZtYbr+hTC073mAmAh9/h2HwMfsFo4hrfCx5mLg=",
    "Ey7nTKnggBc0bRN8WUjyShw2qzOZ6KW4fUyqcKBePxY=",
    "INp8IvdIyeMcoGAgFGoA61DdBglwwSqnXJZkgz8PSnw",
];

/// Nothing but the words that people write where a secret belongs: `your-nextauth-secret`,
/// `This is an example`, `change_me_in_production_32`.
fn is_placeholder(text: &str) -> bool {
    let mut letters = text.to_ascii_lowercase();
    letters.retain(|letter| letter.is_ascii_alphabetic());
    if letters.is_empty() {
        return false;
    }
    let mut reachable = vec![false; letters.len() + 1];
    reachable[0] = true;
    for end in 1..=letters.len() {
        reachable[end] = PLACEHOLDER_WORDS
            .iter()
            .any(|word| letters[..end].ends_with(word) && reachable[end - word.len()]);
    }
    reachable[letters.len()]
}

const PLACEHOLDER_WORDS: [&str; 49] = [
    "a",
    "abc",
    "an",
    "and",
    "auth",
    "authjs",
    "base",
    "change",
    "char",
    "characters",
    "chars",
    "default",
    "dev",
    "development",
    "env",
    "example",
    "generate",
    "generated",
    "here",
    "in",
    "insert",
    "is",
    "it",
    "jwt",
    "key",
    "least",
    "local",
    "long",
    "me",
    "min",
    "my",
    "next",
    "nextauth",
    "openssl",
    "password",
    "please",
    "prod",
    "production",
    "rand",
    "random",
    "replace",
    "secret",
    "secure",
    "string",
    "super",
    "test",
    "this",
    "value",
    "your",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, message: Option<&str>) {
        let fault = strength(&Secret::new(text)).err().map(|fault| fault.message);
        assert_eq!(fault.as_deref(), message, "{text:?}");
    }

    #[test]
    fn short_secrets_are_refused() {
        let short = Some("a secret of fewer than 16 bytes can be guessed");
        check("secret", short);
        check("kY7#qP2!vB9$wX4", short);
        check("kY7#qP2!vB9$wX4z", None);
    }

    #[test]
    fn secrets_that_everybody_knows_are_refused() {
        let known = Some("everybody knows this secret, or can guess it");
        check("This is an example", known);
        check("your-nextauth-secret", known);
        check("your_generated_secret_here", known);
        check("dev-secret-change-me", known);
        check("openssl rand -base64 32", known);
        check("MY_SUPER_SECRET_KEY_123456789", known);
        check("LlKq6ZtYbr+hTC073mAmAh9/h2HwMfsFo4hrfCx5mLg=", known);
        check("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", known);
        check("12345678901234567890123456789012", known);
        check("abababababababab", known);
    }

    #[test]
    fn a_place_is_shown_unless_it_could_be_the_secret_itself() {
        let check =
            |place: &str, hidden: bool| assert_eq!(could_be_secret(place), hidden, "{place}");
        check("q9S0cW6oM2yV0v7VtV8uS1y2mN5zD3xKfJ4hL6pR8tU=", true);
        check("q9S0cW6oM2yV0v7V_V8uS1y2mN5zD3xKfJ4hL6pR8tU", true);
        check("0f3a9c1e5b7d28460f3a9c1e5b7d2846", true);
        check("correct horse battery staple", true);
        check("/run/secrets/nextauth-secret", false);
        check("./secrets/nextauth-secret", false);
        check("NEXTAUTH_SECRET", false);
        check("ACME_PRODUCTION_NEXTAUTH_SECRET_2", false);
        check("secret.txt", false);
    }

    #[test]
    fn random_secrets_pass() {
        check("q9S0cW6oM2yV0v7VtV8uS1y2mN5zD3xKfJ4hL6pR8tU=", None);
        check("0f3a9c1e5b7d2846", None);
        check("f0e1d2c3b4a5968778695a4b3c2d1e0f", None);
        check("a-public-test-secret-do-not-use-0123456789", None);
    }
}
