//! What the unit tests of several modules begin with: a gate whose backend answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use foregate_config::{Environment, Snapshot, parse};
use foregate_refresh::{
    Ledger, MemoryLedger, RefreshError, RefreshSettings, Refresher, SendError, TokenAnswer,
    TokenEndpoint, TokenRequest,
};
use foregate_session::{Cookies, Session, UnixSeconds};
use http::Request;
use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use http::request::Parts;
use tokio::runtime::Handle;

use crate::admission::{Found, Gate, Grant, renewer};
use crate::request;
use crate::upstream::app_word::{Errand, Word};

pub(crate) const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// A backend that gives every call the same answer.
#[derive(Clone, Default)]
pub(crate) struct Parrot(Arc<Mutex<(u16, String, usize)>>);

impl TokenEndpoint for Parrot {
    async fn send(&self, _: TokenRequest) -> Result<TokenAnswer, SendError> {
        let mut told = self.0.lock().unwrap();
        told.2 += 1;
        Ok(TokenAnswer { status: told.0, retry_after: None, body: told.1.clone().into_bytes() })
    }
}

/// An app, a backend, and the gate between.
pub(crate) struct Yard {
    pub(crate) snapshot: Snapshot,
    refresher: Refresher<Parrot>,
    parrot: Parrot,
}

impl Yard {
    /// With more tables in the configuration. Needs a runtime.
    pub(crate) fn new(tables: &str) -> Self {
        let text = format!(
            r#"[session]
secrets = ["a-secret-of-the-tests-that-is-long-enough"]
secure = false

[backend]
refresh_url = "http://127.0.0.1:1/refresh"

{tables}
[[app]]
host = "app.test"
upstream = "http://127.0.0.1:1"

  [[app.rule]]
  path = "/admin"
  roles = ["admin"]
"#
        );
        let environment = Environment::from_pairs::<&str, &str>([]);
        let Ok(loaded) = parse("proxy.toml", &text, &environment) else {
            panic!("the configuration of the tests is sound")
        };
        let parrot = Parrot::default();
        let settings =
            RefreshSettings { ledger_entries: 100, remember: Duration::from_secs(86_400) };
        let ledger = Ledger::Memory(MemoryLedger::new(100));
        let refresher = Refresher::new(parrot.clone(), ledger, Handle::current(), settings, |_| ());
        Self { snapshot: loaded.snapshot, refresher, parrot }
    }

    pub(crate) fn gate(&self) -> Gate<'_, Parrot> {
        Gate { snapshot: &self.snapshot, refresher: &self.refresher }
    }

    /// From now on the backend says this.
    pub(crate) fn answers(&self, status: u16, body: &str) {
        let mut told = self.parrot.0.lock().unwrap();
        (told.0, told.1) = (status, body.to_owned());
    }

    /// How often the backend was asked.
    pub(crate) fn calls(&self) -> usize {
        self.parrot.0.lock().unwrap().2
    }

    /// Ann's session, of an hour ago, with these tokens; nothing tells when they end.
    pub(crate) fn session(&self, access_token: &str, refresh_token: &str) -> Session {
        let claims = format!(
            r#"{{"sub":"ann","accessToken":"{access_token}","refreshToken":"{refresh_token}"}}"#
        );
        self.snapshot.keyring.session_from_claims(&claims, None).unwrap()
    }

    /// The line that gives a browser Ann's session with these tokens.
    pub(crate) fn set_cookie(&self, access_token: &str, refresh_token: &str) -> String {
        self.cookie(&self.session(access_token, refresh_token)).pop().unwrap()
    }

    fn cookie(&self, session: &Session) -> Vec<String> {
        let keyring = &self.snapshot.keyring;
        let an_hour_ago = NOW.saturating_sub(Duration::from_secs(3600));
        keyring.set_cookies(&keyring.seal(session, an_hour_ago, [9; 32]), &Cookies::parse([]))
    }

    /// A request with the session's cookie, as it came.
    pub(crate) fn get(&self, path: &str, session: &Session) -> Parts {
        let lines = self.cookie(session);
        let cookies = lines.iter().map(|line| line.split(';').next().unwrap());
        let request = Request::get(path)
            .header("host", "app.test")
            .header("cookie", cookies.collect::<Vec<_>>().join("; "));
        request.body(()).unwrap().into_parts().0
    }

    pub(crate) async fn admit(&self, parts: &Parts) -> Grant {
        let head = request::head_of(parts).unwrap();
        let cookies = request::cookies(&parts.headers);
        match self.gate().admit(&head, &cookies, NOW, &mut Found::Nothing).await {
            Ok(grant) => grant,
            Err(turned) => panic!("refused: {:?}", turned.why),
        }
    }

    /// What the gate makes of an answer with these `Set-Cookie` lines.
    pub(crate) async fn heed(
        &self,
        method: &str,
        path: &str,
        session: Option<&Session>,
        lines: &[&str],
    ) -> Word {
        let mut answer = HeaderMap::new();
        for line in lines {
            answer.append(SET_COOKIE, HeaderValue::from_str(line).unwrap());
        }
        self.gate().heed(Errand::of(method, path), session, &answer, NOW).await
    }

    /// The access token that holders of the session find in the ledger.
    pub(crate) fn newest(&self, session: &Session) -> Option<String> {
        let tokens = self.refresher.settled(session, NOW)?;
        Some(tokens.access_token.expose().to_owned())
    }

    pub(crate) async fn is_signed_out(&self, session: &Session) -> bool {
        let backend = renewer(&self.snapshot, session).unwrap();
        let answer = self.refresher.refresh(backend, session, NOW).await;
        answer == Err(RefreshError::SignedOut)
    }
}
