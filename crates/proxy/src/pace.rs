//! How long a visitor may keep a connection waiting. hyper's own timers do not tell a connection
//! that idles between two requests from a head that comes a byte at a time; these do.
//!
//! | what is owed | time | counted from |
//! | --- | --- | --- |
//! | the first request | `header_timeout` | the connection's start |
//! | the rest of a head, a frame or a list of headers | `header_timeout` | its first byte |
//! | the next request | `idle_timeout` | the end of the last answer |
//! | reading an answer | `idle_timeout` | the last byte that was taken |
//!
//! A body that stands still is [`crate::body`]'s business.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::frames::Frames;

/// The times of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// `limits.header_timeout`.
    pub(crate) head: Duration,
    /// `limits.idle_timeout`.
    pub(crate) idle: Duration,
    /// For HTTP/2, where a request that waits for its app looks like a visitor who is silent:
    /// `limits.upstream_header_timeout`.
    pub(crate) answer: Duration,
}

/// What the requests of a connection tell its bytes.
#[derive(Debug)]
pub(crate) struct Pace {
    state: Mutex<State>,
    retire: Notify,
}

#[derive(Debug)]
struct State {
    /// Requests whose answer has not ended.
    in_flight: u32,
    /// When there last was none.
    quiet_since: Instant,
    /// When the head began that has not ended.
    head_since: Option<Instant>,
    /// Something whole has come already.
    greeted: bool,
    /// The visitor was told that no further request is taken.
    retiring: bool,
}

impl Pace {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            in_flight: 0,
            quiet_since: Instant::now(),
            head_since: None,
            greeted: false,
            retiring: false,
        };
        Arc::new(Self { state: Mutex::new(state), retire: Notify::new() })
    }

    /// A request's head is complete. What it returns lives as long as the request.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        state.head_since = None;
        state.greeted = true;
        InFlight(Arc::clone(self))
    }

    /// An HTTP/2 connection has been quiet for so long that it should be ended in good order.
    pub(crate) async fn retired(&self) {
        self.retire.notified().await;
    }

    /// No code panics under this lock, and no two threads want it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Pace>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.quiet_since = Instant::now();
        }
    }
}

/// The bytes of a connection, which end when the visitor takes too long.
pub(crate) struct Paced<S> {
    stream: S,
    begun: Vec<u8>,
    pace: Arc<Pace>,
    patience: Patience,
    /// `None`: HTTP/1.1.
    frames: Option<Frames>,
    /// Wakes the connection; often too early, which costs one look at the state.
    alarm: Pin<Box<Sleep>>,
    alarm_is_set: bool,
    /// When the visitor stopped taking what we write.
    blocked_since: Option<Instant>,
    /// When we said our last, and the bytes that came since.
    lingers_since: Option<Instant>,
    lingered: usize,
    /// With HTTP/2: when bytes last moved, as far as anybody looked.
    moved: u64,
    looked: (u64, Instant),
}

impl<S> Paced<S> {
    /// `begun` are bytes that were read already, to find out which protocol they are.
    pub(crate) fn new(
        stream: S,
        begun: Vec<u8>,
        pace: Arc<Pace>,
        patience: Patience,
        http2: bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            begun,
            pace,
            patience,
            frames: http2.then(Frames::new),
            alarm: Box::pin(tokio::time::sleep_until(now)),
            alarm_is_set: false,
            blocked_since: None,
            lingers_since: None,
            lingered: 0,
            moved: 0,
            looked: (0, now),
        }
    }

    /// Called where the visitor is waited for. Ready: for too long.
    fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(deadline) = self.deadline() else { return Poll::Pending };
            if !self.alarm_is_set || deadline < self.alarm.deadline() {
                self.alarm.as_mut().reset(deadline);
                self.alarm_is_set = true;
            }
            ready!(self.alarm.as_mut().poll(cx));
            self.alarm_is_set = false;
            if deadline <= Instant::now() && !self.retires() {
                return Poll::Ready(());
            }
        }
    }

    fn deadline(&mut self) -> Option<Instant> {
        if let Some(since) = self.lingers_since {
            return Some(since + LINGER);
        }
        if let Some(since) = self.blocked_since {
            return Some(since + self.patience.idle);
        }
        let state = self.pace.lock();
        if let Some(since) = state.head_since {
            return Some(since + self.patience.head);
        }
        if state.in_flight > 0 {
            drop(state);
            return self.stands_still_at();
        }
        let patience = match state.greeted && !state.retiring {
            true => self.patience.idle,
            false => self.patience.head,
        };
        Some(state.quiet_since + patience)
    }

    /// With HTTP/2 the streams of a silent visitor may all wait for him to take what we have, and
    /// nothing but his silence shows it.
    fn stands_still_at(&mut self) -> Option<Instant> {
        self.frames.as_ref()?;
        if self.looked.0 != self.moved {
            self.looked = (self.moved, Instant::now());
        }
        let Patience { head, idle, answer } = self.patience;
        Some(self.looked.1 + idle.max(answer) + head)
    }

    /// HTTP/2 can say good-bye, so that no request is lost that is under way to us.
    fn retires(&self) -> bool {
        let mut state = self.pace.lock();
        let quiet = state.in_flight == 0 && state.head_since.is_none() && state.greeted;
        let busy = self.blocked_since.is_some() || self.lingers_since.is_some();
        if self.frames.is_none() || !quiet || state.retiring || busy {
            return false;
        }
        state.retiring = true;
        state.quiet_since = Instant::now();
        self.pace.retire.notify_one();
        true
    }

    /// Bytes came from the visitor.
    fn came(&mut self, bytes: &[u8]) {
        self.moved += 1;
        let mut state = self.pace.lock();
        let Some(frames) = &mut self.frames else {
            if state.in_flight == 0 && state.head_since.is_none() {
                state.head_since = Some(Instant::now());
            }
            return;
        };
        let before = frames.complete();
        frames.feed(bytes);
        // A frame that ends where the next one begins takes the clock of its own list along: only
        // what is whole stops it.
        if !frames.is_unfinished() {
            state.head_since = None;
        } else if state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
        state.greeted |= frames.complete() > before;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.begun.is_empty() {
            let count = this.begun.len().min(buffer.remaining());
            let first: Vec<u8> = this.begun.drain(..count).collect();
            buffer.put_slice(&first);
            this.came(&first);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                let new = &buffer.filled()[before..];
                if !new.is_empty() {
                    this.came(new);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(this.poll_too_long(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Paced<S> {
    /// Watches over the visitor's side of every write.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.moved += 1;
            self.blocked_since = None;
            return written;
        }
        if self.blocked_since.is_none() {
            self.blocked_since = Some(Instant::now());
        }
        ready!(self.poll_too_long(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) && this.blocked_since.is_none() {
            return flushed;
        }
        this.written(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingers_since.is_none() {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.written(cx, shut))?;
            this.lingers_since = Some(Instant::now());
        }
        this.poll_linger(cx)
    }
}

impl<S: AsyncRead + Unpin> Paced<S> {
    /// Reads on for a moment behind our last byte: a connection that is closed with something
    /// unread is reset, and the reset may overtake an answer that tells why (RFC 9112 §9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scrap = [0; 1024];
        while self.lingered < LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut scrap);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingered += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(self.poll_too_long(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What a visitor may still send when we have said our last, and for how long.
const LINGER_BYTES: usize = 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);
