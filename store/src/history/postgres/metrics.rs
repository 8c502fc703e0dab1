//! What the history in PostgreSQL counts and measures.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::PostgresHistoryOptions;
use super::commit::{Arranged, Group, weight};
use crate::history::keep::keep;
use crate::metrics as names;

#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub rows: IntCounter,
    pub deduplicated: IntCounter,
    pub expired: IntCounter,
    pub blocked: IntCounter,
    pub series: IntGauge,
    copied_rows: IntCounterVec,
    copied_bytes: IntCounter,
    commits: IntCounter,
    commit_seconds: Histogram,
    pub retries: IntCounter,
    pub conflicts: IntCounter,
    pub fenced: IntCounter,
    in_flight_batches: IntGauge,
    in_flight_rows: IntGauge,
    pub spans: IntGauge,
    pub questions: IntGauge,
    pub query_seconds: HistogramVec,
}

impl Metrics {
    /// Makes them known to `registry`; a name that is taken is left as it is.
    pub fn new(registry: &Registry, options: &PostgresHistoryOptions) -> Self {
        let counter = |name, help| keep(registry, IntCounter::new(name, help));
        let gauge = |name, help| keep(registry, IntGauge::new(name, help));
        let seconds = |name: &str, help: &str| {
            let buckets = prometheus::exponential_buckets(0.001, 2.0, 17);
            HistogramOpts::new(name, help).buckets(buckets.expect("the numbers are right"))
        };
        let limit = |name, help, value: usize| {
            gauge(name, help).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        let in_flight = options.group_rows.saturating_mul(options.write_connections.max(1));
        limit(names::HISTORY_IN_FLIGHT_LIMIT_ROWS, "Rows that may be on their way", in_flight);
        limit(names::HISTORY_BATCH_LIMIT_ROWS, "Rows gathered at most", options.batch_rows);
        limit(names::HISTORY_SPANS_LIMIT, "Spans of time that may be there", options.max_spans);
        limit(
            names::HISTORY_QUESTIONS_LIMIT,
            "Questions that may be asked at the same time",
            options.read_connections,
        );
        Self {
            rows: counter(names::HISTORY_ROWS, "Readings written"),
            deduplicated: counter(names::HISTORY_DEDUPLICATED, "Readings that replaced another"),
            expired: counter(names::HISTORY_EXPIRED, "Readings removed by retention"),
            blocked: counter(names::HISTORY_BLOCKED, "Writes that waited for a commit"),
            series: gauge(names::HISTORY_SERIES, "Series: pairs of device and key"),
            copied_rows: keep(
                registry,
                IntCounterVec::new(
                    Opts::new(names::HISTORY_COPIED_ROWS, "Rows brought into PostgreSQL, by way"),
                    &["way"],
                ),
            ),
            copied_bytes: counter(names::HISTORY_COPIED_BYTES, "Bytes of these rows"),
            commits: counter(names::HISTORY_COMMITS, "Transactions of readings"),
            commit_seconds: keep(
                registry,
                Histogram::with_opts(seconds(names::HISTORY_COMMIT_SECONDS, "Time of one")),
            ),
            retries: counter(names::HISTORY_RETRIES, "Failed attempts at them"),
            conflicts: counter(names::HISTORY_CONFLICTS, "Those that met what was there already"),
            fenced: counter(names::HISTORY_FENCED, "Writers ended by another's claim"),
            in_flight_batches: gauge(names::HISTORY_IN_FLIGHT_BATCHES, "Batches on their way"),
            in_flight_rows: gauge(names::HISTORY_IN_FLIGHT_ROWS, "Rows on their way"),
            spans: gauge(names::HISTORY_SPANS, "Spans of time"),
            questions: gauge(names::HISTORY_QUESTIONS, "Questions being answered"),
            query_seconds: keep(
                registry,
                HistogramVec::new(
                    seconds(names::HISTORY_QUERY_SECONDS, "Time of a query, by kind"),
                    &["kind"],
                ),
            ),
        }
    }

    /// Notes that a group is on its way; gives what [`Metrics::landed`] takes.
    pub fn started(&self, group: &Group) -> (i64, i64) {
        let (batches, rows) = weight(group);
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let weight = (number(batches), number(rows));
        self.in_flight_batches.add(weight.0);
        self.in_flight_rows.add(weight.1);
        weight
    }

    pub fn landed(&self, (batches, rows): (i64, i64)) {
        self.in_flight_batches.sub(batches);
        self.in_flight_rows.sub(rows);
    }

    pub fn committed(&self, arranged: &Arranged, took: Duration) {
        let ways =
            [("copy", &arranged.fresh), ("replace", &arranged.replacing), ("odd", &arranged.odd)];
        for (way, copy) in ways {
            self.copied_rows.with_label_values(&[way]).inc_by(copy.rows());
            self.copied_bytes.inc_by(copy.bytes());
        }
        self.deduplicated.inc_by(arranged.deduplicated);
        self.commits.inc();
        self.commit_seconds.observe(took.as_secs_f64());
    }
}
