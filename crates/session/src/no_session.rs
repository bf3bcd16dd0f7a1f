//! Why there is no session. To the visitor all of it means the same: signed out.

use std::fmt;

use crate::time::UnixSeconds;

/// Why cookies gave no session. Says nothing of what stood in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    /// No cookie has one of our names and a value.
    #[error("no session cookie")]
    Absent,
    /// Sealed by us, but its `exp` is 15 s or more ago.
    #[error("expired")]
    Expired {
        /// Its `iat`.
        sealed_at: Option<UnixSeconds>,
        /// Its `exp`.
        expires_at: UnixSeconds,
    },
    /// Sealed by us, but its `nbf` is more than 15 s ahead.
    #[error("not yet valid")]
    NotYetValid {
        /// Its `nbf`.
        valid_from: UnixSeconds,
    },
    /// Not a session cookie, not sealed by us, or altered.
    #[error("{0}")]
    Invalid(InvalidReason),
    /// Sealed by us, but with none of `sub`, `email`, `user` and an access token: NextAuth.js 4
    /// seals the state of a sign-in with the same key.
    #[error("the payload names nobody")]
    NoIdentity,
    /// Sealed by us, but a token in it could not stand in a header.
    #[error("a token in it has characters outside visible ASCII")]
    BadToken,
    /// Reported beside a session: it might count, did not another cookie come first.
    #[error("another cookie comes before it")]
    Outranked,
}

impl NoSession {
    /// One stable word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Invalid(_) | Self::NoIdentity => "invalid",
            Self::BadToken => "bad_token",
            Self::Outranked => "outranked",
        }
    }

    /// Of two reasons for one request the one that says more: the first, but that it expired.
    pub(crate) fn or(self, next: Self) -> Self {
        match (self, next) {
            (Self::Absent, _) | (_, Self::Expired { .. }) => next,
            _ => self,
        }
    }

    /// What happened, in words for the operator.
    #[must_use]
    pub fn detail(&self) -> String {
        self.to_string()
    }
}

/// What is wrong with a cookie that is not a session of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReason {
    #[error("not a compact JWE with a direct key")]
    Malformed,
    /// Of its chunks one in the middle did not come: the browser dropped it, or a proxy did.
    #[error("chunk .{} is missing ({came} came)", .came.first_missing())]
    ChunkMissing {
        /// Those that did.
        came: ChunkNumbers,
    },
    /// Its chunks are a row without a gap, and no whole token.
    #[error("its chunks end early, or one is missing")]
    ChunksEndEarly,
    #[error("longer than a session cookie may be")]
    TooLong,
    #[error("in more chunks than a session cookie may have")]
    TooManyChunks,
    #[error("its header is not one that the libraries write")]
    BadHeader,
    #[error("its algorithms are not those of NextAuth.js or Auth.js")]
    Algorithm,
    #[error("compressed")]
    Compressed,
    /// The `kid` names none of our keys, or none of them is of the kind that `enc` asks for.
    #[error("sealed with none of the secrets")]
    NoKey,
    /// Another secret or an altered cookie: the tag cannot tell which.
    #[error("the seal is broken: another secret, or an altered cookie")]
    BrokenSeal,
    #[error("its payload is not a JSON object")]
    NotAnObject,
    #[error("its payload is nested too deeply")]
    TooDeep,
    #[error("its claim `{0}` is not a number")]
    BadClaim(&'static str),
    /// Reported beside a session: some reader might take this cookie for one, ours does not.
    #[error("its name only resembles that of a session cookie")]
    OtherName,
}

impl From<InvalidReason> for NoSession {
    fn from(reason: InvalidReason) -> Self {
        Self::Invalid(reason)
    }
}

/// The numbers of a cookie's chunks, as far as they are below 64; shown as `.0, .1, .3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkNumbers(u64);

impl ChunkNumbers {
    /// The first number that is not among them.
    #[must_use]
    pub fn first_missing(&self) -> u32 {
        self.0.trailing_ones()
    }
}

impl FromIterator<usize> for ChunkNumbers {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let bits = numbers.into_iter().filter(|number| *number < 64).map(|number| 1 << number);
        Self(bits.fold(0, |all, bit: u64| all | bit))
    }
}

impl fmt::Display for ChunkNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = (0..64).filter(|number| self.0 >> number & 1 == 1);
        for (place, number) in numbers.enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}.{number}")?;
        }
        Ok(())
    }
}
