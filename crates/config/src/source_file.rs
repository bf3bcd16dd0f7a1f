//! The files that a configuration came from, and whether they are still what they were.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A file that was read, and the digest of what was in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    path: PathBuf,
    /// `None`: it could not be read.
    digest: Option<[u8; 32]>,
}

impl SourceFile {
    pub(crate) fn new(path: &Path, contents: Option<&[u8]>) -> Self {
        let digest = contents.map(|contents| Sha256::digest(contents).into());
        Self { path: path.to_owned(), digest }
    }

    /// As the configuration names it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same file as it is now. Follows symbolic links anew, so a link that was turned to
    /// another file is a change. What is no regular file, such as a pipe, can be read once only
    /// and counts as unchanged.
    pub fn again(&self) -> Self {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if !metadata.is_file() => self.clone(),
            _ => Self::new(&self.path, std::fs::read(&self.path).ok().as_deref()),
        }
    }
}

/// Without the digest, by which a weak secret could be guessed.
impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({})", self.path.display())
    }
}
