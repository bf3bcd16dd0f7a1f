//! What a ledger costs, with a backend that costs nothing: `cargo xtask bench --ledgers` runs this.
//!
//! ```text
//! ledgers cost ADDRESS COUNT    the times of redemptions and of look-ups, in microseconds
//! ledgers fill ADDRESS ENTRIES  writes so many entries, and tells what they take
//! ledgers open ADDRESS          the time until a ledger is open
//! ```
//!
//! Each prints one JSON object on stdout; `fill` and `open` then go on until stdin ends, so that
//! whoever started them may kill them instead.

#![expect(clippy::unwrap_used, reason = "whoever measures wants to see what goes wrong")]

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use foregate_refresh::{
    Backend, BackendSpec, ClientAuth, Dialect, Ledger, LedgerAddress, LedgerState, RefreshSettings,
    RefreshSpec, Refresher, SendError, TokenAnswer, TokenEndpoint, TokenRequest,
};
use foregate_session::{
    Keyring, KeyringSettings, SameSite, Secret, Session, TokenPaths, UnixSeconds,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// As the program does it: what belongs to no visitor has one thread.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["cost", address, count] => println!("{}", cost(address, count.parse().unwrap()).await),
        ["fill", address, entries] => fill(address, entries.parse().unwrap()).await,
        ["open", address] => open(address).await,
        _ => panic!("see the first lines of this program"),
    }
}

/// Redemptions one after another, the processor's time for as many of which 64 are under way at a
/// time, and then look-ups of what was spent, by a process that knows nothing yet, except in memory.
async fn cost(address: &str, count: usize) -> Value {
    let gate = Gate::start(address).await;
    let mut settles = Vec::new();
    for number in 0..count {
        settles.push(gate.timed(number).await);
    }
    let before = cpu_time();
    gate.settle_all(count..2 * count, 64).await;
    let cpu = micros(cpu_time() - before) / count as f64;
    let gate = match address {
        "memory" => gate,
        _ => gate.restart(address).await,
    };
    let mut looks = Vec::new();
    for number in 0..count {
        looks.push(gate.timed(number).await);
    }
    json!({ "settle": spread(settles), "cpu": cpu, "look": spread(looks) })
}

async fn fill(address: &str, entries: usize) {
    let gate = Gate::start(address).await;
    let (before, began) = (resident(), Instant::now());
    // One redemption names two tokens: the spent one and the new one.
    gate.settle_all(0..entries / 2, 512).await;
    // Else some of it stands nowhere but here.
    assert_eq!(gate.refresher.ledger_state(), LedgerState::Good, "the ledger has kept up");
    let grown = resident() - before;
    let told = json!({
        "entries": gate.refresher.entries(), "seconds": began.elapsed().as_secs_f64(),
        "memory_kib": grown,
    });
    println!("{told}");
    until_stdin_ends();
    gate.stop().await;
}

async fn open(address: &str) {
    let began = Instant::now();
    let gate = Gate::start(address).await;
    let millis = micros(began.elapsed()) / 1000.0;
    println!("{}", json!({ "millis": millis, "entries": gate.refresher.entries() }));
    until_stdin_ends();
    gate.stop().await;
}

/// A gate as far as refreshing goes.
struct Gate {
    refresher: Refresher<Instantly>,
    backend: Arc<Backend>,
    keyring: Keyring,
    now: UnixSeconds,
}

impl Gate {
    /// Ready once its ledger is in use.
    async fn start(address: &str) -> Self {
        let address = LedgerAddress::parse(address).unwrap();
        let (entries, remember) = (10_000_000, Duration::from_secs(30 * 86_400));
        let runtime = Handle::current();
        let ledger = Ledger::open(&address, entries, remember, &runtime, |_| ()).unwrap();
        let settings = RefreshSettings { ledger_entries: entries, remember };
        let refresher = Refresher::new(Instantly, ledger, runtime, settings, |_| ());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let now = UnixSeconds(now.try_into().unwrap());
        let gate = Self { refresher, backend: Arc::new(backend()), keyring: keyring(), now };
        if let LedgerAddress::Redis(_) = address {
            // The first question waits for the connection.
            gate.settle_all(usize::MAX - 1..usize::MAX, 1).await;
        }
        while gate.refresher.ledger_state() != LedgerState::Good {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        gate
    }

    async fn restart(self, address: &str) -> Self {
        self.stop().await;
        Self::start(address).await
    }

    async fn stop(self) {
        self.refresher.drain().await;
    }

    /// A session whose access token has ended long ago.
    fn session(&self, number: usize) -> Session {
        let claims = json!({
            "sub": number.to_string(), "accessToken": filled("", 900), "accessTokenExpiry": 1,
            "refreshToken": filled(&format!("{number}-"), 64),
        });
        self.keyring.session_from_claims(&claims.to_string(), None).unwrap()
    }

    /// What a visitor waits for his tokens, in microseconds.
    async fn timed(&self, number: usize) -> f64 {
        let session = self.session(number);
        let began = Instant::now();
        self.refresher.refresh(&self.backend, &session, self.now).await.unwrap();
        micros(began.elapsed())
    }

    async fn settle_all(&self, numbers: std::ops::Range<usize>, at_once: usize) {
        let mut visits = JoinSet::new();
        for number in numbers {
            if visits.len() == at_once {
                visits.join_next().await;
            }
            let (refresher, backend) = (self.refresher.clone(), Arc::clone(&self.backend));
            let (session, now) = (self.session(number), self.now);
            visits.spawn(
                async move { drop(refresher.refresh(&backend, &session, now).await.unwrap()) },
            );
        }
        visits.join_all().await;
    }
}

/// A backend that answers at once.
struct Instantly;

impl TokenEndpoint for Instantly {
    async fn send(&self, request: TokenRequest) -> Result<TokenAnswer, SendError> {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let token = asked["token"].as_str().unwrap();
        let body = json!({
            "accessToken": filled(token, 900), "accessTokenExpiry": 4_000_000_000_u64,
            "refreshToken": filled(&format!("next-{token}"), 64),
        });
        Ok(TokenAnswer { status: 200, retry_after: None, body: body.to_string().into_bytes() })
    }
}

fn backend() -> Backend {
    let spec = BackendSpec {
        name: "main".to_owned(),
        dialect: Dialect::Json,
        refresh_url: Some("http://backend/refresh".to_owned()),
        issuer: None,
        client_id: None,
        client_secret: None,
        client_auth: ClientAuth::Post,
        timeout: Duration::from_secs(60),
        max_in_flight: 512,
        refresh: RefreshSpec::default(),
    };
    Backend::new(spec).ok().unwrap()
}

fn keyring() -> Keyring {
    Keyring::new(KeyringSettings {
        format: None,
        secrets: vec![Secret::new("a-public-bench-secret-do-not-use")],
        cookie_name: None,
        domain: None,
        secure: true,
        same_site: SameSite::Lax,
        max_age: Duration::from_secs(86_400),
        tokens: TokenPaths::default(),
    })
}

/// A token of this length that begins so.
fn filled(start: &str, length: usize) -> String {
    start.chars().chain("abcdefghijklmnopqrstuvwxyz".chars().cycle()).take(length).collect()
}

/// Median and 99th percentile.
fn spread(mut times: Vec<f64>) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Of all threads so far, from the scheduler's own books.
fn cpu_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = threads.map(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        stat.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanos.sum())
}

/// This process's memory, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn until_stdin_ends() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
