//! The publisher's metrics; their names are stable.

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

/// Transitions that are in the topic for others.
const PUBLISHED: &str = "baken_transitions_published_total";
/// Transitions of this node's partitions that are durable and not in the topic, as
/// far as they are counted.
const BEHIND: &str = "baken_transitions_behind";
/// For how long the oldest of them has waited, since this node could know of it; 0
/// when all are in the topic. It rises too while nobody says what the topic has.
const OLDEST: &str = "baken_transitions_oldest_unpublished_seconds";
/// Times that the brokers or the store did not do what was asked of them.
const RETRIES: &str = "baken_transitions_retries_total";

#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub published: IntCounter,
    pub behind: IntGauge,
    pub oldest: Gauge,
    pub retries: IntCounter,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            published: IntCounter::new(PUBLISHED, "Transitions published for others.")?,
            behind: IntGauge::new(BEHIND, "Durable transitions that are not published.")?,
            oldest: Gauge::new(OLDEST, "How long the oldest of them has waited.")?,
            retries: IntCounter::new(RETRIES, "Times that publishing had to be tried again.")?,
        };
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.behind.clone()))?;
        registry.register(Box::new(metrics.oldest.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        Ok(metrics)
    }
}
