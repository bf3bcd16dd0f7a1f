//! Keycloak 26 with reuse 0: there a single replayed refresh token ends the user's whole session,
//! the newest token included. So what the other backends merely count, this one punishes.

use std::path::PathBuf;

use foregate_tests::free_port;

use super::process::Process;
use super::*;

/// One process for all of it: a start takes up to two minutes.
#[tokio::test]
async fn no_story_makes_keycloak_see_a_token_twice() {
    let mut world = World::<Keycloak>::start().await;
    stories::all(&mut world).await;
    replayed(&world).await;

    let mut world = World::replicated_around(world.peer).await;
    stories::all(&mut world).await;
    replayed(&world).await;
    stories::killed(&mut world).await;
}

/// That a replay is punished at all, or the stories would show nothing; and what is then left to do.
async fn replayed(world: &World<Keycloak>) {
    let pair = world.peer.sign_in().await;
    let newest = world.peer.redeem(&pair.refresh_token).await.expect("a new pair");
    assert_eq!(world.peer.redeem(&pair.refresh_token).await, None, "a replay");
    let before = world.peer.counters().await;
    let ada = world.visitor(&World::<Keycloak>::ended(&newest));
    assert_eq!(ada.navigate(DASHBOARD).await.status, 302, "the newest token is refused, too");
    assert_eq!(ada.cookies("app.example.com"), None);
    assert_eq!(world.peer.counters().await.since(before).refused, 1);
}

struct Keycloak {
    process: Process,
    /// Pairs whose access token was revoked, and when they were issued.
    elsewhere: Vec<(Pair, Instant)>,
}

impl Keycloak {
    async fn form(&self, path: &str, form: &str) -> Answer {
        let request = Request::new("POST", &self.url(path));
        let request = request.header("Content-Type", "application/x-www-form-urlencoded");
        self.send(&request.body(form)).await
    }

    /// What an endpoint of the realm answers to the client.
    async fn ask(&self, endpoint: &str, form: &str) -> Answer {
        let path = format!("/realms/shop/protocol/openid-connect/{endpoint}");
        self.form(&path, &format!("{form}&client_id=app&client_secret=app-secret")).await
    }

    async fn revoke(&self, token: &str) {
        let answer = self.ask("revoke", &format!("token={token}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Waits until the realm answers, which is some time after the port does.
    async fn is_ready(&self) {
        let deadline = Instant::now() + 4 * PATIENCE;
        let realm = Request::get(&self.url("/realms/shop"));
        while self.send(&realm).await.status != 200 {
            assert!(Instant::now() < deadline, "the realm does not answer");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Peer for Keycloak {
    const COOKIE: &'static str = "authjs.session-token";
    const API: &'static str = "/realms/shop/protocol/openid-connect/userinfo";

    async fn start() -> Self {
        let home = PathBuf::from(BACKENDS).join(".built/keycloak");
        assert!(home.exists(), "missing: {}; {REMEDY}, with --full", home.display());
        // What a former run left behind would keep the realm from being imported.
        let _ = std::fs::remove_dir_all(home.join("data"));
        std::fs::create_dir_all(home.join("data/import")).unwrap();
        let realm = PathBuf::from(BACKENDS).join("realm.json");
        std::fs::copy(realm, home.join("data/import/realm.json")).unwrap();
        let command = |port: u16, _: &PathBuf| {
            let mut command = Command::new("bash");
            command
                .arg(home.join("bin/kc.sh"))
                .args(["start-dev", "--import-realm", "--http-host=127.0.0.1"])
                .arg(format!("--http-port={port}"))
                .arg(format!("--http-management-port={}", free_port()))
                .arg(format!("--hostname=http://127.0.0.1:{port}"))
                .env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin")
                .env("KC_BOOTSTRAP_ADMIN_PASSWORD", "admin")
                .env("JAVA_OPTS_KC_HEAP", "-Xms128m -Xmx512m");
            command
        };
        let process = Process::start(command).await;
        let mut keycloak = Self { process, elsewhere: Vec::new() };
        keycloak.is_ready().await;
        for _ in 0..ELSEWHERE {
            let pair = keycloak.sign_in().await;
            keycloak.revoke(&pair.access_token).await;
            keycloak.elsewhere.push((pair, Instant::now()));
        }
        keycloak
    }

    fn address(&self) -> SocketAddr {
        self.process.address
    }

    fn table(&self) -> String {
        let issuer = self.url("/realms/shop");
        format!(
            "[backend]\ndialect = \"oauth2\"\nissuer = \"{issuer}\"\nclient_id = \"app\"\n\
             client_secret = \"app-secret\"\n"
        )
    }

    fn claims(pair: &Pair, end: u64) -> Value {
        json!({
            "access_token": pair.access_token, "expires_at": end,
            "refresh_token": pair.refresh_token, "provider": "keycloak",
        })
    }

    async fn sign_in(&self) -> Pair {
        let form = "grant_type=password&username=ada&password=demo&scope=openid";
        let answer = self.ask("token", form).await;
        Pair::read(&answer, MEMBERS).unwrap_or_else(|| panic!("{}", answer.text()))
    }

    async fn sign_in_elsewhere(&mut self) -> Pair {
        let (pair, issued_at) = self.elsewhere.pop().expect("one for each story");
        sleep(Duration::from_secs(11).saturating_sub(issued_at.elapsed())).await;
        pair
    }

    async fn redeem(&self, refresh_token: &str) -> Option<Pair> {
        let form = format!("grant_type=refresh_token&refresh_token={refresh_token}");
        Pair::read(&self.ask("token", &form).await, MEMBERS)
    }

    async fn revoke(&self, refresh_token: &str) {
        self.revoke(refresh_token).await;
    }

    /// From the realm's own record of events.
    async fn counters(&self) -> Counters {
        let form = "grant_type=password&client_id=admin-cli&username=admin&password=admin";
        let admin = self.form("/realms/master/protocol/openid-connect/token", form).await;
        let token = admin.json()["access_token"].as_str().expect("an admin's token").to_owned();
        let events = Request::get(&self.url("/admin/realms/shop/events?max=1000"))
            .header("Authorization", &format!("Bearer {token}"));
        let events = self.send(&events).await.json();
        let events = events.as_array().expect("a list of events");
        let count = |is: fn(&Value) -> bool| events.iter().filter(|event| is(event)).count() as u64;
        let redemptions = count(|event| event["type"] == "REFRESH_TOKEN");
        let refused = count(|event| event["type"] == "REFRESH_TOKEN_ERROR");
        let reuses = count(|event| {
            event["details"]["reason"] == "Maximum allowed refresh token reuse exceeded"
        });
        Counters { attempts: redemptions + refused, redemptions, refused, reuses }
    }

    async fn stop(&mut self) {
        self.process.stop().await;
    }

    async fn resume(&mut self) {
        self.process.resume().await;
        self.is_ready().await;
    }
}

/// Two for each time that the stories are told.
const ELSEWHERE: usize = 4;
const MEMBERS: [&str; 2] = ["access_token", "refresh_token"];
