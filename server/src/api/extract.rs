//! axum's extractors with our errors: a body, query or path that cannot be read
//! is answered as a [`Problem`] which names the field.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::problem::Problem;

/// A JSON body, in and out.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match axum::Json::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Self(body)),
            Err(JsonRejection::JsonDataError(error)) => {
                Err(named(std::error::Error::source(&error), &error.body_text()))
            }
            Err(other) => Err(Problem::of_status(other.status(), other.body_text())),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// A query string. Give `T` `#[serde(deny_unknown_fields)]`.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                Err(named(std::error::Error::source(&error), &error.body_text()))
            }
            Err(other) => Err(Problem::bad_request(other.body_text())),
        }
    }
}

/// Parts of the path. An id that is no number is no id of ours: 404.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(Problem::of_status(StatusCode::NOT_FOUND, error.body_text()))
            }
            Err(other) => Err(Problem::of_status(other.status(), other.body_text())),
        }
    }
}

/// The problem of a value that serde refused, with the path to it where known.
fn named(source: Option<&(dyn std::error::Error + 'static)>, text: &str) -> Problem {
    use serde_path_to_error::Error as At;
    let mut cause = source;
    while let Some(error) = cause {
        let known = match error.downcast_ref::<At<serde_json::Error>>() {
            Some(at) => Some((at.path().to_string(), at.inner().to_string())),
            None => error
                .downcast_ref::<At<serde::de::value::Error>>()
                .map(|at| (at.path().to_string(), at.inner().to_string())),
        };
        match known {
            Some((path, detail)) if path != "." => return Problem::invalid(path, detail),
            Some((_, detail)) => {
                return Problem::of_status(StatusCode::UNPROCESSABLE_ENTITY, detail);
            }
            None => cause = error.source(),
        }
    }
    Problem::of_status(StatusCode::UNPROCESSABLE_ENTITY, text)
}

/// The version in `If-Match`, as [`etag`] wrote it; `*` and no header set none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfMatch(pub Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let version = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match version.unwrap_or(text).parse() {
            Ok(version) => Ok(Self(Some(version))),
            Err(_) => Err(Problem::bad_request(format!(
                "If-Match must be the version as ETag gave it, such as \"3\", and is {text:?}."
            ))),
        }
    }
}

/// The `ETag` header of a document at `version`; put it before the body in the
/// answer's tuple: `(etag(3), Json(body))`.
#[must_use]
pub fn etag(version: u64) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::try_from(format!("\"{version}\"")).expect("digits are a header value");
    [(header::ETAG, value)]
}

/// Tells `null` from what is not given: for a field that `null` empties.
pub fn given<'de, D, T>(value: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(value).map(Some)
}
