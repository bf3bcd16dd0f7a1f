//! Points in time as numbers, and the one place that tells seconds from milliseconds.

use std::fmt;
use std::time::Duration;

/// Seconds since 1970-01-01T00:00:00Z, the unit of `exp`, `iat` and `nbf` (RFC 7519 §2). 64 bits,
/// since the libraries' own clock wraps in 2038.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixSeconds(pub i64);

impl UnixSeconds {
    /// The point `span` later; fractions of a second are dropped.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(span.as_secs()))
    }

    /// The point `span` earlier; fractions of a second are dropped.
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(span.as_secs()))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let seconds = self.0.saturating_sub(earlier.0);
        Duration::from_secs(seconds.try_into().unwrap_or(0))
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an app counts in: seed A writes `Date.now()`, most others a JWT's seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

impl Unit {
    /// `at` as a whole number of this unit.
    pub(crate) fn count(self, at: UnixSeconds) -> i64 {
        match self {
            Self::Seconds => at.0,
            Self::Milliseconds => at.0.saturating_mul(1000),
        }
    }
}

/// A time that an app wrote down, with the unit it was written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) at: UnixSeconds,
    pub(crate) unit: Unit,
}

impl Stamp {
    /// Reads a count since 1970. From 10^11 on it counts milliseconds: as seconds that would be the
    /// year 5138, and as milliseconds anything smaller lies before March 1973. Fractions are cut,
    /// so that an end is never put off. `None` for what is no finite number.
    pub(crate) fn read(count: f64) -> Option<Self> {
        if !count.is_finite() {
            return None;
        }
        let (seconds, unit) = if count >= FIRST_MILLISECONDS {
            (count / 1000.0, Unit::Milliseconds)
        } else {
            (count, Unit::Seconds)
        };
        Some(Self { at: UnixSeconds(seconds.floor() as i64), unit })
    }
}

const FIRST_MILLISECONDS: f64 = 1e11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stays_within_its_range() {
        let second = Duration::from_secs(1);
        assert_eq!(UnixSeconds(i64::MAX).saturating_add(Duration::MAX), UnixSeconds(i64::MAX));
        assert_eq!(UnixSeconds(i64::MIN).saturating_sub(second), UnixSeconds(i64::MIN));
        assert_eq!(UnixSeconds(7).since(UnixSeconds(5)), Duration::from_secs(2));
        assert_eq!(UnixSeconds(5).since(UnixSeconds(7)), Duration::ZERO);
        assert_eq!(
            UnixSeconds(0).since(UnixSeconds(i64::MIN)),
            Duration::from_secs(i64::MAX as u64)
        );
    }

    #[test]
    fn seconds_and_milliseconds_are_told_apart_by_size() {
        let check = |count: f64, at: i64, unit: Unit| {
            assert_eq!(Stamp::read(count), Some(Stamp { at: UnixSeconds(at), unit }), "{count}");
        };
        check(1_767_225_600.0, 1_767_225_600, Unit::Seconds);
        check(1_767_225_600_000.0, 1_767_225_600, Unit::Milliseconds);
        check(1_767_225_600_999.0, 1_767_225_600, Unit::Milliseconds);
        check(1_767_225_600.9, 1_767_225_600, Unit::Seconds);
        check(99_999_999_999.0, 99_999_999_999, Unit::Seconds);
        check(1e11, 100_000_000, Unit::Milliseconds);
        check(0.0, 0, Unit::Seconds);
        check(-0.5, -1, Unit::Seconds);
        assert_eq!(Stamp::read(f64::INFINITY), None);
        assert_eq!(Stamp::read(f64::NAN), None);
    }
}
