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
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::form;
use crate::seal::random;
use crate::served::{Answer, Call, Rest, Served, html, json as answer};
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
    /// A spent token that comes again is good for another pair, as with backends that know a time
    /// of grace. Else it is refused.
    pub lenient: bool,
    /// A spent token that is refused takes all later ones of its sign-in with it, as with backends
    /// that see a thief in whoever brings it.
    pub ends_families: bool,
}

impl Default for BackendSettings {
    fn default() -> Self {
        let access_life = Duration::from_secs(20);
        Self { accounts: Account::demo(), access_life, lenient: false, ends_families: false }
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
    /// Attempts with a token that had been spent before: the refused ones, or, of a lenient backend,
    /// those that were given another pair.
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
    /// Nothing is done; the answer is a 200 of JSON, without any token.
    NoToken,
    /// Nothing is done; the answer is a 200 of this many bytes of JSON.
    Huge { bytes: usize },
    /// Nothing is done; the answer is a 200 that goes on and on.
    Endless,
    /// Everything is done properly, but the answer calls itself HTML.
    WrongType,
    /// Nothing is done; the connection closes.
    CloseBefore,
    /// The old token is spent, and nothing is said before the fault is lifted or changed.
    HoldAnswer,
    /// The old token is spent, and the connection closes before anyone hears of the new one.
    CloseAfter,
    /// The old token is spent, and the connection closes in the middle of the answer.
    CloseAmid,
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
    /// [`Fault::Hold`] and [`Fault::HoldAnswer`] are not counted.
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
        let family = grant.refresh_token.clone();
        let token = Token { account: account.clone(), family, is_spent: false };
        self.books().tokens.insert(grant.refresh_token.clone(), token);
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
        let fault = self.next_fault().await;
        if let Some(wrong) = fault.and_then(undone) {
            return wrong;
        }
        let mut done = match self.redeem(&old) {
            Some(grant) => dialect.granted(&grant, self.settings.access_life),
            None => dialect.refused(),
        };
        match fault {
            Some(Fault::HoldAnswer) => self.lifted(Fault::HoldAnswer).await,
            Some(Fault::CloseAfter) => return None,
            Some(Fault::CloseAmid) => drop(done.extensions_mut().insert(Rest::Missing)),
            Some(Fault::WrongType) => {
                let html = HeaderValue::from_static("text/html; charset=utf-8");
                done.headers_mut().insert(CONTENT_TYPE, html);
            }
            _ => {}
        }
        Some(done)
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
                Some((held @ (Fault::Hold | Fault::HoldAnswer), times)) => Some((held, times)),
                Some((kind, times)) if times > 1 => Some((kind, times - 1)),
                Some(_) | None => None,
            };
            false
        });
        match fault {
            Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Hold) => self.lifted(Fault::Hold).await,
            _ => {}
        }
        fault
    }

    async fn lifted(&self, fault: Fault) {
        let is_other = |now: &Option<(Fault, u64)>| now.is_none_or(|(kind, _)| kind != fault);
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.faults.subscribe().wait_for(is_other).await;
    }

    fn redeem(&self, old: &str) -> Option<Grant> {
        let mut books = self.books();
        let Some(token) = books.tokens.get_mut(old) else {
            books.counters.refused += 1;
            return None;
        };
        let (account, family) = (token.account.clone(), token.family.clone());
        if std::mem::replace(&mut token.is_spent, true) {
            books.counters.reuses += 1;
            if !self.settings.lenient {
                books.counters.refused += 1;
                if self.settings.ends_families {
                    books.tokens.retain(|_, token| token.family != family);
                }
                return None;
            }
        }
        let grant = Grant::new(&account, &self.signing_key, self.settings.access_life);
        let token = Token { account, family, is_spent: false };
        books.tokens.insert(grant.refresh_token.clone(), token);
        books.counters.redemptions += 1;
        Some(grant)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing under the lock can panic half-way.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Books {
    /// By the refresh tokens' texts.
    tokens: HashMap<String, Token>,
    counters: Counters,
}

/// A refresh token that was given out.
struct Token {
    account: Account,
    /// The first token after the sign-in.
    family: String,
    is_spent: bool,
}

/// What a fault answers that keeps the redemption from being done. `None`: it does not.
fn undone(fault: Fault) -> Option<Answer> {
    let page = || "<!doctype html><title>Welcome to our lobby</title>".to_owned();
    Some(match fault {
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            Some(answer(status, &json!({"error": "out of order"})))
        }
        Fault::TooMany { retry_after } => {
            let mut busy = answer(StatusCode::TOO_MANY_REQUESTS, &json!({"error": "busy"}));
            busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
            Some(busy)
        }
        Fault::Garbage => Some(html(StatusCode::OK, page())),
        Fault::NoToken => Some(answer(StatusCode::OK, &json!({"data": {"ok": true}}))),
        Fault::Huge { bytes } => {
            Some(answer(StatusCode::OK, &json!({"padding": "x".repeat(bytes)})))
        }
        Fault::Endless => {
            let mut begun = html(StatusCode::OK, page());
            begun.extensions_mut().insert(Rest::Endless);
            Some(begun)
        }
        Fault::CloseBefore => None,
        Fault::Delay(_)
        | Fault::Hold
        | Fault::HoldAnswer
        | Fault::WrongType
        | Fault::CloseAfter
        | Fault::CloseAmid => return None,
    })
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
