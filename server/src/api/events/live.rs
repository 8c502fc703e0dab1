//! Events as they happen, as server-sent events. A stream reads the table, so
//! that a client which comes back with `Last-Event-ID` gets each event once;
//! what wakes it is only a number. It ends with its token, with the node, and
//! with a client that takes nothing.

use std::fmt::Write as _;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schema::{LocationId, Severity, TenantId};
use serde::Deserialize;
use store::AlarmStore;
use store::alarms::EventQuery;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use utoipa::IntoParams;

use super::{EventShown, kinds};
use crate::api::auth::Access;
use crate::api::extract::Query;
use crate::api::outflow::{Outflow, Unsent, outflow};
use crate::api::problem::{ApiResult, Problem};
use crate::api::several::Several;
use crate::api::state::AppState;
use crate::api::streams::StreamPlace;

/// Events that are read at once; with their bodies they are what a slow client
/// costs.
const PAGE: usize = 100;

/// How often a stream that is sent no events says that it is there, however
/// many there are that it leaves out.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The least time between two looks at the table; what happens in between is
/// found by the next one.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What a stream does by the clock.
#[derive(Clone, Copy, Debug)]
struct Pace {
    heartbeat: Duration,
    look_pause: Duration,
}

const PACE: Pace = Pace { heartbeat: HEARTBEAT, look_pause: LOOK_PAUSE };

/// What a client is told to wait before it comes back.
const RETRY_MS: u32 = 2_000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Which events a stream holds.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    tenant: Option<u64>,
    location: Option<u64>,
    /// One kind, such as `alarm_raised`, or several with commas between them.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    kinds: Several<String>,
    /// This severity or a worse one: events of alarms only.
    #[param(value_type = Option<String>)]
    severity_from: Option<Severity>,
    /// Begin behind this event, where the header `Last-Event-ID` says nothing.
    after: Option<u64>,
}

/// Events as they happen (`text/event-stream`): the data of each is an event as
/// the list shows it, its id the place in the order of all events. With
/// `Last-Event-ID` it goes on behind that event, else it begins now.
#[utoipa::path(
    get,
    operation_id = "stream_events",
    path = "/events/stream",
    tag = "events",
    params(Filter, ("Last-Event-ID" = Option<u64>, Header)),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "The tenant has 50 streams"),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The server has 500 streams, or stops"),
    )
)]
pub(super) async fn stream(
    State(state): State<AppState>,
    access: Access,
    headers: HeaderMap,
    Query(filter): Query<Filter>,
) -> ApiResult<Response> {
    let query = EventQuery {
        tenant: access.filter(filter.tenant.map(TenantId))?,
        location: filter.location.map(LocationId),
        kinds: kinds(filter.kinds).map_err(|problem| problem.with_field("kinds"))?,
        severity_from: filter.severity_from,
        oldest_first: true,
        limit: PAGE,
        ..EventQuery::default()
    };
    let latest = state.store.alarms().latest_event();
    let newest = *latest.borrow();
    let last = match headers.get(LAST_EVENT_ID) {
        None => filter.after.unwrap_or(newest),
        Some(value) => {
            value.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
                Problem::invalid("Last-Event-ID", "It must be the id of an event, a whole number.")
            })?
        }
    };
    let place = state.streams.enter(access.tenant())?;
    let ended = state.streams.ended(state.store.directory(), access.token_id());
    let (out, body) = outflow(state.write_stall);
    let follower = Follower {
        store: state.store.alarms().clone(),
        query,
        // A place that there is not yet is another database's.
        last: last.min(newest),
        latest,
        out,
        pace: PACE,
        sent_at: Instant::now(),
        _place: place,
    };
    tokio::spawn(follower.run(ended));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

struct Follower {
    store: AlarmStore,
    query: EventQuery,
    /// All events up to this one are sent, or left out by the query.
    last: u64,
    latest: watch::Receiver<u64>,
    out: Outflow,
    pace: Pace,
    /// When something was sent last.
    sent_at: Instant,
    _place: StreamPlace,
}

impl Follower {
    async fn run(mut self, ended: impl Future<Output = ()> + Send) {
        let mut ended = pin!(ended);
        let hello = format!("retry: {RETRY_MS}\n\n");
        let mut sent = self.send(hello.into(), ended.as_mut()).await;
        while sent.is_ok() {
            let next_look = Instant::now() + self.pace.look_pause;
            sent = self.catch_up(ended.as_mut()).await;
            if sent.is_err() {
                break;
            }
            let latest = &mut self.latest;
            let awakened = async {
                sleep_until(next_look).await;
                latest.changed().await.is_ok()
            };
            tokio::select! {
                // In this order, so that no flood of events keeps one from its turn.
                biased;
                () = ended.as_mut() => break,
                () = self.out.gone() => break,
                () = sleep_until(self.sent_at + self.pace.heartbeat) => {
                    sent = self.send(Bytes::from_static(b": here\n\n"), ended.as_mut()).await;
                }
                is_open = awakened => if !is_open { break },
            }
        }
        // A stream has no end that a client could wait for.
        self.out.finish();
    }

    /// Sends what has come since, up to now.
    async fn catch_up(
        &mut self,
        mut ended: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<(), Unsent> {
        let newest = *self.latest.borrow_and_update();
        while self.last < newest {
            let (after, up_to) = (Some(self.last), Some(newest));
            let query = EventQuery { after, up_to, ..self.query.clone() };
            let page = match self.store.events(query).await {
                Ok(page) => page,
                Err(error) => {
                    // The client comes back and is given what it missed.
                    tracing::warn!(%error, "a stream of events was broken off");
                    return Err(Unsent::Gone);
                }
            };
            let next = match page.last() {
                Some(last) if page.len() == PAGE => last.sequence,
                _ => newest,
            };
            if !page.is_empty() {
                let piece = page.into_iter().map(EventShown::of).map(|event| piece(&event));
                self.send(piece.collect::<String>().into(), ended.as_mut()).await?;
            }
            self.last = next;
        }
        Ok(())
    }

    async fn send(
        &mut self,
        piece: Bytes,
        ended: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<(), Unsent> {
        tokio::select! {
            // A token that is revoked gets nothing more.
            biased;
            () = ended => Err(Unsent::Gone),
            sent = self.out.send(piece) => {
                self.sent_at = Instant::now();
                sent
            }
        }
    }
}

fn piece(event: &EventShown) -> String {
    // JSON has no line breaks outside of its texts, and escapes those inside.
    let data = serde_json::to_string(event).expect("an event is text keys and plain values");
    let mut text = String::with_capacity(data.len() + 32);
    write!(text, "id: {}\ndata: {data}\n\n", event.sequence).expect("a string takes all");
    text
}

#[cfg(test)]
mod tests;
