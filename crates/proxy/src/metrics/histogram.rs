//! How long things take.

use std::time::Duration;

use super::Count;

/// Durations, sorted into buckets. Two steps of counters for each.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for what is longer.
    buckets: Box<[Count]>,
    /// Nanoseconds: they last for 584 years of waiting.
    sum: Count,
}

impl Histogram {
    /// `bounds` ascend.
    pub(crate) fn new(bounds: &'static [Duration]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| Count::default()).collect();
        Self { bounds, buckets, sum: Count::default() }
    }

    pub(crate) fn observe(&self, took: Duration) {
        let longer = self.bounds.iter().position(|bound| took <= *bound);
        self.buckets[longer.unwrap_or(self.bounds.len())].add();
        self.sum.add_many(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many took at most as long as each bound, and how many there were.
    pub(crate) fn up_to(&self) -> (Vec<(Duration, u64)>, u64) {
        let mut count = 0;
        let bounds = self.bounds.iter().zip(&self.buckets).map(|(bound, bucket)| {
            count += bucket.get();
            (*bound, count)
        });
        let bounds = bounds.collect();
        let longer = self.buckets.last().map_or(0, Count::get);
        (bounds, count + longer)
    }

    /// Of all that were observed.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.get())
    }

    /// `None` before the first.
    pub(crate) fn mean(&self) -> Option<Duration> {
        let count: u64 = self.buckets.iter().map(Count::get).sum();
        self.sum.get().checked_div(count).map(Duration::from_nanos)
    }
}

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A seal takes microseconds, a redemption that is waited for up to seconds.
pub(crate) const ADMISSION: [Duration; 14] = [
    micros(5),
    micros(10),
    micros(25),
    micros(50),
    micros(100),
    micros(250),
    micros(1000),
    millis(5),
    millis(25),
    millis(100),
    millis(500),
    millis(1000),
    millis(5000),
    millis(10_000),
];

/// Apps and backends.
pub(crate) const UPSTREAM: [Duration; 14] = [
    millis(1),
    micros(2500),
    millis(5),
    millis(10),
    millis(25),
    millis(50),
    millis(100),
    millis(250),
    millis(500),
    millis(1000),
    millis(2500),
    millis(5000),
    millis(10_000),
    millis(30_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_the_longest_of_all_has_one() {
        let histogram = Histogram::new(&ADMISSION);
        assert_eq!(histogram.mean(), None);
        for took in [micros(10), micros(11), millis(60_000)] {
            histogram.observe(took);
        }
        let (bounds, count) = histogram.up_to();
        assert_eq!(bounds[..3], [(micros(5), 0), (micros(10), 1), (micros(25), 2)]);
        assert_eq!((bounds.last(), count), (Some(&(millis(10_000), 2)), 3));
        assert_eq!(histogram.sum(), micros(60_000_021));
        assert_eq!(histogram.mean(), Some(micros(20_000_007)));
    }

    #[test]
    fn bounds_ascend() {
        assert!(ADMISSION.is_sorted() && UPSTREAM.is_sorted());
    }
}
