//! Where SMS providers report what became of messages. No token opens it: each
//! report is believed by its signature, which the provider's part checks.

use std::net::IpAddr;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use notifier::sms::{CallbackError, CallbackRequest, DeliveryStatus, Reported};
use schema::{Channel, MessageId};
use store::alarms::{MessageState, Report, ReportedMessage};

use super::peer::Peer;
use super::problem::Problem;
use super::state::AppState;
use crate::clock::now;

/// The routes of this module, beside `/api/v1`.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/callbacks/sms/{provider}", get(of_all).post(of_all))
        .route("/callbacks/sms/{provider}/{message}", get(of_one).post(of_one))
}

async fn of_all(
    State(state): State<AppState>,
    Peer(from): Peer,
    Path(provider): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    report(&state, from, &provider, None, &uri, &headers, body).await
}

async fn of_one(
    State(state): State<AppState>,
    Peer(from): Peer,
    Path((provider, message)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(message) = message.parse() else {
        return Problem::not_found("message", message).into_response();
    };
    report(&state, from, &provider, Some(message), &uri, &headers, body).await
}

async fn report(
    state: &AppState,
    from: IpAddr,
    provider: &str,
    message: Option<MessageId>,
    uri: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let configured = state.notifier.providers().sms.as_ref();
    let Some(sms) = configured.filter(|sms| sms.name() == provider) else {
        return Problem::not_found("SMS provider", provider).into_response();
    };
    let headers = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let path = uri.path_and_query().map_or(uri.path(), |whole| whole.as_str());
    let request = CallbackRequest {
        url: format!("{}{path}", state.public_url.trim_end_matches('/')),
        message,
        headers: headers.collect(),
        body: body.to_vec(),
    };
    let reports = match sms.report(&request) {
        Ok(reports) => reports,
        Err(error @ CallbackError::Malformed(_)) => {
            return Problem::bad_request(format!("{error}.")).into_response();
        }
        Err(error @ (CallbackError::Signature | CallbackError::NotSetUp)) => {
            return match state.failures.note(from, Instant::now()) {
                Some(wait_s) => Problem::too_many("Too many wrong signatures.", wait_s),
                None => Problem::forbidden(format!("{error}.")),
            }
            .into_response();
        }
    };
    for report in reports {
        let state_of = match report.status {
            DeliveryStatus::Queued | DeliveryStatus::Sent => MessageState::Sent,
            DeliveryStatus::Delivered => MessageState::Delivered,
            DeliveryStatus::Undelivered | DeliveryStatus::Failed => MessageState::Failed,
            DeliveryStatus::Unknown => continue,
        };
        let named = match report.message {
            Reported::Message(id) => ReportedMessage::Id(id),
            Reported::Reference(name) => ReportedMessage::Reference(Channel::Sms, name),
        };
        let (at, answer) = (now(), report.answer);
        let written = Report { message: named, at, state: state_of, answer };
        if let Err(error) = state.notifier.report(written).await {
            tracing::warn!(%error, "a delivery report can't be written; the provider tries again");
            return Problem::unavailable("The report can't be written now.").into_response();
        }
    }
    StatusCode::NO_CONTENT.into_response()
}
