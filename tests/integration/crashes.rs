//! Gates that die, or are asked to end, or stand still, at every step of a redemption. What must
//! come of it stands in a table of ARCHITECTURE.md, which these tests read.

mod redis;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use foregate_stage::{Backend, BackendSettings, Fault, Grant, Origin};
use foregate_tests::{Answer, Connection, Directory, Gate, program_with_fail_points};
use tokio::runtime::Builder;
use tokio::task::JoinHandle;

use crate::world::{ANY, LIFE, config, session_cookie};

/// A row of the table.
#[derive(Clone, Debug)]
struct Step {
    name: String,
    ledgers: String,
    killed_strict: String,
    killed_lenient: String,
    asked_to_end: String,
}

fn steps() -> Vec<Step> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Crashes\n").nth(1).expect("it has the section");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let step = |row: &str| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, ledgers, strict, lenient, asked] = cells[..] else { panic!("{row}") };
        Step {
            name: name.trim_matches('`').to_owned(),
            ledgers: ledgers.to_owned(),
            killed_strict: strict.to_owned(),
            killed_lenient: lenient.to_owned(),
            asked_to_end: asked.to_owned(),
        }
    };
    rows.map(step).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Steps at which no code of the gate runs, so that the signal comes from here: the backend has
/// redeemed the token and has not answered yet; the visitor has his answer.
const FROM_OUTSIDE: [&str; 2] = ["Sent", "Heard"];

#[test]
fn the_table_of_crashes_names_every_fail_point_in_its_order() {
    let code = root().join("crates/refresh/src/fail_point.rs");
    let code = std::fs::read_to_string(code).unwrap();
    let points = code.split("pub(crate) enum FailPoint {").nth(1).unwrap();
    let points = points.split('}').next().unwrap().lines().map(str::trim);
    let points = points.filter(|line| !line.is_empty() && !line.starts_with("//"));
    let points: Vec<_> = points.map(|line| line.trim_end_matches(',').to_owned()).collect();
    let names = steps().into_iter().map(|step| step.name);
    let names: Vec<_> = names.filter(|name| !FROM_OUTSIDE.contains(&name.as_str())).collect();
    assert_eq!(names, points);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    Killed,
    AskedToEnd,
}

/// What happens to one gate, with one backend.
#[derive(Clone, Debug)]
struct Case {
    step: Step,
    death: Death,
    lenient: bool,
}

impl Case {
    /// All that the table has to say of a ledger.
    fn all(ledger: &str) -> Vec<Self> {
        let steps = steps().into_iter();
        let of_ledger = steps.filter(|step| ["both", ledger].contains(&step.ledgers.as_str()));
        let cases = |step: Step| {
            [Death::Killed, Death::AskedToEnd].into_iter().flat_map(move |death| {
                let case = |lenient| Self { step: step.clone(), death, lenient };
                [false, true].map(case)
            })
        };
        of_ledger.flat_map(cases).collect()
    }

    fn expected(&self) -> &str {
        match (self.death, self.lenient) {
            (Death::AskedToEnd, _) => &self.step.asked_to_end,
            (Death::Killed, false) => &self.step.killed_strict,
            (Death::Killed, true) => &self.step.killed_lenient,
        }
    }
}

/// Goes through all cases, some at a time, each in a thread with a runtime of its own.
fn check(ledger: &str, live: impl AsyncFn(&Case) -> String + Sync) {
    let cases = Mutex::new(VecDeque::from(Case::all(ledger)));
    assert!(cases.lock().unwrap().len() > 50, "the table has shrunk");
    let wrong = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some(case) = cases.lock().unwrap().pop_front() else { return };
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let outcome = runtime.block_on(live(&case));
            if outcome != case.expected() {
                let Case { step, death, lenient } = &case;
                let name = &step.name;
                let line = format!("{name}, {death:?}, lenient {lenient}: {outcome}");
                wrong.lock().unwrap().push(line);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "not as the table says:\n{}", wrong.join("\n"));
}

/// A backend and an app; gates come and go.
struct Site {
    backend: Backend,
    origin: Origin,
    ledger: String,
}

impl Site {
    /// A backend that is not lenient takes a token that comes again for a thief's, and ends the
    /// whole session.
    async fn start(lenient: bool, ledger: String) -> Self {
        let ends_families = !lenient;
        let settings =
            BackendSettings { access_life: LIFE, lenient, ends_families, ..Default::default() };
        let backend = Backend::start(ANY, settings).await.unwrap();
        Self { backend, origin: Origin::start(ANY).await.unwrap(), ledger }
    }

    /// A gate, which comes to grief where `fail_point` says.
    async fn gate(&self, fail_point: Option<&str>) -> Gate {
        let refresh_url = self.backend.refresh_url();
        let backend = format!("[backend]\ntimeout = \"1s\"\nrefresh_url = \"{refresh_url}\"\n");
        let ledger = format!("[refresh]\nledger = \"{}\"\n", self.ledger);
        let config = [config(&backend, &self.origin.url()), ledger].concat();
        let fail_point = fail_point.map(|point| ("FOREGATE_FAIL_POINT", point));
        Gate::start_program(&program_with_fail_points(), &config, fail_point.as_slice()).await
    }

    /// A visitor whose access token has just ended.
    fn visitor(&self) -> Grant {
        self.backend.grant("ada@example.com", Duration::ZERO).unwrap()
    }

    /// Has a gate with this visitor come to its end, and says what he got, if anything.
    async fn end_a_gate(&self, case: &Case, ada: &Grant) -> Option<String> {
        let name = case.step.name.as_str();
        let signal = if case.death == Death::Killed { "kill" } else { "term" };
        let from_outside = FROM_OUTSIDE.contains(&name);
        let point = format!("{name}:{signal}");
        let mut doomed = self.gate((!from_outside).then_some(&point)).await;
        if name == "Sent" {
            self.backend.fail(Fault::HoldAnswer);
        }
        let mut visit = visit(&doomed, ada);
        let mut answer = None;
        match name {
            "Sent" => until("it is redeemed", || self.backend.counters().redemptions == 1).await,
            "Heard" => answer = (&mut visit).await.unwrap(),
            _ => {}
        }
        if from_outside {
            doomed.signal(&signal.to_uppercase());
        }
        if case.death == Death::AskedToEnd {
            doomed.logged(|log| log.contains("stopping")).await;
        }
        if name == "Sent" {
            if case.death == Death::Killed {
                doomed.ended().await;
            }
            self.backend.recover();
        }
        if name != "Heard" {
            answer = visit.await.unwrap();
        }
        let status = doomed.ended().await;
        assert_eq!(status.success(), case.death == Death::AskedToEnd, "{case:?}: {status}");
        let bearer = answer.and_then(|answer| answer.seen_header("authorization"));
        if case.death == Death::AskedToEnd {
            assert!(bearer.is_some(), "{case:?}: a visitor was left behind");
        }
        bearer
    }

    /// What became of the session, once a visitor with the old cookie has been to each of the gates.
    /// `heard`: the token that somebody has had already.
    async fn outcome(&self, gates: &[&Gate], ada: &Grant, heard: Option<String>) -> String {
        let mut tokens = Vec::from_iter(heard);
        let mut is_over = false;
        for gate in gates.iter().chain(gates) {
            let answer = served(gate, ada).await;
            match answer.status {
                200 => tokens.push(answer.seen_header("authorization").unwrap()),
                401 => is_over = true,
                status => return format!("{status}: {}", answer.text()),
            }
        }
        let counters = self.backend.counters();
        let is_one = tokens.windows(2).all(|pair| pair[0] == pair[1]);
        match (is_over, tokens.len(), counters.redemptions, counters.reuses) {
            (false, _, 1, 0) if is_one => "kept".to_owned(),
            (false, _, 2, 1) if is_one => "kept, with a second pair".to_owned(),
            (true, 0, 1, 1) => "over".to_owned(),
            _ => format!("over {is_over}, one token {is_one}, {counters:?}"),
        }
    }
}

/// A request with the cookie of a grant. `None`: the connection closed without an answer.
fn visit(gate: &Gate, grant: &Grant) -> JoinHandle<Option<Answer>> {
    let (address, cookie) = (gate.address(), session_cookie(grant));
    tokio::spawn(async move {
        let mut connection = Connection::open(address).await;
        let head = format!("GET /dashboard HTTP/1.1\r\nHost: app.example.com\r\nCookie: {cookie}");
        connection.send(format!("{head}\r\nSec-Fetch-Mode: cors\r\n\r\n")).await;
        connection.answer().await
    })
}

/// The same, again and again as long as the gate says that it cannot know yet.
async fn served(gate: &Gate, grant: &Grant) -> Answer {
    let began = Instant::now();
    loop {
        let answer = visit(gate, grant).await.unwrap().expect("a gate that lives answers");
        if answer.status != 503 || began.elapsed() > PATIENCE {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn with_a_file_the_next_gate_knows_what_the_table_says() {
    check("file", async |case| {
        let directory = Directory::new("crashes");
        let ledger = format!("file:{}", directory.ledger().display());
        let site = Site::start(case.lenient, ledger).await;
        let ada = site.visitor();
        let heard = site.end_a_gate(case, &ada).await;
        let next = site.gate(None).await;
        site.outcome(&[&next], &ada, heard).await
    });
}

/// Most of the time each case waits for a process to begin, or for a claim to lapse.
const AT_ONCE: usize = 6;
const PATIENCE: Duration = Duration::from_secs(20);
