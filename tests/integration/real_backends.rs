//! Real backends that rotate refresh tokens, behind the real gate: what they count is what counts.
//!
//! They stand in `tests/backends`; Next.js and next-auth in `tests/interop`. Keycloak is slow and
//! large, so it runs only under `cargo xtask test --full`. Each story is told with a gate whose
//! ledger is its memory, with one whose ledger is a file, and with three gates that share a Redis.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foregate_stage::{Origin, SECRET, cookie_header, random, seal_v4, seal_v5, unix_millis};
use foregate_tests::{Answer, Browser, Directory, Gate, RedisServer, Request, program};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::world::{ANY, APP, config};

/// One test for each story that every backend must go through.
macro_rules! every_story {
    ($peer:ty) => {
        use crate::real_backends::{World, stories};

        #[tokio::test]
        async fn five_rotations_in_a_row_and_every_old_cookie_finds_the_last() {
            stories::chain(&World::<$peer>::start().await).await;
        }

        #[tokio::test]
        async fn five_hundred_requests_with_one_ended_cookie_redeem_once() {
            stories::storm(&World::<$peer>::start().await).await;
        }

        #[tokio::test]
        async fn a_revoked_session_ends() {
            stories::revoked(&World::<$peer>::start().await).await;
        }

        #[tokio::test]
        async fn a_backend_that_is_stopped_signs_nobody_out() {
            stories::stopped(&mut World::<$peer>::start().await).await;
        }

        #[tokio::test]
        async fn a_sign_out_ends_every_copy() {
            stories::signed_out(&World::<$peer>::start().await).await;
        }

        #[tokio::test]
        async fn a_token_for_another_api_is_replaced_once() {
            stories::rejected(&mut World::<$peer>::start().await).await;
        }

        #[tokio::test]
        async fn every_story_holds_with_a_ledger_in_a_file() {
            stories::all(&mut World::<$peer>::with_file().await).await;
        }

        #[tokio::test]
        async fn every_story_holds_on_three_gates_with_one_redis() {
            let world = &mut World::<$peer>::replicated().await;
            stories::all(world).await;
            stories::killed(world).await;
        }
    };
}

mod django;
mod keycloak;
mod process;
mod provider;
mod stories;
mod tabs;

/// What a backend gives for a login or for a refresh token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair {
    access_token: String,
    refresh_token: String,
}

impl Pair {
    /// From an answer with these members; `None`: it holds no pair.
    fn read(answer: &Answer, [access, refresh]: [&str; 2]) -> Option<Self> {
        let body = answer.json();
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        Some(Self { access_token: text(access)?, refresh_token: text(refresh)? })
    }
}

/// What the backend says of redemptions since it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    attempts: u64,
    redemptions: u64,
    refused: u64,
    /// Those among the refused whose token had been spent before.
    reuses: u64,
}

impl Counters {
    /// What `GET /stats` answers.
    fn read(stats: &Value) -> Self {
        let count = |name: &str| stats[name].as_u64().expect("a count");
        Self {
            attempts: count("attempts"),
            redemptions: count("redemptions"),
            refused: count("refused"),
            reuses: count("reuses"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            attempts: self.attempts - before.attempts,
            redemptions: self.redemptions - before.redemptions,
            refused: self.refused - before.refused,
            reuses: self.reuses - before.reuses,
        }
    }

    /// So many redemptions, and nothing else.
    fn only(redemptions: u64) -> Self {
        Self { attempts: redemptions, redemptions, refused: 0, reuses: 0 }
    }
}

/// A real backend.
pub(crate) trait Peer: Sized {
    /// The session cookie of the apps that sign in there, by which their library is known.
    const COOKIE: &'static str;
    /// Where it has an API of its own that takes its access tokens.
    const API: &'static str;

    async fn start() -> Self;
    fn address(&self) -> SocketAddr;
    /// The `[backend]` table that fits.
    fn table(&self) -> String;
    /// The members of a session payload that hold the pair, and say that its access token ends at
    /// `end`, seconds since 1970.
    fn claims(pair: &Pair, end: u64) -> Value;

    async fn sign_in(&self) -> Pair;
    /// A good pair whose access token is older than ten seconds, and rejected by the API.
    async fn sign_in_elsewhere(&mut self) -> Pair;
    /// Trades a refresh token in, behind the gate's back.
    async fn redeem(&self, refresh_token: &str) -> Option<Pair>;
    async fn revoke(&self, refresh_token: &str);
    async fn counters(&self) -> Counters;

    /// Ends the process, and returns when it has ended.
    async fn stop(&mut self);
    /// Starts it again, at the same address, with all that it knew.
    async fn resume(&mut self);

    async fn send(&self, request: &Request) -> Answer {
        Browser::new(self.address()).send(request).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }
}

/// A backend, an app that shows what reached it (`app.example.com`), the backend's own API as
/// another app (`api.example.com`), and one gate or several in front of both.
pub(crate) struct World<P> {
    pub(crate) peer: P,
    gates: Vec<Gate>,
    /// Of those who have come so far; each goes to the next gate.
    visitors: AtomicUsize,
    /// These end with the world.
    _origin: Origin,
    _ledger: Ledger,
}

/// Where the gates of a world keep what they know.
enum Ledger {
    Memory,
    File(Directory),
    Redis(RedisServer),
}

impl Ledger {
    /// The `[refresh]` table.
    fn table(&self) -> String {
        let ledger = match self {
            Self::Memory => return String::new(),
            Self::File(directory) => format!("file:{}", directory.ledger().display()),
            Self::Redis(redis) => redis.url(),
        };
        format!("[refresh]\nledger = \"{ledger}\"\n")
    }
}

impl<P: Peer> World<P> {
    pub(crate) async fn start() -> Self {
        let peer = P::start().await;
        let table = peer.table();
        Self::around(peer, &table).await
    }

    /// With this `[backend]` table.
    async fn around(peer: P, table: &str) -> Self {
        Self::with(peer, table, Ledger::Memory, 1).await
    }

    pub(crate) async fn with_file() -> Self {
        let peer = P::start().await;
        let table = peer.table();
        Self::with(peer, &table, Ledger::File(Directory::new("stories")), 1).await
    }

    /// Three gates with one Redis.
    pub(crate) async fn replicated() -> Self {
        Self::replicated_around(P::start().await).await
    }

    async fn replicated_around(peer: P) -> Self {
        let table = peer.table();
        Self::with(peer, &table, Ledger::Redis(RedisServer::start()), 3).await
    }

    async fn with(peer: P, table: &str, ledger: Ledger, count: usize) -> Self {
        let origin = Origin::start(ANY).await.unwrap();
        let table = format!("{table}timeout = \"10s\"\n{}", ledger.table());
        let api = peer.url("");
        let api = format!("\n[[app]]\nhost = \"api.example.com\"\nupstream = \"{api}\"\n");
        // Five hundred requests come to the app at once, whose thread is the visitors' own.
        let config = [config(&table, &origin.url()), api]
            .concat()
            .replace("upstream_header_timeout = \"2s\"", "upstream_header_timeout = \"60s\"");
        let mut gates = Vec::new();
        for _ in 0..count {
            gates.push(Gate::start_with(&config, &[("FOREGATE_LOG", QUIET)]).await);
        }
        Self { peer, gates, visitors: AtomicUsize::new(0), _origin: origin, _ledger: ledger }
    }

    /// A session cookie with this pair, of a minute ago, whose access token has ended.
    fn ended(pair: &Pair) -> String {
        Self::sealed(pair, 1_000_000)
    }

    /// The same, but the access token has ten minutes left.
    fn good(pair: &Pair) -> String {
        Self::sealed(pair, unix_millis() / 1000 + 600)
    }

    fn sealed(pair: &Pair, end: u64) -> String {
        let now = unix_millis() / 1000;
        let mut claims = P::claims(pair, end);
        claims["sub"] = "u-1".into();
        claims["iat"] = (now - 60).into();
        claims["exp"] = (now + 30 * 24 * 3600).into();
        let claims = claims.to_string();
        let sealed = match P::COOKIE.contains("authjs") {
            true => seal_v5(SECRET, P::COOKIE, &claims, random()),
            false => seal_v4(SECRET, &claims, random()),
        };
        cookie_header(P::COOKIE, &sealed)
    }

    /// Somebody who comes with these cookies, and stays with one gate.
    fn visitor(&self, cookies: &str) -> Browser {
        let number = self.visitors.fetch_add(1, Ordering::Relaxed);
        let browser = Browser::new(self.gates[number % self.gates.len()].address());
        browser.set_cookies("example.com", cookies);
        browser
    }

    /// The token that the app saw.
    async fn bearer(&self, browser: &Browser) -> String {
        let answer = browser.fetch(DASHBOARD).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let bearer = answer.seen_header("authorization").expect("a token reached the app");
        bearer.strip_prefix("Bearer ").expect("a bearer token").to_owned()
    }

    /// The pair in a visitor's cookies, as the program itself opens them.
    fn pair(&self, browser: &Browser) -> Pair {
        let mut decode = Command::new(program())
            .args(["session", "decode", "--json", "--config"])
            .arg(self.gates[0].config_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let cookies = browser.cookies("app.example.com").expect("the visitor has a session");
        decode.stdin.take().unwrap().write_all(cookies.as_bytes()).unwrap();
        let output = decode.wait_with_output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let claims = told["claims"].as_object().expect("claims");
        // The members have other names in each payload, the values do not.
        let names = P::claims(&Pair::named(), 0);
        let member = |value: &str| {
            let name = names.as_object().unwrap().iter().find(|(_, it)| *it == value).unwrap().0;
            claims[name].as_str().expect("a token").to_owned()
        };
        let Pair { access_token, refresh_token } = Pair::named();
        Pair { access_token: member(&access_token), refresh_token: member(&refresh_token) }
    }
}

impl Pair {
    /// Whose members stand for themselves.
    fn named() -> Self {
        Self { access_token: "access".to_owned(), refresh_token: "refresh".to_owned() }
    }
}

/// A request for `url` with a JSON body.
fn post_json(url: &str, body: &Value) -> Request {
    Request::new("POST", url).header("Content-Type", "application/json").body(body.to_string())
}

const DASHBOARD: &str = "http://app.example.com/dashboard";
/// The one line that the harness waits for, what became of each redemption, and what goes wrong.
const QUIET: &str = "info,foregate::request=warn";
/// Where the backends stand.
const BACKENDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/backends");
const REMEDY: &str = "`cargo xtask test` installs it";
const PATIENCE: Duration = Duration::from_secs(60);
