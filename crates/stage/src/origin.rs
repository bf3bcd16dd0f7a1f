//! An origin for tests: it answers what it saw, as bytes tell it and not as a library tidies them,
//! and it plays scripts for the ways in which an origin can misbehave.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::served::Served;

/// One request as it arrived. It is also the JSON body of the usual answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Which connection brought it, counted from 0.
    pub connection: usize,
    pub method: String,
    pub target: String,
    /// In the order, the spelling and the number in which they came.
    pub headers: Vec<(String, String)>,
    /// The body without its framing: at most the first 64 KiB of it.
    #[serde(skip)]
    pub body: Vec<u8>,
    /// How long the body was altogether.
    pub body_length: usize,
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    /// The values of all headers called `name`, in whatever case.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| value.as_str()).collect()
    }
}

/// What the origin does instead of its usual answer.
#[derive(Clone, Debug, Default)]
pub struct Script {
    steps: Vec<Step>,
    early: bool,
}

impl Script {
    /// Plays `steps` once the request has been read to its end.
    pub fn new(steps: impl Into<Vec<Step>>) -> Self {
        Self { steps: steps.into(), early: false }
    }

    /// Plays `steps` once the head has been read; the body is left unread.
    pub fn early(steps: impl Into<Vec<Step>>) -> Self {
        Self { steps: steps.into(), early: true }
    }

    /// A complete answer with this status line, these header lines and this body; its length is
    /// added.
    pub fn answer(status: &str, headers: &[&str], body: &str) -> Self {
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        for line in headers {
            head.push_str(line);
            head.push_str("\r\n");
        }
        Self::new([Step::Write(format!("{head}\r\n{body}").into_bytes())])
    }
}

/// A step of a [`Script`]. After the last one the connection goes on with the next request.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes, raw.
    Write(Vec<u8>),
    Pause(Duration),
    /// Everything that arrives goes back, until the other side closes.
    Echo,
    /// Nothing happens until the other side closes.
    Hang,
    Close,
}

/// A running origin. It ends when this is dropped.
pub struct Origin {
    ledger: Arc<Mutex<Ledger>>,
    served: Served,
}

impl Origin {
    /// Starts one at `address` (port 0: any).
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let served = Served::accept(address, {
            let ledger = Arc::clone(&ledger);
            move |stream, connection| {
                let ledger = Arc::clone(&ledger);
                lock(&ledger).connections += 1;
                async move {
                    // Whoever talks nonsense, or leaves, ends its own connection.
                    let _ = converse(stream, connection, &ledger).await;
                }
            }
        });
        Ok(Self { served: served.await?, ledger })
    }

    pub fn address(&self) -> SocketAddr {
        self.served.address()
    }

    /// `http://` and the address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        lock(&self.ledger).connections
    }

    /// All requests so far, in the order in which they were complete.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.ledger).seen.clone()
    }

    /// From now on requests with `Authorization: Bearer <token>` are answered with 401.
    pub fn reject(&self, token: &str) {
        lock(&self.ledger).rejected.insert(format!("Bearer {token}"));
    }

    /// From now on requests whose target is `target`, query apart, meet `script`.
    pub fn script(&self, target: &str, script: Script) {
        lock(&self.ledger).scripts.insert(target.to_owned(), script);
    }
}

#[derive(Default)]
struct Ledger {
    connections: usize,
    seen: Vec<Seen>,
    scripts: HashMap<String, Script>,
    rejected: HashSet<String>,
}

impl Ledger {
    /// What a request meets in the place of the usual answer.
    fn script_for(&self, seen: &Seen) -> Option<Script> {
        if seen.header("authorization").iter().any(|value| self.rejected.contains(*value)) {
            let line = "WWW-Authenticate: Bearer error=\"invalid_token\"";
            return Some(Script::answer("401 Unauthorized", &[line], "rejected"));
        }
        let path = seen.target.split('?').next().unwrap_or_default();
        self.scripts.get(path).cloned()
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn converse(stream: TcpStream, connection: usize, ledger: &Mutex<Ledger>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(mut seen) = read_head(&mut stream, connection).await? else { return Ok(()) };
        let script = lock(ledger).script_for(&seen);
        if !script.as_ref().is_some_and(|script| script.early) {
            read_body(&mut stream, &mut seen).await?;
        }
        lock(ledger).seen.push(seen.clone());
        match script {
            Some(script) => {
                if play(&mut stream, script.steps).await? == Next::Close {
                    return Ok(());
                }
            }
            None => stream.write_all(&usual_answer(&seen)?).await?,
        }
        if seen.header("connection").contains(&"close") {
            return Ok(());
        }
    }
}

#[derive(PartialEq)]
enum Next {
    Request,
    Close,
}

async fn play(stream: &mut BufReader<TcpStream>, steps: Vec<Step>) -> io::Result<Next> {
    for step in steps {
        match step {
            Step::Write(bytes) => stream.write_all(&bytes).await?,
            Step::Pause(pause) => tokio::time::sleep(pause).await,
            Step::Echo => {
                let (mut from, mut to) = tokio::io::split(stream);
                tokio::io::copy(&mut from, &mut to).await?;
                return Ok(Next::Close);
            }
            Step::Hang => {
                tokio::io::copy(stream, &mut tokio::io::sink()).await?;
                return Ok(Next::Close);
            }
            Step::Close => return Ok(Next::Close),
        }
    }
    Ok(Next::Request)
}

fn usual_answer(seen: &Seen) -> io::Result<Vec<u8>> {
    let body = serde_json::to_string(seen)?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let body = if seen.method == "HEAD" { "" } else { &body };
    Ok([head.as_bytes(), body.as_bytes()].concat())
}

/// `None`: the other side closed between two requests.
async fn read_head(
    stream: &mut BufReader<TcpStream>,
    connection: usize,
) -> io::Result<Option<Seen>> {
    let request_line = read_line(stream).await?;
    if request_line.is_empty() {
        return Ok(None);
    }
    let mut words = request_line.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(Some(Seen {
        connection,
        method: method.to_owned(),
        target: target.to_owned(),
        headers: read_fields(stream).await?,
        body: Vec::new(),
        body_length: 0,
        trailers: Vec::new(),
    }))
}

async fn read_fields(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// A line without its end; empty at the end of the stream, too. Bytes that are no UTF-8 come out
/// as U+FFFD.
async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    let line = String::from_utf8_lossy(&line);
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

async fn read_body(stream: &mut BufReader<TcpStream>, seen: &mut Seen) -> io::Result<()> {
    if seen.header("transfer-encoding").iter().any(|coding| coding.contains("chunked")) {
        loop {
            let line = read_line(stream).await?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size.trim(), 16)
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            if size == 0 {
                seen.trailers = read_fields(stream).await?;
                return Ok(());
            }
            read_exactly(stream, seen, size).await?;
            read_line(stream).await?;
        }
    }
    let length = seen.header("content-length").first().map_or(Ok(0), |length| length.parse());
    let length = length.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    read_exactly(stream, seen, length).await
}

async fn read_exactly(
    stream: &mut BufReader<TcpStream>,
    seen: &mut Seen,
    length: usize,
) -> io::Result<()> {
    let mut piece = [0; 8192];
    let mut left = length;
    while left > 0 {
        let most = left.min(piece.len());
        let count = stream.read(&mut piece[..most]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= count;
        seen.body_length += count;
        let room = KEPT_BODY_BYTES.saturating_sub(seen.body.len());
        seen.body.extend_from_slice(&piece[..count.min(room)]);
    }
    Ok(())
}

const KEPT_BODY_BYTES: usize = 64 << 10;
