//! Apps that hang up on a request which is too large for them.

use foregate_stage::{Origin, Script, Step};
use foregate_tests::{Browser, Request};

use super::{ANY, before};
use crate::world::APP;

#[tokio::test]
async fn a_visitor_who_sends_too_much_makes_no_upstream_a_bad_one() {
    let (one, other) = (Origin::start(ANY).await.unwrap(), Origin::start(ANY).await.unwrap());
    for origin in [&one, &other] {
        origin.script("/public/big", Script::early([Step::Close]));
    }
    let gate = before(&format!("[\"{}\", \"{}\"]", one.url(), other.url())).await;
    let big = vec![b'x'; 8 << 20];
    for _ in 0..8 {
        let post = Request::new("POST", &format!("{APP}/public/big")).body(big.clone());
        let answer = Browser::new(gate.address()).send(&post).await;
        assert_eq!(
            (answer.status, &answer.json()["reason"]),
            (502, &"upload_cut_off".into()),
            "{}",
            answer.text()
        );
    }
    let (before_one, before_other) = (one.seen().len(), other.seen().len());
    for _ in 0..4 {
        let answer = Browser::new(gate.address()).fetch(&format!("{APP}/public/x")).await;
        assert_eq!(answer.status, 200);
    }
    let turns = (one.seen().len() - before_one, other.seen().len() - before_other);
    assert_eq!(turns, (2, 2), "nobody was passed over");
}
