//! Processes that were alone with one session tell the ledger in any order what they did: that
//! changes nothing of what it says in the end.

use std::time::Duration;

use foregate_session::UnixSeconds;
use tokio::runtime::Handle;

use super::fixtures::RedisServer;
use super::tests::{DAY, NOW, assert_all, check, pair};
use super::{Ledger, LedgerState, Pair};

/// A link of the chain r0, r1, r2 …, by the number of the token that is spent for the next one; or
/// a sign-out with a token.
#[derive(Clone, Copy, Debug)]
enum Told {
    Redeemed(usize),
    Adopted(usize),
    SignedOut(usize),
}

const UNTIL: UnixSeconds = UnixSeconds(NOW.0 + 86_400);
/// Besides the first one, which everybody knows.
const LINKS: usize = 3;
const TOKENS: usize = LINKS + 2;

/// What the ledger says of each token in the end, whoever tells it when.
async fn assert_said(ledger: &Ledger, case: &str, told: &[Told], expected: &str) {
    let token = |number: usize| format!("{case} r{number}");
    let bought = |spent: usize| pair(&token(spent + 1), &format!("{case} a{}", spent + 1));
    ledger.settle(&token(0), bought(0), false, NOW, UNTIL).await;
    for told in told {
        match *told {
            Told::Redeemed(spent) => {
                ledger.settle(&token(spent), bought(spent), false, NOW, UNTIL).await;
            }
            Told::Adopted(spent) => {
                assert!(ledger.adopt(&token(spent), bought(spent), NOW, UNTIL).await, "{case}");
            }
            Told::SignedOut(token_number) => ledger.end(&token(token_number), NOW, UNTIL).await,
        }
    }
    let tokens: Vec<String> = (0..TOKENS).map(token).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    assert_all(ledger, &tokens, Some(expected)).await;
}

fn orders() -> Vec<[usize; LINKS]> {
    vec![[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]]
}

#[test]
fn a_chain_that_is_told_in_any_order_leads_to_its_end() {
    check(async |ledger| {
        for order in orders() {
            // Which of the links an app has made by itself.
            for apps in 0..1 << LINKS {
                let told = order.map(|spent| match apps >> (spent - 1) & 1 {
                    0 => Told::Redeemed(spent),
                    _ => Told::Adopted(spent),
                });
                let case = format!("{told:?}");
                assert_said(ledger, &case, &told, &format!("{case} a{}", TOKENS - 1)).await;
            }
        }
    });
}

#[test]
fn a_sign_out_amid_a_chain_that_is_told_in_any_order_ends_all_of_it() {
    check(async |ledger| {
        for order in orders() {
            for (place, token) in
                (0..=LINKS).flat_map(|place| [0, 2, LINKS + 1].map(move |it| (place, it)))
            {
                let mut told = order.map(Told::Redeemed).to_vec();
                told.insert(place, Told::SignedOut(token));
                assert_said(ledger, &format!("{told:?}"), &told, "signed out").await;
            }
        }
    });
}

/// Whether a session has been brought together or not, a word of it is heard by all.
#[test]
fn what_was_brought_together_stays_together() {
    check(async |ledger| {
        let bought = |number: usize| pair(&format!("r{number}"), &format!("a{number}"));
        for spent in [1, 4, 3, 2, 5] {
            let (token, until) = (format!("r{spent}"), NOW.saturating_add(DAY));
            ledger.settle(&token, bought(spent + 1), false, NOW, until).await;
        }
        assert_all(ledger, &["r1", "r2", "r3", "r4", "r5", "r6"], Some("a6")).await;
        ledger.settle("r6", bought(7), false, NOW, UNTIL).await;
        assert_all(ledger, &["r1", "r3", "r4", "r6", "r7"], Some("a7")).await;
        ledger.end("r1", NOW, UNTIL).await;
        assert_all(ledger, &["r1", "r2", "r4", "r6", "r7"], Some("signed out")).await;
    });
}

/// A pair that was obtained so many seconds later.
fn later_pair(refresh_token: &str, access_token: &str, seconds: usize) -> Pair {
    let obtained_at = NOW.saturating_add(Duration::from_secs(seconds as u64));
    Pair { obtained_at, ..pair(refresh_token, access_token) }
}

/// Each process has a link of its own to tell, and all begin at once.
#[tokio::test]
async fn processes_that_tell_at_the_same_moment_lose_nothing() {
    let Some(redis) = RedisServer::start() else { return };
    let open = || Ledger::open(&redis.address(), 10_000, DAY, &Handle::current(), |_| ()).unwrap();
    let ledgers = [open(), open(), open()];
    for round in 0..60 {
        let token = |number: usize| format!("{round} r{number}");
        let bought =
            |spent: usize| later_pair(&token(spent + 1), &format!("{round} a{}", spent + 1), spent);
        if round % 2 == 0 {
            ledgers[0].settle(&token(0), bought(0), false, NOW, UNTIL).await;
        }
        let tell = async |spent: usize, by_app: bool| {
            let ledger = &ledgers[spent - 1];
            match by_app {
                true => drop(ledger.adopt(&token(spent), bought(spent), NOW, UNTIL).await),
                false => drop(ledger.settle(&token(spent), bought(spent), false, NOW, UNTIL).await),
            }
        };
        let is_ended = round % 5 == 4;
        let end = async {
            if is_ended {
                ledgers[round % 3].end(&token(1 + round % 4), NOW, UNTIL).await;
            }
        };
        // An app's word ends no session that others have gone on with.
        let by_app = |spent: usize| !is_ended && round % 4 == spent;
        tokio::join!(tell(1, by_app(1)), tell(2, by_app(2)), tell(3, by_app(3)), end);
        let fresh = open();
        let expected = if is_ended { "signed out".to_owned() } else { format!("{round} a4") };
        let tokens: Vec<String> = (1..=4).map(token).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        assert_all(&fresh, &tokens, Some(&expected)).await;
        assert_eq!(fresh.state(), LedgerState::Good);
    }
}
