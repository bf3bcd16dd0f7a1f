//! Bodies on their way through, frame by frame: nothing is gathered, and whoever reads slowly makes
//! the other side write slowly. A body that stands still for `limits.idle_timeout` ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use foregate_config::Snapshot;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::listening::pace::InFlight;
use crate::listening::standstill::Clock;
use crate::upstream::headers;
use crate::upstream::pool::Lease;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    #[error("the body stood still")]
    StoodStill,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// A body that somebody sends us, and our patience with him.
struct Flow {
    body: Incoming,
    patience: Duration,
    /// Made when the body is first waited for: most never are.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Flow {
    fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, alarm: None, waiting: false }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Polled {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let patience = self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if !self.waiting {
            self.waiting = true;
            alarm.as_mut().reset(Instant::now() + patience);
        }
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::StoodStill)))
    }
}

/// The body that goes to the app.
pub(crate) struct Upload {
    flow: Option<Flow>,
    progress: Arc<Progress>,
    /// Says which trailers only Foregate may send: the configuration, and the app's number.
    rules: Option<(Arc<Snapshot>, usize)>,
}

/// How far a body has come on its way to the app.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: AtomicU8,
    frames: AtomicUsize,
}

impl Progress {
    const WAITS_FOR_VISITOR: u8 = 1;
    const ENDED: u8 = 2;
    const BROKEN: u8 = 3;
    const STOOD_STILL: u8 = 4;

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Relaxed) == state
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    /// Its end has been handed on.
    pub(crate) fn has_ended(&self) -> bool {
        self.is(Self::ENDED)
    }

    /// The visitor broke it off, or framed it wrongly.
    pub(crate) fn is_broken(&self) -> bool {
        self.is(Self::BROKEN)
    }

    /// The visitor sent no more of it.
    pub(crate) fn stood_still(&self) -> bool {
        self.is(Self::STOOD_STILL)
    }

    /// The app would take more of it than there is.
    pub(crate) fn waits_for_visitor(&self) -> bool {
        self.is(Self::WAITS_FOR_VISITOR)
    }

    /// How many pieces the app has taken.
    pub(crate) fn frames(&self) -> usize {
        self.frames.load(Ordering::Relaxed)
    }
}

impl Upload {
    /// The visitor's body, which may be none. `app` is an index into the snapshot's apps.
    pub(crate) fn new(body: Incoming, snapshot: &Arc<Snapshot>, app: usize) -> Self {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self {
            flow: Some(Flow::new(body, snapshot.limits.idle_timeout)),
            progress: Arc::default(),
            rules: Some((Arc::clone(snapshot), app)),
        }
    }

    pub(crate) fn empty() -> Self {
        let progress = Progress { state: AtomicU8::new(Progress::ENDED), ..Progress::default() };
        Self { flow: None, progress: Arc::new(progress), rules: None }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        let Some(flow) = &mut this.flow else { return Poll::Ready(None) };
        let Poll::Ready(mut frame) = flow.poll_frame(cx) else {
            this.progress.set(Progress::WAITS_FOR_VISITOR);
            return Poll::Pending;
        };
        this.progress.frames.fetch_add(1, Ordering::Relaxed);
        this.progress.set(match &frame {
            Some(Err(BodyError::Broken(_))) => Progress::BROKEN,
            Some(Err(BodyError::StoodStill)) => Progress::STOOD_STILL,
            // Nothing stands behind trailers.
            Some(Ok(frame)) if frame.is_data() && !flow.body.is_end_stream() => 0,
            Some(Ok(_)) | None => Progress::ENDED,
        });
        if let (Some(Ok(frame)), Some((snapshot, app))) = (&mut frame, &this.rules)
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::remove_misplaced(trailers);
            headers::remove_trusted(trailers, snapshot, &snapshot.apps[*app], false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.flow.as_ref().is_none_or(|flow| flow.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let hint = |flow: &Flow| flow.body.size_hint();
        self.flow.as_ref().map_or_else(|| SizeHint::with_exact(0), hint)
    }
}

/// The body that comes from the app. Whoever reads it to the end gives the connection back; whoever
/// drops it early closes the connection, and with it the app's work.
pub(crate) struct Download {
    flow: Flow,
    lease: Option<Lease>,
}

impl Download {
    /// `lease`: the connection that it comes over, and that has room again afterwards.
    pub(crate) fn new(body: Incoming, lease: Lease, patience: Duration) -> Self {
        let mut download = Self { flow: Flow::new(body, patience), lease: Some(lease) };
        download.return_if_ended();
        download
    }

    fn return_if_ended(&mut self) {
        if self.flow.body.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        let mut frame = ready!(this.flow.poll_frame(cx));
        match &mut frame {
            None => this.give_back(),
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::remove_misplaced(trailers);
                    // Nothing stands behind them, and nobody asks.
                    this.give_back();
                }
                this.return_if_ended();
            }
            Some(Err(_)) => this.lease = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.flow.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.flow.body.size_hint()
    }
}

/// The body of an answer as it goes to the visitor: ours, or the app's as it streams. The request
/// is in flight as long as this lives.
pub(crate) struct AnswerBody {
    body: Either<Full<Bytes>, Download>,
    clock: Option<Arc<Clock>>,
    _in_flight: InFlight,
}

impl AnswerBody {
    pub(crate) fn new(body: Either<Full<Bytes>, Download>, in_flight: InFlight) -> Self {
        let clock = Clock::of_this_stream();
        if let Some(clock) = &clock {
            clock.start();
        }
        Self { body, clock, _in_flight: in_flight }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if let Some(clock) = &self.clock {
            clock.stop();
        }
        let frame = match &mut self.body {
            Either::Left(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Either::Right(body) => Pin::new(body).poll_frame(cx),
        };
        if let (Some(clock), Poll::Ready(Some(Ok(_)))) = (&self.clock, &frame) {
            clock.start();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
