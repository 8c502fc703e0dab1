//! An HTTP server on a free port that answers as a test wants it to, and keeps
//! what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The most bytes of a request that a double reads.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The other end of the connection.
    pub peer: SocketAddr,
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

/// What a double does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Says that a body of this length comes, and closes without it.
    HeadOnly {
        status: u16,
    },
    /// Keeps the connection and says nothing.
    Never,
    /// Closes the connection once it has the whole request.
    Close,
}

impl Reply {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.to_string() }
    }

    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: String::new() }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

type Respond = dyn Fn(&Asked) -> Reply + Send + Sync;

/// Ends with its test.
pub struct Double {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Double {
    /// Answers each request by `respond`.
    pub async fn start(respond: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(listener, Arc::new(respond), Arc::clone(&asked)));
        Self { url, asked, task }
    }

    /// Answers the requests in turn, and all behind the last as the last.
    pub async fn in_turn(replies: Vec<Reply>) -> Self {
        let next = Mutex::new(0);
        Self::start(move |_| {
            let mut next = next.lock().unwrap();
            let reply = replies[(*next).min(replies.len() - 1)].clone();
            *next += 1;
            reply
        })
        .await
    }

    pub async fn always(reply: Reply) -> Self {
        Self::in_turn(vec![reply]).await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The tasks of connections belong to this one and end with it.
async fn accept(listener: TcpListener, respond: Arc<Respond>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&respond), Arc::clone(&asked)));
    }
}

async fn serve(mut stream: TcpStream, respond: Arc<Respond>, asked: Arc<Mutex<Vec<Asked>>>) {
    while let Some(request) = read(&mut stream).await {
        let reply = respond(&request);
        asked.lock().unwrap().push(request);
        let text = match reply {
            Reply::Answer { status, headers, body } => {
                let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
                let lines: String = lines.collect();
                let length = body.len();
                format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: {length}\r\n\r\n{body}")
            }
            Reply::HeadOnly { status } => {
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 100\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).await;
                return;
            }
            Reply::Never => std::future::pending().await,
            Reply::Close => return,
        };
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The next request; none where the other side has closed, or what came is none.
async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
        (bytes.len() <= MAX_REQUEST_BYTES).then_some(())?;
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let peer = stream.peer_addr().ok()?;
    let mut asked = Asked { peer, method, path, headers, body: bytes.split_off(head_end + 4) };
    let length: usize = asked.header("content-length").parse().unwrap_or(0);
    while asked.body.len() < length {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        asked.body.extend_from_slice(&chunk[..read]);
    }
    Some(asked)
}

/// The address of a port on which nobody listens.
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// The server does this at its start.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
