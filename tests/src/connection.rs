//! One TCP connection, for bytes that no client would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Answer;

/// An open connection.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the other side listens");
        Self::over(stream)
    }

    /// A connection that stands already.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket takes the option");
        Self(BufReader::new(stream))
    }

    /// Sends `bytes` as they are. Where the other side has closed already they are lost, and
    /// [`Self::answer`] shows what it said before.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// The next answer, to a request with `method`. `None`: closed without one.
    pub async fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let answer = timeout(PATIENCE, Answer::read(&mut self.0, method)).await;
        answer.expect("an answer in time").unwrap_or(None)
    }

    /// The next answer to anything but HEAD.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET").await
    }

    /// At most `most` of the bytes that come next, not waiting for more than the first; empty once
    /// the other side has closed.
    pub async fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let count = timeout(PATIENCE, self.0.read(&mut bytes)).await;
        let count = count.expect("bytes in time").unwrap_or(0);
        bytes.truncate(count);
        bytes
    }

    /// A message's head, with its empty line, and no byte more. Panics if the other side closes
    /// before that.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let line = timeout(PATIENCE, self.0.read_until(b'\n', &mut head)).await;
            let count = line.expect("a line in time").unwrap_or(0);
            assert!(count > 0, "closed within a head: {}", String::from_utf8_lossy(&head));
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    /// Waits for the other side to close. Panics if it sends something instead.
    pub async fn closed(&mut self) {
        let rest = self.bytes(1024).await;
        assert!(rest.is_empty(), "instead of closing: {}", String::from_utf8_lossy(&rest));
    }
}

/// How long a test waits for what must come: far beyond any time-out that a test sets.
const PATIENCE: Duration = Duration::from_secs(30);
