//! The API as one service: the modules below `/api/v1`, health, metrics, the links
//! of messages and providers' callbacks beside them, and around all a limit on size, time and number, and a net for
//! panics.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, SecurityRequirement,
};
use utoipa_axum::router::OpenApiRouter;

use super::auth::tell_forbidden;
use super::metrics::{REASON_OVERLOADED, REASON_PANIC, REASON_TIMEOUT};
use super::problem::Problem;
use super::state::AppState;
use super::{BASE_PATH, callbacks, links, v1};
use crate::health;

/// The label of requests to paths that nothing answers, so that scanners can't
/// make a series each.
const NO_ROUTE: &str = "none";

/// Limits around every request.
#[derive(Clone, Copy, Debug)]
pub struct ServiceLimits {
    /// The largest body of a request.
    pub max_body_bytes: usize,
    /// How long a handler may take until its answer's head is ready.
    pub request_timeout: Duration,
    /// Requests being answered at once; more are answered 503.
    pub max_requests: usize,
    /// Whether `/metrics` needs a token too.
    pub metrics_need_token: bool,
}

/// The whole service, ready to be served.
pub fn service(state: AppState, limits: ServiceLimits) -> Router {
    let documented = documented().split_for_parts().0;
    around(documented.merge(links::routes()).merge(callbacks::routes()), state, limits)
}

/// Health and metrics only, of a node that does not answer the API.
pub fn health_service(state: AppState, limits: ServiceLimits) -> Router {
    around(Router::new(), state, limits)
}

fn around(router: Router<AppState>, state: AppState, limits: ServiceLimits) -> Router {
    let gate = Gate {
        state: state.clone(),
        room: Arc::new(Semaphore::new(limits.max_requests)),
        timeout: limits.request_timeout,
    };
    let metrics = if limits.metrics_need_token {
        get(health::metrics_with_token)
    } else {
        get(health::metrics)
    };
    let panicked = state.clone();
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_path)
        // Above the limits: an overloaded API must still say that it lives.
        .layer(DefaultBodyLimit::max(limits.max_body_bytes))
        .layer(CatchPanicLayer::custom(move |panic: Box<dyn Any + Send>| {
            on_panic(&panicked, panic.as_ref())
        }))
        .layer(middleware::from_fn_with_state(gate, guard))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", metrics)
        .layer(middleware::from_fn_with_state(state.clone(), measure))
        .with_state(state)
}

/// The description of the API, generated from the handlers.
#[must_use]
pub fn openapi() -> OpenApi {
    documented().split_for_parts().1
}

fn documented() -> OpenApiRouter<AppState> {
    let description = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Baken")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "Routers, their telemetry and their alarms. Errors are problem+json (RFC 9457).",
                ))
                .build(),
        )
        .components(Some(
            ComponentsBuilder::new()
                .security_scheme(
                    "token",
                    SecurityScheme::Http(
                        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build(),
                    ),
                )
                .build(),
        ))
        .security(Some([SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]))
        .build();
    OpenApiRouter::with_openapi(description).nest(BASE_PATH, v1())
}

#[derive(Clone, Debug)]
struct Gate {
    state: AppState,
    room: Arc<Semaphore>,
    timeout: Duration,
}

/// Bounds how many requests run and how long each.
async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Ok(_place) = gate.room.try_acquire() else {
        gate.state.metrics.refused(REASON_OVERLOADED);
        return Problem::unavailable("Too many requests are being answered; try again.")
            .into_response();
    };
    match tokio::time::timeout(gate.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            gate.state.metrics.refused(REASON_TIMEOUT);
            Problem::timed_out(format!(
                "The answer was not ready within {} ms.",
                gate.timeout.as_millis()
            ))
            .into_response()
        }
    }
}

async fn measure(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let authorization = request.headers().get(header::AUTHORIZATION).cloned();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let active = ActiveRequest::begin(&state);
    let mut response = next.run(request).await;
    drop(active);
    if response.status() == StatusCode::FORBIDDEN {
        tell_forbidden(&state, authorization.as_ref(), peer);
    }
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    };
    let route = route.as_deref().unwrap_or(NO_ROUTE);
    let took = started.elapsed();
    state.metrics.answered(route, method, response.status().as_u16(), took);
    tracing::debug!(route, method, status = response.status().as_u16(), ?took, "request answered");
    let headers = response.headers_mut();
    // Answers hold customers' data: no cache keeps them, no browser guesses at them.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Counts a request as active until it is dropped, also when the client leaves.
struct ActiveRequest<'a>(&'a AppState);

impl<'a> ActiveRequest<'a> {
    fn begin(state: &'a AppState) -> Self {
        state.metrics.active.inc();
        Self(state)
    }
}

impl Drop for ActiveRequest<'_> {
    fn drop(&mut self) {
        self.0.metrics.active.dec();
    }
}

fn on_panic(state: &AppState, panic: &(dyn Any + Send)) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(panic = message, "a handler of the API panicked");
    state.metrics.refused(REASON_PANIC);
    Problem::internal_hidden().into_response()
}

async fn no_such_path(request: Request) -> Problem {
    let path = request.uri().path();
    Problem::of_status(StatusCode::NOT_FOUND, format!("Nothing answers at {path}."))
}

async fn method_not_allowed(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::of_status(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{path} does not take {method}; the Allow header says what it takes."),
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::body::{Body, to_bytes};
    use serde_json::Value;
    use tokio::sync::Notify;
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::{Config, Listen};
    use crate::node::Node;

    async fn node() -> (Node, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config::default();
        config.server.data_dir = dir.path().to_owned();
        config.mqtt.listen = Listen(Some(free));
        config.api.listen = free;
        (Node::start(config).await.unwrap(), dir)
    }

    async fn get(router: &Router, path: &str) -> (u16, Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_a_slow_handler_and_one_request_too_many_are_answers() {
        let (node, _dir) = node().await;
        let entered = Arc::new(Notify::new());
        let enters = Arc::clone(&entered);
        let router: Router<AppState> = Router::new()
            .route("/panic", get_route(async || -> Response { panic!("on purpose") }))
            .route(
                "/slow",
                get_route(move || async move {
                    enters.notify_one();
                    std::future::pending::<()>().await;
                }),
            );
        let limits = |request_timeout| ServiceLimits {
            max_body_bytes: 1_000,
            request_timeout,
            max_requests: 1,
            metrics_need_token: false,
        };
        let hasty = around(router.clone(), node.state().clone(), limits(Duration::from_millis(1)));
        let (status, body) = get(&hasty, "/slow").await;
        assert_eq!((status, body["type"].as_str()), (504, Some("urn:baken:problem:timed-out")));
        entered.notified().await;

        let patient = around(router, node.state().clone(), limits(Duration::from_secs(600)));
        let (status, body) = get(&patient, "/panic").await;
        assert_eq!((status, body["type"].as_str()), (500, Some("urn:baken:problem:internal")));
        assert!(!body.to_string().contains("on purpose"), "what went wrong is not told outside");

        let busy = patient.clone();
        let slow = tokio::spawn(async move { get(&busy, "/slow").await });
        entered.notified().await;
        let (status, body) = get(&patient, "/panic").await;
        assert_eq!((status, body["type"].as_str()), (503, Some("urn:baken:problem:unavailable")));
        assert_eq!(get(&patient, "/health/live").await.0, 200, "health has no queue");
        slow.abort();
        node.stop().await;
    }

    fn get_route<H, T>(handler: H) -> axum::routing::MethodRouter<AppState>
    where
        H: axum::handler::Handler<T, AppState>,
        T: 'static,
    {
        axum::routing::get(handler)
    }
}
