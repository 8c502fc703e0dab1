//! The notifier's metrics; their names are stable. None bears a label by
//! recipient or tenant.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use schema::Channel;
use store::alarms::Waiting;

/// Notices by what was decided (`told`, `held`, `dropped`) and why.
const DECIDED: &str = "baken_notices_decided_total";
/// Messages that were handed over, by channel and what came of it.
const HANDED: &str = "baken_messages_handed_total";
/// From when a message was written to the provider's word that it has it.
const HAND_OVER_SECONDS: &str = "baken_message_hand_over_seconds";
/// Notices that wait, by channel.
const NOTICES_WAITING: &str = "baken_notices_waiting";
/// Messages that no provider has taken yet, by channel.
const MESSAGES_WAITING: &str = "baken_messages_waiting";
/// The age of the oldest of them, by channel.
const OLDEST_SECONDS: &str = "baken_messages_oldest_seconds";
/// 1 while the provider of a channel takes nothing.
const PROVIDER_DOWN: &str = "baken_message_provider_down";
/// Hand-overs under way, by channel, and how many there may be.
const HAND_OVERS: &str = "baken_message_hand_overs";
const HAND_OVERS_LIMIT: &str = "baken_message_hand_overs_limit";
/// Messages that a former process left on its way, by channel or outcome.
const INTERRUPTED: &str = "baken_messages_interrupted_total";
/// A tenant's own templates that failed when they were used.
const TEMPLATE_FAILED: &str = "baken_message_templates_failed_total";
/// Delivery reports by what became of them.
const REPORTS: &str = "baken_message_reports_total";

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    decided: IntCounterVec,
    handed: IntCounterVec,
    pub hand_over_seconds: Histogram,
    notices_waiting: IntGaugeVec,
    messages_waiting: IntGaugeVec,
    oldest_seconds: IntGaugeVec,
    provider_down: IntGaugeVec,
    hand_overs: IntGaugeVec,
    hand_overs_limit: IntGaugeVec,
    pub interrupted: IntCounterVec,
    pub template_failed: IntCounter,
    pub reports: IntCounterVec,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauges = |name: &str, help: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &["channel"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let template_failed =
            IntCounter::new(TEMPLATE_FAILED, "A tenant's templates that failed when used.")?;
        registry.register(Box::new(template_failed.clone()))?;
        let buckets = vec![0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0, 300.0, 3_600.0];
        let hand_over_seconds = Histogram::with_opts(
            HistogramOpts::new(
                HAND_OVER_SECONDS,
                "From when a message was written to the provider's word that it has it.",
            )
            .buckets(buckets),
        )?;
        registry.register(Box::new(hand_over_seconds.clone()))?;
        let metrics = Self {
            decided: counters(DECIDED, "Decisions on notices.", &["decision", "reason"])?,
            handed: counters(HANDED, "Messages that were handed over.", &["channel", "outcome"])?,
            hand_over_seconds,
            notices_waiting: gauges(NOTICES_WAITING, "Notices that wait.")?,
            messages_waiting: gauges(MESSAGES_WAITING, "Messages that no provider has yet.")?,
            oldest_seconds: gauges(OLDEST_SECONDS, "Age of the oldest message that waits.")?,
            provider_down: gauges(PROVIDER_DOWN, "1 while a channel's provider takes nothing.")?,
            hand_overs: gauges(HAND_OVERS, "Hand-overs under way.")?,
            hand_overs_limit: gauges(HAND_OVERS_LIMIT, "Hand-overs that may be under way.")?,
            interrupted: counters(
                INTERRUPTED,
                "Messages that a former process left on their way.",
                &["outcome"],
            )?,
            template_failed,
            reports: counters(REPORTS, "Delivery reports of providers.", &["outcome"])?,
        };
        Ok(metrics)
    }

    pub fn decided(&self, decision: &str, reason: &str) {
        self.decided.with_label_values(&[decision, reason]).inc();
    }

    pub fn handed(&self, channel: Channel, outcome: &str) {
        self.handed.with_label_values(&[channel.as_str(), outcome]).inc();
    }

    pub fn waiting(&self, waiting: &[Waiting], now_ms: i64) {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for one in waiting {
            let label = [one.channel.as_str()];
            self.notices_waiting.with_label_values(&label).set(whole(one.notices));
            self.messages_waiting.with_label_values(&label).set(whole(one.messages));
            let age = one.oldest.map_or(0, |oldest| now_ms.saturating_sub(oldest.0) / 1_000);
            self.oldest_seconds.with_label_values(&label).set(age.max(0));
        }
    }

    pub fn provider_down(&self, channel: Channel, is_down: bool) {
        self.provider_down.with_label_values(&[channel.as_str()]).set(i64::from(is_down));
    }

    pub fn hand_overs(&self, channel: Channel) -> IntGauge {
        self.hand_overs.with_label_values(&[channel.as_str()])
    }

    pub fn limit_hand_overs(&self, channel: Channel, limit: usize) {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.hand_overs_limit.with_label_values(&[channel.as_str()]).set(limit);
    }
}
