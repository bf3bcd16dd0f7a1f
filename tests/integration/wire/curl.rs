//! curl, by every protocol that it has in common with the gate.

use std::path::PathBuf;
use std::process::Stdio;

use foregate_tests::Certificates;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::peers::{App, BEARER, Entrance, LOGIN, Way};

#[tokio::test]
async fn curl_gets_what_it_asks_for_by_every_protocol() {
    let app = App::start("node http/origin.mjs", &[]).await;
    let lines = super::upstream(&app, "http");
    let certificates = Certificates::covering(&["*.example.com"]);
    let entrance = Entrance::open(certificates, &[(HOST, lines)]).await;
    for (flag, version, way) in [
        ("--http1.1", "1.1", Way::Plain),
        ("--http2-prior-knowledge", "2", Way::Plain),
        ("--http1.1", "1.1", Way::Tls),
        ("--http2", "2", Way::Tls),
    ] {
        let curl = Curl::by(&entrance, flag, way).await;
        println!("{flag} {way:?}");
        curl.visits(version).await;
        curl.moves_bytes().await;
        if version == "1.1" {
            curl.waits_for_continue().await;
        }
    }
}

#[tokio::test]
async fn curl_finds_the_gate_at_a_unix_socket() {
    let app = App::start("node http/origin.mjs", &[]).await;
    let lines = super::upstream(&app, "http");
    let certificates = Certificates::covering(&["*.example.com"]);
    let socket = certificates.authority().with_file_name("gate.sock");
    let listen = format!("unix:{}", socket.display());
    let entrance = Entrance::open_at(&listen, certificates, &[(HOST, lines)]).await;
    let curl = Curl {
        flags: vec!["--unix-socket".to_owned(), socket.display().to_string()],
        origin: format!("http://{HOST}"),
        cookie: entrance.cookie.clone(),
        directory: entrance.certificates.authority().with_file_name(""),
    };
    curl.visits("1.1").await;
    curl.moves_bytes().await;
    curl.waits_for_continue().await;
}

/// One way to ask.
struct Curl {
    flags: Vec<String>,
    origin: String,
    cookie: String,
    directory: PathBuf,
}

impl Curl {
    async fn by(entrance: &Entrance, flag: &str, way: Way) -> Self {
        let address = entrance.address(way).await;
        let authority = entrance.certificates.authority();
        Self {
            flags: vec![
                flag.to_owned(),
                "--resolve".to_owned(),
                format!("{HOST}:{}:{}", address.port(), address.ip()),
                "--cacert".to_owned(),
                authority.display().to_string(),
            ],
            origin: entrance.origin(HOST, way).await,
            cookie: entrance.cookie.clone(),
            directory: authority.with_file_name(""),
        }
    }

    async fn visits(&self, version: &str) {
        let seen = self.asks("/seen?a=1", &[], "").await;
        assert_eq!((seen.status, seen.version.as_str()), (200, version));
        let headers = seen.json()["headers"].clone();
        let bearer = Value::from(vec!["authorization".to_owned(), format!("Bearer {BEARER}")]);
        assert!(headers.as_array().unwrap().contains(&bearer), "{headers}");

        let stranger = self.asks("/seen", &["--cookie", ""], "").await;
        assert_eq!(stranger.status, 401);
        assert_eq!(stranger.header("content-type"), "application/problem+json");
        let page = ["--cookie", "", "--header", "Accept: text/html"];
        let page = self.asks("/seen", &page, "").await;
        assert_eq!(page.status, 302);
        assert!(page.header("location").starts_with(LOGIN), "{page:?}");

        let head = self.asks("/download?bytes=1000", &["--head"], "").await;
        assert_eq!((head.status, head.header("content-length")), (200, "1000"));
        assert_eq!(self.asks("/no-content", &[], "").await.status, 204);
        let known = self.asks("/tagged", &["--header", "If-None-Match: \"v1\""], "").await;
        assert_eq!((known.status, known.header("etag"), known.body.len()), (304, "\"v1\"", 0));

        let json = r#"{"text":"é€😀"}"#;
        let posted = self.asks("/json", &["--data-binary", "@-"], json).await;
        assert_eq!(posted.json()["got"].to_string(), json);
        // A second request on one connection is beyond curl 7.88 where HTTP/2 was not agreed upon.
        if !self.flags.iter().any(|flag| flag == "--http2-prior-knowledge") {
            let moved = self.asks("/moved", &["--location"], "").await;
            assert_eq!(moved.json()["url"], "/seen?moved");
        }
    }

    async fn moves_bytes(&self) {
        let down = self.asks("/download?bytes=5000000&chunked", &[], "").await;
        assert_eq!((down.status, down.body.len()), (200, 5_000_000));
        let whole = self.asks("/download?bytes=5000000", &[], "").await;
        assert!(down.body == whole.body);

        let file = self.upload_of(&whole.body);
        let up = self.asks("/upload", &["--header", "Expect:", "--data-binary", &file], "").await;
        assert_eq!(up.json()["sha256"], whole.header("x-sha256"));
        assert_eq!(up.json()["announced"], "5000000");
        let chunked = self.asks("/upload", &["--upload-file", "-"], "of unknown length").await;
        assert_eq!(chunked.json()["bytes"], 17);
        assert_eq!(chunked.json()["announced"], Value::Null);

        // More than the gate reads of a request that it refuses: the answer arrives all the same.
        let file = self.upload_of(&whole.body[..1_000_000]);
        let refused = ["--header", "Expect:", "--data-binary", &file, "--cookie", ""];
        assert_eq!(self.asks("/upload", &refused, "").await.status, 401);
    }

    /// Nothing is sent before the gate has said 100, and that it says to nobody whom it refuses.
    async fn waits_for_continue(&self) {
        let file = self.upload_of(&[7; 5_000_000]);
        let expect = ["--header", "Expect: 100-continue", "--expect100-timeout", "60"];
        let upload = [&expect[..], &["--data-binary", &file]].concat();
        let up = self.asks("/upload", &upload, "").await;
        assert_eq!(up.json()["bytes"], 5_000_000);
        assert!(up.said.contains("< HTTP/1.1 100 Continue"), "{}", up.said);

        let refused = [&upload[..], &["--cookie", ""]].concat();
        let refused = self.asks("/upload", &refused, "").await;
        assert_eq!(refused.status, 401);
        assert!(!refused.said.contains(" 100 Continue"), "{}", refused.said);
    }

    /// A file with these bytes, as curl takes it.
    fn upload_of(&self, bytes: &[u8]) -> String {
        let file = self.directory.join("upload");
        std::fs::write(&file, bytes).unwrap();
        format!("@{}", file.display())
    }

    /// Asks for `path` with these arguments more, and `input` on stdin.
    async fn asks(&self, path: &str, arguments: &[&str], input: &str) -> Answer {
        let body = self.directory.join("body");
        std::fs::write(&body, "").unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--disable", "--silent", "--show-error", "--verbose", "--max-time", "60"])
            .args(["--write-out", "%{json}\n%{header_json}", "--noproxy", "*", "--output"])
            .arg(&body)
            .args(&self.flags);
        if !arguments.contains(&"--cookie") {
            curl.args(["--cookie", &self.cookie]);
        }
        curl.args(arguments).arg(format!("{}{path}", self.origin));
        curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut curl = curl.kill_on_drop(true).spawn().expect("curl is installed");
        let mut stdin = curl.stdin.take().unwrap();
        // It need not read what it does not need.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = curl.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{path} {arguments:?}: {said}");
        let text = String::from_utf8_lossy(&output.stdout);
        let (about, headers) = text.split_once('\n').unwrap();
        let about: Value = serde_json::from_str(about).unwrap();
        Answer {
            status: about["http_code"].as_u64().unwrap(),
            version: about["http_version"].as_str().unwrap().to_owned(),
            headers: serde_json::from_str(headers).unwrap(),
            body: std::fs::read(body).unwrap(),
            said,
        }
    }
}

/// What curl got, and what it said about it.
#[derive(Debug)]
struct Answer {
    status: u64,
    version: String,
    headers: Value,
    body: Vec<u8>,
    said: String,
}

impl Answer {
    /// The first header of this name, which is in lower case.
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers[name][0].as_str().unwrap_or_else(|| panic!("no {name}: {}", self.headers))
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

const HOST: &str = "app.example.com";
