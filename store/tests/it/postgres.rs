//! A PostgreSQL of the tests' own: a real one, started by `deploy/test-services`
//! on a free port with a folder of its own. It ends with the test's process,
//! however that ends, because it is held by a pipe from it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

pub struct Server {
    /// `postgres://USER@HOST:PORT/DATABASE` of its first database.
    url: String,
    folder: std::path::PathBuf,
    _holder: Holder,
    _scratch: TempDir,
}

/// Holds the server by its standard input, and waits until it has ended.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The server that all tests share which leave it alone.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(Server::start)
}

impl Server {
    pub fn start() -> Self {
        let scratch = tempfile::Builder::new().prefix("store-postgres-").tempdir().unwrap();
        // PostgreSQL's own user goes through it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(scratch.path(), mode).unwrap();
        let folder = scratch.path().join("services");
        let holder = script()
            .args(["hold", "--only", "postgres", "--dir"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("deploy/test-services can be started");
        let mut holder = Holder(holder);
        let mut url = None;
        for line in BufReader::new(holder.0.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(found) = line.strip_prefix("BAKEN_TEST_POSTGRES=") {
                url = Some(found.to_owned());
            }
            if line == "ready" {
                let url = url.expect("the address comes first");
                return Self { url, folder, _holder: holder, _scratch: scratch };
            }
        }
        panic!("no PostgreSQL could be started; the lines above say why");
    }

    /// The address of a new database that no other test has.
    pub async fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let (client, link) =
            tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        let link = tokio::spawn(link);
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        drop(client);
        link.await.unwrap().unwrap();
        let (server, _) = self.url.rsplit_once('/').unwrap();
        format!("{server}/{name}?sslmode=disable")
    }

    /// Ends it without a word.
    pub fn kill(&self) {
        self.ask("kill");
    }

    /// Starts it again where it was.
    pub fn restart(&self) {
        self.ask("restart");
    }

    fn ask(&self, verb: &str) {
        let status =
            script().args([verb, "--service", "postgres", "--dir"]).arg(&self.folder).status();
        assert!(status.unwrap().success(), "deploy/test-services {verb} of PostgreSQL");
    }
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/test-services"))
}

/// The number that a question to a database gives.
pub async fn count(url: &str, sql: &str) -> i64 {
    let (client, link) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let link = tokio::spawn(link);
    let found = client.query_one(sql, &[]).await.unwrap().get(0);
    drop(client);
    link.await.unwrap().unwrap();
    found
}
