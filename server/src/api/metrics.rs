//! The API's own figures: requests by route template, method and status class,
//! never by document.

use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// Requests answered, by route template, method and status class.
pub const REQUESTS_TOTAL: &str = "baken_api_requests_total";
/// How long an answer took until its head was ready, by route template.
pub const REQUEST_SECONDS: &str = "baken_api_request_duration_seconds";
/// Requests being answered.
pub const REQUESTS_ACTIVE: &str = "baken_api_requests_active_count";
/// Requests refused before their handler, by reason.
pub const REFUSED_TOTAL: &str = "baken_api_refused_total";
/// Live streams of events.
pub const STREAMS: &str = "baken_api_event_streams";
/// How many there may be.
pub const STREAMS_LIMIT: &str = "baken_api_event_streams_limit";
/// Live streams refused for their limit.
pub const STREAMS_REFUSED_TOTAL: &str = "baken_api_event_streams_refused_total";
/// Exports of events as CSV.
pub const EXPORTS: &str = "baken_api_event_exports";
/// How many there may be.
pub const EXPORTS_LIMIT: &str = "baken_api_event_exports_limit";
/// Exports refused for their limit.
pub const EXPORTS_REFUSED_TOTAL: &str = "baken_api_event_exports_refused_total";
/// Requests for long work that run or wait for their turn, by `work`.
pub const TURNS: &str = "baken_api_turns_requests";
/// How many there may be, by `work`.
pub const TURNS_LIMIT: &str = "baken_api_turns_limit_requests";
/// Requests refused because as many wait as may, by `work`.
pub const TURNS_REFUSED_TOTAL: &str = "baken_api_turns_refused_total";
/// Logins and refusals seen, by `kind`, whether or not they became an event of
/// their own.
pub const SIGHTINGS_TOTAL: &str = "baken_audit_sightings_total";
/// Those that only a number tells of, by `kind`.
pub const UNLISTED_TOTAL: &str = "baken_audit_unlisted_total";

pub(super) const REASON_UNAUTHORIZED: &str = "unauthorized";
pub(super) const REASON_FORBIDDEN: &str = "forbidden";
pub(super) const REASON_OVERLOADED: &str = "overloaded";
pub(super) const REASON_TIMEOUT: &str = "timeout";
pub(super) const REASON_PANIC: &str = "panic";

/// The API's metrics.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    refused: IntCounterVec,
    pub(super) active: IntGauge,
}

impl ApiMetrics {
    /// Makes and registers them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(REQUESTS_TOTAL, "HTTP requests answered"),
            &["route", "method", "status"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(REQUEST_SECONDS, "Seconds until the head of an answer was ready")
                .buckets(vec![0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0]),
            &["route"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new(REFUSED_TOTAL, "HTTP requests refused before their handler"),
            &["reason"],
        )?;
        let active = IntGauge::new(REQUESTS_ACTIVE, "HTTP requests being answered")?;
        let all: [Box<dyn Collector>; 4] = [
            Box::new(requests.clone()),
            Box::new(seconds.clone()),
            Box::new(refused.clone()),
            Box::new(active.clone()),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        for reason in
            [REASON_UNAUTHORIZED, REASON_FORBIDDEN, REASON_OVERLOADED, REASON_TIMEOUT, REASON_PANIC]
        {
            refused.with_label_values(&[reason]).inc_by(0);
        }
        Ok(Self { requests, seconds, refused, active })
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(super) fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[route, method, class]).inc();
        self.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}
