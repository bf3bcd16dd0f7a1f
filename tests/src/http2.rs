//! HTTP/2 by prior knowledge: a client that keeps to the rules, and frames by hand for what no
//! client would send.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::h2::{self, RawHttp2};
use crate::{Answer, Request};

type Trailers = Ready<Option<Result<HeaderMap, Infallible>>>;
type Outgoing = Either<Empty<Bytes>, WithTrailers<Full<Bytes>, Trailers>>;

/// One connection. Clones share it.
#[derive(Clone)]
pub struct Http2(http2::SendRequest<Outgoing>);

impl Http2 {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the other side listens");
        stream.set_nodelay(true).expect("a socket takes the option");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("a handshake is only written");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends `request` and reads its answer; panics if the stream or the connection breaks.
    pub async fn send(&mut self, request: &Request) -> Answer {
        self.send_with_trailers(request, &[]).await
    }

    /// The same with `trailers` behind the body, where there are any.
    pub async fn send_with_trailers(
        &mut self,
        request: &Request,
        trailers: &[(&str, &str)],
    ) -> Answer {
        let body = if request.body.is_empty() && trailers.is_empty() {
            Either::Left(Empty::new())
        } else {
            let trailers = trailers.iter().map(|(name, value)| field(name, value)).collect();
            let body = Full::from(request.body.clone());
            Either::Right(body.with_trailers(ready(Some(Ok(trailers)))))
        };
        let mut sent = http::Request::new(body);
        *sent.method_mut() = request.method.parse().expect("a method");
        *sent.uri_mut() = request.url.parse().expect("a URL");
        for (name, value) in &request.headers {
            let (name, value) = field(name, value);
            sent.headers_mut().append(name, value);
        }
        let answering = async {
            let (head, body) = self.0.send_request(sent).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().map(texts).unwrap_or_default();
            let (status, headers) = (head.status.as_u16(), texts(&head.headers));
            Ok(Answer { status, headers, body: body.to_bytes().into(), trailers })
        };
        let answer: hyper::Result<Answer> =
            timeout(PATIENCE, answering).await.expect("an answer in time");
        answer.unwrap_or_else(|why| panic!("{}: {why:?}", request.url))
    }
}

fn field(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name.parse().expect("a header's name"), value.parse().expect("a header's value"))
}

fn texts(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    fields.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// One connection on which heads are written letter by letter.
pub struct Frames(RawHttp2);

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered(u16),
    /// Its stream was reset, with this error code (RFC 9113 §7).
    Reset(u32),
    /// The whole connection was given up, with this error code or without a word.
    GoneAway(Option<u32>),
}

impl Frames {
    /// Opens a connection and sends the preface.
    pub async fn open(address: SocketAddr) -> Self {
        Self(RawHttp2::open(address, &[]).await)
    }

    /// Sends HEADERS with all `fields`, pseudo-headers among them, letter by letter.
    pub async fn head(&mut self, stream: u32, fields: &[(&str, &str)], end_stream: bool) {
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
        let flags = h2::END_HEADERS | if end_stream { h2::END_STREAM } else { 0 };
        self.frame(h2::HEADERS, flags, stream, &block).await;
    }

    /// Sends a frame with this type and these flags.
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.0.send(h2::frame(kind, flags, stream, payload)).await;
    }

    /// Waits until `stream` is answered or refused.
    pub async fn fate(&mut self, stream: u32) -> Fate {
        while let Some(frame) = self.0.next().await {
            let payload = &frame.payload[..];
            let code = |at: usize| {
                let code = payload[at..at + 4].try_into().expect("four bytes");
                u32::from_be_bytes(code)
            };
            match (frame.kind, frame.stream == stream) {
                (h2::HEADERS, true) => return Fate::Answered(status(settled(payload))),
                (h2::RST_STREAM, true) => return Fate::Reset(code(0)),
                (h2::GOAWAY, _) => return Fate::GoneAway(Some(code(4))),
                _ => {}
            }
        }
        Fate::GoneAway(None)
    }
}

/// A header block without the sizes of a table that may stand first (RFC 7541 §6.3).
fn settled(block: &[u8]) -> &[u8] {
    let sizes = block.iter().take_while(|byte| **byte >> 5 == 1).count();
    &block[sizes..]
}

/// A header field without indexing and without Huffman coding (RFC 7541 §6.2.2).
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // An integer with a prefix of seven bits (RFC 7541 §5.1).
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(rest as u8);
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(0x80 | (rest % 128) as u8);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// The status that stands first in a header block (RFC 7541 §6, Appendices A and B).
pub(crate) fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [index @ 0x88..=0x8E, ..] => INDEXED[usize::from(index - 0x88)],
        [0x08 | 0x48, 3, digits @ ..] => {
            digits[..3].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
        }
        [0x08 | 0x48, length, coded @ ..] if length & 0x80 != 0 => {
            let mut bits =
                coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
            let mut take = |count| (0..count).fold(0, |all, _| all << 1 | bits.next().unwrap_or(1));
            (0..3).fold(0, |status, _| {
                // 0, 1 and 2 have five bits, which count up; the others six.
                let digit = match take(5) {
                    short @ 0..=2 => u16::from(short),
                    long => u16::from(long << 1 | take(1)) - 0x19 + 3,
                };
                status * 10 + digit
            })
        }
        _ => panic!("no status first: {block:02x?}"),
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_forms() {
        let check = |block: &[u8], expected: u16| assert_eq!(status(block), expected, "{block:x?}");
        check(&[0x88], 200);
        check(&[0x8C, 0x00], 400);
        check(&[0x48, 3, b'5', b'0', b'2'], 502);
        // RFC 7541 §C.6.1 and §C.6.2.
        check(&[0x48, 0x82, 0x64, 0x02], 302);
        check(&[0x48, 0x83, 0x64, 0x0E, 0xFF], 307);
    }
}
