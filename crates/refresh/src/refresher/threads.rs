//! Visitors on several threads, and redemptions that are cut off.

use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::fake::{Gate, LIFE, Plan, START, seconds, told};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_redemption_that_is_cut_off_leaves_the_place_to_the_next() {
    let gate = Gate::new();
    let ann = gate.session("ann");
    gate.fake.plan([Plan::Panic]);
    assert_eq!(gate.visit(&ann).await, "the redemption was cut off, again in 1 s");
    gate.refresher.drain().await;
    assert_eq!(gate.visit(&ann).await, "ann-a1");
}

#[test]
fn without_its_runtime_a_refresher_says_so() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let gate = Gate::on(runtime.handle().clone(), 64);
    drop(runtime);
    let others = Builder::new_current_thread().build().unwrap();
    let answer = others.block_on(gate.visit(&gate.session("ann")));
    assert_eq!(answer, "the redemption was cut off, again in 1 s");
}

#[test]
fn waiters_may_sit_on_other_runtimes() {
    let control = Builder::new_current_thread().enable_time().build().unwrap();
    let gate = Gate::on(control.handle().clone(), 64);
    let ann = gate.session("ann");
    let go = Arc::new(Notify::new());
    gate.fake.plan([Plan::WaitFor(Arc::clone(&go))]);
    let (seated, done) = (Barrier::new(5), Notify::new());
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| control.block_on(done.notified()));
        let worker = || {
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let visits: JoinSet<String> = (0..100).map(|_| gate.visit(&ann)).collect();
                tokio::task::yield_now().await;
                seated.wait();
                visits.join_all().await
            })
        };
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        seated.wait();
        go.notify_one();
        let answers: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.notify_one();
        answers
    });
    for answers in answers {
        assert_eq!(answers.unwrap(), ["ann-a1"].repeat(100));
    }
    assert_eq!(gate.calls(), 1);
}

/// Visitors who come and leave all the while, so that some come in the very moment in which a
/// redemption ends.
#[test]
fn racing_threads_never_spend_a_token_twice() {
    const ROUNDS: usize = 300;
    let control = Builder::new_current_thread().enable_time().build().unwrap();
    let gate = Gate::on(control.handle().clone(), 64);
    let ann = gate.session("ann");
    let (round, done) = (Barrier::new(4), Notify::new());
    let visit = |now| loop {
        let answer = pin!(gate.refresher.refresh(&gate.backend, &ann, now));
        if let Poll::Ready(answer) = answer.poll(&mut Context::from_waker(Waker::noop())) {
            break told(&answer);
        }
    };
    let worker = || {
        let answers = (0..ROUNDS).map(|number| {
            // By now the access token of the round before has ended.
            let now = START.saturating_add(seconds(2 * LIFE as u64) * number as u32);
            if round.wait().is_leader() {
                gate.fake.world().clock = Some(Clock::starting(now));
            }
            round.wait();
            visit(now)
        });
        answers.collect::<Vec<_>>()
    };
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| control.block_on(done.notified()));
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        let answers: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.notify_one();
        answers
    });
    let expected: Vec<_> = (1..=ROUNDS).map(|number| format!("ann-a{number}")).collect();
    for answers in answers {
        assert_eq!(answers.unwrap(), expected);
    }
    assert_eq!((gate.calls(), gate.reused()), (ROUNDS, 0));
}
