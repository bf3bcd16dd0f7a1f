//! A store in a file, for one process at a time: what it has said survives the process.
//!
//! A redb database, with four tables: entries and records by their names, and the order of both by
//! their last writing. What is written while an earlier commit is on its way to the disk goes into
//! the next one as a whole, so that a thousand sessions which end at once do not wait for a thousand
//! flushes.

mod shade;
mod shelf;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use foregate_session::UnixSeconds;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableDatabase, StorageError};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::fail_point::fail_point;
use crate::ledger::seal::{self, MOVES, Page, Record};
use crate::ledger::write::{Sight, Told, Write};
use crate::ledger::{LedgerError, StoreFault};
use crate::lineage::{Lineage, Thread, TokenKeys};
use crate::remember::Remember;
use shade::Shade;
use shelf::{ENTRIES, META, RECORDS, Shelf};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct FileStore(Arc<Shared>);

struct Shared {
    path: PathBuf,
    limit: usize,
    /// How long an entry may be asked for after its last writing.
    remember: Remember,
    /// `None` while another process has the file, or after a fault.
    database: Mutex<Option<Arc<Database>>>,
    /// The disk takes nothing, and the file is only read.
    shaded: Mutex<Option<Shaded>>,
    queue: Mutex<Queue>,
    entries: AtomicUsize,
    forgotten: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    /// Somebody is at it, and will see what is added.
    is_served: bool,
}

struct Job {
    write: Write,
    now: UnixSeconds,
    answer: oneshot::Sender<Result<Told, StoreFault>>,
}

/// Why a file is only read, and when it is tried again at the earliest.
struct Shaded {
    why: String,
    until: Instant,
}

/// How an attempt to open the file ended.
pub(super) enum Opened {
    Ready,
    /// What stood there was no ledger of ours, or a broken one. It is kept under this name.
    MovedAside {
        to: PathBuf,
        why: String,
    },
    /// It can be asked, but takes nothing new.
    OnlyRead(StoreFault),
    No(StoreFault),
}

impl FileStore {
    /// Nothing is opened yet. An error means that no waiting will help.
    pub(super) fn new(path: &Path, limit: usize, remember: Duration) -> Result<Self, LedgerError> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if !directory.is_dir() {
            return Err(LedgerError::NoDirectory(directory.to_owned()));
        }
        if path.is_dir() {
            return Err(LedgerError::IsDirectory(path.to_owned()));
        }
        Ok(Self(Arc::new(Shared {
            path: path.to_owned(),
            // One redemption names two: the token it spent, and the new one.
            limit: limit.max(2),
            remember: Remember::new(remember),
            database: Mutex::new(None),
            shaded: Mutex::new(None),
            queue: Mutex::default(),
            entries: AtomicUsize::new(0),
            forgotten: AtomicU64::new(0),
        })))
    }

    /// Whether it can be asked, and takes what is new.
    pub(super) fn is_open(&self) -> bool {
        // One lock at a time.
        let is_only_read = self.0.shaded().is_some();
        !is_only_read && self.0.database().is_some()
    }

    /// Opens the file unless it is open. Blocks: after a crash the whole file is read.
    pub(super) fn open(&self) -> Opened {
        if self.is_open() {
            return Opened::Ready;
        }
        if let Some(fault) = self.0.still_shaded() {
            return Opened::OnlyRead(fault);
        }
        match self.0.open() {
            Ok(opened) => opened,
            Err(StoreFault::Failed(why)) => {
                let why = format!("{}: {why}", self.0.path.display());
                match self.0.shade(&why) {
                    true => Opened::OnlyRead(StoreFault::Refused(why)),
                    false => Opened::No(StoreFault::Failed(why)),
                }
            }
            Err(fault) => Opened::No(fault),
        }
    }

    /// What the store knows by a token.
    pub(super) async fn find(
        &self,
        token: TokenKeys,
        now: UnixSeconds,
    ) -> Result<Option<Told>, StoreFault> {
        let shared = Arc::clone(&self.0);
        let found = spawn_blocking(move || shared.unbroken(|| shared.find(&token, now))).await;
        found.unwrap_or_else(|_| Err(StoreFault::Failed("a look-up was cut off".to_owned())))
    }

    /// Writes, and answers once it is on the disk.
    pub(super) async fn write(&self, write: Write, now: UnixSeconds) -> Result<Told, StoreFault> {
        let (answer, told) = oneshot::channel();
        let must_serve = {
            let mut queue = self.0.queue();
            queue.jobs.push(Job { write, now, answer });
            !std::mem::replace(&mut queue.is_served, true)
        };
        if must_serve {
            let shared = Arc::clone(&self.0);
            spawn_blocking(move || shared.serve());
        }
        told.await.unwrap_or_else(|_| Err(StoreFault::Failed("a commit was cut off".to_owned())))
    }

    pub(super) fn remember(&self, span: Duration) {
        self.0.remember.set(span);
    }

    pub(super) fn entries(&self) -> usize {
        self.0.entries.load(Ordering::Relaxed)
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.0.forgotten.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn database(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<Opened, StoreFault> {
        match self.opened_or_broken() {
            Ok(entries) => {
                self.entries.store(entries, Ordering::Relaxed);
                Ok(Opened::Ready)
            }
            Err(Trouble::Store(fault)) => Err(fault),
            Err(Trouble::NotOurs(why)) => {
                let to = self.move_aside().map_err(|error| {
                    StoreFault::Failed(format!("{why}, and cannot be moved aside: {error}"))
                })?;
                let entries = self.opened_or_broken().map_err(|trouble| match trouble {
                    Trouble::Store(fault) => fault,
                    Trouble::NotOurs(why) => StoreFault::Failed(why),
                })?;
                self.entries.store(entries, Ordering::Relaxed);
                Ok(Opened::MovedAside { to, why })
            }
        }
    }

    fn opened_or_broken(&self) -> Result<usize, Trouble> {
        let opened = catch_unwind(AssertUnwindSafe(|| self.opened()));
        opened.unwrap_or_else(|_| {
            self.close();
            Err(Trouble::NotOurs(BROKEN.to_owned()))
        })
    }

    /// redb panics where a file that it has open is broken by somebody else. What is left of it is
    /// closed, and looked at when it is opened again.
    fn unbroken<T>(&self, work: impl FnOnce() -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            self.close();
            Err(StoreFault::Failed(format!("{}: {BROKEN}", self.path.display())))
        })
    }

    fn shaded(&self) -> MutexGuard<'_, Option<Shaded>> {
        self.shaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the file is only read for some more time. Else it is closed, to be opened anew.
    fn still_shaded(&self) -> Option<StoreFault> {
        let mut shaded = self.shaded();
        let still = shaded.as_ref().filter(|shaded| {
            let is_early = Instant::now() < shaded.until;
            is_early || self.database().is_some() && self.try_the_disk().is_err()
        });
        if let Some(still) = still {
            return Some(StoreFault::Refused(still.why.clone()));
        }
        if shaded.take().is_some() {
            self.close();
        }
        None
    }

    /// Whether as much as a commit needs could be written beside the file.
    fn try_the_disk(&self) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".try");
        let beside = Path::new(&beside);
        // Who may not make files here learns no more than by opening the ledger anew.
        let Ok(mut file) = File::create(beside) else { return Ok(()) };
        let tried = file.write_all(&[0; TRIED_BYTES]).and_then(|()| file.sync_all());
        fs::remove_file(beside)?;
        tried
    }

    /// Opens a file that cannot be written, only to be read. Says whether it worked.
    fn shade(&self, why: &str) -> bool {
        let shaded = catch_unwind(AssertUnwindSafe(|| -> Result<Database, Trouble> {
            let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
            let shade = Shade::over(FileBackend::new(file)?)?;
            let database =
                Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(shade)?;
            if !is_ours(&database)? {
                return Err(Trouble::NotOurs("is another program's database".to_owned()));
            }
            prepare(&database)?;
            Ok(database)
        }));
        let Ok(Ok(database)) = shaded else { return false };
        let until = Instant::now() + SHADED_FOR;
        *self.shaded() = Some(Shaded { why: why.to_owned(), until });
        *self.database() = Some(Arc::new(database));
        true
    }

    fn close(&self) {
        let database = self.database().take();
        // It writes once more at its end, and that may panic, too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }

    /// Opens the file, or makes it, and says how many entries it has.
    fn opened(&self) -> Result<usize, Trouble> {
        let file = open_file(&self.path)?;
        let is_new = file.metadata()?.len() == 0;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(FileBackend::new(file)?)?;
        if is_new {
            // Else a power cut could take the name of the file with it.
            if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty())
            {
                File::open(parent)?.sync_all()?;
            }
        } else if !is_ours(&database)? {
            return Err(Trouble::NotOurs("is another program's database".to_owned()));
        }
        let entries = prepare(&database)?;
        *self.database() = Some(Arc::new(database));
        Ok(entries)
    }

    /// Never over an earlier one.
    fn move_aside(&self) -> io::Result<PathBuf> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut seconds = now.as_secs();
        loop {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".corrupt-{seconds}"));
            let to = PathBuf::from(name);
            if !to.exists() {
                fs::rename(&self.path, &to)?;
                return Ok(to);
            }
            seconds += 1;
        }
    }

    fn ready(&self) -> Result<Arc<Database>, StoreFault> {
        self.database().clone().ok_or(StoreFault::NotOpen)
    }

    fn find(&self, token: &TokenKeys, now: UnixSeconds) -> Result<Option<Told>, StoreFault> {
        let database = self.ready()?;
        let found = (|| -> Result<Option<Told>, redb::Error> {
            let reading = database.begin_read()?;
            let (entries, records) = (reading.open_table(ENTRIES)?, reading.open_table(RECORDS)?);
            let Some(entry) = entries.get(token.name.as_bytes())? else { return Ok(None) };
            let Some(thread) = seal::open_entry(token, shelf::sealed(entry.value())) else {
                return Ok(None);
            };
            let (thread, record) = follow(thread, now, |name| {
                let page = records.get(name.as_bytes())?;
                Ok(page.map(|page| shelf::sealed(page.value()).to_vec()))
            })?;
            let (name, names, left) = (thread.name, vec![token.name], None);
            let told = |record| Told { name, record: Some(record), names, left, learnt: false };
            Ok(record.map(told))
        })();
        found.map_err(|error| self.failed(&database, error))
    }

    /// Writes whatever there is, until there is nothing more.
    fn serve(&self) {
        loop {
            let jobs = {
                let mut queue = self.queue();
                let count = queue.jobs.len().min(BATCH);
                if count == 0 {
                    queue.is_served = false;
                    return;
                }
                queue.jobs.drain(..count).collect::<Vec<_>>()
            };
            let told = self.unbroken(|| self.commit(&jobs));
            // Whoever has left wants no answer.
            match told {
                Ok(told) => {
                    for (job, told) in jobs.into_iter().zip(told) {
                        let _ = job.answer.send(Ok(told));
                    }
                }
                Err(fault) => {
                    for job in jobs {
                        let _ = job.answer.send(Err(fault.clone()));
                    }
                }
            }
        }
    }

    fn commit(&self, jobs: &[Job]) -> Result<Vec<Told>, StoreFault> {
        if let Some(shaded) = &*self.shaded() {
            return Err(StoreFault::Refused(shaded.why.clone()));
        }
        let database = self.ready()?;
        let mut forgotten = 0;
        let written = (|| -> Result<(Vec<Told>, usize), redb::Error> {
            let mut writing = database.begin_write()?;
            // Each commit takes a fifth longer, and after a crash the file need not be read whole.
            writing.set_quick_repair(true);
            let (mut told, mut count) = (Vec::with_capacity(jobs.len()), 0);
            {
                let mut entries = Shelf::entries(&writing)?;
                let mut records = Shelf::records(&writing)?;
                for job in jobs {
                    told.push(self.put(job, &mut entries, &mut records)?);
                }
                if let Some(job) = jobs.last() {
                    entries.sweep(job.now)?;
                    records.sweep(job.now)?;
                }
                forgotten += entries.pop_excess(self.limit)?;
                records.pop_excess(self.limit)?;
                count += entries.len()?;
            }
            fail_point!(BeforeCommit);
            writing.commit()?;
            fail_point!(Committed);
            Ok((told, count))
        })();
        let (told, count) = written.map_err(|error| self.failed(&database, error))?;
        self.entries.store(count, Ordering::Relaxed);
        self.forgotten.fetch_add(forgotten, Ordering::Relaxed);
        Ok(told)
    }

    fn put(
        &self,
        job: &Job,
        entries: &mut Shelf<'_>,
        records: &mut Shelf<'_>,
    ) -> Result<Told, redb::Error> {
        let Job { write, now, .. } = job;
        let sight = |token: &TokenKeys| -> Result<Sight, redb::Error> {
            let entry = entries.get(token.name)?;
            let thread = entry.and_then(|entry| seal::open_entry(token, &entry));
            let thread = thread.unwrap_or_else(|| token.thread.clone());
            let (thread, record) = follow(thread, *now, |name| records.get(name))?;
            // A name and its record are written at once.
            Ok(Sight { thread, record, is_named: false })
        };
        let (old, new) = (sight(&write.token)?, write.other().map(sight).transpose()?);
        let puts = write.puts(old, new);
        let until = write.until.max(now.saturating_add(self.remember.span()));
        if let Some((thread, page)) = &puts.page {
            records.put(thread.name, page.until(until), &seal::seal_page(thread, page))?;
        }
        for (token, thread) in &puts.entries {
            entries.put(token.name, until, &seal::seal_entry(token, thread))?;
        }
        Ok(puts.told)
    }

    /// After a fault redb wants the file to be opened anew.
    fn failed(&self, failed: &Arc<Database>, error: redb::Error) -> StoreFault {
        let mut database = self.database();
        if database.as_ref().is_some_and(|database| Arc::ptr_eq(database, failed)) {
            *database = None;
        }
        StoreFault::Failed(format!("{}: {error}", self.path.display()))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// The record of a session, wherever it has gone on, unless it has ended.
fn follow(
    mut thread: Thread,
    now: UnixSeconds,
    page: impl Fn(Lineage) -> Result<Option<Vec<u8>>, redb::Error>,
) -> Result<(Thread, Option<Record>), redb::Error> {
    for _ in 0..MOVES {
        let sealed = page(thread.name)?;
        match sealed.and_then(|sealed| seal::open_page(&thread, &sealed)) {
            Some(Page::Moved(to)) => thread = to,
            Some(Page::Record(record)) if record.until > now => return Ok((thread, Some(record))),
            Some(Page::Record(_)) | None => break,
        }
    }
    Ok((thread, None))
}

/// Why a file did not open.
enum Trouble {
    Store(StoreFault),
    NotOurs(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Store(StoreFault::Failed(error.to_string()))
    }
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Corrupted(why) => Self::NotOurs(format!("is broken: {why}")),
            // What redb says of a file that does not begin as its files do.
            StorageError::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::NotOurs(format!("is no ledger: {error}"))
            }
            error => Self::Store(StoreFault::Failed(error.to_string())),
        }
    }
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::Store(StoreFault::Held),
            DatabaseError::Storage(error) => error.into(),
            error => Self::NotOurs(format!("is no ledger of this version: {error}")),
        }
    }
}

impl From<redb::Error> for Trouble {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(why) => Self::NotOurs(format!("is broken: {why}")),
            redb::Error::Io(error) => error.into(),
            error @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. }) => {
                Self::NotOurs(format!("is another program's database: {error}"))
            }
            error => Self::Store(StoreFault::Failed(error.to_string())),
        }
    }
}

/// Nobody but its owner may read the file, though it is sealed.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Whether a database that was there already is a ledger of this format.
fn is_ours(database: &Database) -> Result<bool, Trouble> {
    let reading = database.begin_read().map_err(redb::Error::from)?;
    let meta = match reading.open_table(META) {
        Ok(meta) => meta,
        // A process that died in its first moment leaves a database without tables.
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let mut tables = reading.list_tables().map_err(redb::Error::from)?;
            return Ok(tables.next().is_none());
        }
        Err(error) => return Err(redb::Error::from(error).into()),
    };
    let format = meta.get("format").map_err(redb::Error::from)?;
    Ok(format.is_some_and(|format| format.value() == FORMAT))
}

/// Makes the tables, where they are not there yet, and counts the entries.
fn prepare(database: &Database) -> Result<usize, Trouble> {
    let count = || -> Result<usize, redb::Error> {
        let mut writing = database.begin_write()?;
        writing.set_quick_repair(true);
        let count = {
            writing.open_table(META)?.insert("format", FORMAT)?;
            Shelf::records(&writing)?;
            Shelf::entries(&writing)?.len()?
        };
        writing.commit()?;
        Ok(count)
    };
    Ok(count()?)
}

const BROKEN: &str = "is broken: what it holds cannot be read";
/// Of what the tables hold, and how it is sealed.
const FORMAT: u64 = 1;
/// How often it is tried to write to a disk that took nothing.
const SHADED_FOR: Duration = Duration::from_secs(1);
/// A small file grows by this much.
const TRIED_BYTES: usize = 1 << 20;
/// redb would take up to 1 GiB.
const CACHE_BYTES: usize = 32 << 20;
/// How many writes go into one commit at most, so that the first of them need not wait for long.
const BATCH: usize = 512;
