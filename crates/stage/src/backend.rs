//! A backend that logs accounts in and rotates their refresh tokens, in three dialects:
//!
//! | | login | redemption | a refused one |
//! | --- | --- | --- | --- |
//! | json | `POST /auth/login` `{email, password}` | `POST /auth/refreshToken` `{token}` | 401 |
//! | oauth2 | | `POST /token`, form, `grant_type=refresh_token` | 400 `invalid_grant` |
//! | simplejwt | | `POST /api/token/refresh/` `{refresh}` | 401 `token_not_valid` |
//!
//! A refresh token is good for one redemption. Counters say what happened, to the process that
//! started the backend and at `GET /stats`; [`Fault`]s make the redemptions go wrong on purpose.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::form;
use crate::seal::random;
use crate::served::{Answer, Call, Served, json as answer};
use crate::token::Grant;

/// Somebody who can sign in.
#[derive(Clone)]
pub struct Account {
    pub subject: String,
    pub email: String,
    pub name: String,
    pub password: String,
    pub roles: Vec<String>,
}

impl Account {
    /// The two accounts of the demo: Ada, who is an admin, and Bob, who is not.
    pub fn demo() -> Vec<Self> {
        let account = |subject: &str, name: &str, roles: &[&str]| Self {
            subject: subject.to_owned(),
            email: format!("{}@example.com", name.to_lowercase()),
            name: name.to_owned(),
            password: "demo".to_owned(),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
        };
        vec![account("u-1", "Ada", &["admin", "user"]), account("u-2", "Bob", &["user"])]
    }
}

/// How a backend behaves.
pub struct BackendSettings {
    pub accounts: Vec<Account>,
    /// How long an access token is good.
    pub access_life: Duration,
}

impl Default for BackendSettings {
    fn default() -> Self {
        Self { accounts: Account::demo(), access_life: Duration::from_secs(20) }
    }
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Sign-ins that succeeded.
    pub logins: u64,
    /// Requests for a redemption that arrived, whatever came of them.
    pub attempts: u64,
    /// Redemptions that gave a new pair.
    pub redemptions: u64,
    /// Attempts refused because the token was unknown, or spent.
    pub refused: u64,
    /// Those among the refused whose token had been good once.
    pub reuses: u64,
}

/// What goes wrong with a redemption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Everything is done properly, this much later.
    Delay(Duration),
    /// Nothing is done before the fault is lifted or changed; then everything.
    Hold,
    /// Nothing is done, and this status says so.
    Status(u16),
    /// 429, with `Retry-After` in seconds.
    TooMany { retry_after: u64 },
    /// Nothing is done; the answer is a 200 of HTML.
    Garbage,
    /// Nothing is done; the connection closes.
    CloseBefore,
    /// The old token is spent, and the connection closes before anyone hears of the new one.
    CloseAfter,
}

/// A running backend. It ends when this is dropped.
pub struct Backend {
    desk: Arc<Desk>,
    served: Served,
}

impl Backend {
    /// Starts one at `address` (port 0: any).
    pub async fn start(address: SocketAddr, settings: BackendSettings) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            books: Mutex::default(),
            faults: watch::Sender::new(None),
            signing_key: random(),
            settings,
        });
        let served = Served::start(address, {
            let desk = Arc::clone(&desk);
            move |call| Arc::clone(&desk).answer(call)
        });
        Ok(Self { served: served.await?, desk })
    }

    pub fn address(&self) -> SocketAddr {
        self.served.address()
    }

    /// `http://` and the address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where the `json` dialect redeems.
    pub fn refresh_url(&self) -> String {
        format!("{}/auth/refreshToken", self.url())
    }

    pub fn counters(&self) -> Counters {
        self.desk.counters()
    }

    pub fn accounts(&self) -> &[Account] {
        &self.desk.settings.accounts
    }

    /// A new pair for the account with this `email`, as after a login, whose access token is good
    /// for `access_life`: zero makes one that has ended already. `None`: no such account.
    pub fn grant(&self, email: &str, access_life: Duration) -> Option<Grant> {
        self.desk.grant(email, access_life)
    }

    /// From now on every redemption meets `fault`.
    pub fn fail(&self, fault: Fault) {
        self.fail_times(u64::MAX, fault);
    }

    /// The next `times` redemptions (one, at least) meet `fault`, those after them do not.
    /// [`Fault::Hold`] is not counted.
    pub fn fail_times(&self, times: u64, fault: Fault) {
        self.desk.faults.send_replace(Some((fault, times)));
    }

    /// No fault any more. What was held goes on.
    pub fn recover(&self) {
        self.desk.faults.send_replace(None);
    }

    pub(crate) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }
}

/// What answers: shared by all connections, and by the sign-in form.
pub(crate) struct Desk {
    books: Mutex<Books>,
    /// The fault in force and how often it still strikes.
    faults: watch::Sender<Option<(Fault, u64)>>,
    signing_key: [u8; 32],
    settings: BackendSettings,
}

impl Desk {
    pub(crate) fn accounts(&self) -> &[Account] {
        &self.settings.accounts
    }

    pub(crate) fn counters(&self) -> Counters {
        self.books().counters
    }

    /// A pair for who knows the password.
    pub(crate) fn login(&self, email: &str, password: &str) -> Option<Grant> {
        self.accounts()
            .iter()
            .find(|account| account.email == email && account.password == password)?;
        let grant = self.grant(email, self.settings.access_life)?;
        self.books().counters.logins += 1;
        Some(grant)
    }

    fn grant(&self, email: &str, access_life: Duration) -> Option<Grant> {
        let account = self.accounts().iter().find(|account| account.email == email)?;
        let grant = Grant::new(account, &self.signing_key, access_life);
        self.books().live.insert(grant.refresh_token.clone(), Some(account.clone()));
        Some(grant)
    }

    async fn answer(self: Arc<Self>, call: Call) -> Answer {
        let dialect = match (&call.method, call.uri.path()) {
            (&Method::GET, "/stats") => {
                return Some(answer(StatusCode::OK, &json!(self.counters())));
            }
            (&Method::POST, "/auth/login") => return Some(self.answer_login(&call.body)),
            (&Method::POST, "/auth/refreshToken") => Dialect::Json,
            (&Method::POST, "/token") => Dialect::Oauth2,
            (&Method::POST, "/api/token/refresh/") => Dialect::SimpleJwt,
            _ => {
                return Some(answer(StatusCode::NOT_FOUND, &json!({"error": "no such endpoint"})));
            }
        };
        self.books().counters.attempts += 1;
        let Some(old) = dialect.refresh_token(&call.body) else {
            self.books().counters.refused += 1;
            return Some(dialect.malformed());
        };
        match self.next_fault().await {
            Some(Fault::Status(status)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                return Some(answer(status, &json!({"error": "out of order"})));
            }
            Some(Fault::TooMany { retry_after }) => {
                let mut busy = answer(StatusCode::TOO_MANY_REQUESTS, &json!({"error": "busy"}));
                busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
                return Some(busy);
            }
            Some(Fault::Garbage) => {
                let page = "<!doctype html><title>Welcome to our lobby</title>".to_owned();
                return Some(crate::served::html(StatusCode::OK, page));
            }
            Some(Fault::CloseBefore) => return None,
            Some(Fault::CloseAfter) => {
                self.redeem(&old);
                return None;
            }
            Some(Fault::Delay(_) | Fault::Hold) | None => {}
        }
        Some(match self.redeem(&old) {
            Some(grant) => dialect.granted(&grant, self.settings.access_life),
            None => dialect.refused(),
        })
    }

    fn answer_login(&self, body: &Bytes) -> Response<Full<Bytes>> {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let [email, password] =
            ["email", "password"].map(|field| asked[field].as_str().unwrap_or_default());
        match self.login(email, password) {
            Some(grant) => Dialect::Json.granted(&grant, self.settings.access_life),
            None => answer(StatusCode::UNAUTHORIZED, &json!({"error": "wrong email or password"})),
        }
    }

    /// Takes the fault that strikes this redemption, having waited for as long as it says.
    async fn next_fault(&self) -> Option<Fault> {
        let mut fault = None;
        self.faults.send_if_modified(|current| {
            fault = current.map(|(kind, _)| kind);
            *current = match *current {
                Some((Fault::Hold, times)) => Some((Fault::Hold, times)),
                Some((kind, times)) if times > 1 => Some((kind, times - 1)),
                Some(_) | None => None,
            };
            false
        });
        match fault {
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Hold) => {
                let lifted = |now: &Option<(Fault, u64)>| !matches!(now, Some((Fault::Hold, _)));
                // The sender lives as long as `self`, so the wait cannot fail.
                let _ = self.faults.subscribe().wait_for(lifted).await;
            }
            _ => {}
        }
        fault
    }

    fn redeem(&self, old: &str) -> Option<Grant> {
        let mut books = self.books();
        match books.live.get_mut(old).map(Option::take) {
            Some(Some(account)) => {
                let grant = Grant::new(&account, &self.signing_key, self.settings.access_life);
                books.live.insert(grant.refresh_token.clone(), Some(account));
                books.counters.redemptions += 1;
                Some(grant)
            }
            Some(None) => {
                books.counters.refused += 1;
                books.counters.reuses += 1;
                None
            }
            None => {
                books.counters.refused += 1;
                None
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing under the lock can panic half-way.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Books {
    /// Refresh token to its owner; `None` once it is spent.
    live: HashMap<String, Option<Account>>,
    counters: Counters,
}

enum Dialect {
    Json,
    Oauth2,
    SimpleJwt,
}

impl Dialect {
    fn refresh_token(&self, body: &Bytes) -> Option<String> {
        let member = match self {
            Self::Json => "token",
            Self::SimpleJwt => "refresh",
            Self::Oauth2 => {
                let form = std::str::from_utf8(body).ok()?;
                let granted = form::field(form, "grant_type")?;
                return (granted == "refresh_token").then(|| form::field(form, "refresh_token"))?;
            }
        };
        let asked: Value = serde_json::from_slice(body).ok()?;
        asked[member].as_str().map(str::to_owned)
    }

    fn granted(&self, grant: &Grant, life: Duration) -> Response<Full<Bytes>> {
        let body = match self {
            Self::Json => json!({
                "accessToken": grant.access_token,
                "accessTokenExpiry": grant.access_token_expiry,
                "refreshToken": grant.refresh_token,
            }),
            Self::Oauth2 => json!({
                "access_token": grant.access_token, "token_type": "Bearer",
                "expires_in": life.as_secs(), "refresh_token": grant.refresh_token,
            }),
            Self::SimpleJwt => {
                json!({ "access": grant.access_token, "refresh": grant.refresh_token })
            }
        };
        answer(StatusCode::OK, &body)
    }

    fn refused(&self) -> Response<Full<Bytes>> {
        match self {
            Self::Json => answer(StatusCode::UNAUTHORIZED, &json!({"error": "token not valid"})),
            Self::Oauth2 => answer(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant"})),
            Self::SimpleJwt => answer(
                StatusCode::UNAUTHORIZED,
                &json!({"detail": "Token is invalid", "code": "token_not_valid"}),
            ),
        }
    }

    fn malformed(&self) -> Response<Full<Bytes>> {
        answer(StatusCode::BAD_REQUEST, &json!({"error": "invalid_request"}))
    }
}
