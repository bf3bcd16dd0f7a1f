//! What the gate must never say: cookies, tokens, secrets and passwords. It runs at trace level
//! through what can go right and wrong, and everything that it then says is searched.

mod search;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use foregate_stage::{
    Backend, Fault, Grant, Script, Step, cookie_header, random, seal_v4, seal_v5,
};
use foregate_tests::{Answer, Browser, Certificates, Connection, Frames, Http2, Request, program};
use serde_json::{Value, json};

use self::search::Search;
use crate::tls;
use crate::world::{APP, LIFE, SHOP, World};

const V4: &str = "next-auth.session-token";
const V5: &str = "authjs.session-token";
const ENDED: Duration = Duration::ZERO;
/// What sessions are sealed with, and what the gate shows to its backend.
const SECRET: &str = "Zq4-wR7t_Yu9iOp2AsDf5GhJk8LzXcVb";
const OLD_SECRET: &str = "m1N2b3V4c5X6z7L8k9J0h1G2f3D4s5A6";
const CLIENT_SECRET: &str = "tR0ub4dor+and/3=horses,stapled";
const PASSWORD: &str = "correct horse battery staple 42";

/// A gate, the secrets that are used on it, and what it says.
struct Trial {
    world: World,
    certificates: Certificates,
    file: PathBuf,
    search: Search,
    /// Answers of the gate's own, and what its commands print.
    said: String,
}

fn tables(backend: &Backend) -> String {
    let url = backend.url();
    format!(
        "[backend]\ntimeout = \"1s\"\ndialect = \"oauth2\"\nclient_id = \"app\"\n\
         client_secret = \"{CLIENT_SECRET}\"\nrefresh_url = \"{url}/token\"\n"
    )
}

impl Trial {
    async fn start() -> Self {
        let certificates = Certificates::covering(&["*.example.com"]);
        let server = "[server]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\n\
                      admin = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n";
        let world = World::with_backend(tables, &[server, &certificates.table()].concat()).await;
        let file = format!("foregate-secrecy-{}", std::process::id());
        let file = std::env::temp_dir().join(file);
        std::fs::write(&file, SECRET).unwrap();
        let mut search = Search::default();
        for secret in [SECRET, OLD_SECRET, CLIENT_SECRET, PASSWORD] {
            search.add(secret);
        }
        let trial = Self { world, certificates, file, search, said: String::new() };
        let literal = format!("secrets = [\"{}\"]", foregate_stage::SECRET);
        trial.edit(
            &literal,
            &format!("secrets = [{{ file = {:?} }}, \"{OLD_SECRET}\"]", trial.file),
        );
        trial.reload("\"reloaded\"").await;
        trial
    }

    fn edit(&self, from: &str, to: &str) {
        let path = self.world.gate.config_file();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    async fn reload(&self, outcome: &str) {
        let told = |log: &str| log.matches(outcome).count();
        let before = told(&self.world.gate.log());
        self.world.gate.signal("HUP");
        self.world.gate.logged(|log| told(log) > before).await;
    }

    /// Some token, which from here on must not be said.
    fn token(&mut self) -> String {
        let token = BASE64URL.encode(random::<24>());
        self.search.add(&token);
        token
    }

    fn grant(&mut self, name: &str, life: Duration) -> Grant {
        let grant = self.world.backend.grant(&format!("{name}@example.com"), life).unwrap();
        self.search.add(&grant.access_token);
        self.search.add(&grant.refresh_token);
        grant
    }

    /// These claims and an ID token, sealed.
    fn seal(&mut self, name: &str, secret: &str, mut claims: Value) -> String {
        claims["idToken"] = json!(self.token());
        let token = match name {
            V4 => seal_v4(secret, &claims.to_string(), random()),
            _ => seal_v5(secret, name, &claims.to_string(), random()),
        };
        self.search.add(&token);
        cookie_header(name, &token)
    }

    fn cookie(&mut self, name: &str, who: &str, life: Duration) -> String {
        let claims = self.grant(who, life).session_claims(LIFE);
        self.seal(name, SECRET, claims)
    }

    /// Asks with a cookie; what the visitor is given counts as secret, too.
    async fn ask(&mut self, cookie: &str, request: Request) -> Answer {
        let browser = Browser::new(self.world.gate.address());
        let answer = browser.send(&request.header("Cookie", cookie)).await;
        self.keep(&answer);
        answer
    }

    /// The same, where the answer is the gate's own.
    async fn hear(&mut self, cookie: &str, request: Request) -> u16 {
        let answer = self.ask(cookie, request).await;
        self.said += &answer.text();
        answer.status
    }

    fn keep(&mut self, answer: &Answer) {
        for line in answer.headers_named("set-cookie") {
            let value = line.split_once('=').map_or("", |(_, rest)| rest);
            let value = value.split(';').next().unwrap_or_default();
            if value.len() > 100 {
                self.search.add(value);
            }
        }
        if let Some(bearer) =
            answer.header("authorization").and_then(|it| it.strip_prefix("Bearer "))
        {
            self.search.add(bearer);
        }
    }

    /// Sends bytes that no client would, and hears what the gate says to them.
    async fn throw(&mut self, bytes: &str) {
        let mut connection = Connection::open(self.world.gate.address()).await;
        connection.send(bytes).await;
        self.said += &String::from_utf8_lossy(&connection.bytes(64 * 1024).await);
    }

    /// Runs a command, and hears all that it prints.
    fn run(&mut self, arguments: &[&str], stdin: &str) {
        let mut child = Command::new(program())
            .args(arguments)
            .arg("--config")
            .arg(self.world.gate.config_file())
            .env("FOREGATE_LOG", "trace")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        for said in [&output.stdout, &output.stderr] {
            assert!(!said.contains(&0));
            self.said += &String::from_utf8_lossy(said);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

fn get(url: &str) -> Request {
    Request::get(url).fetch("same-origin")
}

/// What visitors do, and what is done to them.
async fn visitors(trial: &mut Trial) {
    let page = format!("{APP}/dashboard");
    for name in [V4, V5] {
        for life in [LIFE, ENDED] {
            let ada = trial.cookie(name, "ada", life);
            assert_eq!(trial.ask(&ada, get(&page)).await.status, 200);
            assert_eq!(
                trial.ask(&ada, Request::get(&format!("{SHOP}/")).navigation()).await.status,
                200
            );
            trial.hear(&ada, get(&format!("{APP}/.foregate/session"))).await;
        }
        let bob = trial.cookie(name, "bob", LIFE);
        let code = trial.token();
        let admin = format!("{APP}/admin/users?code={code}");
        assert_eq!(trial.hear(&bob, get(&admin)).await, 403);
        trial.hear(&bob, Request::get(&format!("{APP}/internal/x")).navigation()).await;
        let foreign = Request::new("POST", &page).fetch("cross-site");
        assert_eq!(trial.hear(&bob, foreign).await, 403);
        let form = Request::form(&format!("{APP}/api/login"), &format!("password={PASSWORD}"));
        assert_eq!(trial.ask(&bob, form).await.status, 200);
        let bearer = format!("Bearer {}", trial.token());
        trial.ask(&bob, get(&page).header("Authorization", &bearer)).await;
        trial
            .ask("a=b", get(&format!("{SHOP}/favicon.ico")).header("Authorization", &bearer))
            .await;
    }

    // Long ones come in chunks, and some of them twice.
    let mut claims = trial.grant("ada", LIFE).session_claims(LIFE);
    claims["long"] = json!("x".repeat(6_000));
    let chunked = trial.seal(V4, SECRET, claims);
    assert_eq!(trial.ask(&chunked, get(&page)).await.status, 200);
    let other = trial.cookie(V5, "bob", LIFE);
    trial.ask(&format!("{chunked}; {other}; {other}"), get(&page)).await;

    // What does not open.
    let claims = trial.grant("ada", LIFE).session_claims(LIFE);
    let foreign = trial.seal(V4, "another-secret-than-that-of-the-gate", claims.clone());
    let expired = trial.seal(V5, SECRET, json!({ "sub": "u-1", "exp": 1_000_000 }));
    let bad_token = format!("token with a blank {}", trial.token());
    let bad_token = trial.seal(V4, SECRET, json!({ "sub": "u-1", "accessToken": bad_token }));
    let halved = chunked.split("; ").last().unwrap().to_owned();
    let altered = foreign.replace("..", "..A");
    for cookie in [foreign, expired, bad_token, halved, altered] {
        trial.hear(&cookie, get(&page)).await;
        trial.hear(&cookie, get(&format!("{APP}/.foregate/session"))).await;
    }

    // The app's own doings: it rejects a token, gives another session, breaks off.
    let grant = trial.grant("ada", LIFE);
    trial.world.origin.reject(&grant.access_token);
    let rejected = trial.seal(V4, SECRET, grant.session_claims(LIFE));
    trial.ask(&rejected, get(&page)).await;
    let found = trial.cookie(V4, "ada", LIFE);
    let line = format!("Set-Cookie: {found}; Path=/");
    trial.world.origin.script("/rolls", Script::answer("200 OK", &[&line], ""));
    trial.ask(&rejected, get(&format!("{APP}/rolls"))).await;
    let odd = format!("HTTP/1.1 200 OK\r\nX {found}\r\n\r\n").into_bytes();
    trial.world.origin.script("/odd", Script::new([Step::Write(odd), Step::Close]));
    trial.hear(&rejected, get(&format!("{APP}/odd"))).await;

    let out = Request::form(&format!("{APP}/.foregate/sign-out"), "callbackUrl=/about");
    trial.ask(&chunked, out).await;
    trial.ask(&chunked, get(&page)).await;
    let question = Request::get(&format!("{APP}/.foregate/auth"))
        .header("X-Original-URL", &format!("{APP}/admin?token={}", trial.token()))
        .header("X-Original-Method", "GET");
    let cookie = trial.cookie(V4, "ada", ENDED);
    assert_eq!(trial.ask(&cookie, question.clone()).await.status, 200);
    let cookie = trial.cookie(V4, "bob", LIFE);
    trial.hear(&cookie, question).await;
}

/// Every way in which a redemption can fail.
async fn backends(trial: &mut Trial) {
    for fault in [
        Fault::Status(500),
        Fault::Status(400),
        Fault::Status(401),
        Fault::TooMany { retry_after: 1 },
        Fault::Garbage,
        Fault::CloseBefore,
        Fault::CloseAfter,
        Fault::Hold,
    ] {
        let ada = trial.cookie(V4, "ada", ENDED);
        trial.world.backend.fail(fault);
        trial.hear(&ada, get(&format!("{APP}/dashboard"))).await;
        trial.hear(&ada, Request::get(&format!("{APP}/dashboard")).navigation()).await;
        trial.world.backend.recover();
    }
    // A token that is spent already.
    let grant = trial.grant("ada", ENDED);
    for _ in 0..2 {
        let spent = trial.seal(V4, SECRET, grant.session_claims(LIFE));
        trial.ask(&spent, get(&format!("{APP}/dashboard"))).await;
    }
}

/// Other protocols, and none at all.
async fn wires(trial: &mut Trial) {
    let ada = trial.cookie(V4, "ada", LIFE);
    let gate = trial.world.gate.address();
    let bearer = format!("Bearer {}", trial.token());
    let mut http2 = Http2::open(gate).await;
    for path in ["/dashboard", "/admin/x", "/public/a"] {
        let request = get(&format!("{APP}{path}")).header("Authorization", &bearer);
        let answer = http2.send(&request.header("Cookie", &ada)).await;
        assert_eq!(answer.status, 200);
    }
    let bob = trial.cookie(V5, "bob", ENDED);
    let refused = http2.send(&get(&format!("{APP}/admin/x")).header("Cookie", &bob)).await;
    trial.keep(&refused);
    trial.said += &refused.text();

    let mut frames = Frames::open(gate).await;
    let path = format!("/a b?code={}", trial.token());
    let cookie = ("cookie", ada.as_str());
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "app.example.com")];
    let fields = [&fields[..], &[(":path", &path), cookie]].concat();
    frames.head(1, &fields, true).await;
    frames.fate(1).await;

    let https = trial.world.gate.secure_address().await;
    let head = "GET /dashboard HTTP/1.1\r\nHost: app.example.com\r\n";
    let request = format!("{head}Cookie: {ada}\r\nConnection: close\r\n\r\n");
    let answer = tls::ask(https, "app.example.com", trial.certificates.authority(), &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut plain_to_tls = Connection::open(https).await;
    plain_to_tls.send(&request).await;
    plain_to_tls.bytes(1024).await;

    trial.throw(&format!("{head}Cookie : {ada}\r\n\r\n")).await;
    trial.throw(&format!("{head}Cookie: {ada}\r\nCookie\r\n\r\n")).await;
    trial.throw(&format!("{head}Cookie: {ada}\r\nContent-Length: x\r\n\r\n")).await;
    trial.throw(&format!("GET /a%2Fb?{ada} HTTP/1.1\r\nHost: app.example.com\r\n\r\n")).await;
    trial.throw(&format!("{head}Cookie: {ada}; {}\r\n\r\n", "x".repeat(70_000))).await;
    trial.throw(&format!("{ada}\r\n\r\n")).await;
    trial.throw(&format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{ada}")).await;

    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let yes = format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}{accept}\r\n");
    trial.world.origin.script("/ws", Script::new([Step::Write(yes.into()), Step::Echo]));
    let mut socket = Connection::open(gate).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = head.replace("/dashboard", "/ws");
    socket.send(format!("{head}{upgrade}{key}Cookie: {ada}\r\n\r\n")).await;
    assert_eq!(socket.answer().await.unwrap().status, 101);
    socket.send(&ada).await;
    assert_eq!(socket.bytes(4).await, &ada.as_bytes()[..4]);
    drop(socket);
    trial.world.gate.logged(|log| log.contains("\"tunnel ended\"")).await;
}

/// Secrets in the wrong place, commands, and the operator's pages.
async fn operators(trial: &mut Trial) {
    let good = trial.cookie(V4, "ada", LIFE);
    let ended = trial.cookie(V5, "ada", ENDED);
    let claims = trial.grant("ada", LIFE).session_claims(LIFE);
    let foreign = trial.seal(V4, "another-secret-than-that-of-the-gate", claims);
    for cookie in [&good, &ended, &foreign] {
        for json in [&["--json"][..], &[]] {
            let url = format!("{APP}/dashboard");
            trial.run(&[&["explain", &url, "--cookie", cookie], json].concat(), "");
        }
    }
    trial.run(&["session", "decode"], &foreign);
    trial.run(&["session", "decode", "--json"], &foreign);
    trial.run(&["session", "decode", "--name", V5], good.split_once('=').unwrap().1);
    trial.run(&["check"], "");
    trial.run(&["check", "--json"], "");

    let file = format!("{{ file = {:?} }}", trial.file);
    let mut before = file.clone();
    for misplaced in [
        format!("{{ file = \"{SECRET}\" }}"),
        format!("{{ env = \"{}\" }}", OLD_SECRET.replace('-', "_")),
        format!("{{ env = \"{SECRET}\" }}"),
        format!("{{ fiel = \"{SECRET}\" }}"),
        format!("[\"{SECRET}\"]"),
        format!("\"{SECRET}"),
        SECRET.to_owned(),
    ] {
        trial.edit(&before, &misplaced);
        trial.reload("not reloaded").await;
        trial.run(&["check"], "");
        trial.run(&["check", "--json"], "");
        trial.run(&["run"], "");
        before = misplaced;
    }
    trial.edit(&before, &file);
    std::fs::write(&trial.file, &SECRET[..15]).unwrap();
    trial.reload("not reloaded").await;

    let admin = trial.world.gate.admin_address().await;
    for target in ["/", "/metrics", "/readyz?verbose", "/healthz", "/nothing"] {
        let mut connection = Connection::open(admin).await;
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n");
        connection.send(format!("{head}Cookie: {good}\r\n\r\n")).await;
        trial.said += &connection.answer().await.unwrap().text();
    }
}

#[tokio::test]
async fn at_trace_level_nothing_that_the_gate_says_holds_a_secret() {
    let mut trial = Trial::start().await;
    visitors(&mut trial).await;
    backends(&mut trial).await;
    wires(&mut trial).await;
    operators(&mut trial).await;
    trial.world.gate.signal("TERM");
    trial.world.gate.ended().await;

    let Trial { world, search, said, .. } = &trial;
    let log = world.gate.log();
    assert!(search.count() > 80, "{}", search.count());
    assert!(log.contains("\"DEBUG\""), "the level was heard");
    for (whose, text) in [("log", log.as_str()), ("answers and commands", said)] {
        assert!(text.len() > 10_000, "{whose}: {text}");
        if let Some(line) = search.find(text) {
            panic!("the {whose} told a secret: {line}");
        }
    }
}
