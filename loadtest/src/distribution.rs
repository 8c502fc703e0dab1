//! A distribution as the server counts it in buckets, and what came to it
//! between two looks. It never performs IO.

use serde::Serialize;

/// A histogram of Prometheus' text format at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Upper bounds in seconds with how many values are at or below each; the
    /// last bound is infinite.
    counts: Vec<(f64, f64)>,
}

/// A distribution of times, in milliseconds. A quantile lies somewhere in its
/// bucket, and is told as if values were spread evenly there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub count: u64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// The upper end of the bucket that p99 lies in; none if it has no end.
    pub p99_at_most_ms: Option<f64>,
}

impl Buckets {
    /// Reads the histogram `name`, which has no labels of its own.
    #[must_use]
    pub fn parse(metrics: &str, name: &str) -> Option<Self> {
        let mut counts = Vec::new();
        for line in metrics.lines() {
            let bucket =
                line.strip_prefix(name).and_then(|rest| rest.strip_prefix("_bucket{le=\""));
            let Some((bound, count)) = bucket.and_then(|rest| rest.split_once("\"} ")) else {
                continue;
            };
            counts.push((bound.parse().ok()?, count.trim().parse().ok()?));
        }
        counts.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
        (!counts.is_empty()).then_some(Self { counts })
    }

    /// Adds what another node counts, in the same buckets.
    pub fn add(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
            return;
        }
        for ((_, count), (_, more)) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// What came since `before`. A server that was started again counts anew.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let pairs = || self.counts.iter().zip(&before.counts);
        let goes_on = self.counts.len() == before.counts.len()
            && pairs().all(|(now, then)| now.0.total_cmp(&then.0).is_eq() && now.1 >= then.1);
        if !goes_on {
            return self.clone();
        }
        Self { counts: pairs().map(|(now, then)| (now.0, now.1 - then.1)).collect() }
    }

    /// The figures.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts that the server keeps as whole numbers"
    )]
    pub fn spread(&self) -> Spread {
        let ms = |seconds: f64| seconds.is_finite().then_some(seconds * 1e3);
        let p99 = self.quantile(0.99);
        Spread {
            count: self.counts.last().map_or(0, |last| last.1 as u64),
            p50_ms: self.quantile(0.5).and_then(|(at, _)| ms(at)),
            p99_ms: p99.and_then(|(at, _)| ms(at)),
            p99_at_most_ms: p99.and_then(|(_, bound)| ms(bound)),
        }
    }

    /// A quantile and the upper end of its bucket, in seconds.
    fn quantile(&self, share: f64) -> Option<(f64, f64)> {
        let rank = self.counts.last()?.1 * share;
        if rank <= 0.0 {
            return None;
        }
        let place = self.counts.iter().position(|&(_, count)| count >= rank)?;
        let (end, count) = self.counts[place];
        let (begin, below) = place.checked_sub(1).map_or((0.0, 0.0), |before| self.counts[before]);
        Some((begin + (end - begin) * (rank - below) / (count - below), end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE a_seconds histogram
a_seconds_bucket{le=\"0.01\"} 50
a_seconds_bucket{le=\"0.05\"} 90
a_seconds_bucket{le=\"0.1\"} 100
a_seconds_bucket{le=\"+Inf\"} 100
a_seconds_sum 2.5
a_seconds_count 100
another_a_seconds_bucket{le=\"0.01\"} 7
";

    fn near(found: Option<f64>, ms: f64) {
        assert!(found.is_some_and(|found| (found - ms).abs() < 1e-6), "{found:?} is not {ms}");
    }

    #[test]
    fn quantiles_lie_in_their_buckets() {
        let spread = Buckets::parse(TEXT, "a_seconds").unwrap().spread();
        assert_eq!(spread.count, 100);
        near(spread.p50_ms, 10.0);
        near(spread.p99_ms, 95.0);
        near(spread.p99_at_most_ms, 100.0);
        assert_eq!(Buckets::parse(TEXT, "no_seconds"), None);
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let before = Buckets::parse(TEXT, "a_seconds").unwrap();
        let after = TEXT.replace("} 100", "} 101").replace("} 90", "} 91").replace("} 50", "} 51");
        let after = Buckets::parse(&after, "a_seconds").unwrap();
        let spread = after.since(&before).spread();
        assert_eq!(spread.count, 1);
        near(spread.p99_at_most_ms, 10.0);
        assert_eq!(before.since(&before).spread(), Spread::default());
        // Started again: fewer than before.
        assert_eq!(before.since(&after), before);
        assert_eq!(before.since(&Buckets::default()), before);
    }

    #[test]
    fn what_is_past_the_last_bound_has_no_time() {
        let text = TEXT.replace("le=\"+Inf\"} 100", "le=\"+Inf\"} 200");
        let spread = Buckets::parse(&text, "a_seconds").unwrap().spread();
        assert_eq!((spread.p99_ms, spread.p99_at_most_ms), (None, None));
        near(spread.p50_ms, 100.0);
    }
}
