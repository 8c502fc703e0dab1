//! What is counted of a journal in Kafka; the gauges are those of every journal.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, Registry, exponential_buckets};

use crate::metrics::{APPENDS, BYTES, RECORDS, ROWS};

const ACK_SECONDS: &str = "baken_journal_acknowledge_seconds";
const INTERRUPTED: &str = "baken_journal_interrupted_total";
const FETCHED: &str = "baken_journal_fetched_records_total";
const CATCH_UPS: &str = "baken_journal_catch_ups_total";
const READ_WAITS: &str = "baken_journal_read_waits_total";

#[derive(Debug)]
pub(super) struct Counts {
    pub appends: IntCounter,
    records: IntCounter,
    rows: IntCounter,
    bytes: IntCounter,
    ack_seconds: Histogram,
    pub interrupted: IntCounter,
    pub fetched: IntCounter,
    pub catch_ups: IntCounter,
    pub read_waits: IntCounter,
}

impl Counts {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let buckets = exponential_buckets(0.000_5, 2.0, 16)?;
        let help = "From a record's submission to the brokers' acknowledgement";
        let ack_seconds =
            Histogram::with_opts(HistogramOpts::new(ACK_SECONDS, help).buckets(buckets))?;
        registry.register(Box::new(ack_seconds.clone()))?;
        Ok(Self {
            appends: counter(APPENDS, "Records taken into the queue")?,
            records: counter(RECORDS, "Records made durable")?,
            rows: counter(ROWS, "Rows of the records made durable")?,
            bytes: counter(BYTES, "Bytes of the records made durable")?,
            ack_seconds,
            interrupted: counter(
                INTERRUPTED,
                "Records of which the brokers have not said whether they are durable",
            )?,
            fetched: counter(FETCHED, "Records fetched for readers that keep up")?,
            catch_ups: counter(CATCH_UPS, "Times that a reader that was behind began to catch up")?,
            read_waits: counter(
                READ_WAITS,
                "Times that a reader that is behind got no answer from the brokers in time",
            )?,
        })
    }

    pub fn acknowledged(&self, rows: u32, bytes: usize, took: Duration) {
        self.records.inc();
        self.rows.inc_by(u64::from(rows));
        self.bytes.inc_by(bytes as u64);
        self.ack_seconds.observe(took.as_secs_f64());
    }
}
