//! An SMTP server that does what a test tells it to, at the step it is told.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// When the client has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Connect,
    Ehlo,
    Auth,
    Reset,
    Mail,
    Rcpt,
    Data,
    /// Behind the first line of content.
    Content,
    /// Behind the dot that ends the content.
    Dot,
}

#[derive(Clone, Debug)]
pub enum Deed {
    /// What a server does that works.
    Work,
    /// Answers this, and takes nothing.
    Say(&'static str),
    /// Answers with what the client has said, which no server should.
    Echo(&'static str),
    /// Works, after a time.
    Late(Duration),
    /// Begins an answer, and another byte of it follows forever.
    Drip,
    Stall,
    Close,
}

#[derive(Debug, Default)]
struct Seen {
    script: VecDeque<(At, Deed)>,
    taken: Vec<String>,
    whole: Vec<String>,
    commands: Vec<String>,
    open: usize,
    most_open: usize,
    connections: usize,
}

pub struct Smtp {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Smtp {
    /// Each deed is done once, in their order, when its step comes; between and
    /// after them everything works.
    pub async fn start(script: impl IntoIterator<Item = (At, Deed)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = script.into_iter().collect();
        let seen = Arc::new(Mutex::new(Seen { script, ..Seen::default() }));
        let task = tokio::spawn(serve(listener, Arc::clone(&seen)));
        Self { address, seen, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Contents that it took and said so.
    pub fn taken(&self) -> Vec<String> {
        self.seen.lock().unwrap().taken.clone()
    }

    /// Contents that came to their end, whether it took them or not.
    pub fn whole(&self) -> Vec<String> {
        self.seen.lock().unwrap().whole.clone()
    }

    /// The commands of all connections, by their first words.
    pub fn commands(&self) -> Vec<String> {
        self.seen.lock().unwrap().commands.clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// The most connections that were open at a time.
    pub fn most_open(&self) -> usize {
        self.seen.lock().unwrap().most_open
    }

    /// Whether every deed was done.
    pub fn is_through(&self) -> bool {
        self.seen.lock().unwrap().script.is_empty()
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Seen>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        {
            let mut seen = seen.lock().unwrap();
            seen.connections += 1;
            seen.open += 1;
            seen.most_open = seen.most_open.max(seen.open);
        }
        let seen = Arc::clone(&seen);
        connections.spawn(async move {
            let mut session = Session { stream: BufReader::new(stream), seen: Arc::clone(&seen) };
            // An error is the client's leave.
            let _ = session.run().await;
            seen.lock().unwrap().open -= 1;
        });
    }
}

struct Session {
    stream: BufReader<TcpStream>,
    seen: Arc<Mutex<Seen>>,
}

/// The connection has come to its end.
struct Ended;

impl From<std::io::Error> for Ended {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl Session {
    async fn run(&mut self) -> Result<(), Ended> {
        self.step(At::Connect, "", "220 scripted").await?;
        loop {
            let line = self.line().await?;
            let command = line.split([' ', ':']).next().unwrap().to_ascii_uppercase();
            self.seen.lock().unwrap().commands.push(command.clone());
            match command.as_str() {
                "EHLO" => {
                    let extensions = "250-scripted\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME";
                    self.step(At::Ehlo, &line, extensions).await?;
                }
                "AUTH" => {
                    self.step(At::Auth, &line, "235 2.7.0 welcome").await?;
                }
                "RSET" => {
                    self.step(At::Reset, &line, "250 2.0.0 ok").await?;
                }
                "MAIL" => {
                    self.step(At::Mail, &line, "250 2.1.0 ok").await?;
                }
                "RCPT" => {
                    self.step(At::Rcpt, &line, "250 2.1.5 ok").await?;
                }
                "DATA" => {
                    if self.step(At::Data, &line, "354 go on").await? {
                        self.content().await?;
                    }
                }
                "QUIT" => {
                    self.say("221 2.0.0 bye").await?;
                    return Err(Ended);
                }
                _ => self.say("500 5.5.2 what?").await?,
            }
        }
    }

    async fn content(&mut self) -> Result<(), Ended> {
        let mut content = self.line().await?;
        self.step(At::Content, "", "").await?;
        loop {
            let line = self.line().await?;
            if line == "." {
                break;
            }
            content.push('\n');
            content.push_str(&line);
        }
        self.seen.lock().unwrap().whole.push(content.clone());
        let number = self.seen.lock().unwrap().whole.len();
        if self.step(At::Dot, "", &format!("250 2.0.0 Ok: queued as {number}")).await? {
            self.seen.lock().unwrap().taken.push(content);
        }
        Ok(())
    }

    /// Does what the script has for this step; otherwise it answers and works.
    /// Tells whether it worked.
    async fn step(&mut self, at: At, line: &str, answer: &str) -> Result<bool, Ended> {
        let deed = {
            let script = &mut self.seen.lock().unwrap().script;
            let due = script.front().is_some_and(|(step, _)| *step == at);
            if due { script.pop_front().map(|(_, deed)| deed) } else { None }
        };
        match deed.unwrap_or(Deed::Work) {
            Deed::Work => (),
            Deed::Late(time) => sleep(time).await,
            Deed::Say(text) => {
                self.say(text).await?;
                return Ok(false);
            }
            Deed::Echo(code) => {
                self.say(&format!("{code} {line}")).await?;
                return Ok(false);
            }
            Deed::Drip => {
                self.stream.get_mut().write_all(b"250-").await?;
                loop {
                    sleep(Duration::from_millis(20)).await;
                    self.stream.get_mut().write_all(b"x").await?;
                }
            }
            Deed::Stall => std::future::pending::<()>().await,
            Deed::Close => return Err(Ended),
        }
        if !answer.is_empty() {
            self.say(answer).await?;
        }
        Ok(true)
    }

    async fn line(&mut self) -> Result<String, Ended> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(Ended);
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn say(&mut self, text: &str) -> Result<(), Ended> {
        Ok(self.stream.get_mut().write_all(format!("{text}\r\n").as_bytes()).await?)
    }
}
