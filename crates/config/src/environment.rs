//! What the process was given beside the file: variables, the files that it names, the time.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::thread::available_parallelism;

use foregate_session::UnixSeconds;

/// Variables, files and the number of CPUs, so that nothing else here asks the machine.
pub struct Environment {
    variables: BTreeMap<String, String>,
    files: Files,
    cpus: usize,
    now: Option<UnixSeconds>,
}

enum Files {
    OnDisk,
    Given(BTreeMap<String, String>),
}

impl Environment {
    /// The real one. A variable that is not Unicode is left out.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let cpus = available_parallelism().map_or(1, usize::from);
        Self { variables, files: Files::OnDisk, cpus, now: None }
    }

    /// With the time by which certificates are judged; without it none is.
    #[must_use]
    pub fn at(self, now: UnixSeconds) -> Self {
        Self { now: Some(now), ..self }
    }

    /// These variables, no files and one CPU: for tests.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables =
            pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables, files: Files::Given(BTreeMap::new()), cpus: 1, now: None }
    }

    /// Adds a file that the configuration may name, in place of the disk.
    pub fn with_file(mut self, path: &str, text: &str) -> Self {
        let mut files = match self.files {
            Files::OnDisk => BTreeMap::new(),
            Files::Given(files) => files,
        };
        files.insert(path.to_owned(), text.to_owned());
        self.files = Files::Given(files);
        self
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub(crate) fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match &self.files {
            Files::OnDisk => fs::read(Path::new(path)),
            Files::Given(files) => {
                let text = files.get(path).ok_or(io::ErrorKind::NotFound)?;
                Ok(text.clone().into_bytes())
            }
        }
    }

    /// Why the file at `path`, there or not, could not be written. One that is there stays as it
    /// is; in place of one that is not, another is made for a moment.
    pub(crate) fn try_to_write(&self, path: &Path) -> io::Result<()> {
        if matches!(self.files, Files::Given(_)) {
            return Ok(());
        }
        if path.try_exists()? {
            return OpenOptions::new().append(true).open(path).map(drop);
        }
        let probe = path.with_file_name(format!(".foregate-check-{}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&probe) {
            Ok(_) => fs::remove_file(probe),
            // Somebody else's in another container: files can be made here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn cpus(&self) -> usize {
        self.cpus
    }

    pub(crate) fn now(&self) -> Option<UnixSeconds> {
        self.now
    }
}
