//! Django with djangorestframework-simplejwt, rotation and blacklist, for the second seed's session.

use std::path::PathBuf;

use super::process::Process;
use super::*;

every_story!(Django);

pub(crate) struct Django(Process);

impl Django {
    async fn pair(&self, path: &str, body: &Value) -> Option<Pair> {
        let answer = self.send(&post_json(&self.url(path), body)).await;
        Pair::read(&answer, ["access", "refresh"])
    }
}

impl Peer for Django {
    const COOKIE: &'static str = "next-auth.session-token";
    const API: &'static str = "/api/orders";

    async fn start() -> Self {
        let python = PathBuf::from(BACKENDS).join(".venv/bin/python");
        assert!(python.exists(), "missing: {}; {REMEDY}", python.display());
        let command = |port: u16, directory: &PathBuf| {
            let mut command = Command::new(&python);
            command.current_dir(BACKENDS).args(["django_backend.py", &port.to_string()]);
            command.arg(directory.join("db.sqlite3"));
            command
        };
        Self(Process::start(command).await)
    }

    fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn table(&self) -> String {
        let url = self.url("/api/token/refresh/");
        format!("[backend]\ndialect = \"simplejwt\"\nrefresh_url = \"{url}\"\n")
    }

    fn claims(pair: &Pair, end: u64) -> Value {
        json!({
            "token": pair.access_token, "accessTokenExpires": end,
            "refreshToken": pair.refresh_token, "isAdmin": false,
        })
    }

    async fn sign_in(&self) -> Pair {
        let body = json!({ "username": "ada", "password": "demo" });
        self.pair("/api/token/", &body).await.expect("Ada may sign in")
    }

    async fn sign_in_elsewhere(&mut self) -> Pair {
        let body = json!({ "username": "ada" });
        self.pair("/api/token/elsewhere/", &body).await.expect("Ada may sign in")
    }

    async fn redeem(&self, refresh_token: &str) -> Option<Pair> {
        self.pair("/api/token/refresh/", &json!({ "refresh": refresh_token })).await
    }

    async fn revoke(&self, refresh_token: &str) {
        let url = self.url("/api/token/blacklist/");
        let answer = self.send(&post_json(&url, &json!({ "refresh": refresh_token }))).await;
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
