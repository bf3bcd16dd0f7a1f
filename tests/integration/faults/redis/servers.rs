//! A Redis of several servers of which one is not well.

use foregate_tests::redis_cluster;

use super::*;

#[tokio::test]
async fn a_failover_by_sentinel_loses_no_session() {
    let mut master = RedisServer::start();
    let replica = master.replica().await;
    let sentinel = master.sentinel();
    sentinel.says(&["SENTINEL", "REPLICAS", "main"], &replica.port().to_string()).await;
    let pair = Pair::on(&format!("redis+sentinel://{}/main", sentinel.host())).await;
    master.kill();
    let alone = pair.goes_on_alone("failover", "redis+sentinel://").await;
    replica.says(&["ROLE"], "master").await;
    pair.is_well_again("failover", alone).await;
}

#[tokio::test]
async fn slots_of_a_cluster_that_move_lose_no_session() {
    let nodes = RedisServer::cluster(3, 0).await;
    let ledger = format!("redis+cluster://{},{}", nodes[0].host(), nodes[1].host());
    let pair = Pair::on(&ledger).await;
    let before: Vec<Grant> = (0..20).map(|_| pair.site.grant("ada", ENDED)).collect();
    let mut tokens = Vec::new();
    for grant in &before {
        tokens.push(bearer(&pair.here, grant).await);
    }
    // A third of all slots, with what they hold, while visitors come.
    let owner = nodes[0].say(&["CLUSTER", "MYID"]);
    let host = nodes[0].host();
    let owner = owner.trim().to_owned();
    let began = Instant::now();
    let moving = tokio::task::spawn_blocking(move || {
        let to = ["--cluster-from", "all", "--cluster-to", &owner, "--cluster-slots", "5000"];
        redis_cluster(&[&["reshard", &host][..], &to].concat());
    });
    let mut met = 0;
    while !moving.is_finished() {
        let carl = pair.site.grant("ada", ENDED);
        assert_eq!(
            bearer_at_last(&pair.here, &carl).await,
            bearer_at_last(&pair.there, &carl).await
        );
        met += 1;
    }
    moving.await.unwrap();
    let third = pair.site.gate(&ledger).await;
    for (grant, token) in before.iter().zip(&tokens) {
        assert_eq!(&bearer(&third, grant).await, token);
        assert_eq!(&bearer(&pair.there, grant).await, token);
    }
    assert_eq!(pair.site.counted(), (21 + met, 21 + met, 0));
    for gate in [&pair.here, &pair.there, &third] {
        told(gate, "[+] ledger redis+cluster").await;
    }
    pair.site.tell(&format!("redis: 5,000 slots moved, {met} sessions meanwhile"), 0, began);
}

#[tokio::test]
async fn a_cluster_whose_master_fails_goes_on_with_its_replica() {
    let mut nodes = RedisServer::cluster(3, 1).await;
    let ledger = format!("redis+cluster://{},{}", nodes[0].host(), nodes[4].host());
    let pair = Pair::on(&ledger).await;
    let before: Vec<Grant> = (0..12).map(|_| pair.site.grant("ada", ENDED)).collect();
    let mut tokens = Vec::new();
    for grant in &before {
        tokens.push(bearer(&pair.here, grant).await);
    }
    nodes[1].kill();
    let (bob, began) = (pair.site.grant("bob", LIFE), Instant::now());
    bearer(&pair.here, &bob).await;
    println!("a good token, a Cluster's master killed: {} ms", began.elapsed().as_millis());
    let during: Vec<Grant> = (0..12).map(|_| pair.site.grant("ada", ENDED)).collect();
    for grant in &during {
        tokens.push(bearer_at_last(&pair.here, grant).await);
    }
    println!("12 ended tokens, one after the other: {} ms", began.elapsed().as_millis());
    assert_eq!(pair.site.counted(), (25, 25, 0));
    for node in [&nodes[0], &nodes[2]] {
        node.says(&["CLUSTER", "INFO"], "cluster_state:ok").await;
    }
    let began = Instant::now();
    for gate in [&pair.here, &pair.there] {
        told(gate, "[+] ledger redis+cluster").await;
    }
    let until = began.elapsed();
    for (grant, token) in before.iter().chain(&during).zip(&tokens) {
        assert_eq!(&bearer_at_last(&pair.there, grant).await, token);
    }
    assert_eq!(pair.site.counted(), (25, 25, 0));
    pair.site.tell("redis: a Cluster's master killed", 0, Instant::now() - until);
}

/// Nobody waits for long, since the pair is written; but a failover may lose it now.
#[tokio::test]
async fn a_replica_that_stands_still_is_named() {
    let master = RedisServer::start();
    let replica = master.replica().await;
    let pair = Pair::on(&master.url()).await;
    assert!(!readiness(&pair.here).await.1.contains("no replica has confirmed"));
    replica.signal("STOP");
    let began = Instant::now();
    bearer(&pair.here, &pair.site.grant("ada", ENDED)).await;
    println!("an ended token, without a replica's word: {} ms", began.elapsed().as_millis());
    told(&pair.here, "1 writes that no replica has confirmed").await;
    replica.signal("CONT");
    assert_eq!(pair.site.counted(), (2, 2, 0));
}

/// Each pair is on two servers before anybody hears of it, whichever slots it is in.
#[tokio::test]
async fn the_masters_of_a_cluster_are_asked_for_the_word_of_their_replicas() {
    let nodes = RedisServer::cluster(3, 1).await;
    let pair = Pair::on(&format!("redis+cluster://{}", nodes[0].host())).await;
    for _ in 0..10 {
        bearer(&pair.here, &pair.site.grant("ada", ENDED)).await;
    }
    let verbose = readiness(&pair.here).await.1;
    assert!(!verbose.contains("no replica has confirmed"), "{verbose}");
    let masters = nodes.iter().filter(|node| node.say(&["ROLE"]).starts_with("master"));
    assert_eq!(masters.count(), 3);
    for node in nodes.iter().filter(|node| node.say(&["ROLE"]).starts_with("slave")) {
        node.signal("STOP");
    }
    bearer(&pair.here, &pair.site.grant("ada", ENDED)).await;
    told(&pair.here, "1 writes that no replica has confirmed").await;
    assert_eq!(pair.site.counted(), (12, 12, 0));
}

/// Without replicas there is nobody to ask.
#[tokio::test]
async fn a_cluster_without_replicas_is_not_found_fault_with() {
    let nodes = RedisServer::cluster(3, 0).await;
    let pair = Pair::on(&format!("redis+cluster://{}", nodes[0].host())).await;
    bearer(&pair.here, &pair.site.grant("ada", ENDED)).await;
    told(&pair.here, "[+] ledger redis+cluster").await;
    assert!(!readiness(&pair.here).await.1.contains("no replica has confirmed"));
}
