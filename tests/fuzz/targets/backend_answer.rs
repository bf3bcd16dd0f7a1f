//! Backends' answers: new tokens fit into a header, and a session ends only where the backend said
//! so in its dialect's words. A dialect's number, a status and a body, a blank between them.

#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use foregate_fuzz::{KEYRING, NOW};
use foregate_refresh::{
    Backend, BackendSpec, ClientAuth, Dialect, Ledger, MemoryLedger, RefreshError, RefreshSettings,
    RefreshSpec, Refresher, SendError, TokenAnswer, TokenEndpoint, TokenRequest,
};
use foregate_session::Session;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == b' ');
    let mut number = || str::from_utf8(parts.next()?).ok()?.parse::<u16>().ok();
    let (Some(dialect), Some(status)) = (number(), number()) else { return };
    let body = parts.next().unwrap_or_default();
    let Some((dialect, backend)) = BACKENDS.get(usize::from(dialect)) else { return };

    let settings = RefreshSettings { ledger_entries: 4, remember: Duration::from_secs(3600) };
    let ledger = Ledger::Memory(MemoryLedger::new(4));
    let endpoint = Endpoint { status, body: body.to_vec() };
    let handle = RUNTIME.handle().clone();
    let refresher = Refresher::new(endpoint, ledger, handle, settings, |_| {});
    match RUNTIME.block_on(refresher.refresh(backend, &SESSION, NOW)) {
        Ok(tokens) => {
            assert!((200..300).contains(&status));
            let renewed = SESSION.renewed(&tokens.as_new_tokens());
            assert_eq!(renewed.access_token(), Some(tokens.access_token.expose()));
            assert_eq!(renewed.refresh_token(), Some(tokens.refresh_token.expose()));
            assert!(tokens.access_expires_at.is_none_or(|end| end > NOW));
        }
        Err(RefreshError::Refused) => {
            let said = |word: &[u8]| body.windows(word.len()).any(|window| window == word);
            assert!(match dialect {
                Dialect::Json => [400, 401, 403].contains(&status),
                Dialect::SimpleJwt => status == 401,
                Dialect::OAuth2 => {
                    let is_final =
                        (400..500).contains(&status) && ![408, 425, 429].contains(&status);
                    is_final && said(b"grant")
                }
            });
        }
        Err(RefreshError::SubjectChanged) => assert!((200..300).contains(&status)),
        Err(RefreshError::Unavailable { retry_after, .. }) => assert!(!retry_after.is_zero()),
        Err(RefreshError::SignedOut) => panic!("nobody signed out"),
    }
});

/// Answers everything alike.
struct Endpoint {
    status: u16,
    body: Vec<u8>,
}

impl TokenEndpoint for Endpoint {
    async fn send(&self, request: TokenRequest) -> Result<TokenAnswer, SendError> {
        assert!(request.url.starts_with("https://"), "{request:?}");
        Ok(TokenAnswer { status: self.status, retry_after: None, body: self.body.clone() })
    }
}

/// The last one is found by discovery.
static BACKENDS: LazyLock<[(Dialect, Arc<Backend>); 4]> = LazyLock::new(|| {
    let url = Some("https://id.example.com/token");
    let issuer = Some("https://id.example.com");
    [
        (Dialect::Json, url, None),
        (Dialect::OAuth2, url, None),
        (Dialect::SimpleJwt, url, None),
        (Dialect::OAuth2, None, issuer),
    ]
    .map(|(dialect, url, issuer)| (dialect, Arc::new(backend(dialect, url, issuer))))
});

fn backend(dialect: Dialect, url: Option<&str>, issuer: Option<&str>) -> Backend {
    let spec = BackendSpec {
        name: "main".to_owned(),
        dialect,
        refresh_url: url.map(str::to_owned),
        issuer: issuer.map(str::to_owned),
        client_id: None,
        client_secret: None,
        client_auth: ClientAuth::Post,
        timeout: Duration::from_secs(5),
        max_in_flight: 1,
        refresh: RefreshSpec::default(),
    };
    Backend::new(spec).expect("a sound backend")
}

/// Its time stands still, so nothing is waited for.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
});

/// The access token is `{"sub":"ann"}`.
static SESSION: LazyLock<Session> = LazyLock::new(|| {
    let claims = r#"{"accessToken":"e30.eyJzdWIiOiJhbm4ifQ.c2ln","refreshToken":"r"}"#;
    KEYRING.session_from_claims(claims, None).expect("sound claims")
});
