//! Whether the node lives and whether it is ready for traffic, with the reasons
//! why not, in words for the person who is on duty.
//!
//! It only looks; it never repairs or restarts anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use alarms::AlarmWorkers;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ingest::recorder::{PartitionStatus, Recorder};
use journal::{Journal, Writing};
use prometheus::{Encoder as _, TextEncoder};
use schema::TimestampMs;
use serde::Serialize;

use crate::api::{Access, AppState, Problem};

/// Looks at the parts of the node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    journal: Journal,
    recorder: Arc<Recorder>,
    alarms: Arc<AlarmWorkers>,
    phase: Arc<AtomicU8>,
    limits: HealthLimits,
}

/// How far behind the journal its readers may be before the node isn't ready.
#[derive(Clone, Copy, Debug)]
pub struct HealthLimits {
    pub max_recorder_lag_records: u64,
    pub max_alarms_lag_records: u64,
}

/// Where the node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Starting = 0,
    Serving = 1,
    Stopping = 2,
}

/// Why the node isn't ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Stable, for programs: `starting`, `stopping`, `journal_stalled`,
    /// `journal_closed`, `partition_stopped`, `recorder_stopped`, `recorder_lag`,
    /// `alarms_stopped`, `alarms_lag`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

#[derive(Debug, Serialize)]
struct Report {
    status: &'static str,
    reasons: Vec<Reason>,
}

impl Health {
    #[must_use]
    pub fn new(
        journal: Journal,
        recorder: Arc<Recorder>,
        alarms: Arc<AlarmWorkers>,
        limits: HealthLimits,
    ) -> Self {
        let phase = Arc::new(AtomicU8::new(Phase::Starting as u8));
        Self { journal, recorder, alarms, phase, limits }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// All that keeps the node from being ready; empty if it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        match self.phase.load(Ordering::Acquire) {
            0 => reasons
                .push(Reason { code: "starting", detail: "The node is starting.".to_owned() }),
            2 => reasons
                .push(Reason { code: "stopping", detail: "The node is stopping.".to_owned() }),
            _ => {}
        }
        self.look_at_journal(&mut reasons);
        self.look_at_recorder(&mut reasons);
        self.look_at_alarms(&mut reasons);
        reasons
    }

    fn look_at_journal(&self, reasons: &mut Vec<Reason>) {
        let status = self.journal.status();
        match status.writing {
            Writing::Writable => {}
            Writing::Stalled { reason, since } => reasons.push(Reason {
                code: "journal_stalled",
                detail: format!(
                    "No reading becomes durable since {}: {reason}. Publishers wait; nothing is lost.",
                    text_of(since)
                ),
            }),
            Writing::Closed => reasons.push(Reason {
                code: "journal_closed",
                detail: "The journal is closed.".to_owned(),
            }),
        }
        for partition in status.partitions {
            if let Some(why) = partition.stopped {
                reasons.push(Reason {
                    code: "partition_stopped",
                    detail: format!("Partition {} is stopped: {why}", partition.partition),
                });
            }
        }
    }

    fn look_at_recorder(&self, reasons: &mut Vec<Reason>) {
        for PartitionStatus { partition, position, behind, stopped } in self.recorder.status() {
            if let Some(why) = stopped {
                reasons.push(Reason {
                    code: "recorder_stopped",
                    detail: format!("Partition {partition} is recorded no further: {why}"),
                });
            } else if behind > self.limits.max_recorder_lag_records {
                reasons.push(Reason {
                    code: "recorder_lag",
                    detail: format!(
                        "The history of partition {partition} is {behind} records behind the \
                         journal (at {position}); up to {} is taken as ready.",
                        self.limits.max_recorder_lag_records
                    ),
                });
            }
        }
    }

    fn look_at_alarms(&self, reasons: &mut Vec<Reason>) {
        for status in self.alarms.status() {
            let alarms::PartitionStatus { partition, position, behind, stopped } = status;
            if let Some(why) = stopped {
                reasons.push(Reason {
                    code: "alarms_stopped",
                    detail: format!("Partition {partition} raises no alarms any more: {why}"),
                });
            } else if behind > self.limits.max_alarms_lag_records {
                reasons.push(Reason {
                    code: "alarms_lag",
                    detail: format!(
                        "The alarms of partition {partition} are {behind} records behind the \
                         journal (at {position}); up to {} is taken as ready.",
                        self.limits.max_alarms_lag_records
                    ),
                });
            }
        }
    }
}

fn text_of(time: TimestampMs) -> String {
    jiff::Timestamp::from_millisecond(time.0)
        .map_or_else(|_| time.to_string(), |time| format!("{time:.0}"))
}

/// `GET /health/live`: 200 as long as the process answers at all.
pub async fn live() -> Response {
    axum::Json(Report { status: "live", reasons: Vec::new() }).into_response()
}

/// `GET /health/ready`: 200, or 503 with the reasons.
pub async fn ready(State(state): State<AppState>) -> Response {
    let reasons = state.health.reasons();
    if reasons.is_empty() {
        return axum::Json(Report { status: "ready", reasons }).into_response();
    }
    let report = Report { status: "not ready", reasons };
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(report)).into_response()
}

/// `GET /metrics` in Prometheus' text format.
pub async fn metrics(State(state): State<AppState>) -> Response {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    if let Err(error) = encoder.encode(&state.registry.gather(), &mut text) {
        return Problem::internal(&error).into_response();
    }
    let kind = HeaderValue::try_from(encoder.format_type()).expect("the format is a header value");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// `GET /metrics` for who has a token of the whole installation.
pub async fn metrics_with_token(access: Access, state: State<AppState>) -> Response {
    match access.require_installation() {
        Ok(()) => metrics(state).await,
        Err(problem) => problem.into_response(),
    }
}
