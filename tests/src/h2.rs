//! HTTP/2 by hand (RFC 9113): a connection that sends what a flood is made of, and sees every frame
//! that comes back.

use std::net::SocketAddr;

use crate::Connection;
use crate::http2::{literal, status};

/// A visitor's connection that speaks HTTP/2.
pub struct RawHttp2 {
    connection: Connection,
    /// What came and is no whole frame yet.
    begun: Vec<u8>,
}

/// One frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl RawHttp2 {
    /// Connects with prior knowledge and sends the preface with these settings.
    pub async fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut connection = Connection::open(address).await;
        // Without a dynamic table every header list of an answer can be read by itself.
        let settings = settings.iter().chain(&[(HEADER_TABLE_SIZE, 0)]);
        let settings: Vec<u8> = settings
            .flat_map(|(key, value)| [&key.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        connection.send([PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).await;
        Self { connection, begun: Vec::new() }
    }

    /// Sends `bytes` as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.connection.send(bytes).await;
    }

    /// Asks for `path` of app.example.com, with nothing behind the head.
    pub async fn get(&mut self, stream: u32, path: &str) {
        let list = request("GET", "app.example.com", path);
        self.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &list)).await;
    }

    /// The next frame. SETTINGS and PING are acknowledged on the way. `None`: the other side closed.
    pub async fn next(&mut self) -> Option<Frame> {
        let next = self.silently_next().await?;
        if matches!(next.kind, SETTINGS | PING) && next.flags & ACK == 0 {
            let echo = if next.kind == PING { &next.payload[..] } else { b"" };
            self.send(frame(next.kind, ACK, 0, echo)).await;
        }
        Some(next)
    }

    /// The next frame, with nothing acknowledged.
    pub async fn silently_next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.whole_frame() {
                return Some(frame);
            }
            let more = self.connection.bytes(64 * 1024).await;
            if more.is_empty() {
                return None;
            }
            self.begun.extend(more);
        }
    }

    /// The next frame of this kind. `None`: the other side closed before one.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// The status of the next head. `None`: the other side closed before one.
    pub async fn status(&mut self) -> Option<u16> {
        let list = self.next_of(HEADERS).await?.payload;
        // Because of our settings the list may begin with the new size of the table.
        let resized = list.iter().take_while(|byte| *byte >> 5 == 1).count();
        Some(status(&list[resized..]))
    }

    fn whole_frame(&mut self) -> Option<Frame> {
        let [high, middle, low, kind, flags, stream @ ..] = *self.begun.first_chunk::<9>()?;
        let end = 9 + usize::from(high) * 0x1_0000 + usize::from(middle) * 0x100 + usize::from(low);
        let payload = self.begun.get(9..end)?.to_vec();
        self.begun.drain(..end);
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame that a test can hold").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header list of a request.
pub fn request(method: &str, host: &str, path: &str) -> Vec<u8> {
    let scheme = field(":scheme", "http");
    [field(":method", method), scheme, field(":authority", host), field(":path", path)].concat()
}

/// One field of a header list.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    literal(name, value)
}

/// How a connection begins (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Of HEADERS and DATA.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const HEADER_TABLE_SIZE: u16 = 1;
/// The setting for how much may come on one stream, in bytes.
pub const INITIAL_WINDOW_SIZE: u16 = 4;
