//! How a redemption can end: for the request that waits, and for whoever keeps the log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foregate_session::UnixSeconds;

/// Why a session gets no fresh tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// The backend will not have this refresh token any more, its known end is past, or the session
    /// has none. The session is over.
    #[error("the refresh token is refused")]
    Refused,
    /// The backend answered with another subject's access token. The session is over.
    #[error("the backend answered with the token of another subject")]
    SubjectChanged,
    /// Somebody signed out with a copy of this session. The session is over.
    #[error("signed out")]
    SignedOut,
    /// It may go better later: the session stays.
    #[error("{fault}")]
    Unavailable { retry_after: Duration, fault: Fault },
}

impl RefreshError {
    /// The stable word for answers, log and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused => "refresh_refused",
            Self::SubjectChanged => "subject_changed",
            Self::SignedOut => "signed_out",
            Self::Unavailable { fault: Fault::Ledger(_), .. } => "ledger_unavailable",
            Self::Unavailable { .. } => "backend_unavailable",
        }
    }

    /// When to ask again. `None`: never, the session is over.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused | Self::SubjectChanged | Self::SignedOut => None,
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
        }
    }
}

/// What stood in the way of an answer that counts. The texts name no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing was sent.
    #[error("the backend cannot be reached: {0}")]
    Unreachable(String),
    /// The refresh token may be spent all the same.
    #[error("the connection to the backend broke before it had answered: {0}")]
    AnswerLost(String),
    /// The refresh token may be spent all the same.
    #[error("the backend did not answer in time")]
    TimedOut,
    /// Neither success nor a refusal. `error` is what OAuth 2 calls it (RFC 6749 §5.2).
    #[error("the backend answered {status}{}", .error.as_ref().map(|word| format!(" ({word})")).unwrap_or_default())]
    Status { status: u16, error: Option<String> },
    /// A success that cannot be read. The refresh token is probably spent.
    #[error("the backend's answer {0}")]
    Unusable(&'static str),
    /// Clocks that differ, or a lifetime that is read wrongly.
    #[error("the new access token had ended at {0}, before it arrived")]
    EndedOnArrival(UnixSeconds),
    #[error("no token endpoint by discovery: {0}")]
    Discovery(String),
    /// `max_in_flight` is reached, and stayed so.
    #[error("too many redemptions at once")]
    Busy,
    /// Nothing was sent.
    #[error("another gate has just asked the backend in vain")]
    Elsewhere,
    /// The ledger does not say whether there is a newer pair.
    #[error("the ledger gives no answer: {0}")]
    Ledger(String),
    /// The redemption was cut off, at the end of the process.
    #[error("the redemption was cut off")]
    Stopped,
}

impl Fault {
    /// Whether the backend may have answered with new tokens that we never saw.
    pub(crate) fn answer_lost(&self) -> bool {
        matches!(self, Self::AnswerLost(_) | Self::TimedOut | Self::Unusable(_))
    }

    pub fn culprit(&self) -> Culprit {
        match self {
            Self::Unreachable(_)
            | Self::AnswerLost(_)
            | Self::TimedOut
            | Self::Status { .. }
            | Self::Unusable(_)
            | Self::EndedOnArrival(_)
            | Self::Discovery(_)
            | Self::Elsewhere => Culprit::Backend,
            Self::Busy | Self::Ledger(_) | Self::Stopped => Culprit::Us,
        }
    }
}

/// Where to look for a [`Fault`]'s cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    Backend,
    Us,
}

/// One redemption that has come to its end: for the log and the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The name of the `[[backend]]`.
    pub backend: Arc<str>,
    /// From the first request that asked to the end, the queue for `max_in_flight` included.
    pub took: Duration,
    pub outcome: Outcome,
    /// The refresh token has no room for 128 random bits, the first such one of this process.
    /// Who reads a ledger could find it by trying, and so can everybody else.
    pub weak_token: bool,
}

/// With what a backend has refused a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalAnswer {
    /// Of HTTP.
    pub status: u16,
    /// With OAuth 2, one of the words of RFC 6749 §5.2, and never a text of the backend's own.
    pub error: Option<&'static str>,
}

impl fmt::Display for RefusalAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        self.error.map_or(Ok(()), |error| write!(f, " {error}"))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Renewed,
    /// Somebody signed out meanwhile: what the backend answered is dropped.
    SignedOut,
    /// Refused, or not even sent: somebody else had redeemed the token and told the ledger.
    Overtaken,
    /// `answer_lost`: an earlier answer to the same token never came whole, so the token may have
    /// been spent by ourselves. No client can repair that.
    Refused {
        answer_lost: bool,
        /// `None`: another process has heard it.
        answer: Option<RefusalAnswer>,
    },
    SubjectChanged,
    Unavailable(Fault),
}

impl Outcome {
    /// The stable word for log and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::SignedOut => "signed_out",
            Self::Overtaken => "overtaken",
            Self::Refused { .. } => "refused",
            Self::SubjectChanged => "subject_changed",
            Self::Unavailable(_) => "unavailable",
        }
    }
}
