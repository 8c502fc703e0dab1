//! A `baken serve` on free ports and a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use server::client::ApiClient;
use server::folder::{RunFile, read_admin_token, read_run_file};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Generous: these tests share their machine with others.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// The command with none of the environment's settings.
pub fn baken() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baken"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BAKEN_")) {
        command.env_remove(name);
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub async fn run(args: &[&str]) -> Output {
    timeout(DEADLINE, baken().args(args).output()).await.unwrap().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A running node. Its process ends with it.
pub struct Baken {
    child: Child,
    log: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
    pub run: RunFile,
    pub dir: PathBuf,
    _temp: Option<TempDir>,
}

impl Baken {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(args: &[&str]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut baken = Self::start_in(temp.path(), args).await;
        baken._temp = Some(temp);
        baken
    }

    /// On a folder that the caller keeps.
    pub async fn start_in(dir: &Path, args: &[&str]) -> Self {
        let mut child = serve(dir).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let lines_to = Arc::clone(&log);
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = lines_to.lock().await;
                log.push_str(&line);
                log.push('\n');
            }
        });
        let until = Instant::now() + DEADLINE;
        let run = loop {
            if let Ok(Some(run)) = read_run_file(dir)
                && Some(run.pid) == child.id()
            {
                break run;
            }
            if let Some(status) = child.try_wait().unwrap() {
                sleep(POLL).await;
                panic!("baken serve ended with {status}:\n{}", log.lock().await);
            }
            assert!(Instant::now() < until, "not ready in time:\n{}", log.lock().await);
            sleep(POLL).await;
        };
        Self { child, log, reading, run, dir: dir.to_owned(), _temp: None }
    }

    pub fn token(&self) -> String {
        read_admin_token(&self.dir).unwrap().unwrap()
    }

    /// A client with the admin token.
    pub fn client(&self) -> ApiClient {
        ApiClient::new(&self.run.api, &self.token()).unwrap()
    }

    /// What the process has written to standard error so far.
    pub async fn log(&self) -> String {
        self.log.lock().await.clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// SIGTERM, and how it ended.
    pub async fn stop(self) -> (ExitStatus, String) {
        self.stop_by(Signal::TERM).await
    }

    pub async fn stop_by(mut self, signal: Signal) -> (ExitStatus, String) {
        self.signal(signal);
        let status = self.wait().await;
        timeout(DEADLINE, &mut self.reading).await.unwrap().unwrap();
        (status, self.log().await)
    }

    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait().await;
    }

    async fn wait(&mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait()).await.expect("the process did not end").unwrap()
    }

    /// Makes a tenant, a location and a router; the router as the API shows it,
    /// its token included.
    pub async fn router(&self) -> Value {
        let client = self.client();
        let tenant = client.post("/tenants", &json!({ "name": "Acme" })).await.unwrap();
        let location = json!({ "tenant": tenant["id"], "name": "North" });
        let location = client.post("/locations", &location).await.unwrap();
        let router = json!({
            "location": location["id"],
            "name": "router",
            "credentials": { "type": "access_token" },
        });
        client.post("/routers", &router).await.unwrap()
    }
}

/// `baken serve` on a folder, on free ports.
pub fn serve(dir: &Path) -> Command {
    let mut command = baken();
    command.args(["serve", "--mqtt-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]);
    command.arg("--data").arg(dir);
    command
}

/// A time of today, within every tenant's retention, in whole seconds.
pub fn recent_ms() -> i64 {
    jiff::Timestamp::now().as_second() * 1_000 - 3_600_000
}

/// Asks until the answer is as wanted.
pub async fn until<F: Future<Output = Option<T>>, T>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come in time");
        sleep(POLL).await;
    }
}
