//! The same where gates share a Redis: another one takes over, and one that stood still for too long
//! does no harm when it goes on.

use foregate_tests::RedisServer;

use super::*;

#[test]
fn with_redis_another_gate_and_the_next_one_know_what_the_table_says() {
    let redis = RedisServer::start();
    check("Redis", async |case| {
        let site = Site::start(case.lenient, redis.url()).await;
        let ada = site.visitor();
        let other = site.gate(None).await;
        let heard = site.end_a_gate(case, &ada).await;
        let next = site.gate(None).await;
        site.outcome(&[&other, &next], &ada, heard).await
    });
}

/// A gate that stops where it is told to, with a visitor; and another one beside it.
struct Standstill {
    site: Site,
    ada: Grant,
    stopped: Gate,
    other: Gate,
    visit: JoinHandle<Option<Answer>>,
    _redis: RedisServer,
}

impl Standstill {
    async fn at(step: &str, lenient: bool) -> Self {
        let redis = RedisServer::start();
        let site = Site::start(lenient, redis.url()).await;
        let (ada, other) = (site.visitor(), site.gate(None).await);
        let stopped = site.gate(Some(&format!("{step}:stop"))).await;
        let visit = visit(&stopped, &ada);
        until("it stands still", || is_stopped(&stopped)).await;
        Self { site, ada, stopped, other, visit, _redis: redis }
    }

    /// The token that a visitor of the other gate has.
    async fn other(&self) -> Option<String> {
        served(&self.other, &self.ada).await.seen_header("authorization")
    }

    /// Lets it go on, and says what a visitor gets there in the end.
    async fn goes_on(self) -> (Option<String>, Site) {
        self.stopped.signal("CONT");
        let first = self.visit.await.unwrap().expect("an answer");
        assert!([200, 503].contains(&first.status), "{}", first.text());
        let token = served(&self.stopped, &self.ada).await.seen_header("authorization");
        assert!(first.status == 503 || first.seen_header("authorization") == token);
        let other = served(&self.other, &self.ada).await.seen_header("authorization");
        assert_eq!(token, other, "and so does the other one");
        (token, self.site)
    }
}

fn is_stopped(gate: &Gate) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gate.pid())).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('T')
}

#[tokio::test]
async fn a_gate_that_stood_still_beyond_its_claim_sends_nothing_any_more() {
    for step in ["BeforeClaim", "Claimed", "BeforeSending"] {
        let still = Standstill::at(step, false).await;
        let token = still.other().await;
        assert!(token.is_some(), "{step}");
        let (same, site) = still.goes_on().await;
        let counters = site.backend.counters();
        assert_eq!((same, counters.attempts, counters.reuses), (token, 1, 0), "{step}");
    }
}

#[tokio::test]
async fn what_a_gate_says_too_late_does_not_replace_a_newer_pair() {
    for step in ["Answered", "BeforeScript"] {
        let still = Standstill::at(step, true).await;
        let token = still.other().await;
        assert!(token.is_some(), "{step}");
        let (same, site) = still.goes_on().await;
        let counters = site.backend.counters();
        assert_eq!((same, counters.redemptions), (token, 2), "{step}");
    }
}

#[tokio::test]
async fn a_gate_that_stood_still_after_its_word_has_lost_nothing() {
    for step in ["Scripted", "Settled", "Told"] {
        let still = Standstill::at(step, false).await;
        let token = still.other().await;
        assert!(token.is_some(), "{step}");
        let (same, site) = still.goes_on().await;
        let counters = site.backend.counters();
        assert_eq!((same, counters.attempts, counters.reuses), (token, 1, 0), "{step}");
    }
}
