//! Ends HTTP/2 streams whose visitor takes nothing of an answer although the connection is alive.
//!
//! hyper asks the body of an answer for more only when the stream's window has room, and has no
//! clock for windows that stay shut. A visitor could hold as many apps as there are streams, for
//! ever, with a ping now and then. So each stream is a task with a clock: it runs while the body
//! waits to be asked, and the task ends when that takes too long, which resets the stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

tokio::task_local! {
    static CLOCK: Arc<Clock>;
}

/// What hyper runs the streams of a connection with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    /// `limits.idle_timeout`.
    pub(crate) patience: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let patience = self.patience;
        tokio::spawn(async move {
            let clock = Arc::<Clock>::default();
            tokio::select! {
                _ = CLOCK.scope(Arc::clone(&clock), stream) => {}
                () = clock.runs_out(patience) => tracing::debug!("nobody reads a stream"),
            }
        });
    }
}

/// How long the answer of one stream has been waiting for its visitor.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Since when the body could be asked for more, and was not.
    waits_since: Mutex<Option<Instant>>,
    started: Notify,
}

impl Clock {
    /// The clock of the stream that is being answered; `None` over HTTP/1.1, where every byte of an
    /// answer waits in the connection itself.
    pub(crate) fn of_this_stream() -> Option<Arc<Self>> {
        CLOCK.try_with(Arc::clone).ok()
    }

    /// Something was handed over, and the rest waits.
    pub(crate) fn start(&self) {
        if self.lock().replace(Instant::now()).is_none() {
            self.started.notify_one();
        }
    }

    /// The visitor has room for more, or nothing is left for him.
    pub(crate) fn stop(&self) {
        *self.lock() = None;
    }

    async fn runs_out(&self, patience: Duration) {
        loop {
            let waits_since = *self.lock();
            match waits_since {
                None => self.started.notified().await,
                Some(since) if since.elapsed() >= patience => return,
                Some(since) => tokio::time::sleep_until(since + patience).await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.waits_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Executor;
    use tokio::sync::oneshot;
    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(75);

    /// How long a stream lives that does this with its clock.
    async fn life<F>(stream: impl FnOnce(Arc<Clock>) -> F + Send + 'static) -> Option<Duration>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let start = Instant::now();
        let (alive, gone) = oneshot::channel::<()>();
        Streams { patience: PATIENCE }.execute(async move {
            let _alive = alive;
            stream(Clock::of_this_stream().unwrap()).await;
        });
        timeout(Duration::from_secs(3600), gone).await.ok().map(|_| start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_answer_has_waited_too_long() {
        let lived = life(|clock| async move {
            clock.start();
            std::future::pending().await
        });
        assert_eq!(lived.await.map(|lived| lived.as_secs()), Some(75));
    }

    #[tokio::test(start_paused = true)]
    async fn every_piece_that_is_asked_for_starts_the_clock_anew() {
        let lived = life(|clock| async move {
            for _ in 0..10 {
                clock.start();
                sleep(Duration::from_secs(60)).await;
                clock.stop();
            }
            clock.start();
            std::future::pending().await
        });
        assert_eq!(lived.await.map(|lived| lived.as_secs()), Some(675));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_the_app_is_not_the_visitors_fault() {
        let lived = life(|clock| async move {
            clock.start();
            sleep(Duration::from_secs(60)).await;
            clock.stop();
            std::future::pending().await
        });
        assert_eq!(lived.await, None);
        assert_eq!(life(|_| std::future::pending()).await, None);
    }

    #[tokio::test]
    async fn outside_of_a_stream_there_is_no_clock() {
        assert!(Clock::of_this_stream().is_none());
    }
}
