//! The real Kafka and PostgreSQL under a cluster: started for the run by
//! `deploy/test-services` on free ports, killed and started again at will, and
//! gone with their folder when this process has ended, however it ends.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::usage;

/// What holds them, and where they are.
#[derive(Debug)]
pub struct Services {
    script: PathBuf,
    folder: PathBuf,
    kafka: String,
    postgres: String,
    /// They end when this does.
    held: Option<ChildStdin>,
    holder: Child,
    _scratch: TempDir,
}

/// Processor time of the services' processes, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServicesUsage {
    pub kafka_cpu_us: u64,
    pub postgres_cpu_us: u64,
}

impl Services {
    /// Starts them and waits until they answer.
    ///
    /// # Errors
    /// If the script isn't there, or they don't come up; what it says goes to
    /// this process' standard error.
    pub async fn start(script: &Path, brokers: u32) -> anyhow::Result<Self> {
        let script = script.canonicalize().with_context(|| {
            format!("--services {} isn't there: it is deploy/test-services", script.display())
        })?;
        let scratch = tempfile::Builder::new().prefix("baken-cluster-").tempdir()?;
        let folder = scratch.path().join("services");
        let mut holder = Command::new(&script)
            .args(["hold", "--brokers", &brokers.to_string(), "--dir"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} can't be started", script.display()))?;
        let held = holder.stdin.take();
        let output = holder.stdout.take().context("the services' script has no output")?;
        let mut lines = BufReader::new(output).lines();
        let (mut kafka, mut postgres) = (None, None);
        while let Some(line) = lines.next_line().await? {
            if let Some(found) = line.strip_prefix("BAKEN_TEST_KAFKA=") {
                kafka = Some(found.to_owned());
            } else if let Some(found) = line.strip_prefix("BAKEN_TEST_POSTGRES=") {
                postgres = Some(found.to_owned());
            } else if line == "ready" {
                let kafka = kafka.context("the services' script names no Kafka")?;
                let postgres = postgres.context("the services' script names no PostgreSQL")?;
                let _scratch = scratch;
                return Ok(Self { script, folder, kafka, postgres, held, holder, _scratch });
            }
        }
        anyhow::bail!("Kafka and PostgreSQL could not be started; the lines above say why")
    }

    /// `host:port` of each broker, with commas.
    #[must_use]
    pub fn kafka(&self) -> &str {
        &self.kafka
    }

    /// The address of an empty database.
    #[must_use]
    pub fn postgres(&self) -> &str {
        &self.postgres
    }

    /// Ends a service, `kafka-1` to `kafka-9` or `postgres`, with SIGKILL.
    ///
    /// # Errors
    /// If it doesn't run.
    pub async fn kill(&self, service: &str) -> anyhow::Result<()> {
        self.ask("kill", service).await
    }

    /// Starts a service again that was killed, and waits until it answers.
    ///
    /// # Errors
    /// If it doesn't come up.
    pub async fn restart(&self, service: &str) -> anyhow::Result<()> {
        self.ask("restart", service).await
    }

    async fn ask(&self, verb: &str, service: &str) -> anyhow::Result<()> {
        let done = Command::new(&self.script)
            .args([verb, "--service", service, "--dir"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .status()
            .await?;
        ensure!(done.success(), "{verb} of {service} failed: {done}");
        Ok(())
    }

    /// What all that run now have used. A service that was started again counts
    /// from there.
    ///
    /// # Errors
    /// If the script doesn't know their processes.
    pub async fn usage(&self) -> anyhow::Result<ServicesUsage> {
        let told =
            Command::new(&self.script).args(["status", "--dir"]).arg(&self.folder).output().await?;
        ensure!(told.status.success(), "the services' script failed: {}", told.status);
        let mut usage = ServicesUsage::default();
        for (service, pid) in processes(&String::from_utf8_lossy(&told.stdout)) {
            let used = usage::family_cpu_us(pid)
                .with_context(|| format!("{service} is no process {pid}"))?;
            match service.as_str() {
                "postgres" => usage.postgres_cpu_us += used,
                _ => usage.kafka_cpu_us += used,
            }
        }
        Ok(usage)
    }

    /// Renames the schema in which alarms are kept, so that all of them are raised
    /// again from the journal at the next start. No node may run.
    ///
    /// # Errors
    /// If `psql`, Debian's postgresql-client, isn't there or refuses.
    pub async fn forget_alarms(&self) -> anyhow::Result<()> {
        let done = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname"])
            .args([&self.postgres, "--command"])
            .arg("ALTER SCHEMA baken_alarms RENAME TO baken_alarms_before")
            .stdin(Stdio::null())
            .status()
            .await
            .context("psql can't be started: install Debian's postgresql-client")?;
        ensure!(done.success(), "psql failed: {done}");
        Ok(())
    }

    /// Stops them.
    ///
    /// # Errors
    /// If the script ends with a fault.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.held.take());
        let status = self.holder.wait().await?;
        ensure!(status.success(), "the services' script ended with {status}");
        Ok(())
    }
}

/// The services and processes of a status: lines such as
/// `# kafka-1: process 4711 runs`.
fn processes(status: &str) -> Vec<(String, u32)> {
    let process = |line: &str| {
        let (service, rest) = line.strip_prefix("# ")?.split_once(": process ")?;
        let (pid, state) = rest.split_once(' ')?;
        (state == "runs").then_some((service.to_owned(), pid.parse().ok()?))
    };
    status.lines().filter_map(process).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_the_processes_that_run() {
        let status = "BAKEN_TEST_KAFKA=127.0.0.1:1\n# kafka-1: process 47 runs\n\
                      # kafka-2: process 48 has ended\n# postgres: process 49 runs\n";
        let expected = [("kafka-1".to_owned(), 47), ("postgres".to_owned(), 49)];
        assert_eq!(processes(status), expected);
    }
}
