//! Places at which a test has the process die, or be asked to end, or stand still.
//!
//! Only with the cargo feature `fail-points`, which no release build takes, does the process read
//! `FOREGATE_FAIL_POINT=<point>:<kill|term|stop>[:<nth time>]`, and send itself that signal there.
//! Without it, `fail_point!` is nothing at all. The unit tests have replicas die within one process.

/// `fail_point!(Claimed.await)` in a task, `fail_point!(Entered)` where nothing can be awaited.
macro_rules! fail_point {
    ($point:ident.await) => {
        #[cfg(any(test, feature = "fail-points"))]
        $crate::fail_point::reach($crate::fail_point::FailPoint::$point).await;
    };
    ($point:ident) => {
        #[cfg(any(test, feature = "fail-points"))]
        $crate::fail_point::reach_blocking($crate::fail_point::FailPoint::$point);
    };
}
pub(crate) use fail_point;

#[cfg(all(feature = "fail-points", not(debug_assertions)))]
compile_error!("the feature `fail-points` is for tests, and for no release build");

/// The steps of a redemption that a signal can meet, in their order.
#[cfg(any(test, feature = "fail-points"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailPoint {
    /// The table knows of it, the ledger has not been asked.
    Entered,
    /// It has a place among those that the backend bears.
    BeforeClaim,
    /// The ledger has given the turn.
    Claimed,
    BeforeSending,
    /// The answer has been read, the ledger has not been told.
    Answered,
    /// A file: everything is written, nothing counts.
    BeforeCommit,
    /// A file: it is on the disk, nobody has been told.
    Committed,
    /// Redis: the names are written, the record is not.
    BeforeScript,
    /// Redis: the record is written, no replica has been waited for.
    Scripted,
    /// Redis: a replica has it, where there is one.
    Replicated,
    /// The ledger has spoken, the table has not been told.
    Spoken,
    /// The table has been told, nobody who waits.
    Settled,
    /// Those who wait have been told, the claim is still held.
    Told,
    /// All is done, but for the log.
    Released,
}

#[cfg(any(test, feature = "fail-points"))]
pub(crate) use armed::{reach, reach_blocking};

#[cfg(any(test, feature = "fail-points"))]
mod armed {
    use super::FailPoint;

    /// What happens here, for better or worse. Where a process has been asked to end, it has a
    /// moment to begin with that.
    pub(crate) async fn reach(point: FailPoint) {
        #[cfg(test)]
        super::doom::reach(point).await;
        #[cfg(feature = "fail-points")]
        if super::order::struck(point) {
            tokio::time::sleep(super::order::MOMENT).await;
        }
        #[cfg(not(any(test, feature = "fail-points")))]
        let _ = point;
    }

    pub(crate) fn reach_blocking(point: FailPoint) {
        #[cfg(feature = "fail-points")]
        if super::order::struck(point) {
            std::thread::sleep(super::order::MOMENT);
        }
        #[cfg(not(feature = "fail-points"))]
        let _ = point;
    }
}

/// What the environment wants to happen.
#[cfg(feature = "fail-points")]
mod order {
    use std::process::Command;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::FailPoint;

    struct Order {
        point: String,
        signal: &'static str,
        /// How many more times the point is passed by before anything happens there.
        passes: AtomicUsize,
    }

    /// Strikes, if that was ordered. `true`: the process goes on for now, but has been asked to end.
    pub(super) fn struck(point: FailPoint) -> bool {
        let Some(order) = order() else { return false };
        if order.point != format!("{point:?}") {
            return false;
        }
        let less = |passes: usize| Some(passes.wrapping_sub(1));
        if order.passes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) != Ok(0) {
            return false;
        }
        // The standard library sends no signals.
        let pid = std::process::id().to_string();
        let sent = Command::new("kill").args(["-s", order.signal, &pid]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "the program `kill` is there");
        if order.signal == "KILL" {
            loop {
                std::thread::park();
            }
        }
        order.signal == "TERM"
    }

    fn order() -> Option<&'static Order> {
        static ORDER: OnceLock<Option<Order>> = OnceLock::new();
        ORDER.get_or_init(|| Some(read(&std::env::var("FOREGATE_FAIL_POINT").ok()?))).as_ref()
    }

    fn read(text: &str) -> Order {
        let mut words = text.split(':');
        let point = words.next().unwrap_or_default().to_owned();
        let signal = match words.next() {
            Some("kill") => "KILL",
            Some("term") => "TERM",
            Some("stop") => "STOP",
            _ => panic!("FOREGATE_FAIL_POINT={text} is no <point>:<kill|term|stop>[:<nth time>]"),
        };
        let nth: usize = words.next().map_or(1, |nth| nth.parse().unwrap_or(1));
        Order { point, signal, passes: AtomicUsize::new(nth.saturating_sub(1)) }
    }

    /// For the end to begin.
    pub(super) const MOMENT: Duration = Duration::from_millis(100);
}

/// Replicas that die within the process of a unit test, each of which has a thread for itself.
#[cfg(test)]
pub(crate) mod doom {
    use std::cell::RefCell;

    use tokio::sync::watch;

    use super::FailPoint;

    thread_local! {
        static DOOM: RefCell<Option<(FailPoint, watch::Sender<bool>)>> = const { RefCell::new(None) };
    }

    /// The redemption of this thread that reaches `point` next goes no further, and says so.
    pub(crate) fn arm(point: Option<FailPoint>) -> watch::Receiver<bool> {
        let (tell, told) = watch::channel(false);
        DOOM.set(point.map(|point| (point, tell)));
        told
    }

    pub(super) async fn reach(point: FailPoint) {
        let is_here = DOOM.with_borrow(|doom| doom.as_ref().is_some_and(|(at, _)| *at == point));
        if is_here {
            DOOM.with_borrow(|doom| doom.as_ref().map(|(_, tell)| tell.send_replace(true)));
            std::future::pending().await
        }
    }
}
