//! Gates that share a Redis.

use foregate_tests::RedisServer;
use tokio::task::JoinSet;

use super::*;

#[tokio::test]
async fn a_storm_on_two_gates_is_one_redemption() {
    let (site, redis) = (Site::start().await, RedisServer::start());
    let gates = [site.gate(&redis.url()).await, site.gate(&redis.url()).await];
    let ada = site.grant("ada", ENDED);
    site.backend.fail(Fault::Delay(Duration::from_millis(300)));
    let mut visits = JoinSet::new();
    for number in 0..300 {
        let browser = visitor(&gates[number % 2], &ada);
        visits.spawn(async move {
            let answer = browser.fetch(&format!("{APP}/dashboard")).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.seen_header("authorization")
        });
    }
    let tokens = visits.join_all().await;
    assert!(tokens.iter().all(|token| token.is_some() && *token == tokens[0]));
    assert_eq!(site.counted(), (1, 0));
    for gate in &gates {
        assert_eq!(Some(bearer(gate, &ada).await), tokens[0], "a late one");
    }
    assert_eq!(site.counted(), (1, 0));
}

#[tokio::test]
async fn a_sign_out_on_one_gate_holds_on_the_other() {
    let (site, redis) = (Site::start().await, RedisServer::start());
    let (here, there) = (site.gate(&redis.url()).await, site.gate(&redis.url()).await);
    let ada = site.grant("ada", ENDED);
    assert_eq!(bearer(&here, &ada).await, bearer(&there, &ada).await);
    sign_out(&visitor(&here, &ada)).await;
    let late = visitor(&there, &ada);
    let mut answer = late.fetch(&format!("{APP}/dashboard")).await;
    // The news need a moment, but no more than that.
    for _ in 0..100 {
        if answer.status == 401 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = visitor(&there, &ada).fetch(&format!("{APP}/dashboard")).await;
    }
    assert_eq!((answer.status, site.counted()), (401, (1, 0)));
}

#[tokio::test]
async fn a_public_path_takes_what_another_gate_has_found() {
    let (site, redis) = (Site::start().await, RedisServer::start());
    let (here, there) = (site.gate(&redis.url()).await, site.gate(&redis.url()).await);
    let ada = site.grant("ada", ENDED);
    let newest = bearer(&here, &ada).await;
    told(&there, "[+] ledger redis://").await;
    assert_eq!(public_bearer(&there, &ada).await, Some(newest));
    assert_eq!(site.counted(), (1, 0));
}

#[tokio::test]
async fn a_request_whose_token_is_fresh_touches_no_ledger() {
    let (site, redis) = (Site::start().await, RedisServer::start());
    let gate = site.gate(&redis.url()).await;
    told(&gate, "[+] ledger redis://").await;
    // Redis counts by command. Each look begins with a GET, and so does each writing; a gate that
    // nobody visits makes sure of its connection in other ways.
    let asked = || {
        let counted = redis.say(&["INFO", "commandstats"]);
        let lines = counted.lines().filter(|line| {
            ["cmdstat_get:", "cmdstat_eval"].iter().any(|name| line.starts_with(name))
        });
        lines.map(|line| line.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = asked();
    let bob = site.grant("bob", LIFE);
    for _ in 0..50 {
        bearer(&gate, &bob).await;
        public_bearer(&gate, &bob).await;
    }
    assert_eq!(asked(), before, "a hundred requests with a fresh token");
    bearer(&gate, &site.grant("ada", ENDED)).await;
    assert_ne!(asked(), before, "one with an ended token");
    assert_eq!(site.counted(), (1, 0));
}

#[tokio::test]
async fn without_redis_the_gates_go_on_and_redis_is_used_again_when_it_is_back() {
    let (site, redis) = (Site::start().await, RedisServer::start());
    let (here, there) = (site.gate(&redis.url()).await, site.gate(&redis.url()).await);
    let (ada, bob, carl) =
        (site.grant("ada", ENDED), site.grant("bob", LIFE), site.grant("ada", ENDED));
    let newest = bearer(&here, &ada).await;
    let port = redis.port();
    drop(redis);
    told(&here, "[!] ledger redis://").await;
    assert_eq!(readiness(&here).await.0, 200, "it can still serve");
    bearer(&here, &bob).await;
    assert_eq!(bearer(&here, &ada).await, newest, "what the gate knew it knows");
    let carls = bearer(&here, &carl).await;
    assert_eq!(site.counted(), (2, 0));

    let redis = RedisServer::start_at(port);
    told(&here, "[+] ledger redis://").await;
    told(&there, "[+] ledger redis://").await;
    assert_eq!(bearer(&there, &carl).await, carls, "and what happened meanwhile is told");
    assert_eq!(site.counted(), (2, 0));
    drop(redis);
}

#[tokio::test]
async fn a_session_life_that_is_reloaded_counts_for_what_is_written_from_then_on() {
    let (site, redis) = (Site::start().await, RedisServer::start());
    let gate = site.gate(&redis.url()).await;
    let text = std::fs::read_to_string(gate.config_file()).unwrap();
    let text = text.replacen("[session]\n", "[session]\nmax_age = \"1h\"\n", 1);
    std::fs::write(gate.config_file(), text).unwrap();
    gate.signal("HUP");
    gate.logged(|log| log.contains("\"reloaded\"")).await;
    bearer(&gate, &site.grant("ada", ENDED)).await;
    let records = redis.say(&["KEYS", "foregate:*:record"]);
    let life: u64 = redis.say(&["TTL", records.trim()]).trim().parse().unwrap();
    assert!((3500..=3600).contains(&life), "{life} s");
}
