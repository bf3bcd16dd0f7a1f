//! One gate and its memory, against a model: no order of events loses a token.

use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::fake::{Gate, LIFE, Plan, seconds, settle};
#[derive(Clone, Debug)]
enum Step {
    /// A request with a cookie of some age; it is kept waiting, or leaves at once.
    Visit {
        age: usize,
        leaves: bool,
    },
    Start {
        age: usize,
    },
    /// An app renews the newest cookie by itself, if nobody has yet.
    App,
    Pass(u64),
    Plan(Plan),
}

fn step() -> impl Strategy<Value = Step> {
    let plan = prop_oneof![
        (0..12_u64).prop_map(|span| Plan::Slow(seconds(span))),
        (0..4_u64).prop_map(|span| Plan::LoseRequest(seconds(span))),
        Just(Plan::NeverSent),
        Just(Plan::Panic),
        Just(Plan::Say(500, String::new())),
        (0..40_u64).prop_map(|span| Plan::Later(seconds(span))),
    ];
    prop_oneof![
        4 => (0..8_usize, any::<bool>()).prop_map(|(age, leaves)| Step::Visit { age, leaves }),
        1 => (0..8_usize).prop_map(|age| Step::Start { age }),
        1 => Just(Step::App),
        3 => (0..70_u64).prop_map(Step::Pass),
        2 => plan.prop_map(Step::Plan),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// As long as the backend does what it says and its answers arrive within [`PATIENCE`], no
    /// order of events spends a token twice, and a quiet moment later every cookie ever sealed
    /// gets the one newest pair.
    #[test]
    fn no_order_of_events_loses_a_token(steps in prop::collection::vec(step(), 0..60)) {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let gate = Gate::new();
            let mut cookies = vec![gate.session("ann")];
            let mut visits = JoinSet::new();
            for step in steps {
                match step {
                    Step::Visit { age, leaves } => {
                        let cookie = &cookies[age % cookies.len()];
                        let handle = visits.spawn(gate.visit(cookie));
                        settle().await;
                        if leaves {
                            handle.abort();
                        }
                    }
                    Step::Start { age } => gate.start(&cookies[age % cookies.len()]),
                    Step::App => {
                        let newest = cookies.last().unwrap();
                        let is_live = gate.fake.world().live.contains_key(newest.refresh_token().unwrap());
                        if is_live {
                            let found = gate.renewed_elsewhere(newest);
                            assert!(gate.refresher.adopt(newest, &found, gate.now()).await);
                            cookies.push(found);
                        }
                    }
                    Step::Pass(span) => sleep(seconds(span)).await,
                    Step::Plan(plan) => gate.fake.plan([plan]),
                }
                let oldest = &cookies[0];
                if let Some(tokens) = gate.refresher.settled(oldest, gate.now()) {
                    let newest = oldest.renewed(&tokens.as_new_tokens());
                    if cookies.iter().all(|cookie| cookie.refresh_token() != newest.refresh_token()) {
                        cookies.push(newest);
                    }
                }
            }
            while let Some(visit) = visits.join_next().await {
                if let Ok(answer) = visit {
                    assert!(answer.starts_with("ann-a") || answer.contains("again in"), "{answer}");
                }
            }
            gate.fake.world().plans.clear();
            gate.refresher.drain().await;
            sleep(seconds(40 + LIFE as u64)).await;
            let newest = gate.visit(&cookies[0]).await;
            assert!(newest.starts_with("ann-a"), "{newest}");
            for cookie in &cookies {
                assert_eq!(gate.visit(cookie).await, newest);
            }
            assert_eq!(gate.reused(), 0);
        });
    }
}
