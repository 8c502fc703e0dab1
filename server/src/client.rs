//! A client of the HTTP API, for the command line, the demo and tests. It knows
//! paths and JSON and nothing of what stands behind them.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

use crate::api::Problem;
use crate::folder::{read_admin_token, read_run_file};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long an answer that is handed over piece by piece may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot reach {url}: {reason}; is `baken serve` running there?")]
    Unreachable { url: String, reason: String },
    #[error("{0}")]
    Refused(Problem),
    #[error("{url} answered {status} with something that is not ours: {text}")]
    Strange { url: String, status: u16, text: String },
    #[error("no token: give --token, set BAKEN_TOKEN, or name the server's folder with --data")]
    NoToken,
    #[error("{}: {reason}", path.display())]
    Folder { path: std::path::PathBuf, reason: String },
    #[error("no HTTP client can be made: {0}")]
    Client(reqwest::Error),
}

impl ClientError {
    /// The status of the answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            Self::Strange { status, .. } => Some(*status),
            _ => None,
        }
    }
}

fn unreachable(url: &str, error: &reqwest::Error) -> ClientError {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = cause.to_string();
        source = cause.source();
    }
    ClientError::Unreachable { url: url.to_owned(), reason }
}

/// Speaks to one server with one token.
#[derive(Clone)]
pub struct ApiClient {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient").field("base", &self.base).finish_non_exhaustive()
    }
}

/// The body of a request.
struct Payload {
    kind: &'static str,
    bytes: Vec<u8>,
}

impl Payload {
    fn json(body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("what this client sends becomes JSON");
        Self { kind: "application/json", bytes }
    }
}

impl ApiClient {
    /// A client of the server at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str, token: &str) -> Result<Self, ClientError> {
        crate::install_crypto();
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .user_agent(concat!("baken/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Client)?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token: token.to_owned(), http })
    }

    /// The server and token that are given, and for what isn't, those of the
    /// process on `folder`.
    pub fn find(
        server: Option<&str>,
        token: Option<&str>,
        folder: &Path,
    ) -> Result<Self, ClientError> {
        let failed = |error: std::io::Error| ClientError::Folder {
            path: folder.to_owned(),
            reason: error.to_string(),
        };
        let token = match token {
            Some(token) => token.to_owned(),
            None => read_admin_token(folder).map_err(failed)?.ok_or(ClientError::NoToken)?,
        };
        let server = match server {
            Some(server) => server.to_owned(),
            None => read_run_file(folder)
                .map_err(failed)?
                .map_or_else(|| "http://127.0.0.1:8080".to_owned(), |run| run.api),
        };
        Self::new(&server, &token)
    }

    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `GET` of a path below `/api/v1`, or of one that begins outside of it
    /// such as `/health/ready`.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, ClientError> {
        self.send(Method::POST, path, Some(Payload::json(body))).await
    }

    /// `POST` of text of another type than JSON, such as a profile in TOML.
    pub async fn post_text(
        &self,
        path: &str,
        kind: &'static str,
        text: String,
    ) -> Result<Value, ClientError> {
        let body = Some(Payload { kind, bytes: text.into_bytes() });
        self.send(Method::POST, path, body).await
    }

    pub async fn put(&self, path: &str, body: &impl Serialize) -> Result<Value, ClientError> {
        self.send(Method::PUT, path, Some(Payload::json(body))).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.send(Method::DELETE, path, None).await
    }

    /// The answer's text, whatever it is, such as that of `/metrics`.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let (_, _, text) = self.exchange(Method::GET, path, None).await?;
        Ok(text)
    }

    /// Hands over an answer piece by piece as it comes; `each` ends it early by
    /// an error of its own, which is the inner one.
    pub async fn download<E>(
        &self,
        path: &str,
        accept: &'static str,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, ClientError> {
        let url = format!("{}{}{path}", self.base, crate::api::BASE_PATH);
        let request = self.http.get(&url).header(header::ACCEPT, accept);
        let request = request.timeout(DOWNLOAD_TIMEOUT).bearer_auth(&self.token);
        let failed = |error: reqwest::Error| unreachable(&url, &error);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.map_err(failed)?;
            return Err(match serde_json::from_str::<Problem>(&text) {
                Ok(problem) => ClientError::Refused(problem),
                Err(_) => ClientError::Strange { url, status: status.as_u16(), text },
            });
        }
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if let Err(error) = each(&piece) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Payload>,
    ) -> Result<Value, ClientError> {
        let (url, status, text) = self.exchange(method, path, body).await?;
        if text.is_empty() && status.is_success() {
            return Ok(Value::Null);
        }
        if status.is_success() {
            if let Ok(value) = serde_json::from_str(&text) {
                return Ok(value);
            }
        } else if let Ok(problem) = serde_json::from_str::<Problem>(&text) {
            return Err(ClientError::Refused(problem));
        }
        let text = text.chars().take(200).collect();
        Err(ClientError::Strange { url, status: status.as_u16(), text })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Payload>,
    ) -> Result<(String, StatusCode, String), ClientError> {
        let url = if path.starts_with("/health") || path.starts_with("/metrics") {
            format!("{}{path}", self.base)
        } else {
            format!("{}{}{path}", self.base, crate::api::BASE_PATH)
        };
        let mut request = self
            .http
            .request(method, &url)
            .header(header::ACCEPT, "application/json")
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, body.kind).body(body.bytes);
        }
        let failed = |error: reqwest::Error| unreachable(&url, &error);
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let text = response.text().await.map_err(failed)?;
        Ok((url, status, text))
    }
}
