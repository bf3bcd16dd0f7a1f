//! Gates that share a ledger, and die, against a model: whatever happens in whatever order, every
//! cookie that was ever sealed leads to the newest pair, and no token is spent twice. A session ends
//! only where a gate died, or was alone, with a pair that the ledger had not heard of.

mod replica;

use std::process::Command;

use proptest::prelude::*;
use tokio::runtime::Builder;
use tokio::time::sleep;

use self::replica::{Death, Replica};
use super::fake::{Fake, LIFE, Plan};
use super::*;
use crate::fail_point::FailPoint;
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
    /// The gate ends without any order, where it stands.
    Kill {
        gate: usize,
    },
    /// The gate ends where its next redemption comes to this step.
    Doom {
        gate: usize,
        at: FailPoint,
    },
    /// Redis lets nobody in; and lets them in again.
    Close,
    Open,
    /// Everybody's clock goes on.
    Pass(u64),
    /// The backend takes its time for the next answer, in milliseconds.
    Slow(u64),
}

fn step(gates: usize) -> impl Strategy<Value = Step> {
    let (gate, age) = (0..gates, 0..8_usize);
    let at = prop::sample::select(&POINTS[..]);
    prop_oneof![
        10 => (gate.clone(), age.clone(), any::<bool>())
            .prop_map(|(gate, age, leaves)| Step::Visit { gate, age, leaves }),
        4 => (gate.clone(), age).prop_map(|(gate, age)| Step::Start { gate, age }),
        2 => gate.clone().prop_map(|gate| Step::App { gate }),
        2 => gate.clone().prop_map(|gate| Step::Restart { gate }),
        1 => gate.clone().prop_map(|gate| Step::Kill { gate }),
        1 => (gate, at).prop_map(|(gate, at)| Step::Doom { gate, at }),
        1 => Just(Step::Close),
        1 => Just(Step::Open),
        6 => (0..70_u64).prop_map(Step::Pass),
        4 => (0..20_u64).prop_map(Step::Slow),
    ]
}

/// Where a redemption can end without its thread: all of these are reached in a task.
const POINTS: [FailPoint; 11] = [
    FailPoint::BeforeClaim,
    FailPoint::Claimed,
    FailPoint::BeforeSending,
    FailPoint::Answered,
    FailPoint::BeforeScript,
    FailPoint::Scripted,
    FailPoint::Replicated,
    FailPoint::Spoken,
    FailPoint::Settled,
    FailPoint::Told,
    FailPoint::Released,
];

/// Gates, their backend, and what anybody has heard of the session.
struct Site<'a> {
    address: LedgerAddress,
    redis: Option<&'a RedisServer>,
    fake: Fake,
    gates: Vec<Replica>,
    /// By the number of their pairs; 0 is the one of the sign-in.
    cookies: Vec<(usize, Session)>,
    is_closed: bool,
    had_outage: bool,
    /// A gate has died, or somebody was alone: visitors may have to come again.
    had_trouble: bool,
    /// A pair may be lost that nobody has seen.
    in_doubt: bool,
}

impl<'a> Site<'a> {
    async fn new(
        address: LedgerAddress,
        redis: Option<&'a RedisServer>,
        count: usize,
        lenient: bool,
    ) -> Self {
        let fake = Fake::default();
        fake.world().lenient = lenient;
        let mut gates = Vec::new();
        for _ in 0..count {
            gates.push(Replica::start(&address, &fake));
        }
        let cookies = vec![(0, gates[0].gate.session("ann"))];
        let site = Self {
            address,
            redis,
            fake,
            gates,
            cookies,
            is_closed: false,
            had_outage: false,
            had_trouble: false,
            in_doubt: false,
        };
        site.good().await;
        site
    }

    /// The one before may take a moment to let go of its file.
    async fn good(&self) {
        let began = Instant::now();
        let is_good =
            |it: &Replica| it.is_dead() || it.gate.refresher.ledger_state() == LedgerState::Good;
        while !self.gates.iter().all(is_good) {
            assert!(began.elapsed() < PATIENCE, "the ledger never comes back");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until nobody waits, and then until nothing is under way.
    async fn drain(&mut self) {
        for number in 0..self.gates.len() {
            while let Some(answer) = self.gates[number].visits.join_next().await {
                // Whoever has left has heard nothing.
                if let Ok(answer) = answer {
                    self.answered(answer);
                }
            }
        }
        for number in 0..self.gates.len() {
            self.gates[number].gate.refresher.drain().await;
            self.bury(number).await;
        }
    }

    fn newest(&self) -> &(usize, Session) {
        self.cookies.iter().max_by_key(|(number, _)| *number).unwrap()
    }

    fn cookie(&self, age: usize) -> Session {
        self.cookies[age % self.cookies.len()].1.clone()
    }

    fn heard(&mut self, cookie: Session) {
        let number = cookie.refresh_token().unwrap().strip_prefix("ann-r").unwrap();
        let number = number.parse().unwrap();
        if self.cookies.iter().all(|(known, _)| *known != number) {
            self.cookies.push((number, cookie));
        }
    }

    /// Looks around for what visitors have been told.
    fn listen(&mut self) {
        for number in 0..self.gates.len() {
            let oldest = &self.cookies[0].1;
            let gate = &self.gates[number].gate;
            if let Some(tokens) = gate.refresher.settled(oldest, gate.now()) {
                self.heard(oldest.renewed(&tokens.as_new_tokens()));
            }
            while let Some(answer) = self.gates[number].visits.try_join_next() {
                // Whoever has left has heard nothing.
                if let Ok(answer) = answer {
                    self.answered(answer);
                }
            }
        }
    }

    fn answered(&mut self, answer: Result<Session, RefreshError>) {
        match answer {
            Ok(cookie) => self.heard(cookie),
            Err(error) if error.retry_after().is_some() => assert!(self.had_trouble, "{error}"),
            Err(error) => assert!(self.in_doubt, "{error}"),
        }
    }

    async fn replace(&mut self, number: usize) {
        let next = Replica::start(&self.address, &self.fake);
        self.gates.insert(number, next);
        if !self.is_closed {
            self.good().await;
        }
    }

    async fn die(&mut self, number: usize) {
        let death = self.gates.remove(number).die();
        self.had_trouble = true;
        self.in_doubt |= self.is_closed
            || self.address == LedgerAddress::Memory
            || matches!(death, Death::WithUnheardPair);
        self.replace(number).await;
    }

    /// Replaces the gate if its doom has come.
    async fn bury(&mut self, number: usize) {
        if self.gates[number].is_dead() {
            self.die(number).await;
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Visit { gate, age, leaves } => {
                let cookie = self.cookie(age);
                let visit = self.gates[gate].visit(cookie);
                sleep(Duration::from_millis(1)).await;
                if leaves {
                    visit.abort();
                }
            }
            Step::Start { gate, age } => self.gates[gate].gate.start(&self.cookie(age)),
            Step::App { gate } => {
                // A gate that is about to redeem it has no chance to know what the app does.
                self.drain().await;
                self.listen();
                let (replica, newest) = (&self.gates[gate], self.newest().1.clone());
                let gate = &replica.gate;
                let is_live = self.fake.world().live.contains_key(newest.refresh_token().unwrap());
                if is_live {
                    let found = gate.renewed_elsewhere(&newest);
                    let learnt = gate.refresher.adopt(&newest, &found, gate.now()).await;
                    assert!(learnt || self.had_trouble);
                    // It died with what the app has found.
                    self.in_doubt |= !learnt && replica.is_dead();
                    self.heard(found);
                }
            }
            Step::Restart { gate } => {
                self.gates[gate].gate.refresher.drain().await;
                self.bury(gate).await;
                if !self.is_closed && self.address != LedgerAddress::Memory {
                    self.gates.remove(gate).end();
                    self.replace(gate).await;
                }
            }
            Step::Kill { gate } => self.die(gate).await,
            Step::Doom { gate, at } => {
                // Where one gate is doomed others wait for its claim, and may get no answer in time.
                self.had_trouble = true;
                self.gates[gate].doom(at);
            }
            Step::Close => self.close(),
            Step::Open => self.open().await,
            Step::Pass(span) => {
                // What is under way would find itself in another minute.
                self.drain().await;
                self.pass(span);
            }
            Step::Slow(span) => self.fake.plan([Plan::Slow(Duration::from_millis(span))]),
        }
        for number in 0..self.gates.len() {
            self.bury(number).await;
        }
        self.listen();
    }

    fn pass(&self, span: u64) {
        let mut world = self.fake.world();
        let now = world.clock.unwrap().now().saturating_add(Duration::from_secs(span));
        world.clock = Some(Clock::starting(now));
    }

    fn close(&mut self) {
        if let Some(redis) = self.redis.filter(|_| !self.is_closed) {
            (self.is_closed, self.had_outage, self.had_trouble) = (true, true, true);
            say(redis, &["CONFIG", "SET", "requirepass", "closed"]);
            for kind in ["normal", "pubsub"] {
                say(redis, &["-a", "closed", "CLIENT", "KILL", "TYPE", kind]);
            }
        }
    }

    async fn open(&mut self) {
        if let Some(redis) = self.redis.filter(|_| self.is_closed) {
            say(redis, &["-a", "closed", "CONFIG", "SET", "requirepass", ""]);
            // Redis has told nobody of what happened meanwhile, and nobody has told Redis.
            sleep(Duration::from_millis(300)).await;
            self.good().await;
            // Who died while he told Redis was alone with it.
            for number in 0..self.gates.len() {
                self.bury(number).await;
            }
            self.is_closed = false;
            self.good().await;
        }
    }

    /// What a visitor gets in the end, or why he gets nothing.
    async fn answer(&self, gate: usize, cookie: &Session) -> Result<usize, String> {
        let began = Instant::now();
        loop {
            match self.gates[gate].gate.refresh(cookie).await {
                Ok(cookie) => {
                    let number = cookie.refresh_token().unwrap().strip_prefix("ann-r").unwrap();
                    return Ok(number.parse().unwrap());
                }
                Err(error) if error.retry_after().is_some() && self.had_trouble => {
                    assert!(began.elapsed() < PATIENCE, "{error}");
                    sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error.reason().to_owned()),
            }
        }
    }

    /// Lives on until all is quiet, and looks at what is left.
    async fn end(mut self) {
        self.open().await;
        self.drain().await;
        for number in 0..self.gates.len() {
            self.gates[number].doom_nothing();
        }
        self.drain().await;
        self.listen();
        self.fake.world().plans.clear();
        self.pass(2 * LIFE as u64);
        let (newest, newest_cookie) = self.newest().clone();
        let is_memory = self.address == LedgerAddress::Memory;
        let first = match is_memory && self.in_doubt {
            // Nobody knows the way from older ones.
            true => self.answer(0, &newest_cookie).await,
            false => self.answer(0, &self.cookies[0].1).await,
        };
        match &first {
            Ok(number) => assert!(*number > newest, "{number} is no newer than {newest}"),
            Err(reason) => assert!(self.in_doubt && !self.fake.world().lenient, "{reason}"),
        }
        // A lenient backend may have given two gates that were alone a pair each; and what a gate
        // that died alone took with it may have been the way to a newer pair.
        let may_differ = self.had_outage && (self.fake.world().lenient || self.in_doubt);
        for gate in 0..self.gates.len() {
            for (_, cookie) in &self.cookies {
                let answer = self.answer(gate, cookie).await;
                let is_one = answer == first || may_differ || is_memory && self.in_doubt;
                assert!(is_one, "{answer:?}, not {first:?}");
            }
        }
        if !self.in_doubt && !self.had_outage {
            assert_eq!(self.fake.world().reused, 0);
        }
    }
}

fn say(redis: &RedisServer, words: &[&str]) {
    let mut command = Command::new("redis-cli");
    let said = command.args(["-p", &redis.port.to_string()]).args(words).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
}

fn check(
    address: &LedgerAddress,
    redis: Option<&RedisServer>,
    count: usize,
    lenient: bool,
    steps: Vec<Step>,
) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut site = Site::new(address.clone(), redis, count, lenient).await;
        for step in steps {
            site.take(step).await;
        }
        site.end().await;
    });
}

/// Each takes some tenths of a second. `PROPTEST_CASES` says how many there are when there is time.
fn cases() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 8,
    }
}

fn steps(gates: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(gates), 0..40)
}

/// The backlogs of two gates may come in any order: here the later redemption is told first.
#[test]
fn a_chain_that_two_gates_have_spun_alone_stays_one() {
    let visit = |gate, age, leaves| Step::Visit { gate, age, leaves };
    let Some(redis) = RedisServer::start() else { return };
    let steps = vec![
        Step::Close,
        Step::Slow(2),
        Step::Doom { gate: 0, at: FailPoint::Scripted },
        visit(1, 0, false),
        visit(1, 6, false),
        Step::Slow(13),
        visit(2, 6, true),
        visit(2, 7, true),
        visit(1, 5, false),
        Step::App { gate: 1 },
    ];
    check(&redis.address(), Some(&redis), 3, false, steps);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn no_history_of_a_gate_with_a_memory_loses_a_newest_token(
        steps in steps(1), lenient: bool,
    ) {
        check(&LedgerAddress::Memory, None, 1, lenient, steps);
    }

    #[test]
    fn no_history_of_a_gate_with_a_file_loses_a_token(steps in steps(1), lenient: bool) {
        let directory = Directory::new();
        check(&LedgerAddress::File(directory.path("ledger.redb")), None, 1, lenient, steps);
    }

    #[test]
    fn no_history_of_a_gate_with_redis_loses_a_token(steps in steps(1), lenient: bool) {
        let Some(redis) = RedisServer::start() else { return Ok(()) };
        check(&redis.address(), Some(&redis), 1, lenient, steps);
    }

    #[test]
    fn no_history_of_three_gates_with_redis_loses_a_token(steps in steps(3), lenient: bool) {
        let Some(redis) = RedisServer::start() else { return Ok(()) };
        check(&redis.address(), Some(&redis), 3, lenient, steps);
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
