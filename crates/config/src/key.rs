//! Names a place in the configuration: `app[0].rule[1].path`.

use std::fmt;

/// The way from the root to a value. The empty one is the root itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Name(String),
    /// From 0.
    Index(usize),
}

impl Key {
    /// From names with dots between them; no indices.
    pub(crate) fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(|name| Step::Name(name.to_owned())).collect())
    }

    pub(crate) fn name(&self, name: &str) -> Self {
        self.then(Step::Name(name.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    pub(crate) fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// `None` for the root.
    pub(crate) fn split_last(&self) -> Option<(Self, &Step)> {
        let (last, parent) = self.0.split_last()?;
        Some((Self(parent.to_vec()), last))
    }

    /// Whether `self` is `other` or stands inside it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl FromIterator<Step> for Key {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self(steps.into_iter().collect())
    }
}

/// As TOML would write it, so names with other than letters, digits, `-` and `_` stand in quotes.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Name(name) => {
                    if place > 0 {
                        f.write_str(".")?;
                    }
                    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                    if !name.is_empty() && name.bytes().all(is_bare) {
                        f.write_str(name)?;
                    } else {
                        write!(f, "{name:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_toml_writes_it() {
        let rule = Key::of("app").index(0).name("rule").index(1);
        assert_eq!(rule.name("path").to_string(), "app[0].rule[1].path");
        let when = Key::of("backend.when").name("session.provider");
        assert_eq!(when.to_string(), r#"backend.when."session.provider""#);
        assert_eq!(Key::default().to_string(), "");
    }

    #[test]
    fn a_key_is_within_its_parents_and_itself() {
        let host = Key::of("app").index(0).name("host");
        assert!(host.is_within(&Key::of("app")));
        assert!(host.is_within(&host));
        assert!(!host.is_within(&Key::of("app").index(1)));
        assert!(!Key::of("app").is_within(&host));
    }
}
