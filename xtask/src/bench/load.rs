//! Bounded load on loopback, and the origin that answers it: plain threads and keep-alive, so that
//! both sides cost the same whoever stands between.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, anyhow};

use super::ensure_all_answered;

/// An app that answers 100 bytes to everything. Its threads end with the program.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
}

impl Origin {
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A proxy that closes its connection is no news here.
                thread::spawn(move || drop(answer(&stream)));
            }
        });
        Ok(Self { address })
    }
}

fn answer(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n".to_vec();
    answer.extend([b'x'; 100]);
    let (mut reader, mut writer) = (BufReader::with_capacity(16 * 1024, stream), stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line)? {
            0 => return Ok(()),
            2 => writer.write_all(&answer)?,
            _ => {}
        }
    }
}

/// Requests, one after the other on each of some connections.
pub(super) struct Load<'l> {
    pub(super) host: &'l str,
    /// `Cookie` header values, in turn.
    pub(super) cookies: &'l [String],
    pub(super) connections: usize,
}

impl Load<'_> {
    /// Asks `count` times, and fails unless every answer is a 200.
    pub(super) fn run(&self, address: SocketAddr, count: usize) -> anyhow::Result<()> {
        let share = count / self.connections;
        let answered = thread::scope(|scope| {
            let clients: Vec<_> = (0..self.connections)
                .map(|client| scope.spawn(move || self.client(address, client * share, share)))
                .collect();
            let mut answered = 0;
            for client in clients {
                answered += client.join().map_err(|_| anyhow!("a client panicked"))??;
            }
            anyhow::Ok(answered)
        })?;
        ensure_all_answered(answered, share * self.connections)
    }

    /// Asks once, and leaves the connection open. Fails unless the answer is a 200.
    pub(super) fn visit(&self, address: SocketAddr) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        self.revisit(&stream)?;
        Ok(stream)
    }

    /// The same on a connection that was left open.
    pub(super) fn revisit(&self, mut stream: &TcpStream) -> anyhow::Result<()> {
        stream.write_all(self.request(&self.cookies[0]).as_bytes())?;
        ensure_all_answered(usize::from(read_answer(&mut BufReader::new(stream))?), 1)
    }

    fn client(&self, address: SocketAddr, first: usize, count: usize) -> anyhow::Result<usize> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = (BufReader::new(&stream), &stream);
        let requests: Vec<String> =
            self.cookies.iter().map(|cookie| self.request(cookie)).collect();
        let mut answered = 0;
        for number in first..first + count {
            writer.write_all(requests[number % requests.len()].as_bytes())?;
            answered += usize::from(read_answer(&mut reader)?);
        }
        Ok(answered)
    }

    fn request(&self, cookie: &str) -> String {
        let host = self.host;
        format!(
            "GET /admin/reports?page=2 HTTP/1.1\r\nHost: {host}\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36\r\n\
             Accept: application/json\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, br\r\n\
             Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n\
             Referer: https://{host}/admin\r\nCookie: {cookie}\r\n\r\n"
        )
    }
}

/// Reads one answer to its end; whether it was a 200.
fn read_answer(reader: &mut impl BufRead) -> anyhow::Result<bool> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let ok = line.starts_with("HTTP/1.1 200 ");
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            anyhow::bail!("the connection closed in the middle of an answer");
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().context("Content-Length")?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(ok)
}
