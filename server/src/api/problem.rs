//! What the API answers when it cannot do as asked: `application/problem+json`
//! (RFC 9457). Every error of every module becomes one of these, here and
//! nowhere else is a status chosen from a kind of trouble.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of an error body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error body. `type` is stable and meant for programs, `detail` for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of trouble: `urn:baken:problem:` and a stable word.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of trouble in a few words, the same at each occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time, and what to do about it.
    pub detail: String,
    /// The field or query parameter that is wrong, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds after which trying again has a chance; also sent as `Retry-After`.
    #[serde(skip)]
    pub retry_after_s: Option<u32>,
}

/// What a handler gives back.
pub type ApiResult<T> = Result<T, Problem>;

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:baken:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            retry_after_s: None,
        }
    }

    /// 400: the request cannot be read at all.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be read", detail)
    }

    /// 422: a field or query parameter has a value that is not allowed.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            "A value is not allowed",
            detail,
        );
        problem.field = Some(field.into());
        problem
    }

    /// 401: no token, or one that is not known.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed", detail)
    }

    /// 403: the token is known and may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow this", detail)
    }

    /// 404: `what` with this id is not there, or not in the token's sight.
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        let detail = format!("There is no {what} {id}.");
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 409: it clashes with what there is, such as a name that is taken.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "It clashes with what there is", detail)
    }

    /// 412: the document has changed since the version in `If-Match`.
    pub fn version_mismatch(expected: u64, actual: u64) -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "version-mismatch",
            "It has been changed meanwhile",
            format!(
                "If-Match names version {expected}, but it is at version {actual}: read it again."
            ),
        )
    }

    /// 429: too much of it; a later try may be taken.
    pub fn too_many(detail: impl Into<String>, retry_after_s: u32) -> Self {
        let mut problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", detail);
        problem.retry_after_s = Some(retry_after_s);
        problem
    }

    /// 503: it cannot be done now; the same request may be taken later.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let mut problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not possible now", detail);
        problem.retry_after_s = Some(1);
        problem
    }

    /// 504: the other side, a router for instance, did not answer in time.
    pub fn timed_out(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timed-out", "No answer in time", detail)
    }

    /// 406: none of the media types in `Accept` can be made.
    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "No such representation", detail)
    }

    /// 500: a fault of ours. The cause goes to the log and not to the client,
    /// because it may name files or statements.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = cause.to_string();
        let mut source = cause.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        tracing::error!(error = text, "a request failed by a fault of the server");
        Self::internal_hidden()
    }

    /// 500 for which the cause has been logged already.
    pub(crate) fn internal_hidden() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            "The request could not be completed; the server's log says why.",
        )
    }

    /// An error that the framework found (method, size, media type).
    pub(crate) fn of_status(status: StatusCode, detail: impl Into<String>) -> Self {
        match status {
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(status, "method-not-allowed", "The path knows no such method", detail)
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, "too-large", "The request is too large", detail)
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(status, "unsupported-media-type", "The body must be JSON", detail)
            }
            StatusCode::UNPROCESSABLE_ENTITY => {
                Self::new(status, "invalid", "A value is not allowed", detail)
            }
            StatusCode::NOT_FOUND => Self::new(status, "not-found", "Not found", detail),
            StatusCode::REQUEST_TIMEOUT => {
                Self::new(status, "request-timeout", "The request took too long", detail)
            }
            _ => Self::new(status, "bad-request", "The request cannot be read", detail),
        }
    }

    /// The status as axum knows it.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The same problem, naming the field that is wrong.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}: {field}: {}", self.title, self.detail),
            None => write!(f, "{}: {}", self.title, self.detail),
        }
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("strings and numbers always become JSON");
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_problem_json_with_the_field_named() {
        let problem = Problem::invalid("limit", "Must be 1 to 1000, and is 0.");
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"urn:baken:problem:invalid","title":"A value is not allowed","status":422,"detail":"Must be 1 to 1000, and is 0.","field":"limit"}"#
        );
        let response = Problem::unauthorized("No.").into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
