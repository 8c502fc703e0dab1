//! Which media type the client wants.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::api::problem::Problem;

/// The media types of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    Csv,
    Arrow,
}

/// The media type picked by `Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted(pub Media);

impl Media {
    /// The name in `Content-Type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    fn of(range: &str) -> Option<Self> {
        match range.to_ascii_lowercase().as_str() {
            "*/*" | "application/*" | "application/json" => Some(Self::Json),
            "text/*" | "text/csv" => Some(Self::Csv),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            _ => None,
        }
    }

    /// The one that `Accept` asks for; JSON where it is not there.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut accept = String::new();
        for value in headers.get_all(header::ACCEPT) {
            accept.push_str(value.to_str().unwrap_or_default());
            accept.push(',');
        }
        if accept.is_empty() { Some(Self::Json) } else { Self::pick(&accept) }
    }

    /// The one that the client likes best; of equal ones the first.
    fn pick(accept: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(media) = parts.next().and_then(Self::of) else { continue };
            let weight = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            if weight > 0.0 && best.is_none_or(|(most, _)| weight > most) {
                best = Some((weight, media));
            }
        }
        best.map(|(_, media)| media)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Accepted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Media::accepted(&parts.headers).map(Self).ok_or_else(|| {
            Problem::not_acceptable(
                "Readings come as application/json, text/csv or \
                 application/vnd.apache.arrow.stream.",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_known_type_is_picked() {
        for (accept, picked) in [
            ("*/*", Some(Media::Json)),
            ("text/html, application/xhtml+xml, */*;q=0.8", Some(Media::Json)),
            ("text/csv", Some(Media::Csv)),
            ("application/json;q=0.5, Text/CSV", Some(Media::Csv)),
            ("application/vnd.apache.arrow.stream, application/json", Some(Media::Arrow)),
            ("text/csv;q=0, application/json;q=0.1", Some(Media::Json)),
            ("text/html", None),
            ("application/json;q=0", None),
        ] {
            assert_eq!(Media::pick(accept), picked, "{accept}");
        }
    }
}
