//! A directory of a test's own.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A new one among the temporary files. It goes when this is dropped, with all that is in it.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// `name` is for whoever looks at what a test that was killed has left behind.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foregate-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the temporary directory takes another");
        Self(path)
    }

    /// Writes a file into it, and says where that is.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the temporary directory takes a file");
        path
    }

    /// Where a file ledger would be.
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger.redb")
    }
}

impl Deref for Directory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind in the temporary directory hurts nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
