//! A store in Redis, for any number of processes.
//!
//! ```text
//! foregate:entry:<name of a token>     sealed: the thread of its session
//! foregate:{<name of a record>}:record sealed: the newest pair, or "signed out"
//! foregate:{<name of a record>}:claim  who redeems the session's token now
//! foregate:news                        a channel: which record has changed, how a claim ended
//! ```
//!
//! A record may say instead in which other one the session goes on.
//!
//! Each script has the keys of one record, which share a slot of a Redis Cluster. A record is
//! replaced only by who has seen the one before ([`REPLACE`]), so whoever comes late decides anew
//! on what he finds, with the same rules as every other ledger. Entries are written before the
//! record that they lead to: a crash between the two leaves names that lead nowhere yet.
//!
//! A claim ends by itself after one and a half of the backend's time-outs, and is renewed while its
//! holder lives. So it outlives each call, and a dead holder is replaced before two of them are
//! over. Whoever waits for a claim is woken by the news, and asks again now and then, should they be
//! lost.

mod claim;
mod link;
mod scripts;
mod words;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use foregate_session::UnixSeconds;
use redis::{PushInfo, PushKind, RedisError, RedisResult, Value, cmd};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::fail_point::fail_point;
use crate::ledger::StoreFault;
use crate::ledger::address::RedisAddress;
use crate::ledger::seal::{self, MOVES, Page};
use crate::ledger::write::{Puts, Sight, Told, Write};
use crate::lineage::{Lineage, TokenKeys};
use crate::remember::Remember;
use link::{Links, PATIENCE};
use scripts::{REPLACE, REPLACE_ENTRY};

use claim::Word;
pub(crate) use claim::{Claim, ClaimEnd, Claimed, Waiting};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct RedisStore(Arc<Shared>);

struct Shared {
    address: RedisAddress,
    /// How long an entry may be asked for after its last writing.
    remember: Remember,
    /// Our mark on news, by which we know our own.
    origin: [u8; 8],
    links: watch::Sender<Connection>,
    /// Who waits for the end of a claim on a record.
    waiters: Mutex<HashMap<Lineage, watch::Sender<Option<Word>>>>,
    /// Until when no replica is waited for, in milliseconds since `began`: one that is too slow
    /// must not hold up everybody.
    unreplicated_until: AtomicU64,
    /// How many writes no replica has confirmed, though there are replicas.
    unreplicated: AtomicU64,
    began: Instant,
}

#[derive(Clone)]
enum Connection {
    /// The first attempt is under way.
    NotYet,
    Open(Links),
    Away,
}

/// What the other processes tell, for as long as the connection lasts.
pub(super) struct News {
    store: RedisStore,
    pushes: UnboundedReceiver<PushInfo>,
    next_heartbeat: Instant,
}

/// What [`News::next`] brings.
pub(super) enum Heard {
    /// Somebody else has written a record.
    Changed(Lineage),
    /// No news, but the connection works; or why Redis takes nothing new.
    Heartbeat(Option<StoreFault>),
}

/// Without a password.
impl fmt::Display for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.address.fmt(f)
    }
}

impl RedisStore {
    pub(super) fn new(address: RedisAddress, remember: Duration) -> Self {
        Self(Arc::new(Shared {
            address,
            remember: Remember::new(remember),
            origin: random(),
            links: watch::Sender::new(Connection::NotYet),
            waiters: Mutex::default(),
            unreplicated_until: AtomicU64::new(0),
            unreplicated: AtomicU64::new(0),
            began: Instant::now(),
        }))
    }

    /// Connects, and hears the news from then on. Says, too, why Redis takes nothing new, if it does
    /// not.
    pub(super) async fn connect(&self) -> Result<(News, Option<StoreFault>), StoreFault> {
        let (news, pushes) = unbounded_channel();
        let opening = Links::open(&self.0.address, CHANNEL, news);
        let opened = match timeout(3 * PATIENCE, opening).await {
            Ok(opened) => opened.map_err(|error| self.fault(&error)),
            Err(_) => Err(StoreFault::Failed(format!("{} does not answer", self.0.address))),
        };
        match opened {
            Ok((links, refusal)) => {
                self.0.links.send_replace(Connection::Open(links));
                let next_heartbeat = Instant::now() + HEARTBEAT;
                let news = News { store: self.clone(), pushes, next_heartbeat };
                Ok((news, refusal.map(|error| self.fault(&error))))
            }
            Err(fault) => {
                self.0.links.send_replace(Connection::Away);
                Err(fault)
            }
        }
    }

    pub(super) fn remember(&self, span: Duration) {
        self.0.remember.set(span);
    }

    /// What the store knows by a token.
    pub(super) async fn find(
        &self,
        token: &TokenKeys,
        now: UnixSeconds,
    ) -> Result<Option<Told>, StoreFault> {
        let links = self.links().await?;
        let sight = self.sight(&links, token, now).await.map_err(|error| self.fell(&error))?;
        Ok(sight.record.map(|record| {
            let (name, names) = (sight.thread.name, vec![token.name]);
            Told { name, record: Some(record), names, left: None, learnt: false }
        }))
    }

    /// Writes, tells the others, and waits for a replica where there is one.
    pub(super) async fn write(&self, write: &Write, now: UnixSeconds) -> Result<Told, StoreFault> {
        let mut links = self.links().await?;
        let written = self.replace(&mut links, write, now).await;
        let told = written.map_err(|error| self.fell(&error))?;
        fail_point!(Scripted.await);
        self.replicated(&mut links, &told).await;
        fail_point!(Replicated.await);
        Ok(told)
    }

    async fn replace(
        &self,
        links: &mut Links,
        write: &Write,
        now: UnixSeconds,
    ) -> RedisResult<Told> {
        let mut write = write.clone();
        loop {
            let (puts, is_done) = self.replace_what_is_seen(links, &write, now).await?;
            if is_done && !puts.is_half {
                return Ok(puts.told);
            }
            // Some of it may be there, and others may have gone on from it.
            if puts.told.learnt {
                write.goes_on();
            }
            // Somebody was quicker: decide once more, on what is there now.
            if !is_done {
                write.comes_late();
            }
        }
    }

    /// Says, too, whether it is done. Else what was seen has changed meanwhile, and all or a part of
    /// it is still to be written.
    async fn replace_what_is_seen(
        &self,
        links: &mut Links,
        write: &Write,
        now: UnixSeconds,
    ) -> RedisResult<(Puts, bool)> {
        let looking = self.look(links.clone(), &write.token, now);
        let (old, new) = match write.other() {
            Some(other) => {
                let (old, new) = tokio::join!(looking, self.look(links.clone(), other, now));
                (old?, Some(new?))
            }
            None => (looking.await?, None),
        };
        let puts = write.puts(old.sight.clone(), new.as_ref().map(|new| new.sight.clone()));
        let until = write.until.max(now.saturating_add(self.0.remember.span()));
        for (token, thread) in &puts.entries {
            let is_old = token.name == write.token.name;
            let seen = if is_old { Some(&old) } else { new.as_ref() };
            let (sealed, life) = (seal::seal_entry(token, thread), life_ms(until, now));
            let is_named = match seen {
                Some(seen) => {
                    let named: u8 = REPLACE_ENTRY
                        .key(entry_key(token.name))
                        .arg(nonce(&seen.entry))
                        .arg(sealed)
                        .arg(life)
                        .invoke_async(&mut links.writes)
                        .await?;
                    named == 1
                }
                // It leads there already, and is to do so for longer.
                None => {
                    let mut set = cmd("SET");
                    set.arg(entry_key(token.name)).arg(sealed).arg("PX").arg(life);
                    set.query_async::<()>(&mut links.writes).await?;
                    true
                }
            };
            if !is_named {
                return Ok((puts, false));
            }
        }
        let Some((thread, page)) = &puts.page else { return Ok((puts, true)) };
        let seen = match &new {
            // Of one record there may be two views: what is decided depends on the first.
            Some(new) if old.sight.thread.name != thread.name => &new.page,
            _ => &old.page,
        };
        fail_point!(BeforeScript.await);
        let changed: Option<Vec<u8>> = REPLACE
            .key(record_key(thread.name))
            .arg(nonce(seen))
            .arg(seal::seal_page(thread, page))
            .arg(life_ms(page.until(until), now))
            .arg(CHANNEL)
            .arg(self.message(CHANGED, thread.name))
            .invoke_async(&mut links.writes)
            .await?;
        Ok((puts, changed.is_none()))
    }

    /// The session of a token, as it stands in the store.
    async fn look(
        &self,
        mut links: Links,
        token: &TokenKeys,
        now: UnixSeconds,
    ) -> RedisResult<Seen> {
        let (mut get_entry, mut get_record) = (cmd("GET"), cmd("GET"));
        get_entry.arg(entry_key(token.name));
        // A token that nobody has an entry for may be the first of its session.
        get_record.arg(record_key(token.thread.name));
        let (mut one, mut two) = (links.quick.clone(), links.quick.clone());
        let (entry, first) = tokio::join!(
            get_entry.query_async::<Option<Vec<u8>>>(&mut one),
            get_record.query_async::<Option<Vec<u8>>>(&mut two)
        );
        let entry: Vec<u8> = entry?.unwrap_or_default();
        let thread = seal::open_entry(token, &entry);
        let is_named = thread.is_some();
        let (mut thread, sealed) = match thread {
            Some(thread) if thread.name != token.thread.name => {
                let key = record_key(thread.name);
                (thread, cmd("GET").arg(key).query_async(&mut links.quick).await?)
            }
            _ => (token.thread.clone(), first?),
        };
        let mut sealed: Vec<u8> = Option::unwrap_or_default(sealed);
        let mut page = seal::open_page(&thread, &sealed);
        for _ in 0..MOVES {
            let Some(Page::Moved(to)) = page else { break };
            let key = record_key(to.name);
            let moved: Option<Vec<u8>> = cmd("GET").arg(key).query_async(&mut links.quick).await?;
            (thread, sealed) = (to, moved.unwrap_or_default());
            page = seal::open_page(&thread, &sealed);
        }
        let record = match page {
            Some(Page::Record(record)) if record.until > now => Some(record),
            Some(_) | None => None,
        };
        Ok(Seen { sight: Sight { thread, record, is_named }, entry, page: sealed })
    }

    async fn sight(
        &self,
        links: &Links,
        token: &TokenKeys,
        now: UnixSeconds,
    ) -> RedisResult<Sight> {
        Ok(self.look(links.clone(), token, now).await?.sight)
    }

    /// Waits until replicas have what was told. The pair is written in any case; what is lost without
    /// them is the promise for a failover.
    async fn replicated(&self, links: &mut Links, told: &Told) {
        let elapsed = || u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let is_paused = elapsed() < self.0.unreplicated_until.load(Ordering::Relaxed);
        let records = [Some(told.name), told.left].into_iter().flatten().map(record_key);
        let entries = told.names.iter().map(|token| entry_key(*token));
        if !is_paused {
            let keys: Vec<String> = entries.chain(records).collect();
            if matches!(links.replicated(&keys).await, Ok(true)) {
                return;
            }
            self.0.unreplicated_until.store(elapsed() + REPLICA_PAUSE_MS, Ordering::Relaxed);
        }
        self.0.unreplicated.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unreplicated(&self) -> u64 {
        self.0.unreplicated.load(Ordering::Relaxed)
    }

    /// Whether it can be asked something.
    pub(super) fn is_open(&self) -> bool {
        matches!(*self.0.links.borrow(), Connection::Open(_))
    }

    /// The open connections. Waits for the first attempt, so that nobody redeems at the start what
    /// another process has redeemed.
    async fn links(&self) -> Result<Links, StoreFault> {
        let mut links = self.0.links.subscribe();
        let tried = links.wait_for(|links| !matches!(links, Connection::NotYet)).await;
        match tried.as_deref() {
            Ok(Connection::Open(links)) => Ok(links.clone()),
            Ok(Connection::NotYet | Connection::Away) | Err(_) => Err(StoreFault::NotOpen),
        }
    }

    /// Waits until the first attempt to connect is over.
    pub(super) async fn tried(&self) {
        drop(self.links().await);
    }

    /// A call has failed. Unless Redis only takes nothing new, whoever hears the news closes and
    /// connects anew.
    fn fell(&self, error: &RedisError) -> StoreFault {
        let fault = self.fault(error);
        if !matches!(fault, StoreFault::Refused(_)) {
            self.0.links.send_replace(Connection::Away);
        }
        fault
    }

    fn fault(&self, error: &RedisError) -> StoreFault {
        let why = format!("{}: {}", self.0.address, words::in_words(error));
        match link::refuses_writes(error) {
            true => StoreFault::Refused(why),
            false => StoreFault::Failed(why),
        }
    }

    fn waiters(&self) -> MutexGuard<'_, HashMap<Lineage, watch::Sender<Option<Word>>>> {
        self.0.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn message(&self, kind: u8, record: Lineage) -> Vec<u8> {
        [&[kind][..], &self.0.origin, record.as_bytes()].concat()
    }

    /// Takes in a message: wakes who waits for it, and says what has changed.
    fn hear(&self, message: &[u8]) -> Option<Lineage> {
        let (kind, message) = message.split_first()?;
        let (origin, message) = message.split_first_chunk::<8>()?;
        let (record, proof) = message.split_first_chunk::<32>()?;
        let record = Lineage::from_bytes(*record);
        let end = match *kind {
            CHANGED | RELEASED => ClaimEnd::Settled,
            REFUSED => ClaimEnd::Refused,
            FAILED => ClaimEnd::Failed,
            _ => return None,
        };
        if let Some(waiter) = self.waiters().get(&record) {
            waiter.send_replace(Some(Word { end, proof: proof.to_owned() }));
        }
        (*kind == CHANGED && *origin != self.0.origin).then_some(record)
    }
}

impl News {
    /// The next thing that is heard. An error is the end of the connection.
    pub(super) async fn next(&mut self) -> Result<Heard, StoreFault> {
        loop {
            let mut links = self.store.0.links.subscribe();
            let fallen = async {
                drop(links.wait_for(|links| !matches!(links, Connection::Open(_))).await);
            };
            let push = tokio::select! {
                push = self.pushes.recv() => push,
                _ = fallen => None,
                () = sleep_until(self.next_heartbeat) => {
                    self.next_heartbeat = Instant::now() + HEARTBEAT;
                    return self.look_around().await;
                }
            };
            let gone = || {
                let why = format!("{} has closed the connection", self.store);
                StoreFault::Failed(why)
            };
            let push = push.ok_or_else(gone)?;
            match (push.kind, push.data.into_iter().nth(1)) {
                (PushKind::Message, Some(Value::BulkString(message))) => {
                    if let Some(record) = self.store.hear(&message) {
                        return Ok(Heard::Changed(record));
                    }
                }
                (PushKind::Disconnection, _) => return Err(gone()),
                _ => {}
            }
        }
    }

    async fn look_around(&self) -> Result<Heard, StoreFault> {
        let mut links = self.store.links().await?;
        let refusal = links.look_around().await.map_err(|error| self.store.fell(&error))?;
        // It may have got its first replica, or lost its last one.
        self.store.0.links.send_if_modified(|connection| match connection {
            Connection::Open(open) => {
                *open = links;
                false
            }
            Connection::NotYet | Connection::Away => false,
        });
        Ok(Heard::Heartbeat(refusal.map(|error| self.store.fault(&error))))
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.store.0.links.send_replace(Connection::Away);
    }
}

/// A token's session, and the bytes of the token's entry and of the session's page: empty where there
/// are none.
struct Seen {
    sight: Sight,
    entry: Vec<u8>,
    page: Vec<u8>,
}

/// By what a script knows what was seen.
fn nonce(seen: &[u8]) -> &[u8] {
    seen.get(..seal::NONCE_BYTES).unwrap_or_default()
}

fn entry_key(token: Lineage) -> String {
    format!("foregate:entry:{}", BASE64URL.encode(token.as_bytes()))
}

fn record_key(record: Lineage) -> String {
    format!("foregate:{{{}}}:record", BASE64URL.encode(record.as_bytes()))
}

fn claim_key(record: Lineage) -> String {
    format!("foregate:{{{}}}:claim", BASE64URL.encode(record.as_bytes()))
}

fn life_ms(until: UnixSeconds, now: UnixSeconds) -> u64 {
    until.since(now).as_secs().clamp(1, LONGEST_LIFE_S) * 1000
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

const CHANNEL: &str = "foregate:news";
/// The kinds of messages.
const CHANGED: u8 = b'c';
const RELEASED: u8 = b'd';
const REFUSED: u8 = b'r';
const FAILED: u8 = b'f';
/// How soon a connection that has died in silence is noticed.
const HEARTBEAT: Duration = Duration::from_secs(1);
const REPLICA_PAUSE_MS: u64 = 5_000;
/// A hundred years, since Redis refuses what overflows.
const LONGEST_LIFE_S: u64 = 100 * 365 * 86_400;
