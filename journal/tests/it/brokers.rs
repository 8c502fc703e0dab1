//! Kafka brokers of the tests' own: real ones, started by `deploy/test-services`
//! on free ports with a folder of their own. They end with the test's process,
//! however that ends, because they are held by a pipe from it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use journal::{Journal, KafkaOptions};
use prometheus::Registry;
use tempfile::TempDir;

pub struct Brokers {
    /// `host:port` of each.
    pub addresses: String,
    folder: PathBuf,
    _holder: Holder,
    _scratch: TempDir,
}

/// Holds the brokers by its standard input, and waits until they have ended.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// One broker that all tests share which leave it alone.
pub fn shared() -> &'static Brokers {
    static SHARED: OnceLock<Brokers> = OnceLock::new();
    SHARED.get_or_init(|| Brokers::start(1))
}

impl Brokers {
    pub fn start(brokers: u32) -> Self {
        let scratch = tempfile::Builder::new().prefix("journal-kafka-").tempdir().unwrap();
        let folder = scratch.path().join("services");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/test-services");
        let holder = Command::new(script)
            .args(["hold", "--only", "kafka", "--brokers", &brokers.to_string(), "--dir"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("deploy/test-services can be started");
        let mut holder = Holder(holder);
        let mut lines = BufReader::new(holder.0.stdout.take().unwrap()).lines();
        let mut addresses = None;
        for line in &mut lines {
            let line = line.unwrap();
            if let Some(found) = line.strip_prefix("BAKEN_TEST_KAFKA=") {
                addresses = Some(found.to_owned());
            }
            if line == "ready" {
                let addresses = addresses.expect("the brokers' addresses come first");
                return Self { addresses, folder, _holder: holder, _scratch: scratch };
            }
        }
        panic!("no Kafka broker could be started; the lines above say why");
    }

    /// Options for a topic that no other test has.
    pub fn options(&self) -> KafkaOptions {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        KafkaOptions {
            brokers: self.addresses.clone(),
            topic: format!("test-{}-{number}", std::process::id()),
            partitions: 2,
            replication_factor: 1,
            min_insync_replicas: 1,
            ..KafkaOptions::default()
        }
    }

    /// Ends a broker without a word.
    pub fn kill(&self, broker: u32) {
        self.ask("kill", broker);
    }

    /// Starts a broker again that was killed.
    pub fn restart(&self, broker: u32) {
        self.ask("restart", broker);
    }

    fn ask(&self, verb: &str, broker: u32) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/test-services");
        let status = Command::new(script)
            .args([verb, "--service", &format!("kafka-{broker}"), "--dir"])
            .arg(&self.folder)
            .status()
            .unwrap();
        assert!(status.success(), "deploy/test-services {verb} of broker {broker}: {status}");
    }
}

pub async fn open(options: &KafkaOptions) -> Journal {
    Journal::open_kafka(options.clone(), &Registry::new()).await.unwrap()
}
