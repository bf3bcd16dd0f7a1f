//! Real servers behind the real gate, asked for thousands of bent targets: whatever a server takes
//! for a guarded page must not be reached by somebody whom that page's rule refuses.
//!
//! The servers stand in `tests/differential` and, where Next.js serves, in `tests/interop`.

mod routes;
mod servers;
mod targets;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use foregate_stage::{SECRET, cookie_header, random, seal_v4, unix_millis};
use foregate_tests::{Answer, Connection, Gate};
use serde_json::json;
use tokio::task::JoinSet;

use self::routes::{Asks, Form, ROUTES, Route, served};
use self::servers::{KINDS, Server, find_tools};
use self::targets::{Target, targets};
use crate::world::COOKIE;

#[tokio::test]
async fn no_server_serves_a_guarded_page_to_whom_its_rule_refuses() {
    find_tools();
    let servers: Vec<Server> = KINDS.iter().map(Server::start).collect();
    for server in &servers {
        server.listens().await;
    }
    let config = proxy_toml(&servers);
    let gate = Gate::start_with(&config, &[("FOREGATE_LOG", QUIET)]).await;

    let started = Instant::now();
    let mut trials = JoinSet::new();
    for (number, server) in servers.into_iter().enumerate() {
        let targets = targets(server.kind.share, SEED + number as u64);
        trials.spawn(try_all(server, gate.address(), targets));
    }
    let mut tallies = trials.join_all().await;
    tallies.sort_by_key(|tally| tally.server);
    println!("{}\n{:.1?}", table(&tallies), started.elapsed());

    let bypasses: Vec<&String> = tallies.iter().flat_map(|tally| &tally.bypasses).collect();
    assert!(bypasses.is_empty(), "{} bypasses:\n{}", bypasses.len(), listed(&bypasses));
    for tally in &tallies {
        tally.is_worth_something();
    }
}

/// Sends targets to a server itself, and through the gate as everybody.
async fn try_all(server: Server, gate: SocketAddr, targets: Vec<Target>) -> Tally {
    let mut tally = Tally { server: server.kind.name, targets: targets.len(), ..Tally::default() };
    let mut connection = Connection::open(gate).await;
    let cookies = [session("user"), session("admin")].map(|cookie| format!("Cookie: {cookie}\r\n"));
    for (number, target) in targets.iter().enumerate() {
        let plain = target.request(&Form::Rules.host(server.kind.name), "Connection: close\r\n");
        let direct = server.ask(&plain).await;
        if let Some(route) = direct.filter(|route| route.asks > Asks::Nothing) {
            tally.guarded += 1;
            tally.disguised += usize::from(!target.begins_with(route.path));
        }
        let mut visits = VISITS.to_vec();
        while let Some((form, visitor)) = visits.pop() {
            let host = form.host(server.kind.name);
            let request = match visitor {
                Asks::Nothing => target.request(&host, "Accept: text/html\r\n"),
                Asks::Session => target.request(&host, &cookies[0]),
                Asks::Role => target.request(&host, &cookies[1]),
            };
            let answer = exchange(&mut connection, gate, &request).await;
            tally.count(form, visitor, target, &answer);
            // What is ambiguous is so whoever asks: only one of the others, in turn, is tried.
            if is_ambiguous(&answer) && visits.len() > 1 {
                visits = vec![visits[number % visits.len()]];
            }
        }
    }
    tally
}

/// Who asks where. A visitor is named by the most that a page may ask of him.
const VISITS: [(Form, Asks); 6] = [
    (Form::Rules, Asks::Nothing),
    (Form::Rules, Asks::Session),
    (Form::Rules, Asks::Role),
    (Form::Matcher, Asks::Nothing),
    (Form::OpenRules, Asks::Nothing),
    (Form::OpenRules, Asks::Session),
];

/// Sends a request, on a new connection where the gate has closed the last one.
async fn exchange(connection: &mut Connection, gate: SocketAddr, request: &[u8]) -> Answer {
    for _ in 0..2 {
        connection.send(request).await;
        let answer = connection.answer().await;
        let closed =
            answer.as_ref().is_none_or(|answer| answer.header("connection") == Some("close"));
        if closed {
            *connection = Connection::open(gate).await;
        }
        if let Some(answer) = answer {
            return answer;
        }
    }
    panic!("the gate does not answer {}", request.escape_ascii());
}

/// Whether the gate itself found two readings. It closes the connection then, which no server can
/// make it do.
fn is_ambiguous(answer: &Answer) -> bool {
    answer.status == 400 && answer.header("connection") == Some("close")
}

/// What came of one server's targets.
#[derive(Default)]
struct Tally {
    server: &'static str,
    targets: usize,
    /// Targets that the server itself takes for a guarded page, and those among them that do not
    /// begin as the page's address does.
    guarded: usize,
    disguised: usize,
    /// Requests that were refused with 400, sent to the login, refused with 401 or 403, passed.
    ambiguous: usize,
    redirected: usize,
    refused: usize,
    passed: usize,
    /// Spellings by which an admin got to each route.
    spellings: BTreeMap<&'static str, HashSet<String>>,
    bypasses: Vec<String>,
}

impl Tally {
    fn count(&mut self, form: Form, visitor: Asks, target: &Target, answer: &Answer) {
        let by_gate = answer.header("location").is_some_and(|to| to.starts_with(LOGIN));
        match (answer.status, served(&answer.body)) {
            (_, Some(route)) => {
                self.passed += 1;
                if form.asks(route) > visitor {
                    self.bypasses.push(format!(
                        "{} {form:?} {visitor:?} reached {}: {target}",
                        self.server, route.name
                    ));
                }
                if visitor == Asks::Role {
                    self.spellings.entry(route.name).or_default().insert(target.to_string());
                }
            }
            (400, None) if is_ambiguous(answer) => self.ambiguous += 1,
            (401 | 403, None) => self.refused += 1,
            (302, None) if by_gate => self.redirected += 1,
            _ => self.passed += 1,
        }
    }

    /// Fails where so little happened that nothing is shown by it.
    fn is_worth_something(&self) {
        let Self { server, targets, .. } = *self;
        let kind = KINDS.iter().find(|kind| kind.name == server).unwrap();
        for Route { name, .. } in ROUTES.iter().filter(|it| it.name != "cafe" || kind.has_cafe) {
            let spellings = self.spellings.get(name).map_or(0, HashSet::len);
            assert!(spellings >= 3, "{server}: an admin reached {name} by {spellings} spellings");
        }
        let floors = [
            (self.guarded, targets / 20, "are guarded pages to the server"),
            (self.disguised, 3, "are guarded pages in disguise"),
            (self.ambiguous, targets, "are refused as ambiguous"),
            (self.redirected, targets / 4, "lead to the login"),
            (self.refused, targets / 4, "are refused"),
            (self.passed, targets / 2, "pass"),
        ];
        for (count, floor, what) in floors {
            assert!(count >= floor, "{server}: only {count} of {targets} targets {what}");
        }
    }
}

fn table(tallies: &[Tally]) -> String {
    const COLUMNS: [&str; 8] =
        ["targets", "guarded", "disguised", "400", "login", "401/403", "passed", "bypasses"];
    let row = |first: &str, cells: [String; 8], last: &str| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        format!("{first:<15}{cells}  {last}\n")
    };
    let mut table = row("server", COLUMNS.map(str::to_owned), "spellings");
    for it in tallies {
        let counts = [
            it.targets,
            it.guarded,
            it.disguised,
            it.ambiguous,
            it.redirected,
            it.refused,
            it.passed,
            it.bypasses.len(),
        ];
        let spellings = it.spellings.iter().map(|(name, by)| format!("{name} {}", by.len()));
        let spellings = spellings.collect::<Vec<_>>().join(", ");
        table.push_str(&row(it.server, counts.map(|count| count.to_string()), &spellings));
    }
    table
}

fn listed(bypasses: &[&String]) -> String {
    bypasses.iter().take(60).map(|it| it.as_str()).collect::<Vec<_>>().join("\n")
}

/// A session of somebody with one role, as a NextAuth.js v4 site seals it. It has no access token,
/// so that nothing is renewed.
fn session(role: &str) -> String {
    let end = unix_millis() / 1000 + 3600;
    let claims = json!({ "sub": role, "role": role, "exp": end }).to_string();
    cookie_header(COOKIE, &seal_v4(SECRET, &claims, random()))
}

fn proxy_toml(servers: &[Server]) -> String {
    let mut config = format!(
        "[session]\nsecrets = [\"{SECRET}\"]\ndomain = \".example.com\"\nsecure = false\n\n\
         [login]\nurl = \"{LOGIN}\"\n"
    );
    for Server { kind, address, .. } in servers {
        for form in Form::ALL {
            let host = form.host(kind.name);
            let tables = form.tables(kind.case_sensitive);
            let settings = kind.settings;
            write!(
                config,
                "\n[[app]]\nhost = \"{host}\"\nupstream = \"http://{address}\"\n{settings}{tables}"
            )
            .expect("a String takes all");
        }
    }
    config
}

const LOGIN: &str = "http://auth.example.com/login";
/// The one line that the harness waits for, and what goes wrong.
const QUIET: &str = "warn,foregate::run=info";
const SEED: u64 = 0x466F_7265_6761_7465;
