//! A backend that rotates, and that tells reuse from use; and a gate in front of it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

use foregate_session::{Keyring, KeyringSettings, SameSite, TokenPaths};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::*;
use crate::backend::BackendSpec;
use crate::dialect::{ClientAuth, Dialect, RefreshSpec};
use crate::endpoint::{SendError, TokenAnswer, TokenRequest};
use crate::ledger::MemoryLedger;
use crate::outcome::Outcome;

pub(super) const START: UnixSeconds = UnixSeconds(1_800_000_000);
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Of an access token, in seconds.
pub(super) const LIFE: i64 = 60;

/// Of the ledger.
pub(super) const ENTRIES: usize = 10_000;
pub(super) const REMEMBER: Duration = Duration::from_secs(86_400);

/// What the backend does with one call. Without a plan it redeems at once.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// Redeems at once, but takes this long to answer.
    Slow(Duration),
    /// Redeems, but the answer is lost.
    LoseAnswer,
    /// Loses the request after this time; nothing is redeemed.
    LoseRequest(Duration),
    NeverSent,
    TooLarge,
    Hang,
    Panic,
    Say(u16, String),
    Later(Duration),
    /// Redeems once it is told to.
    WaitFor(Arc<Notify>),
}

/// A backend in seed A's dialect.
#[derive(Clone, Default)]
pub(super) struct Fake {
    world: Arc<Mutex<World>>,
    /// How many pairs were sent to whoever has this clone, and its clones.
    pub(super) sent_here: Arc<AtomicUsize>,
}

#[derive(Default)]
pub(super) struct World {
    pub(super) plans: VecDeque<Plan>,
    /// Refresh tokens that work, and whose they are.
    pub(super) live: HashMap<String, String>,
    /// And whose they were.
    spent: HashMap<String, String>,
    /// A spent token is good for another pair.
    pub(super) lenient: bool,
    pub(super) keep_refresh_tokens: bool,
    issued: usize,
    pub(super) calls: usize,
    pub(super) reused: usize,
    at_once: usize,
    pub(super) most_at_once: usize,
    pub(super) clock: Option<Clock>,
}

impl Fake {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn plan(&self, plans: impl IntoIterator<Item = Plan>) {
        self.world().plans.extend(plans);
    }

    /// The same backend, as another gate knows it.
    pub(super) fn seen_from_elsewhere(&self) -> Self {
        Self { world: Arc::clone(&self.world), sent_here: Arc::default() }
    }

    fn redeem_here(&self, request: &TokenRequest) -> TokenAnswer {
        let answer = self.redeem(request);
        self.sent_here.fetch_add(usize::from(answer.status == 200), Ordering::Relaxed);
        answer
    }

    fn redeem(&self, request: &TokenRequest) -> TokenAnswer {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let token = body["token"].as_str().unwrap();
        let mut world = self.world();
        let live = world.live.get(token).cloned();
        let spent = world.spent.get(token).filter(|_| live.is_none()).cloned();
        world.reused += usize::from(spent.is_some());
        let Some(user) = live.or_else(|| spent.filter(|_| world.lenient)) else {
            return say(401, "{}");
        };
        world.issued += 1;
        let number = world.issued;
        let end = world.clock.unwrap().now().0 + LIFE;
        if world.keep_refresh_tokens {
            return say(
                200,
                &format!(r#"{{"accessToken":"{user}-a{number}","accessTokenExpiry":{end}}}"#),
            );
        }
        let next = format!("{user}-r{number}");
        world.live.remove(token);
        world.spent.insert(token.to_owned(), user.clone());
        world.live.insert(next.clone(), user.clone());
        say(
            200,
            &format!(
                r#"{{"accessToken":"{user}-a{number}","accessTokenExpiry":{end},"refreshToken":"{next}"}}"#
            ),
        )
    }
}

fn say(status: u16, body: &str) -> TokenAnswer {
    TokenAnswer { status, retry_after: None, body: body.as_bytes().to_vec() }
}

impl TokenEndpoint for Fake {
    async fn send(&self, request: TokenRequest) -> Result<TokenAnswer, SendError> {
        /// Counts down even if the call is dropped.
        struct Call(Fake);
        impl Drop for Call {
            fn drop(&mut self) {
                self.0.world().at_once -= 1;
            }
        }

        let plan = {
            let mut world = self.world();
            world.calls += 1;
            world.at_once += 1;
            world.most_at_once = world.most_at_once.max(world.at_once);
            world.plans.pop_front()
        };
        let _call = Call(self.clone());
        let broken = || SendError::Broken("reset".to_owned());
        match plan {
            None => Ok(self.redeem_here(&request)),
            Some(Plan::Slow(span)) => {
                let answer = self.redeem_here(&request);
                sleep(span).await;
                Ok(answer)
            }
            Some(Plan::LoseAnswer) => {
                self.redeem(&request);
                Err(broken())
            }
            Some(Plan::LoseRequest(span)) => {
                sleep(span).await;
                Err(broken())
            }
            Some(Plan::NeverSent) => Err(SendError::NeverSent("no route".to_owned())),
            Some(Plan::TooLarge) => Err(SendError::TooLarge),
            Some(Plan::Hang) => std::future::pending().await,
            Some(Plan::Panic) => panic!("a fault in the carrier"),
            Some(Plan::Say(status, body)) => Ok(say(status, &body)),
            Some(Plan::Later(span)) => Ok(TokenAnswer { retry_after: Some(span), ..say(503, "") }),
            Some(Plan::WaitFor(told)) => {
                told.notified().await;
                Ok(self.redeem_here(&request))
            }
        }
    }
}

/// A gate as far as refreshing goes, and its backend.
pub(super) struct Gate {
    pub(super) fake: Fake,
    pub(super) refresher: Refresher<Fake>,
    pub(super) backend: Arc<Backend>,
    events: Arc<Mutex<Vec<Event>>>,
    keyring: Keyring,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self::on(Handle::current(), 64)
    }

    pub(super) fn on(runtime: Handle, max_in_flight: usize) -> Self {
        let ledger = Ledger::Memory(MemoryLedger::new(ENTRIES));
        Self::with(ledger, Fake::default(), runtime, max_in_flight)
    }

    /// One of several gates in front of a backend, or one after another.
    pub(super) fn with(ledger: Ledger, fake: Fake, runtime: Handle, max_in_flight: usize) -> Self {
        fake.world().clock.get_or_insert_with(|| Clock::starting(START));
        let events = Arc::new(Mutex::new(Vec::new()));
        let settings = RefreshSettings { ledger_entries: ENTRIES, remember: REMEMBER };
        let report = {
            let events = Arc::clone(&events);
            move |event| events.lock().unwrap().push(event)
        };
        let refresher = Refresher::new(fake.clone(), ledger, runtime, settings, report);
        let backend = Arc::new(backend(Dialect::Json, max_in_flight, None));
        Self { fake, refresher, backend, events, keyring: keyring() }
    }

    /// The same with a backend that may take so long for an answer.
    pub(super) fn patient_for(mut self, timeout: Duration) -> Self {
        self.backend = Arc::new(Backend::new(spec(Dialect::Json, 64, None, timeout)).ok().unwrap());
        self
    }

    /// A user signs in: a session whose access token has just ended.
    pub(super) fn session(&self, user: &str) -> Session {
        self.fake.world().live.insert(format!("{user}-r0"), user.to_owned());
        let access_token = format!("{user}-a0");
        self.claims(&format!(
            r#"{{"sub":"{user}","accessToken":"{access_token}","accessTokenExpiry":{},"refreshToken":"{user}-r0"}}"#,
            self.now().0
        ))
    }

    pub(super) fn claims(&self, claims: &str) -> Session {
        self.keyring.session_from_claims(claims, None).unwrap()
    }

    /// The session once somebody else has redeemed its refresh token.
    pub(super) fn renewed_elsewhere(&self, session: &Session) -> Session {
        let body = format!(r#"{{"token":"{}"}}"#, session.refresh_token().unwrap());
        let (method, url) = ("POST".to_owned(), String::new());
        let request = TokenRequest { method, url, headers: Vec::new(), body: body.into_bytes() };
        let pair = String::from_utf8(self.fake.redeem(&request).body).unwrap();
        let pair = pair.strip_prefix('{').unwrap();
        self.claims(&format!(r#"{{"sub":"{}",{pair}"#, session.subject().unwrap()))
    }

    pub(super) fn now(&self) -> UnixSeconds {
        self.clock().now()
    }

    /// Everybody's.
    fn clock(&self) -> Clock {
        self.fake.world().clock.unwrap()
    }

    pub(super) async fn refresh(&self, session: &Session) -> Result<Session, RefreshError> {
        let tokens = self.refresher.refresh(&self.backend, session, self.now()).await?;
        Ok(session.renewed(&tokens.as_new_tokens()))
    }

    /// A request of its own.
    pub(super) fn visit(&self, session: &Session) -> impl Future<Output = String> + Send + 'static {
        let (refresher, backend) = (self.refresher.clone(), Arc::clone(&self.backend));
        let (session, clock) = (session.clone(), self.clock());
        async move { told(&refresher.refresh(&backend, &session, clock.now()).await) }
    }

    pub(super) fn start(&self, session: &Session) {
        self.refresher.start(&self.backend, session, self.now());
    }

    pub(super) fn settled(&self, session: &Session) -> String {
        match self.refresher.settled(session, self.now()) {
            Some(tokens) => tokens.access_token.expose().to_owned(),
            None => "nothing".to_owned(),
        }
    }

    /// Outcomes since the last question.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.events.lock().unwrap().drain(..).map(|event| event.outcome).collect()
    }

    /// How many of the outcomes that nobody has asked for warn of a weak token.
    pub(super) fn warnings(&self) -> usize {
        self.events.lock().unwrap().iter().filter(|event| event.weak_token).count()
    }

    pub(super) fn calls(&self) -> usize {
        self.fake.world().calls
    }

    pub(super) fn reused(&self) -> usize {
        self.fake.world().reused
    }
}

pub(super) fn backend(dialect: Dialect, max_in_flight: usize, issuer: Option<&str>) -> Backend {
    Backend::new(spec(dialect, max_in_flight, issuer, TIMEOUT)).ok().unwrap()
}

fn spec(
    dialect: Dialect,
    max_in_flight: usize,
    issuer: Option<&str>,
    timeout: Duration,
) -> BackendSpec {
    BackendSpec {
        name: "main".to_owned(),
        dialect,
        refresh_url: issuer.is_none().then(|| "http://backend/refresh".to_owned()),
        issuer: issuer.map(str::to_owned),
        client_id: None,
        client_secret: None,
        client_auth: ClientAuth::Post,
        timeout,
        max_in_flight,
        refresh: RefreshSpec::default(),
    }
}

fn keyring() -> Keyring {
    Keyring::new(KeyringSettings {
        format: None,
        secrets: vec![Secret::new("a secret of the tests")],
        cookie_name: None,
        domain: None,
        secure: true,
        same_site: SameSite::Lax,
        max_age: Duration::from_secs(86_400),
        tokens: TokenPaths::default(),
    })
}

pub(super) fn told(answer: &Answer) -> String {
    match answer {
        Ok(tokens) => tokens.access_token.expose().to_owned(),
        Err(error) => match error.retry_after() {
            Some(span) => format!("{error}, again in {} s", span.as_secs()),
            None => error.reason().to_owned(),
        },
    }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets every task that can go on go on.
pub(super) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}
