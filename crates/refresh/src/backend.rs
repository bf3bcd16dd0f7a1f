//! One `[[backend]]`, compiled: where its token endpoint is, how many redemptions it bears at once,
//! how long it may take.

use std::sync::Arc;
use std::time::Duration;

use foregate_session::Secret;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use url::Url;

use crate::answer::Verdict;
use crate::clock::Clock;
use crate::dialect::{ClientAuth, Dialect, Exchange, RefreshSpec};
use crate::endpoint::{SendError, TokenAnswer, TokenEndpoint, TokenRequest};
use crate::outcome::Fault;
use crate::template::Client;
use crate::tokens::Held;

/// `[backend]`, as far as a refresh is concerned.
#[derive(Clone, Debug)]
pub struct BackendSpec {
    /// For the log.
    pub name: String,
    pub dialect: Dialect,
    /// Absolute, http or https. Goes before `issuer`.
    pub refresh_url: Option<String>,
    /// Where OpenID Connect Discovery finds the token endpoint, at first use. With `oauth2` only.
    pub issuer: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    pub client_auth: ClientAuth,
    /// How long a visitor waits for an answer, and as long again for his turn at most.
    pub timeout: Duration,
    /// `>= 1`
    pub max_in_flight: usize,
    pub refresh: RefreshSpec,
}

/// Something wrong in a [`BackendSpec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendFault {
    /// Below the table of the backend: `refresh_url`, `refresh.body.token`.
    pub key: String,
    pub message: String,
    pub hint: Option<String>,
}

impl BackendFault {
    pub(crate) fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }
}

/// A backend that redeems refresh tokens. Shared by all sessions that it refreshes.
pub struct Backend {
    pub(crate) name: Arc<str>,
    pub(crate) timeout: Duration,
    turns: Semaphore,
    address: Address,
    exchange: Exchange,
}

enum Address {
    Known(String),
    /// Asked for once per process, again after a failure.
    Discovered {
        issuer: String,
        found: OnceCell<String>,
    },
}

impl Backend {
    /// Compiles `spec`, or says all that is wrong with it.
    pub fn new(spec: BackendSpec) -> Result<Self, Vec<BackendFault>> {
        let mut faults = Vec::new();
        if spec.timeout.is_zero() {
            faults.push(BackendFault::new("timeout", "leaves no time for an answer"));
        }
        if !(1..=Semaphore::MAX_PERMITS).contains(&spec.max_in_flight) {
            let message = "is no number of redemptions that could run at once";
            faults.push(BackendFault::new("max_in_flight", message));
        }
        let client = Client { id: spec.client_id.as_deref(), secret: spec.client_secret.as_ref() };
        if client.secret.is_some() && client.id.is_none() {
            faults.push(BackendFault::new("client_secret", "belongs to a `client_id`"));
        }
        if spec.client_auth == ClientAuth::Basic && client.secret.is_none() {
            let fault = BackendFault::new("client_auth", "`basic` needs a `client_secret`");
            faults.push(fault.hint("a public client says its `client_id` in the body: `post`"));
        }
        let address = address(&spec, &mut faults);
        let exchange =
            Exchange::compile(spec.dialect, &client, spec.client_auth, spec.refresh, &mut faults);
        match (address, exchange) {
            (Some(address), Some(exchange)) if faults.is_empty() => Ok(Self {
                name: spec.name.into(),
                timeout: spec.timeout,
                turns: Semaphore::new(spec.max_in_flight),
                address,
                exchange,
            }),
            _ => Err(faults),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it redeems; `None` where that is found by discovery.
    pub fn url(&self) -> Option<&str> {
        match &self.address {
            Address::Known(url) => Some(url),
            Address::Discovered { .. } => None,
        }
    }

    /// Waits for one of `max_in_flight` turns.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("nobody closes the semaphore")
    }

    /// Asks for a new pair, once. Takes as long as the endpoint does.
    pub(crate) async fn redeem<E: TokenEndpoint>(
        &self,
        endpoint: &E,
        held: &Held,
        clock: Clock,
    ) -> Verdict {
        let url = match &self.address {
            Address::Known(url) => url,
            Address::Discovered { issuer, found } => {
                match found.get_or_try_init(|| discover(endpoint, issuer)).await {
                    Ok(url) => url,
                    Err(fault) => return fault.into(),
                }
            }
        };
        let sent_at = clock.now();
        match endpoint.send(self.exchange.request(url, held)).await {
            Ok(answer) => self.exchange.answer.read(&answer, sent_at),
            Err(SendError::NeverSent(why)) => Fault::Unreachable(why).into(),
            Err(SendError::Broken(why)) => Fault::AnswerLost(why).into(),
            Err(SendError::TooLarge) => Fault::Unusable("is too large").into(),
        }
    }
}

fn address(spec: &BackendSpec, faults: &mut Vec<BackendFault>) -> Option<Address> {
    if spec.issuer.is_some() && spec.dialect != Dialect::OAuth2 {
        let fault = BackendFault::new("issuer", "only OAuth 2 has discovery");
        faults.push(fault.hint("`dialect = \"oauth2\"`, or `refresh_url`"));
    }
    let checked = |key: &str, text: &str, faults: &mut Vec<BackendFault>| match web_address(text) {
        Ok(url) => Some(url),
        Err(message) => {
            faults.push(BackendFault::new(key, message));
            None
        }
    };
    // Both are checked where both are given, though only the first counts.
    let issuer = spec.issuer.as_deref().map(|issuer| {
        if checked("issuer", issuer, faults)?.query().is_some() {
            faults.push(BackendFault::new("issuer", "has a query"));
        }
        Some(Address::Discovered { issuer: issuer.to_owned(), found: OnceCell::new() })
    });
    let refresh_url = spec
        .refresh_url
        .as_deref()
        .map(|text| checked("refresh_url", text, faults).map(|url| Address::Known(url.into())));
    match (refresh_url, issuer) {
        (Some(known), _) => known,
        (None, Some(discovered)) => discovered,
        (None, None) => {
            let hint = match spec.dialect {
                Dialect::OAuth2 => "`refresh_url` or `issuer`",
                Dialect::Json | Dialect::SimpleJwt => "`refresh_url`",
            };
            let message = "nothing says where tokens are refreshed";
            faults.push(BackendFault::new("refresh_url", message).hint(hint));
            None
        }
    }
}

/// An address that a token may be sent to.
fn web_address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no absolute URL")?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err("is neither http nor https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or a password in it");
    }
    if url.fragment().is_some() {
        return Err("has a fragment");
    }
    Ok(url)
}

/// OpenID Connect Discovery 1.0 §4.
async fn discover<E: TokenEndpoint>(endpoint: &E, issuer: &str) -> Result<String, Fault> {
    let answer = endpoint.send(TokenRequest {
        method: "GET".to_owned(),
        url: format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')),
        headers: vec![("Accept".to_owned(), "application/json".to_owned())],
        body: Vec::new(),
    });
    let answer = answer.await.map_err(|error| Fault::Discovery(error.to_string()))?;
    token_endpoint(issuer, &answer).map_err(Fault::Discovery)
}

fn token_endpoint(issuer: &str, answer: &TokenAnswer) -> Result<String, String> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        issuer: String,
        token_endpoint: String,
    }

    if answer.status != 200 {
        return Err(format!("the issuer answered {}", answer.status));
    }
    let metadata: Metadata =
        serde_json::from_slice(&answer.body).map_err(|_| "no metadata of an issuer")?;
    // §4.3: else one issuer could speak for another.
    if metadata.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
        return Err("the metadata is another issuer's".to_owned());
    }
    let url =
        web_address(&metadata.token_endpoint).map_err(|why| format!("its token_endpoint {why}"))?;
    if issuer.starts_with("https:") && url.scheme() != "https" {
        return Err("its token_endpoint is not https".to_owned());
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dialect: Dialect) -> BackendSpec {
        BackendSpec {
            name: "main".to_owned(),
            dialect,
            refresh_url: None,
            issuer: None,
            client_id: None,
            client_secret: None,
            client_auth: ClientAuth::Post,
            timeout: Duration::from_secs(5),
            max_in_flight: 64,
            refresh: RefreshSpec::default(),
        }
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_backend_needs_one_sound_address() {
        let check = |dialect, refresh_url: &str, issuer: &str, expected: &str| {
            let given = |url: &str| Some(url.to_owned()).filter(|url| !url.is_empty());
            let spec = BackendSpec {
                refresh_url: given(refresh_url),
                issuer: given(issuer),
                ..spec(dialect)
            };
            let faults = Backend::new(spec).err().unwrap_or_default();
            let said: Vec<_> =
                faults.iter().map(|fault| format!("{} {}", fault.key, fault.message)).collect();
            assert_eq!(said.join("; "), expected, "{refresh_url} {issuer}");
        };
        let (json, oauth2) = (Dialect::Json, Dialect::OAuth2);
        check(json, "https://api.example.com/auth/refreshToken", "", "");
        check(json, "http://[::1]:4000/refresh?v=1", "", "");
        check(oauth2, "", "https://id.example.com/realms/main", "");
        check(oauth2, "https://id.example.com/token", "https://id.example.com", "");
        check(json, "", "", "refresh_url nothing says where tokens are refreshed");
        check(oauth2, "", "", "refresh_url nothing says where tokens are refreshed");
        check(json, "/auth/refresh", "", "refresh_url is no absolute URL");
        check(json, "ftp://api.example.com/", "", "refresh_url is neither http nor https");
        check(
            json,
            "https://u:p@a.example/",
            "",
            "refresh_url has a user name or a password in it",
        );
        check(json, "https://a.example/#x", "", "refresh_url has a fragment");
        check(json, "https://a.example/", "https://b.example", "issuer only OAuth 2 has discovery");
        check(oauth2, "", "id.example.com", "issuer is no absolute URL");
        check(oauth2, "", "https://id.example.com?x", "issuer has a query");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let refresh = RefreshSpec { method: text("FETCH"), ..RefreshSpec::default() };
        let wrong = BackendSpec {
            client_secret: Some(Secret::new("s")),
            timeout: Duration::ZERO,
            max_in_flight: 0,
            refresh,
            ..spec(Dialect::OAuth2)
        };
        let check = |spec: BackendSpec, expected: &[&str]| {
            let faults = Backend::new(spec).err().unwrap();
            let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
            assert_eq!(keys, expected);
        };
        check(
            wrong.clone(),
            &["timeout", "max_in_flight", "client_secret", "refresh_url", "refresh.method"],
        );
        let sound = BackendSpec {
            refresh_url: text("https://id.example.com/token"),
            client_id: text("gate"),
            client_auth: ClientAuth::Basic,
            ..spec(Dialect::OAuth2)
        };
        check(sound, &["client_auth"]);
        assert!(!format!("{wrong:?}").contains("\"s\""), "a secret is not shown");
    }

    #[test]
    fn only_the_issuer_s_own_metadata_names_the_token_endpoint() {
        let check = |issuer: &str, body: &str, expected: Result<&str, &str>| {
            let answer =
                TokenAnswer { status: 200, retry_after: None, body: body.as_bytes().to_vec() };
            let found = token_endpoint(issuer, &answer);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{body}");
        };
        let metadata = |issuer: &str, endpoint: &str| {
            format!(r#"{{"issuer":"{issuer}","token_endpoint":"{endpoint}","more":[]}}"#)
        };
        let (issuer, endpoint) = ("https://id.example.com/r", "https://id.example.com/r/token");
        check(issuer, &metadata(issuer, endpoint), Ok(endpoint));
        check(&format!("{issuer}/"), &metadata(issuer, endpoint), Ok(endpoint));
        let other = Err("the metadata is another issuer's");
        check(issuer, &metadata("https://id.example.com/other", endpoint), other);
        check(issuer, &metadata("http://id.example.com/r", endpoint), other);
        let plain = metadata(issuer, "http://id.example.com/r/token");
        check(issuer, &plain, Err("its token_endpoint is not https"));
        check(issuer, &metadata(issuer, "/t"), Err("its token_endpoint is no absolute URL"));
        check(issuer, r#"{"issuer":7}"#, Err("no metadata of an issuer"));
        check(issuer, "<html>", Err("no metadata of an issuer"));
        let answer = TokenAnswer { status: 404, retry_after: None, body: Vec::new() };
        assert_eq!(token_endpoint(issuer, &answer), Err("the issuer answered 404".to_owned()));
    }
}
