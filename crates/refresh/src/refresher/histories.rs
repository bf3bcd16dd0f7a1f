//! Gates on a ledger outside of the process, against a model: whatever happens in whatever order,
//! no token is spent twice and every cookie that was ever sealed leads to the newest pair.

use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::fake::{ENTRIES, Fake, Gate, LIFE, Plan, REMEMBER};
use super::*;
use crate::ledger::fixtures::{Directory, RedisServer};
use crate::ledger::{LedgerAddress, LedgerState};

#[derive(Clone, Debug)]
enum Step {
    /// A request with a cookie of some age; it is kept waiting, or leaves at once.
    Visit {
        gate: usize,
        age: usize,
        leaves: bool,
    },
    Start {
        gate: usize,
        age: usize,
    },
    /// An app renews the newest cookie by itself, if nobody has yet.
    App {
        gate: usize,
    },
    /// The gate ends in good order, and another one takes its place.
    Restart {
        gate: usize,
    },
    /// Everybody's clock goes on.
    Pass(u64),
    /// The backend takes its time for the next answer, in milliseconds.
    Slow(u64),
}

fn step(gates: usize) -> impl Strategy<Value = Step> {
    let (gate, age) = (0..gates, 0..8_usize);
    prop_oneof![
        5 => (gate.clone(), age.clone(), any::<bool>())
            .prop_map(|(gate, age, leaves)| Step::Visit { gate, age, leaves }),
        2 => (gate.clone(), age).prop_map(|(gate, age)| Step::Start { gate, age }),
        1 => gate.clone().prop_map(|gate| Step::App { gate }),
        1 => gate.prop_map(|gate| Step::Restart { gate }),
        3 => (0..70_u64).prop_map(Step::Pass),
        2 => (0..20_u64).prop_map(Step::Slow),
    ]
}

async fn start(address: &LedgerAddress, fake: &Fake) -> Gate {
    let runtime = Handle::current();
    let ledger = Ledger::open(address, ENTRIES, REMEMBER, &runtime, |_| ()).unwrap();
    let gate = Gate::with(ledger, fake.clone(), runtime, 64);
    // The one before may take a moment to let go of its file.
    while gate.refresher.ledger_state() != LedgerState::Good {
        sleep(Duration::from_millis(1)).await;
    }
    gate
}

/// Lives through `steps`, and looks at what is left.
async fn live(address: &LedgerAddress, count: usize, steps: Vec<Step>) {
    let fake = Fake::default();
    let mut gates = Vec::new();
    for _ in 0..count {
        gates.push(start(address, &fake).await);
    }
    let mut cookies = vec![gates[0].session("ann")];
    let mut visits = JoinSet::new();
    for step in steps {
        match step {
            Step::Visit { gate, age, leaves } => {
                let visit = gates[gate].visit(&cookies[age % cookies.len()]);
                let visit = visits.spawn(visit);
                sleep(Duration::from_millis(1)).await;
                if leaves {
                    visit.abort();
                }
            }
            Step::Start { gate, age } => gates[gate].start(&cookies[age % cookies.len()]),
            Step::App { gate } => {
                let (gate, newest) = (&gates[gate], cookies.last().unwrap().clone());
                // A gate that is about to redeem it has no chance to know what the app does.
                for gate in &gates {
                    gate.refresher.drain().await;
                }
                let token = newest.refresh_token().unwrap();
                let is_live = fake.world().live.contains_key(token);
                if is_live {
                    let found = gate.renewed_elsewhere(&newest);
                    assert!(gate.refresher.adopt(&newest, &found, gate.now()).await);
                    cookies.push(found);
                }
            }
            Step::Restart { gate } => {
                let old = gates.remove(gate);
                old.refresher.drain().await;
                drop(old);
                gates.insert(gate, start(address, &fake).await);
            }
            Step::Pass(span) => {
                // What is under way would find itself in another minute.
                for gate in &gates {
                    gate.refresher.drain().await;
                }
                let mut world = fake.world();
                let now = world.clock.unwrap().now().saturating_add(Duration::from_secs(span));
                world.clock = Some(Clock::starting(now));
            }
            Step::Slow(span) => fake.plan([Plan::Slow(Duration::from_millis(span))]),
        }
        for gate in &gates {
            if let Some(tokens) = gate.refresher.settled(&cookies[0], gate.now()) {
                let newest = cookies[0].renewed(&tokens.as_new_tokens());
                if cookies.iter().all(|cookie| cookie.refresh_token() != newest.refresh_token()) {
                    cookies.push(newest);
                }
            }
        }
    }
    while let Some(visit) = visits.join_next().await {
        if let Ok(answer) = visit {
            assert!(answer.starts_with("ann-a"), "{answer}");
        }
    }
    for gate in &gates {
        gate.refresher.drain().await;
    }
    fake.world().plans.clear();
    fake.world().clock =
        Some(Clock::starting(gates[0].now().saturating_add(Duration::from_secs(2 * LIFE as u64))));
    let newest = gates[0].visit(&cookies[0]).await;
    assert!(newest.starts_with("ann-a"), "{newest}");
    for gate in &gates {
        for cookie in &cookies {
            assert_eq!(gate.visit(cookie).await, newest);
        }
    }
    assert_eq!(fake.world().reused, 0);
}

fn check(address: &LedgerAddress, count: usize, steps: Vec<Step>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(live(address, count, steps));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_history_of_a_gate_with_a_file_loses_a_token(
        steps in prop::collection::vec(step(1), 0..40),
    ) {
        let directory = Directory::new();
        check(&LedgerAddress::File(directory.path("ledger.redb")), 1, steps);
    }

    #[test]
    fn no_history_of_three_gates_with_redis_loses_a_token(
        steps in prop::collection::vec(step(3), 0..40),
    ) {
        let Some(redis) = RedisServer::start() else { return Ok(()) };
        check(&redis.address(), 3, steps);
    }
}
