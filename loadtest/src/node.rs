//! The server under test, where the load test starts it itself: in a folder of
//! its own, on free ports of the loopback address, killed and started again at
//! will, and gone with its folder at the end.
//!
//! It ends no process but the one that it started.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::api::Api;
use crate::usage::{self, Usage};

/// How long the server may take to answer after its start.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an orderly stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(10);
/// Where the server keeps what it derives from the journal.
const STORE: &str = "data/store";
/// The beginning of the names of the files that keep alarms.
const ALARMS: &[u8] = b"alarms.db";
/// Bytes of the server's own messages that are shown when it fails.
const SHOWN_BYTES: usize = 4_000;

/// A server and its folder.
#[derive(Debug)]
pub struct Node {
    /// What errors call it.
    name: String,
    baken: PathBuf,
    folder: PathBuf,
    /// Removes the folder when it goes, unless it is to be kept.
    _guard: Option<TempDir>,
    mqtt: SocketAddr,
    tls: Option<NodeTls>,
    api: SocketAddr,
    child: Option<Child>,
    /// What the server is told beside its addresses, as environment variables.
    settings: Vec<(&'static str, String)>,
    /// Processor time of the lives that are over.
    past_cpu_us: u64,
}

#[derive(Debug)]
struct NodeTls {
    address: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
}

impl Node {
    /// Makes the folder and finds the ports; starts nothing yet.
    ///
    /// # Errors
    /// If `baken` isn't there or the folder can't be made.
    pub fn prepare(baken: &Path, keep: bool, tls: bool) -> anyhow::Result<Self> {
        let baken = find(baken)?;
        let guard = tempfile::Builder::new().prefix("baken-loadtest-").tempdir()?;
        let (folder, guard) = if keep {
            let folder = guard.keep();
            eprintln!("folder: {}", folder.display());
            (folder, None)
        } else {
            (guard.path().to_owned(), Some(guard))
        };
        // Held together, so that all are different.
        let free: Vec<TcpListener> = (0..3)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()?;
        let address = |place: usize| free[place].local_addr();
        let tls = if tls { Some(make_certificate(&folder, address(2)?)?) } else { None };
        Ok(Self {
            name: "the server".to_owned(),
            mqtt: address(0)?,
            api: address(1)?,
            tls,
            baken,
            folder,
            _guard: guard,
            child: None,
            settings: Vec::new(),
            past_cpu_us: 0,
        })
    }

    /// Gives it a name of its own, beside others.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Gives the server another program at its next start.
    ///
    /// # Errors
    /// If it isn't there.
    pub fn set_program(&mut self, baken: &Path) -> anyhow::Result<()> {
        self.baken = find(baken)?;
        Ok(())
    }

    /// Makes a secret of an installation in the folder; the file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn make_secret(&self) -> anyhow::Result<PathBuf> {
        let file = self.folder.join("secret");
        std::fs::write(
            &file,
            format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()),
        )?;
        Ok(file)
    }

    /// Gives the server settings at its next start.
    pub fn set(&mut self, settings: Vec<(&'static str, String)>) {
        self.settings = settings;
    }

    /// Where routers connect.
    #[must_use]
    pub fn mqtt(&self) -> SocketAddr {
        self.tls.as_ref().map_or(self.mqtt, |tls| tls.address)
    }

    /// What routers trust, where they connect by TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.certificate.as_path())
    }

    /// Starts the server; it may not answer yet.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let said = File::options().create(true).append(true).open(self.said())?;
        let mut command = Command::new(&self.baken);
        command
            .arg("serve")
            .arg("--data")
            .arg(self.folder.join("data"))
            .env("BAKEN_MQTT__LISTEN", self.mqtt.to_string())
            .env("BAKEN_API__LISTEN", self.api.to_string())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .kill_on_drop(true);
        if let Some(tls) = &self.tls {
            command
                .env("BAKEN_MQTT__TLS__LISTEN", tls.address.to_string())
                .env("BAKEN_MQTT__TLS__CERT", &tls.certificate)
                .env("BAKEN_MQTT__TLS__KEY", &tls.key);
        }
        self.child = Some(command.spawn().context("the server can't be started")?);
        Ok(())
    }

    /// Waits until the server answers, and gives its API.
    ///
    /// # Errors
    /// If it ends or stays silent; with its own last words.
    pub async fn live(&mut self) -> anyhow::Result<Api> {
        self.answers().await?;
        self.api(&self.token()?)
    }

    /// Waits until the server answers.
    ///
    /// # Errors
    /// If it ends or stays silent; with its own last words.
    pub async fn answers(&mut self) -> anyhow::Result<()> {
        let probe = self.api("")?;
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        while !probe.is_live().await {
            self.check_alive()?;
            if tokio::time::Instant::now() > deadline {
                bail!("{} doesn't answer at {}: {}", self.name, self.api, self.last_words());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The token that the first start of an installation leaves behind.
    ///
    /// # Errors
    /// If it left none.
    pub fn token(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(self.folder.join("data/admin-token"))
            .context("the server has written no admin token")
    }

    /// The server's API, with a token.
    ///
    /// # Errors
    /// If the HTTP client can't be made.
    pub fn api(&self, token: &str) -> anyhow::Result<Api> {
        Api::new(&format!("http://{}", self.api), token)
    }

    /// Whether it was started and neither killed nor stopped since.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Whether the server still runs.
    ///
    /// # Errors
    /// If it has ended by itself; with its own last words.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("the server was not started")?;
        if let Some(status) = child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, self.last_words());
        }
        Ok(())
    }

    /// Kills the server with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// If it was not running.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.past_cpu_us = self.usage().cpu_us;
        let mut child = self.child.take().context("the server was not started")?;
        child.kill().await?;
        Ok(())
    }

    /// Asks the server to stop in order, and waits for it.
    ///
    /// # Errors
    /// If it doesn't, or ends with a fault.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.past_cpu_us = self.usage().cpu_us;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) else {
            return Ok(());
        };
        kill_process(pid, Signal::TERM)?;
        match tokio::time::timeout(STOP_TIMEOUT, child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => {
                bail!("{} stopped with {:?}: {}", self.name, status?, self.last_words())
            }
            Err(_) => {
                child.kill().await?;
                bail!(
                    "{} didn't stop in {} s: {}",
                    self.name,
                    STOP_TIMEOUT.as_secs(),
                    self.last_words()
                )
            }
        }
    }

    /// Takes what the stopped server knows of alarms out of its data folder, and
    /// keeps it beside that: at its next start it begins at the journal's.
    ///
    /// # Errors
    /// If there is nothing, or it can't be moved.
    pub fn forget_alarms(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.child.is_none(), "the server still runs");
        let aside = self.folder.join("alarms-before");
        std::fs::create_dir(&aside)?;
        let mut moved = 0;
        for entry in std::fs::read_dir(self.folder.join(STORE))? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(ALARMS) {
                std::fs::rename(entry.path(), aside.join(entry.file_name()))?;
                moved += 1;
            }
        }
        anyhow::ensure!(moved > 0, "the server has no file of alarms");
        Ok(())
    }

    /// What the server has used: processor time of all of its lives.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let pid = self.child.as_ref().and_then(Child::id);
        let mut usage = pid.and_then(|pid| usage::of(pid).ok()).unwrap_or_default();
        usage.cpu_us += self.past_cpu_us;
        usage
    }

    fn said(&self) -> PathBuf {
        self.folder.join("server.stderr")
    }

    fn last_words(&self) -> String {
        let said = std::fs::read(self.said()).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN_BYTES)..]).into_owned()
    }
}

fn find(baken: &Path) -> anyhow::Result<PathBuf> {
    baken.canonicalize().with_context(|| format!("{} isn't there; build it first", baken.display()))
}

fn make_certificate(folder: &Path, address: SocketAddr) -> anyhow::Result<NodeTls> {
    let made = rcgen::generate_simple_self_signed(vec![address.ip().to_string()])?;
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    Ok(NodeTls { address, certificate, key })
}
