//! A ledger in a file, across the lives of its processes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use foregate_session::Secret;
use tokio::sync::mpsc;

use super::*;
use crate::ledger::fixtures::Directory;
use crate::ledger::{Ledger, LedgerAddress, LedgerError, Pair};
use crate::tokens::Tokens;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);

/// A ledger, and what it tells.
struct Opened {
    ledger: Ledger,
    told: mpsc::UnboundedReceiver<LedgerEvent>,
}

impl Opened {
    fn with(path: &Path, entries: usize) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let tell = move |event| drop(tell.send(event));
        let address = LedgerAddress::File(path.to_owned());
        let ledger = Ledger::open(&address, entries, DAY, &Handle::current(), tell).unwrap();
        Self { ledger, told }
    }

    fn at(path: &Path) -> Self {
        Self::with(path, 100)
    }

    /// The next process, as soon as the one before has let go.
    async fn after(before: Self, path: &Path) -> Self {
        drop(before);
        let mut opened = Self::at(path);
        while opened.ledger.state() != LedgerState::Good {
            opened.tells().await;
        }
        opened
    }

    async fn settle(&self, spent: &str, newest: &str, access_token: &str) {
        let tokens = Tokens {
            access_token: Secret::new(access_token),
            access_expires_at: None,
            refresh_token: Secret::new(newest),
            refresh_expires_at: None,
            id_token: None,
        };
        let until = NOW.saturating_add(DAY);
        self.ledger.settle(spent, Pair::new(tokens, NOW), false, NOW, until).await;
    }

    /// What the ledger says of a token.
    async fn says(&self, token: &str) -> String {
        match self.ledger.look(token, NOW).await {
            Ok(Some(Known::Pair(pair))) => pair.tokens.access_token.expose().to_owned(),
            Ok(Some(Known::SignedOut)) => "signed out".to_owned(),
            Ok(None) => "nothing".to_owned(),
            Err(fault) => fault.to_string(),
        }
    }

    async fn tells(&mut self) -> LedgerEvent {
        self.told.recv().await.unwrap()
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_cannot_be_read_without_a_token() {
    let directory = Directory::new();
    let file = directory.path("ledger.redb");
    let first = Opened::at(&file);
    first.settle("refresh-1", "refresh-2", "access-2").await;
    first.settle("refresh-2", "refresh-3", "access-3").await;
    first.settle("other-1", "other-2", "other-access").await;
    first.ledger.end("other-2", NOW, NOW.saturating_add(DAY)).await;

    let second = Opened::after(first, &file).await;
    assert_eq!((second.ledger.entries(), second.ledger.state()), (5, LedgerState::Good));
    for token in ["refresh-1", "refresh-2", "refresh-3"] {
        assert!(second.ledger.must_look(&Lineage::of(token), NOW));
        assert_eq!(second.says(token).await, "access-3");
        assert!(!second.ledger.must_look(&Lineage::of(token), NOW));
    }
    assert_eq!(second.says("other-1").await, "signed out");
    second.settle("refresh-3", "refresh-4", "access-4").await;
    assert_eq!(second.says("refresh-1").await, "access-4");

    let bytes = fs::read(&file).unwrap();
    for text in ["refresh-", "access-", "other-"] {
        let is_seen = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!is_seen, "{text}");
    }
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_second_process_waits_until_the_first_is_gone() {
    let directory = Directory::new();
    let file = directory.path("ledger.redb");
    let first = Opened::at(&file);
    first.settle("r1", "r2", "a2").await;
    let mut second = Opened::at(&file);
    let held = LedgerState::Waiting("another process holds the ledger's file".to_owned());
    assert_eq!(second.ledger.state(), held);
    assert_eq!(second.tells().await, LedgerEvent::State(held));
    assert_eq!(second.says("r1").await, "the ledger is not open");
    drop(first);
    assert_eq!(second.tells().await, LedgerEvent::State(LedgerState::Good));
    assert_eq!(second.says("r1").await, "a2");
}

#[tokio::test]
async fn what_is_written_while_another_process_has_the_file_is_not_lost() {
    let directory = Directory::new();
    let file = directory.path("ledger.redb");
    let first = Opened::at(&file);
    let mut second = Opened::at(&file);
    second.ledger.end("r1", NOW, NOW.saturating_add(DAY)).await;
    second.settle("s1", "s2", "a2").await;
    second.settle("s2", "s3", "a3").await;
    assert_eq!(second.says("r1").await, "signed out");
    drop(first);
    second.tells().await;
    assert_eq!(second.tells().await, LedgerEvent::State(LedgerState::Good));
    let third = Opened::after(second, &file).await;
    assert_eq!(
        (third.says("r1").await, third.says("s1").await),
        ("signed out".into(), "a3".into())
    );
}

#[tokio::test]
async fn what_is_no_ledger_is_moved_aside_and_never_emptied() {
    let directory = Directory::new();
    let file = directory.path("ledger.redb");
    let check = async |content: &[u8], expected: &str| {
        // Another file of the same name: the last one may still be on its way out.
        fs::remove_file(&file).unwrap_or_default();
        fs::write(&file, content).unwrap();
        let mut opened = Opened::at(&file);
        // A child that another test has just forked may hold the file for a moment.
        let (to, why) = loop {
            if let LedgerEvent::MovedAside { to, why } = opened.tells().await {
                break (to, why);
            }
        };
        assert!(why.starts_with(expected), "{why}");
        let name = to.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("ledger.redb.corrupt-"), "{name}");
        // redb notes in a file of its own that it has it open.
        let kept = fs::read(&to).unwrap();
        assert!(kept == content || kept.starts_with(b"redb") && kept.len() >= content.len());
        opened.settle("r1", "r2", "a2").await;
        assert_eq!(opened.ledger.state(), LedgerState::Good);
    };
    check(b"a letter to my aunt", "is no ledger").await;
    check(&[0; 100_000], "is no ledger").await;
    let whole = {
        let opened = Opened::at(&file);
        opened.settle("r1", "r2", "a2").await;
        drop(opened);
        fs::read(&file).unwrap()
    };
    check(&whole[..whole.len() / 2], "is").await;
    check(&foreign(&directory), "is another program's database").await;
    assert_eq!(directory.names().iter().filter(|name| name.contains("corrupt")).count(), 4);
}

/// redb panics on some of these.
#[tokio::test]
async fn a_page_that_is_lost_costs_the_file_and_never_the_process() {
    let directory = Directory::new();
    let file = directory.path("ledger.redb");
    let opened = Opened::at(&file);
    for number in 0..50 {
        opened.settle(&format!("{number}-1"), &format!("{number}-2"), "a").await;
    }
    drop(opened);
    let whole = fs::read(&file).unwrap();
    let pages = whole.chunks(PAGE).enumerate();
    for (number, _) in pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
        for lost in [0, 0xff] {
            let mut broken = whole.clone();
            broken.chunks_mut(PAGE).nth(number).unwrap().fill(lost);
            // Another file of the same name: the last one may still be on its way out.
            fs::remove_file(&file).unwrap_or_default();
            fs::write(&file, broken).unwrap();
            let mut opened = Opened::at(&file);
            while let LedgerState::Waiting(_) = opened.ledger.state() {
                opened.tells().await;
            }
            let _ = opened.ledger.look("7-1", NOW).await;
            opened.settle("r1", "r2", "a2").await;
            assert_eq!(opened.says("r1").await, "a2", "page {number}");
        }
    }
}

/// The size of redb's pages.
const PAGE: usize = 4096;

/// A redb database, but not a ledger.
fn foreign(directory: &Directory) -> Vec<u8> {
    let path = directory.path("foreign.redb");
    let database = redb::Database::create(&path).unwrap();
    let writing = database.begin_write().unwrap();
    let table: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("numbers");
    writing.open_table(table).unwrap().insert(1, 1).unwrap();
    writing.commit().unwrap();
    drop(database);
    fs::read(path).unwrap()
}

#[tokio::test]
async fn the_oldest_entries_of_a_file_go_first_and_are_counted() {
    let directory = Directory::new();
    let opened = Opened::with(&directory.path("ledger.redb"), 4);
    for session in ["a", "b", "c"] {
        opened.settle(&format!("{session}1"), &format!("{session}2"), session).await;
    }
    assert_eq!((opened.ledger.entries(), opened.ledger.forgotten()), (4, 2));
    let opened = Opened::after(opened, &directory.path("ledger.redb")).await;
    assert_eq!(opened.says("a1").await, "nothing");
    assert_eq!((opened.says("b1").await, opened.says("c2").await), ("b".into(), "c".into()));
}

#[tokio::test]
async fn what_has_ended_leaves_the_file() {
    let directory = Directory::new();
    let opened = Opened::at(&directory.path("ledger.redb"));
    opened.settle("a1", "a2", "a").await;
    let later = NOW.saturating_add(3 * DAY);
    opened.ledger.end("b1", later, later.saturating_add(DAY)).await;
    assert_eq!((opened.ledger.entries(), opened.ledger.forgotten()), (1, 0));
}

#[tokio::test]
async fn a_place_where_no_file_can_be_is_said_at_once() {
    let directory = Directory::new();
    let open = |path: &Path| {
        let address = LedgerAddress::File(path.to_owned());
        let opened = Ledger::open(&address, 9, DAY, &Handle::current(), |_| ());
        opened.err().map(|why| why.to_string())
    };
    let absent = directory.path("absent/ledger.redb");
    let expected = LedgerError::NoDirectory(directory.path("absent")).to_string();
    assert_eq!(open(&absent), Some(expected));
    let expected = LedgerError::IsDirectory(directory.as_ref().to_owned()).to_string();
    assert_eq!(open(directory.as_ref()), Some(expected));
}

#[tokio::test]
async fn many_writes_at_once_share_commits_and_none_is_lost() {
    let directory = Directory::new();
    let opened = Arc::new(Opened::with(&directory.path("ledger.redb"), 10_000));
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let opened = Arc::clone(&opened);
        let (spent, newest) = (format!("{number}-1"), format!("{number}-2"));
        writes.spawn(async move { opened.settle(&spent, &newest, &spent).await });
    }
    writes.join_all().await;
    assert_eq!(opened.ledger.entries(), 2000);
    for number in [0, 500, 999] {
        assert_eq!(opened.says(&format!("{number}-2")).await, format!("{number}-1"));
    }
}
