//! Where a claim stands: `session.user.id`, `access_token.realm_access.roles`.

use std::fmt;

/// The way to one claim, in the session's payload or in that of the access token inside it.
///
/// Steps are member names, separated by dots. A name that holds a dot itself stands in double
/// quotes: `session."https://example.com/roles"`. List items have no path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClaimPath {
    pub(crate) root: Root,
    /// Not empty, and no step is.
    pub(crate) steps: Vec<Box<str>>,
}

/// Which payload a path begins in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Root {
    Session,
    AccessToken,
}

impl ClaimPath {
    /// Reads a path that begins with `session.` or `access_token.`.
    pub fn parse(text: &str) -> Result<Self, ClaimPathError> {
        let (root, steps) = if let Some(steps) = text.strip_prefix("session.") {
            (Root::Session, steps)
        } else if let Some(steps) = text.strip_prefix("access_token.") {
            (Root::AccessToken, steps)
        } else {
            return Err(ClaimPathError::UnknownRoot);
        };
        Ok(Self { root, steps: parse_steps(steps)? })
    }

    /// Reads a path that is meant within the session's payload: `user.accessToken`.
    pub fn in_session(text: &str) -> Result<Self, ClaimPathError> {
        Ok(Self { root: Root::Session, steps: parse_steps(text)? })
    }
}

fn parse_steps(text: &str) -> Result<Vec<Box<str>>, ClaimPathError> {
    let mut steps = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let step;
        (step, rest) = if let Some(quoted) = text.strip_prefix('"') {
            let (step, after) = quoted.split_once('"').ok_or(ClaimPathError::OpenQuote)?;
            match after.strip_prefix('.') {
                Some(more) => (step, Some(more)),
                None if after.is_empty() => (step, None),
                None => return Err(ClaimPathError::OpenQuote),
            }
        } else {
            text.split_once('.').map_or((text, None), |(step, more)| (step, Some(more)))
        };
        if step.is_empty() {
            return Err(ClaimPathError::EmptyStep);
        }
        steps.push(step.into());
    }
    Ok(steps)
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.root {
            Root::Session => "session",
            Root::AccessToken => "access_token",
        })?;
        for step in &self.steps {
            if step.contains('.') {
                write!(f, ".\"{step}\"")?;
            } else {
                write!(f, ".{step}")?;
            }
        }
        Ok(())
    }
}

/// Why a text is no claim path. The words continue a sentence that begins with the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimPathError {
    #[error("begins with neither `session.` nor `access_token.`")]
    UnknownRoot,
    #[error("has an empty step")]
    EmptyStep,
    #[error("has a quote that does not end at a dot or at the end")]
    OpenQuote,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_root_and_steps() {
        let check = |text: &str, root: Root, steps: &[&str]| {
            let path = ClaimPath::parse(text).unwrap();
            assert_eq!((path.root, path.steps.len()), (root, steps.len()), "{text}");
            assert!(path.steps.iter().zip(steps).all(|(is, wanted)| **is == **wanted), "{text}");
            assert_eq!(path.to_string(), text);
        };
        check("session.role", Root::Session, &["role"]);
        check("session.user.id", Root::Session, &["user", "id"]);
        check("access_token.realm_access.roles", Root::AccessToken, &["realm_access", "roles"]);
        check("session.\"https://a.b/roles\".x", Root::Session, &["https://a.b/roles", "x"]);
        assert_eq!(
            ClaimPath::in_session("user.accessToken").unwrap().to_string(),
            "session.user.accessToken"
        );
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let check = |text: &str, error| assert_eq!(ClaimPath::parse(text), Err(error), "{text}");
        check("", ClaimPathError::UnknownRoot);
        check("session", ClaimPathError::UnknownRoot);
        check("user.id", ClaimPathError::UnknownRoot);
        check("session.", ClaimPathError::EmptyStep);
        check("session.a..b", ClaimPathError::EmptyStep);
        check("session.a.", ClaimPathError::EmptyStep);
        check("session.\"\"", ClaimPathError::EmptyStep);
        check("session.\"a", ClaimPathError::OpenQuote);
        check("session.\"a\"b", ClaimPathError::OpenQuote);
    }
}
