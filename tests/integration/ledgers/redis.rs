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
