//! An HTTP/1.1 answer, as it came.

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// One answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// In the order and the spelling in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The first header called `name`, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).first().copied()
    }

    /// The values of all headers called `name`.
    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|why| panic!("{why}: {} {}", self.status, self.text()))
    }

    /// The header called `name` of the request that a `foregate_stage::Origin` answers about.
    #[track_caller]
    pub fn seen_header(&self, name: &str) -> Option<String> {
        let seen = self.json();
        let headers = seen["headers"].as_array().expect("an origin's answer");
        let header = headers
            .iter()
            .find(|header| header[0].as_str().is_some_and(|key| key.eq_ignore_ascii_case(name)))?;
        header[1].as_str().map(str::to_owned)
    }

    /// Reads the next final answer to a request with `method`. `None`: the other side closed before
    /// a byte of one.
    pub(crate) async fn read(
        stream: &mut (impl AsyncBufRead + Unpin),
        method: &str,
    ) -> std::io::Result<Option<Self>> {
        loop {
            let status_line = read_line(stream).await?;
            if status_line.is_empty() {
                return Ok(None);
            }
            let status = status_line
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
                .unwrap_or_else(|| panic!("no status line: {status_line:?}"));
            let headers = read_fields(stream).await?;
            let mut answer = Self { status, headers, body: Vec::new(), trailers: Vec::new() };
            if status == 101 {
                return Ok(Some(answer));
            }
            if status >= 200 {
                if method != "HEAD" && status != 204 && status != 304 {
                    answer.read_body(stream).await?;
                }
                return Ok(Some(answer));
            }
        }
    }

    async fn read_body(&mut self, stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<()> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            loop {
                let line = read_line(stream).await?;
                let size = usize::from_str_radix(line.trim(), 16)
                    .unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
                if size == 0 {
                    self.trailers = read_fields(stream).await?;
                    return Ok(());
                }
                let start = self.body.len();
                self.body.resize(start + size, 0);
                stream.read_exact(&mut self.body[start..]).await?;
                read_line(stream).await?;
            }
        } else if let Some(length) = self.header("content-length") {
            let length = length.parse().unwrap_or_else(|_| panic!("no length: {length:?}"));
            self.body.resize(length, 0);
            stream.read_exact(&mut self.body).await?;
        } else {
            stream.read_to_end(&mut self.body).await?;
        }
        Ok(())
    }
}

async fn read_fields(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> std::io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { return Ok(fields) };
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// A line without its end; empty at the end of the stream, too.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}
