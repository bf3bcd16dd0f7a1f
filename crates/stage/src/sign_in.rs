//! The demo's sign-in form: it asks the backend and seals the cookie that a NextAuth.js v4 site
//! would set, so that the demo needs no Node.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION, SET_COOKIE};
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use crate::backend::{Account, Backend, Desk};
use crate::form;
use crate::html::{escape, page, table};
use crate::seal::{random, seal_v4};
use crate::served::{Answer, Call, Served, html};

/// For whom the form signs in.
pub struct SignInSettings {
    /// The secret that the gate opens sessions with.
    pub secret: String,
    /// Domain of the session cookie.
    pub cookie_domain: String,
    /// Origins (`http://app.demo.localhost:8080`) to which `callbackUrl` may lead. Where it leads
    /// anywhere else, or is missing, the visitor goes to the first of them.
    pub origins: Vec<String>,
}

/// A running sign-in form. It ends when this is dropped.
pub struct SignIn(Served);

impl SignIn {
    /// Starts one at `address` (port 0: any), for the accounts of `backend`.
    pub async fn start(
        address: SocketAddr,
        settings: SignInSettings,
        backend: &Backend,
    ) -> io::Result<Self> {
        let form = Arc::new(Form { desk: backend.desk(), settings });
        let served = Served::start(address, move |call| {
            let form = Arc::clone(&form);
            async move { form.answer(&call) }
        });
        Ok(Self(served.await?))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

struct Form {
    desk: Arc<Desk>,
    settings: SignInSettings,
}

impl Form {
    fn answer(&self, call: &Call) -> Answer {
        let callback = form::field(call.query(), "callbackUrl").unwrap_or_default();
        Some(match (&call.method, call.uri.path()) {
            (&Method::GET | &Method::HEAD, "/") => redirect(StatusCode::FOUND, "/login"),
            (&Method::GET | &Method::HEAD, "/login") => {
                html(StatusCode::OK, self.show(&callback, None))
            }
            (&Method::POST, "/login") => self.sign_in(&call.body),
            _ => html(StatusCode::NOT_FOUND, page("Not found", "<main><h1>Not found</h1></main>")),
        })
    }

    fn sign_in(&self, body: &Bytes) -> Response<Full<Bytes>> {
        let body = String::from_utf8_lossy(body);
        let [email, password, callback] = ["email", "password", "callbackUrl"]
            .map(|name| form::field(&body, name).unwrap_or_default());
        let Some(grant) = self.desk.login(&email, &password) else {
            return html(StatusCode::UNAUTHORIZED, self.show(&callback, Some(&email)));
        };
        let claims = grant.session_claims(SESSION_LIFE).to_string();
        let cookie = format!(
            "next-auth.session-token={}; Domain={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax",
            seal_v4(&self.settings.secret, &claims, random()),
            self.settings.cookie_domain,
            SESSION_LIFE.as_secs(),
        );
        let mut response = redirect(StatusCode::SEE_OTHER, self.destination(&callback));
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        response
    }

    /// `callback` where it may lead, else the first origin. What follows the origin must begin like
    /// a path, so that `http://app.demo.localhost:8080.evil.example` is not taken for it.
    fn destination<'a>(&'a self, callback: &'a str) -> &'a str {
        let allowed = self.settings.origins.iter().any(|origin| {
            callback.strip_prefix(origin.as_str()).is_some_and(|rest| {
                matches!(rest.bytes().next(), None | Some(b'/' | b'?' | b'#'))
                    && rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
            })
        });
        if allowed { callback } else { self.settings.origins.first().map_or("/", String::as_str) }
    }

    /// The form. `refused`: the address that was just tried with a wrong password.
    fn show(&self, callback: &str, refused: Option<&str>) -> String {
        let message = refused.map_or("", |_| {
            "<p class=\"bad\" role=\"alert\">That address and password do not belong together.</p>"
        });
        let accounts = self.desk.accounts();
        let email = refused.or_else(|| accounts.first().map(|account| account.email.as_str()));
        let rows = accounts.iter().map(|account| (&account.email, describe(account)));
        let body = format!(
            "<main class=\"narrow\"><section><h1>Sign in</h1>\
             <p class=\"soft\">One sign-in for every app behind the gate.</p>{message}\
             <form method=\"post\" action=\"/login\">\
             <input type=\"hidden\" name=\"callbackUrl\" value=\"{callback}\">\
             <label for=\"email\">Email</label>\
             <input id=\"email\" name=\"email\" type=\"email\" value=\"{email}\" autocomplete=\"username\" required>\
             <label for=\"password\">Password</label>\
             <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\" required autofocus>\
             <button class=\"main\">Sign in</button></form></section>\
             <section><h2>Accounts of this demo</h2>{accounts}</section></main>",
            callback = escape(callback),
            email = escape(email.unwrap_or_default()),
            accounts = table(rows),
        );
        page("Sign in", body)
    }
}

fn describe(account: &Account) -> String {
    format!("password {}, roles {}", account.password, account.roles.join(" and "))
}

fn redirect(status: StatusCode, location: &str) -> Response<Full<Bytes>> {
    let mut response = html(status, String::new());
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
