//! npm's oidc-provider with rotation and reuse detection, for the session of the Auth.js guide.

use std::path::PathBuf;

use super::process::Process;
use super::*;

/// The endpoint by discovery, the client in the body, JWTs.
mod by_issuer {
    every_story!(super::Provider<false>);
}

/// The endpoint by its address, the client by HTTP Basic, opaque tokens.
mod by_address {
    every_story!(super::Provider<true>);
}

#[tokio::test]
async fn a_secret_that_is_wrong_signs_nobody_out() {
    let peer = Provider::<false>::start().await;
    let table = peer.table().replace("app-secret", "another");
    let world = World::around(peer, &table).await;
    let cookie = World::<Provider<false>>::ended(&world.peer.sign_in().await);
    let ada = world.visitor(&cookie);
    assert_eq!(ada.navigate(DASHBOARD).await.status, 503);
    assert_eq!(ada.cookies("app.example.com").as_deref(), Some(&*cookie), "the cookie is kept");
    world.gates[0].logged(|log| log.contains("invalid_client")).await;
}

/// As the client `strict`, or else as `app`.
pub(crate) struct Provider<const STRICT: bool>(Process);

impl<const STRICT: bool> Provider<STRICT> {
    /// What the provider answers to the client.
    async fn ask(&self, path: &str, form: &str) -> Answer {
        let request = Request::new("POST", &self.url(path))
            .header("Content-Type", "application/x-www-form-urlencoded");
        let request = match STRICT {
            true => request.header("Authorization", BASIC).body(form),
            false => request.body(format!("{form}&client_id=app&client_secret=app-secret")),
        };
        self.send(&request).await
    }

    async fn sign_in_as(&self, name: &str) -> Pair {
        let client = if STRICT { "strict" } else { "app" };
        let url = self.url(&format!(
            "/auth?client_id={client}&response_type=code&redirect_uri={CALLBACK}\
             &scope=openid%20offline_access%20api&login_hint={name}"
        ));
        let (end, answer) = Browser::new(self.address()).follow(&url).await;
        let code = end.split_once("?code=").map(|(_, rest)| rest.split('&').next().unwrap());
        let code = code.unwrap_or_else(|| panic!("{end}: {}", answer.text()));
        let form = format!("grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}");
        let answer = self.ask("/token", &form).await;
        Pair::read(&answer, MEMBERS).unwrap_or_else(|| panic!("{}", answer.text()))
    }
}

impl<const STRICT: bool> Peer for Provider<STRICT> {
    const COOKIE: &'static str = "authjs.session-token";
    const API: &'static str = "/api/orders";

    async fn start() -> Self {
        let modules = PathBuf::from(BACKENDS).join("node_modules/oidc-provider");
        assert!(modules.exists(), "missing: {}; {REMEDY}", modules.display());
        let command = |port: u16, directory: &PathBuf| {
            let mut command = Command::new("node");
            command.current_dir(BACKENDS).args(["provider.mjs", &port.to_string()]);
            command.arg(directory.join("state.json"));
            command
        };
        Self(Process::start(command).await)
    }

    fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn table(&self) -> String {
        match STRICT {
            true => format!(
                "[backend]\ndialect = \"oauth2\"\nrefresh_url = \"{}\"\nclient_id = \"strict\"\n\
                 client_secret = \"p:s %w+d\"\nclient_auth = \"basic\"\n",
                self.url("/token")
            ),
            false => format!(
                "[backend]\ndialect = \"oauth2\"\nissuer = \"{}\"\nclient_id = \"app\"\n\
                 client_secret = \"app-secret\"\n",
                self.url("")
            ),
        }
    }

    fn claims(pair: &Pair, end: u64) -> Value {
        json!({
            "access_token": pair.access_token, "expires_at": end,
            "refresh_token": pair.refresh_token, "provider": "oidc",
        })
    }

    async fn sign_in(&self) -> Pair {
        self.sign_in_as("ada").await
    }

    async fn sign_in_elsewhere(&mut self) -> Pair {
        self.sign_in_as("cleo").await
    }

    async fn redeem(&self, refresh_token: &str) -> Option<Pair> {
        let form = format!("grant_type=refresh_token&refresh_token={refresh_token}");
        Pair::read(&self.ask("/token", &form).await, MEMBERS)
    }

    async fn revoke(&self, refresh_token: &str) {
        let answer = self.ask("/token/revocation", &format!("token={refresh_token}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    async fn counters(&self) -> Counters {
        Counters::read(&self.send(&Request::get(&self.url("/stats"))).await.json())
    }

    async fn stop(&mut self) {
        self.0.stop().await;
    }

    async fn resume(&mut self) {
        self.0.resume().await;
    }
}

const CALLBACK: &str = "http://app.example.com/callback";
const MEMBERS: [&str; 2] = ["access_token", "refresh_token"];
/// `strict` and its secret, each form-encoded: base64 of `strict:p%3As+%25w%2Bd`.
const BASIC: &str = "Basic c3RyaWN0OnAlM0FzKyUyNXclMkJk";
