//! A file ledger whose disk is not well.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use foregate_tests::{Directory, program};

use super::*;

fn file_ledger(file: &Path) -> String {
    format!("file:{}", file.display())
}

/// A gate that is told of a file that would grow too large, in place of being ended.
async fn gate(site: &Site, ledger: &str) -> Gate {
    let directory = Directory::new("program");
    let script = directory.join("foregate");
    let text = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", program().display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
    let config = site.config(ledger, &site.backend.refresh_url());
    Gate::start_program(&script, &config, &[]).await
}

/// From now on the gate can write no byte of a file, or as many as it likes.
fn disk_is_full(gate: &Gate, is_full: bool) {
    let size = if is_full { "--fsize=1:unlimited" } else { "--fsize=unlimited" };
    let prlimit = Command::new("prlimit").args([size, "--pid", &gate.pid().to_string()]).status();
    assert!(prlimit.unwrap().success(), "prlimit is a part of util-linux");
}

#[tokio::test]
async fn a_full_disk_is_named_and_signs_nobody_out() {
    let (site, directory) = (Site::start().await, Directory::new("full"));
    let ledger = file_ledger(&directory.ledger());
    let early = session_cookie(&site.grant("ada", ENDED));
    {
        // What this one has learnt is in the file alone.
        let mut before = gate(&site, &ledger).await;
        let browser = Browser::new(before.address());
        browser.set_cookies("example.com", &early);
        assert_eq!(dashboard(&browser).await.status, 200);
        before.signal("KILL");
        before.ended().await;
    }
    let mut first = gate(&site, &ledger).await;
    let (ada, bob) = (site.grant("ada", ENDED), site.grant("bob", LIFE));
    let adas = bearer(&first, &ada).await;

    disk_is_full(&first, true);
    let carl = site.grant("ada", ENDED);
    let carls = bearer(&first, &carl).await;
    told(&first, &format!("[!] ledger {ledger}")).await;
    let (status, verbose) = readiness(&first).await;
    assert!(status == 200 && verbose.contains("File too large"), "{verbose}");
    first.logged(|log| log.contains("new tokens are in this process alone")).await;
    bearer(&first, &bob).await;
    assert_eq!(bearer(&first, &carl).await, carls, "what is not on the disk is here");
    assert_eq!(bearer(&first, &ada).await, adas);
    // The file is still read, so that the gate knows whose token nobody has spent yet.
    let dora = site.grant("ada", ENDED);
    let doras = bearer_at_last(&first, &dora).await;
    let old = Browser::new(first.address());
    old.set_cookies("example.com", &early);
    assert_eq!(dashboard(&old).await.status, 200);
    assert_eq!(site.counted(), (4, 4, 0));

    disk_is_full(&first, false);
    let began = Instant::now();
    told(&first, &format!("[+] ledger {ledger}")).await;
    let until = began.elapsed();
    first.signal("KILL");
    first.ended().await;
    let second = gate(&site, &ledger).await;
    for (grant, token) in [(&ada, adas), (&carl, carls), (&dora, doras)] {
        assert_eq!(bearer(&second, grant).await, token, "it was written when there was room");
    }
    assert_eq!(site.counted(), (4, 4, 0));
    site.tell("file: disk full", 0, Instant::now() - until);
}

/// As when a volume is not there yet.
#[tokio::test]
async fn a_file_that_cannot_be_made_is_named_and_waited_for() {
    let (site, directory) = (Site::start().await, Directory::new("unmade"));
    let volume = directory.join("volume");
    std::os::unix::fs::symlink(volume.join("ledger.redb"), directory.ledger()).unwrap();
    let ledger = file_ledger(&directory.ledger());
    let gate = gate(&site, &ledger).await;
    let (ada, bob) = (site.grant("ada", ENDED), site.grant("bob", LIFE));
    let browser = visitor(&gate, &ada);
    let before = cookies(&browser);
    assert_put_off(&browser, before.as_deref(), &dashboard(&browser).await);
    bearer(&gate, &bob).await;
    let (status, verbose) = readiness(&gate).await;
    assert!(status == 503 && verbose.contains("No such file or directory"), "{verbose}");
    assert_eq!(site.counted(), (0, 0, 0));

    fs::create_dir(&volume).unwrap();
    let began = Instant::now();
    bearer_at_last(&gate, &ada).await;
    told(&gate, "\nready").await;
    assert_eq!(site.counted(), (1, 1, 0));
    site.tell("file: no volume at the start", 0, began);
}

/// `/sys` takes no file from anybody, which root's rights would get past elsewhere.
#[tokio::test]
async fn a_directory_that_takes_no_file_is_named() {
    let site = Site::start().await;
    let gate = gate(&site, "file:/sys/ledger.redb").await;
    let (ada, bob) = (site.grant("ada", ENDED), site.grant("bob", LIFE));
    let browser = visitor(&gate, &ada);
    let before = cookies(&browser);
    assert_put_off(&browser, before.as_deref(), &dashboard(&browser).await);
    bearer(&gate, &bob).await;
    let (status, verbose) = readiness(&gate).await;
    assert!(status == 503 && verbose.contains("[-] ledger file:/sys/ledger.redb"), "{verbose}");
    gate.logged(|log| log.contains("waiting for the ledger")).await;
    assert_eq!(site.counted(), (0, 0, 0));
}

/// What has gone wrong with a file is noticed at the latest when it is opened again. Then it is moved
/// aside, and whoever has the newest cookie stays.
#[tokio::test]
async fn a_file_that_is_broken_under_a_running_gate_signs_nobody_out_of_it() {
    for (what, break_it) in
        [("cut short", cut_short as fn(&Path)), ("emptied", emptied), ("overwritten", overwritten)]
    {
        let (site, directory) = (Site::start().await, Directory::new("broken"));
        let ledger = file_ledger(&directory.ledger());
        let mut first = gate(&site, &ledger).await;
        let ada = site.grant("ada", ENDED);
        let newest = visitor(&first, &ada);
        assert_eq!(dashboard(&newest).await.status, 200);
        break_it(&directory.ledger());
        let carl = site.grant("ada", ENDED);
        let carls = bearer(&first, &carl).await;
        assert_eq!(bearer(&first, &carl).await, carls, "{what}");
        bearer(&first, &ada).await;
        assert_eq!(site.counted(), (2, 2, 0), "{what}");
        first.signal("TERM");
        first.ended().await;

        let began = Instant::now();
        let second = gate(&site, &ledger).await;
        let dora = site.grant("ada", ENDED);
        bearer_at_last(&second, &dora).await;
        // What is cut off may be room that nothing stood in yet.
        if what != "cut short" {
            second.logged(|log| log.contains("was moved aside")).await;
        }
        let again = Browser::new(second.address());
        again.set_cookies("example.com", &cookies(&newest).unwrap());
        assert_eq!(dashboard(&again).await.status, 200, "{what}: the newest cookie is good");
        assert_eq!(site.counted(), (3, 3, 0), "{what}");
        site.tell(&format!("file: {what} under a running gate"), 0, began);
    }
}

fn cut_short(file: &Path) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn emptied(file: &Path) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(0).unwrap();
}

fn overwritten(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    // In place: the running gate has this very file open.
    let mut open = fs::OpenOptions::new().write(true).open(file).unwrap();
    std::io::Write::write_all(&mut open, &vec![b'x'; length as usize]).unwrap();
}
