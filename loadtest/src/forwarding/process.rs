//! The double as a process: started, asked and ended.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::tally::Tally;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the double is, and what connecting to it takes (PEM).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Address {
    pub port: u16,
    pub ca: String,
    pub certificate: String,
    pub private_key: String,
}

/// A question, a line of JSON; each is answered with a [`Tally`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// A round begins: its messages begin at this time and have so many values.
    Begin { base_ms: i64, selected_keys: u32 },
    /// How much came.
    Tally,
}

/// The running double; it ends with this.
#[derive(Debug)]
pub struct HubProcess {
    child: Child,
    asks: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    address: Address,
}

impl HubProcess {
    /// Starts the double with this program's `hub`.
    ///
    /// # Errors
    /// If it doesn't come up.
    pub async fn start(program: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("hub")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the double can't be started")?;
        let asks = child.stdin.take();
        let answers = child.stdout.take().context("the double has no output")?;
        let mut answers = BufReader::new(answers).lines();
        let line =
            timeout(PATIENCE, answers.next_line()).await.context("the double is silent")??;
        let address = serde_json::from_str(&line.context("the double has ended")?)?;
        Ok(Self { child, asks, answers, address })
    }

    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Asks it.
    ///
    /// # Errors
    /// If it doesn't answer.
    pub async fn ask(&mut self, ask: Ask) -> anyhow::Result<Tally> {
        let asks = self.asks.as_mut().context("the double was ended")?;
        asks.write_all(format!("{}\n", serde_json::to_string(&ask)?).as_bytes()).await?;
        let line = timeout(PATIENCE, self.answers.next_line()).await;
        let line = line.context("the double doesn't answer")??;
        Ok(serde_json::from_str(&line.context("the double has ended")?)?)
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it ends with a fault.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.asks.take());
        let status = timeout(PATIENCE, self.child.wait()).await.context("the double goes on")??;
        ensure!(status.success(), "the double ended with {status}");
        Ok(())
    }
}
