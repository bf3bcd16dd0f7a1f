//! How long a visitor may keep a connection waiting. hyper's own timers do not tell a connection
//! that idles between two requests from a head that comes a byte at a time; these do.
//!
//! | what is owed | time | counted from |
//! | --- | --- | --- |
//! | the first request | `header_timeout` | the connection's start |
//! | the rest of a head, a frame or a list of headers | `header_timeout` | its first byte |
//! | the next request | `idle_timeout` | the end of the last answer |
//! | reading an answer | `idle_timeout` | the last byte that was taken |
//! | a last request, when the visitor was told to go | a second | the word, or the last answer |
//!
//! A body that stands still is [`crate::upstream::body`]'s business, and an answer that does so behind an
//! HTTP/2 window that stays shut is [`crate::listening::standstill`]'s.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use crate::listening::frames::Frames;

/// The times of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// `limits.header_timeout`.
    pub(crate) head: Duration,
    /// `limits.idle_timeout`.
    pub(crate) idle: Duration,
}

/// What the requests of a connection tell its bytes.
#[derive(Debug)]
pub(crate) struct Pace {
    state: Mutex<State>,
    told: Notify,
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
    /// When the visitor was told that no further request is taken.
    retiring_since: Option<Instant>,
}

impl Pace {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            in_flight: 0,
            quiet_since: Instant::now(),
            head_since: None,
            greeted: false,
            retiring_since: None,
        };
        Arc::new(Self { state: Mutex::new(state), told: Notify::new() })
    }

    /// A request's head is complete. What it returns lives as long as the request.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        state.head_since = None;
        state.greeted = true;
        InFlight(Arc::clone(self))
    }

    /// The visitor is being told to go, and whoever has not asked yet does not hold us up.
    pub(crate) fn retire(&self) {
        self.lock().retiring_since.get_or_insert_with(Instant::now);
    }

    /// What `Connection: close` says over HTTP/1.1 is said over HTTP/2 to the whole connection.
    pub(crate) fn dismiss(&self) {
        self.told.notify_one();
    }

    /// An HTTP/2 connection should be ended in good order: it has been quiet for long, or somebody
    /// dismissed it.
    pub(crate) async fn retired(&self) {
        self.told.notified().await;
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

    fn deadline(&self) -> Option<Instant> {
        if let Some(since) = self.lingers_since {
            return Some(since + LINGER);
        }
        if let Some(since) = self.blocked_since {
            return Some(since + self.patience.idle);
        }
        let state = self.pace.lock();
        let in_time = match state.head_since {
            Some(since) => since + self.patience.head,
            None if state.in_flight > 0 => return None,
            None if state.greeted => state.quiet_since + self.patience.idle,
            None => state.quiet_since + self.patience.head,
        };
        Some(match state.retiring_since {
            // Whatever was answered a moment ago must have the time to leave.
            Some(since) if state.in_flight == 0 => {
                in_time.min(since.max(state.quiet_since) + FAREWELL)
            }
            _ => in_time,
        })
    }

    /// HTTP/2 can say good-bye, so that no request is lost that is under way to us.
    fn retires(&self) -> bool {
        let mut state = self.pace.lock();
        let quiet = state.in_flight == 0 && state.head_since.is_none() && state.greeted;
        let busy = self.blocked_since.is_some() || self.lingers_since.is_some();
        if self.frames.is_none() || !quiet || state.retiring_since.is_some() || busy {
            return false;
        }
        let now = Instant::now();
        state.retiring_since = Some(now);
        state.quiet_since = now;
        self.pace.told.notify_one();
        true
    }

    /// Bytes came from the visitor.
    fn came(&mut self, bytes: &[u8]) {
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
/// For a request that was on its way when its visitor was told to go.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::listening::frames::PREFACE;

    const HEAD: Duration = Duration::from_secs(15);
    const IDLE: Duration = Duration::from_secs(75);
    const HOUR: Duration = Duration::from_secs(3600);
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

    /// A connection that begins now, with `begun` read already, and the visitor's end of it.
    fn connection(begun: &[u8]) -> (Paced<DuplexStream>, DuplexStream, Arc<Pace>) {
        let (ours, visitors) = duplex(64);
        let (pace, patience) = (Pace::new(), Patience { head: HEAD, idle: IDLE });
        let http2 = begun.starts_with(PREFACE);
        let paced = Paced::new(ours, begun.to_vec(), Arc::clone(&pace), patience, http2);
        (paced, visitors, pace)
    }

    /// Reads as hyper does, until the visitor has taken too long: how long that was.
    async fn gives_up(paced: &mut Paced<DuplexStream>) -> Duration {
        let start = Instant::now();
        let mut scrap = [0; 16];
        loop {
            match timeout(HOUR, paced.read(&mut scrap)).await.expect("an end") {
                Ok(count) => assert!(count > 0, "the visitor closed"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    return start.elapsed();
                }
            }
        }
    }

    #[track_caller]
    fn about(actual: Duration, expected: Duration) {
        // The runtime's clock ticks in milliseconds.
        assert!(actual.abs_diff(expected) < Duration::from_millis(5), "{actual:?}, {expected:?}");
    }

    /// Sends these pieces, and a second passes after each.
    fn drip(mut visitor: DuplexStream, pieces: impl IntoIterator<Item = Vec<u8>>) {
        let pieces: Vec<_> = pieces.into_iter().collect();
        tokio::spawn(async move {
            for piece in pieces {
                if visitor.write_all(&piece).await.is_err() {
                    return;
                }
                sleep(Duration::from_secs(1)).await;
            }
            // Stays, and says nothing.
            sleep(HOUR).await;
        });
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_the_time_for_a_head() {
        for begun in [&b""[..], b"GET ", PREFACE] {
            let (mut paced, _visitor, _) = connection(begun);
            about(gives_up(&mut paced).await, HEAD);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte_however_it_comes() {
        let (mut paced, visitor, pace) = connection(b"");
        drop(pace.begin());
        sleep(Duration::from_secs(50)).await;
        drip(visitor, (0..60).map(|_| b"x".to_vec()));
        about(gives_up(&mut paced).await, HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_requests_the_visitor_may_idle() {
        for begun in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), [PREFACE, SETTINGS].concat()] {
            let (mut paced, _visitor, pace) = connection(&begun);
            let mut whole = vec![0; begun.len()];
            paced.read_exact(&mut whole).await.unwrap();
            let request = pace.begin();
            // However long the answer takes.
            assert!(timeout(HOUR, paced.read(&mut [0])).await.is_err());
            drop(request);
            let goodbye = if paced.frames.is_some() { FAREWELL } else { Duration::ZERO };
            about(gives_up(&mut paced).await, IDLE + goodbye);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_connection_is_told_to_go_before_it_ends() {
        let (mut paced, _visitor, pace) = connection(&[PREFACE, SETTINGS].concat());
        let start = Instant::now();
        let told = async {
            pace.retired().await;
            start.elapsed()
        };
        let (told, gave_up) = tokio::join!(told, gives_up(&mut paced));
        about(told, IDLE);
        about(gave_up, IDLE + FAREWELL);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_come_whole_are_no_request() {
        let (mut paced, visitor, _) = connection(&[PREFACE, SETTINGS].concat());
        drip(visitor, (0..200).map(|_| SETTINGS.to_vec()));
        about(gives_up(&mut paced).await, IDLE + FAREWELL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_or_a_list_that_never_ends_ends_the_connection_and_all_that_is_on_it() {
        let list = vec![0, 0, 0, 1, 0, 0, 0, 0, 1];
        let goes_on = vec![0, 0, 0, 9, 0, 0, 0, 0, 1];
        let long = vec![0, 0, 200, 6, 0, 0, 0, 0, 0];
        for (first, then) in [(list, goes_on), (long, vec![0])] {
            let begun = [PREFACE, SETTINGS].concat();
            let (mut paced, visitor, pace) = connection(&begun);
            let _request = pace.begin();
            drip(visitor, [vec![first], vec![then; 60]].concat());
            about(gives_up(&mut paced).await, HEAD);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_for_its_reader_as_long_as_he_takes_something() {
        let (mut paced, mut visitor, pace) = connection(b"");
        let _request = pace.begin();
        let start = Instant::now();
        let reader = tokio::spawn(async move {
            for _ in 0..5 {
                sleep(Duration::from_secs(60)).await;
                visitor.read_exact(&mut [0; 8]).await.unwrap();
            }
            sleep(HOUR).await;
        });
        let error = paced.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        about(start.elapsed(), Duration::from_secs(300) + IDLE);
        reader.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_to_go_has_a_second_for_a_request_under_way() {
        let (mut paced, visitor, pace) = connection(b"GET ");
        drip(visitor, (0..60).map(|_| b"x".to_vec()));
        pace.retire();
        about(gives_up(&mut paced).await, FAREWELL);

        let (mut paced, _visitor, pace) = connection(&[PREFACE, SETTINGS].concat());
        let request = pace.begin();
        pace.retire();
        assert!(timeout(HOUR, paced.read(&mut [0; 100])).await.unwrap().is_ok());
        assert!(timeout(HOUR, paced.read(&mut [0])).await.is_err(), "its answer has all its time");
        drop(request);
        about(gives_up(&mut paced).await, FAREWELL);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_our_last_byte_is_read_for_a_moment_and_to_a_bound() {
        let (mut paced, mut visitor, pace) = connection(b"");
        let _request = pace.begin();
        let start = Instant::now();
        let sends = tokio::spawn(async move { visitor.write_all(&vec![0; 2 << 20]).await });
        paced.shutdown().await.unwrap();
        about(start.elapsed(), Duration::ZERO);
        assert!(paced.lingered >= LINGER_BYTES && paced.lingered < LINGER_BYTES + 2048);
        drop(paced);
        assert!(sends.await.unwrap().is_err(), "the visitor sees the end");

        let (mut paced, _visitor, _) = connection(b"");
        paced.shutdown().await.unwrap();
        about(start.elapsed(), LINGER);
    }
}
