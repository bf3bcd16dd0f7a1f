//! nginx in front of the gate, with the two files of `deploy/nginx` as they stand there, save for
//! addresses, ports and the certificate.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use foregate_stage::{
    Backend, BackendSettings, Grant, Origin, SECRET, Script, Seen, Step, cookie_header, random,
    seal_v4,
};
use foregate_tests::{Browser, Certificates, Connection, Gate, Request, free_port};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::tls::trusting;
use crate::world::{ANY, APP, LIFE};

const NGINX: &str = include_str!("../../../deploy/nginx/foregate.conf");
const PROXY: &str = include_str!("../../../deploy/nginx/proxy.toml");
const COOKIE: &str = "__Secure-next-auth.session-token";

#[tokio::test]
async fn who_has_a_session_passes_and_the_app_is_told_the_truth_about_the_visitor() {
    let front = Front::start().await;
    let (ada, grant) = front.visitor("ada", LIFE, 0);
    let forged = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=203.0.113.9;host=evil.example"),
        ("X-Real-IP", "203.0.113.9"),
        ("X-Request-Id", "chosen-by-the-visitor"),
        ("Authorization", "Bearer forged"),
    ];
    let request = Request::get(&format!("{APP}/dashboard?a=b%2Fc"));
    let request = forged.iter().fold(request, |request, (name, value)| request.header(name, value));
    let answer = ada.send(&request.fetch("same-origin")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let seen = front.last_seen();
    let check = |name: &str, value: &str| assert_eq!(seen.header(name), [value], "{name}");
    assert_eq!(seen.target, "/dashboard?a=b%2Fc", "the visitor's own spelling");
    check("authorization", &format!("Bearer {}", grant.access_token));
    check("host", "app.example.com");
    check("x-forwarded-for", "127.0.0.1, 127.0.0.1"); // the visitor and nginx, both on loopback
    check("x-forwarded-host", "app.example.com");
    check("x-forwarded-proto", "https");
    assert!(seen.header("forwarded").is_empty() && seen.header("x-real-ip").is_empty());
    let id = answer.header("x-request-id").unwrap_or_default();
    assert_ne!(id, "chosen-by-the-visitor");
    assert!(!front.gate.log().contains("trusted_proxies ="), "nothing is left to be told");
}

#[tokio::test]
async fn who_has_none_goes_to_the_login_and_comes_back_over_https() {
    let front = Front::start().await;
    let answer = front.stranger().navigate(&format!("{APP}/dashboard?a=b")).await;
    let back = "https://auth.example.com/login?callbackUrl=\
                https%3A%2F%2Fapp.example.com%2Fdashboard%3Fa%3Db";
    assert_eq!((answer.status, answer.header("location")), (302, Some(back)));
    assert_eq!(front.stranger().fetch(&format!("{APP}/dashboard")).await.status, 401);
    assert!(front.origin.seen().is_empty(), "none of it reached the app");
    assert_eq!(front.stranger().navigate(&format!("{APP}/")).await.status, 200);

    let plain = Browser::new(front.plain).navigate(&format!("{APP}/dashboard?a=b")).await;
    let secure = "https://app.example.com/dashboard?a=b";
    assert_eq!((plain.status, plain.header("location")), (308, Some(secure)));
}

/// What comes from nginx is believed, and the decision endpoint's answer holds an access token.
#[tokio::test]
async fn no_visitor_asks_the_decision_endpoint() {
    let front = Front::start().await;
    let (ada, _) = front.visitor("ada", LIFE, 0);
    for path in [
        "/.foregate/auth",
        "/.foregate/auth/dashboard",
        "/.foregate/auth?x",
        "/.foregate/%61uth/dashboard",
        "/%2Eforegate/auth",
        "//.foregate/auth",
        "/.foregate//auth",
        "/.Foregate/auth",
        "/.foregate%2Fauth",
        "/x/../.foregate/auth",
        "/.foregate/x/..%2Fauth/dashboard",
    ] {
        // As Envoy asks, as nginx does, and as Traefik does.
        for question in [
            &[][..],
            &[("X-Original-URI", "/dashboard"), ("X-Original-Method", "GET")],
            &[("X-Forwarded-Uri", "/dashboard"), ("X-Forwarded-Method", "GET")],
        ] {
            let request = Request::get(&format!("{APP}{path}"));
            let with = |request: Request, (name, value): &(&str, &str)| request.header(name, value);
            let answer = ada.send(&question.iter().fold(request, with)).await;
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
            assert!(answer.header("authorization").is_none(), "{path}");
        }
    }
    let session = ada.fetch(&format!("{APP}/.foregate/session")).await;
    assert_eq!(session.json()["subject"], "u-1", "the rest of it is for visitors");
}

#[tokio::test]
async fn a_session_in_many_chunks_fits_both_ways() {
    let front = Front::start().await;
    let (ada, grant) = front.visitor("ada", Duration::ZERO, 20_000);
    let before = ada.cookies("app.example.com").unwrap();
    assert!(before.len() > 25_000, "{} bytes of cookies", before.len());

    let answer = ada.fetch(&format!("{APP}/dashboard")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let lines = answer.headers_named("set-cookie");
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    assert!(lines.len() >= 7 && bytes > 25_000, "{} lines, {bytes} bytes", lines.len());
    assert!(lines.iter().all(|line| line.contains("; Secure")), "{lines:?}");
    let bearer = front.last_seen().header("authorization")[0].to_owned();
    assert_ne!(bearer, format!("Bearer {}", grant.access_token));

    // All of it arrived: what the browser has now opens without another redemption.
    assert_eq!(ada.fetch(&format!("{APP}/dashboard")).await.status, 200);
    assert_eq!(front.last_seen().header("authorization"), [&*bearer]);
    assert_eq!(front.backend.counters().attempts, 1);

    // The same over HTTP/2, which has buffers of its own.
    let cookies = ada.cookies("app.example.com").unwrap();
    let told = front.curl(&["--http2", "--header", &format!("Cookie: {cookies}")]).await;
    assert_eq!(String::from_utf8_lossy(&told.stdout), "2 200", "{told:?}");
    assert_eq!(front.last_seen().header("authorization"), [&*bearer]);
}

#[tokio::test]
async fn a_websocket_opens_and_speaks_both_ways() {
    let front = Front::start().await;
    let (ada, grant) = front.visitor("ada", LIFE, 0);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let yes = format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}{accept}\r\n");
    front.origin.script("/live", Script::new([Step::Write(yes.into()), Step::Echo]));

    let cookies = ada.cookies("app.example.com").unwrap();
    let mut visitor = Connection::open(front.secure).await;
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let origin = "Origin: https://app.example.com\r\n";
    visitor
        .send(format!(
            "GET /live HTTP/1.1\r\nHost: app.example.com\r\n{upgrade}{key}{origin}\
             Cookie: {cookies}\r\n\r\n"
        ))
        .await;
    let head = visitor.head().await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let bearer = format!("Bearer {}", grant.access_token);
    assert_eq!(front.last_seen().header("authorization"), [&*bearer]);
    for word in ["one", "two"] {
        visitor.send(word).await;
        assert_eq!(visitor.bytes(16).await, word.as_bytes());
    }
}

#[tokio::test]
async fn an_event_arrives_while_the_stream_goes_on() {
    let front = Front::start().await;
    let (ada, _) = front.visitor("ada", LIFE, 0);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let event = "data: the first event\n\n";
    let first = Step::Write(format!("{head}{event}").into_bytes());
    // The app says nothing more: what arrives was not kept back.
    front.origin.script("/events", Script::new([first, Step::Hang]));

    let cookies = ada.cookies("app.example.com").unwrap();
    let mut visitor = Connection::open(front.secure).await;
    let ask = "GET /events HTTP/1.1\r\nHost: app.example.com\r\nAccept: text/event-stream\r\n";
    visitor.send(format!("{ask}Cookie: {cookies}\r\n\r\n")).await;
    assert!(visitor.head().await.starts_with("HTTP/1.1 200"));
    let mut arrived = String::new();
    while !arrived.contains(event) {
        let bytes = visitor.bytes(1024).await;
        assert!(!bytes.is_empty(), "the stream ended: {arrived}");
        arrived.push_str(&String::from_utf8_lossy(&bytes));
    }
}

/// nginx and the gate behind it, on loopback.
struct Front {
    backend: Backend,
    origin: Origin,
    gate: Gate,
    nginx: Child,
    certificates: Certificates,
    directory: PathBuf,
    plain: SocketAddr,
    /// nginx's listener for https, and where a browser that speaks no TLS finds it.
    https: SocketAddr,
    secure: SocketAddr,
    bridge: AbortHandle,
}

impl Front {
    async fn start() -> Self {
        let settings = BackendSettings { access_life: LIFE, ..BackendSettings::default() };
        let backend = Backend::start(ANY, settings).await.unwrap();
        let origin = Origin::start(ANY).await.unwrap();
        let config = replaced(
            PROXY,
            &[
                ("127.0.0.1:8080", "127.0.0.1:0"),
                ("https://api.example.com/auth/refreshToken", &backend.refresh_url()),
                ("http://127.0.0.1:3000", &origin.url()),
                ("http://127.0.0.1:3001", &origin.url()),
            ],
        );
        let gate = Gate::start_with(&config, &[("NEXTAUTH_SECRET", SECRET)]).await;

        let certificates = Certificates::covering(&["*.example.com"]);
        let [plain, https] =
            [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let directory = std::env::temp_dir().join(format!("foregate-nginx-{}", https.port()));
        fs::create_dir_all(&directory).unwrap();
        let site = replaced(
            NGINX,
            &[
                ("listen 80;", &format!("listen {plain};")),
                ("listen 443 ssl http2;", &format!("listen {https} ssl http2;")),
                ("/etc/tls/tls.crt", &certificates.certificate().display().to_string()),
                ("/etc/tls/tls.key", &certificates.key().display().to_string()),
                ("127.0.0.1:8080", &gate.address().to_string()),
            ],
        );
        let here = directory.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {here}/{name};")).join(" ");
        let main = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/log notice; events {{}}\n\
             http {{ access_log off; {temporary} include {here}/foregate.conf; }}\n"
        );
        fs::write(directory.join("foregate.conf"), site).unwrap();
        fs::write(directory.join("nginx.conf"), main).unwrap();
        let nginx = Command::new("nginx")
            .arg("-p")
            .arg(&directory)
            .arg("-c")
            .arg(directory.join("nginx.conf"))
            .arg("-e")
            .arg(directory.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("said")).unwrap())
            .spawn()
            .expect("nginx is installed; `cargo xtask test` does that");
        let (secure, bridge) = bridge(https, &certificates).await;
        let front = Self {
            backend,
            origin,
            gate,
            nginx,
            certificates,
            directory,
            plain,
            https,
            secure,
            bridge,
        };
        let knock = async {
            while TcpStream::connect(https).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(PATIENCE, knock).await.is_ok(), "nginx listens");
        front
    }

    fn stranger(&self) -> Browser {
        Browser::new(self.secure)
    }

    /// A visitor whose access token is good for `life`, with `padding` bytes more in the session.
    fn visitor(&self, name: &str, life: Duration, padding: usize) -> (Browser, Grant) {
        let grant = self.backend.grant(&format!("{name}@example.com"), life).unwrap();
        let mut claims = grant.session_claims(Duration::from_secs(30 * 24 * 3600));
        claims["padding"] = "p".repeat(padding).into();
        let token = seal_v4(SECRET, &claims.to_string(), random());
        let browser = self.stranger();
        browser.set_cookies("example.com", &cookie_header(COOKIE, &token));
        (browser, grant)
    }

    fn last_seen(&self) -> Seen {
        self.origin.seen().pop().expect("a request reached the app")
    }

    /// Asks for the dashboard by curl; it prints the version of HTTP and the status.
    async fn curl(&self, more: &[&str]) -> Output {
        let port = self.https.port();
        let resolve = format!("app.example.com:{port}:127.0.0.1");
        tokio::process::Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--output", "/dev/null"])
            .args(["--write-out", "%{http_version} %{http_code}", "--resolve", &resolve])
            .arg("--cacert")
            .arg(self.certificates.authority())
            .args(more)
            .arg(format!("https://app.example.com:{port}/dashboard"))
            .output()
            .await
            .expect("curl is installed")
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.bridge.abort();
        let _ = self.nginx.kill();
        let _ = self.nginx.wait();
        if std::thread::panicking() {
            for file in ["log", "said"] {
                let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
                eprintln!("nginx {file}:\n{text}");
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The text with each of these in place of what stands there. All of them must.
fn replaced(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old} is not in the file");
        text.replace(old, new)
    })
}

/// Speaks TLS to `https` for whoever comes in the clear.
async fn bridge(https: SocketAddr, certificates: &Certificates) -> (SocketAddr, AbortHandle) {
    let connector = TlsConnector::from(trusting(certificates.authority()));
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        while let Ok((mut visitor, _)) = listener.accept().await {
            let connector = connector.clone();
            tokio::spawn(async move {
                let Ok(tcp) = TcpStream::connect(https).await else { return };
                let Ok(name) = "app.example.com".try_into() else { return };
                // A test whose connection breaks misses its answer.
                if let Ok(mut inside) = connector.connect(name, tcp).await {
                    let _ = copy_bidirectional(&mut visitor, &mut inside).await;
                }
            });
        }
    });
    (address, accepting.abort_handle())
}

const PATIENCE: Duration = Duration::from_secs(30);
