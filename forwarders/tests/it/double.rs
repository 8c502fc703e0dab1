//! A platform by HTTP that keeps what it took and answers as it is told.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use flate2::read::GzDecoder;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Decompressed.
    pub body: String,
}

/// What is answered: a status, headers, a body; after a pause.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub pause: Duration,
}

impl Answer {
    pub fn of(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), pause: Duration::ZERO }
    }
}

type Script = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// The platform. What it answered with a 2xx is taken.
#[derive(Clone)]
pub struct Double {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    taken: Mutex<Vec<Request>>,
    refused: Mutex<Vec<Request>>,
}

impl Double {
    /// Takes all, until it is told otherwise.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(|_| Answer::of(204))),
            taken: Mutex::default(),
            refused: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answer(&self, script: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    pub fn taken(&self) -> Vec<Request> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// How many requests were answered otherwise than with a 2xx.
    pub fn refused(&self) -> usize {
        self.shared.refused.lock().unwrap().len()
    }

    /// All lines of all requests that were taken, in order.
    pub fn lines(&self) -> Vec<String> {
        let taken = self.taken();
        taken.iter().flat_map(|request| request.body.lines().map(str::to_owned)).collect()
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut text = String::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(body.to_vec()).unwrap();
    }
    let request = Request { uri, headers, body: text };
    let script = Arc::clone(&shared.script.lock().unwrap());
    let Answer { status, headers, body, pause } = script(&request);
    // It takes before it answers, so that an answer may get lost.
    let list = if status < 300 { &shared.taken } else { &shared.refused };
    list.lock().unwrap().push(request);
    tokio::time::sleep(pause).await;
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
