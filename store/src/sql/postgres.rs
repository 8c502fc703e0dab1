//! Reaches PostgreSQL the one way that all parts of the store do: a schema for
//! each part, migrations under a lock, limits on how long a statement may take.
//!
//! Which certificate the server must show is never left open: where TLS is
//! spoken it is checked against the machine's authorities or a file of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::SqlError;
use super::error::PostgresError;

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a statement may run, unless the address says otherwise.
pub const STATEMENT_TIMEOUT_MS: u32 = 60_000;

/// The beginning of a migration behind which a program that doesn't know it can't
/// go on. Behind any other one it can: an upgrade goes node by node, and a node
/// that was not upgraded yet may have to start again meanwhile.
const BREAKING: &str = "-- breaking:";

/// Between two attempts to reach a server that is away.
const LOOK: Duration = Duration::from_millis(500);

/// The lock under which migrations run, whichever node comes first. The number
/// is the text `baken` in ASCII.
const MIGRATION_LOCK: i64 = 0x62_61_6b_65_6e;

/// A connection that somebody must poll.
pub(crate) type Link = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Where PostgreSQL is and how it is spoken to.
#[derive(Clone)]
pub struct PostgresOptions {
    config: Config,
    tls: MakeRustlsConnect,
    statement_timeout_ms: u32,
}

/// Why an address of PostgreSQL will not do. It never repeats a password.
#[derive(Debug, thiserror::Error)]
pub enum PostgresUrlError {
    #[error("the address must be of the form postgres://USER@HOST:PORT/DATABASE?sslmode=require")]
    Form,
    #[error("`{name}` in the address: {value:?} is not {allowed}")]
    Parameter { name: &'static str, value: String, allowed: &'static str },
    #[error("`sslrootcert` in the address: cannot read {}: {reason}", path.display())]
    Authorities { path: PathBuf, reason: String },
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("hosts", &self.config.get_hosts())
            .field("database", &self.config.get_dbname())
            .field("user", &self.config.get_user())
            .finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// Reads an address as libpq does: several hosts with commas between them,
    /// `sslmode` (`disable`, `prefer`, `require`), `target_session_attrs`,
    /// `connect_timeout`, `keepalives_idle`; and `sslrootcert`, a PEM file of the
    /// authorities to trust in place of the machine's, and `statement_timeout`
    /// in milliseconds. `require` checks the certificate and the name in it.
    ///
    /// # Errors
    /// [`PostgresUrlError`].
    pub fn parse(url: &str) -> Result<Self, PostgresUrlError> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut authorities = None;
        let mut statement_timeout_ms = STATEMENT_TIMEOUT_MS;
        let mut others: Vec<&str> = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslrootcert", path)) => authorities = Some(PathBuf::from(path)),
                Some(("statement_timeout", value)) => {
                    statement_timeout_ms =
                        value.parse().map_err(|_| PostgresUrlError::Parameter {
                            name: "statement_timeout",
                            value: value.to_owned(),
                            allowed: "a number of milliseconds, 0 for no limit",
                        })?;
                }
                _ => others.push(parameter),
            }
        }
        let rest = format!("{address}?{}", others.join("&"));
        // The library's error may repeat the address.
        let mut config: Config = rest.parse().map_err(|_| PostgresUrlError::Form)?;
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(PostgresUrlError::Form);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // A peer that is gone without a word is noticed within half a minute.
        config.keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(30));
        config.application_name("baken");
        let tls = tls(authorities.as_deref(), config.get_ssl_mode() == SslMode::Disable)?;
        Ok(Self { config, tls, statement_timeout_ms })
    }

    /// The password, where the address has none.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        if !password.is_empty() {
            self.config.password(password);
        }
        self
    }

    /// Another database of the same server.
    #[must_use]
    pub fn with_database(mut self, name: &str) -> Self {
        self.config.dbname(name);
        self
    }

    /// Waits until the server takes connections: it may be starting too.
    ///
    /// # Errors
    /// [`SqlError::Connect`] if it refuses this user or database, or is away for
    /// longer than `patience`.
    pub async fn await_server(&self, patience: Duration) -> Result<(), SqlError> {
        let deadline = Instant::now() + patience;
        let mut told = false;
        loop {
            match self.connect("public").await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_retryable() && Instant::now() < deadline => {
                    if !told {
                        tracing::warn!(%error, "waiting for PostgreSQL");
                        told = true;
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A connection whose unqualified names are those of `schema`.
    pub(crate) async fn connect(&self, schema: &str) -> Result<(Client, Link), SqlError> {
        let mut config = self.config.clone();
        config.options(format!(
            "-c search_path={schema},public -c statement_timeout={} -c timezone=UTC \
             -c idle_in_transaction_session_timeout=60000",
            self.statement_timeout_ms
        ));
        config.connect(self.tls.clone()).await.map_err(|error| SqlError::Connect(error.into()))
    }
}

fn tls(file: Option<&Path>, unused: bool) -> Result<MakeRustlsConnect, PostgresUrlError> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = file {
        let failed = |reason: String| PostgresUrlError::Authorities { path: path.into(), reason };
        let found =
            CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(failed("it holds no certificate".to_owned()));
        }
    } else if !unused {
        // Those that can't be read are none that could be trusted.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Makes the schema if it is not there and brings it to the newest version.
///
/// `migrations` is the SQL text of all versions, oldest first. Each runs in a
/// transaction of its own together with its number; nodes that start at the same
/// time wait for one another. A schema that a later program has brought forward is
/// taken as it is, unless one of its migrations begins with `-- breaking:`.
///
/// # Errors
/// [`SqlError::SchemaNewer`] or [`SqlError::SchemaMigration`].
pub(crate) async fn migrate(
    client: &mut Client,
    schema: &'static str,
    migrations: &[&str],
) -> Result<(), SqlError> {
    client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await?;
    let migrated = migrate_locked(client, schema, migrations).await;
    client.execute("SELECT pg_advisory_unlock($1)", &[&MIGRATION_LOCK]).await?;
    migrated
}

async fn migrate_locked(
    client: &mut Client,
    schema: &'static str,
    migrations: &[&str],
) -> Result<(), SqlError> {
    client
        .batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS {schema}.migrations (
                 number     INTEGER PRIMARY KEY,
                 applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
             );
             ALTER TABLE {schema}.migrations
                 ADD COLUMN IF NOT EXISTS breaking BOOLEAN NOT NULL DEFAULT FALSE;"
        ))
        .await?;
    let select = format!(
        "SELECT coalesce(max(number), 0), coalesce(max(number) FILTER (WHERE breaking), 0)
         FROM {schema}.migrations"
    );
    let numbers = client.query_one(&select, &[]).await?;
    let number = |column| u32::try_from(numbers.get::<_, i32>(column)).unwrap_or(0);
    let (found, breaking) = (number(0), number(1));
    let known = u32::try_from(migrations.len()).expect("migrations are a short list");
    if breaking > known {
        return Err(SqlError::SchemaNewer { schema, found, known });
    }
    if found > known {
        tracing::warn!(schema, found, known, "a later program has brought the schema forward");
    }
    for (number, sql) in (1..).zip(migrations).skip(found as usize) {
        let failed = |source: tokio_postgres::Error| SqlError::SchemaMigration {
            schema,
            number,
            source: PostgresError(source),
        };
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(sql).await.map_err(failed)?;
        transaction
            .execute(
                "INSERT INTO migrations (number, breaking) VALUES ($1, $2)",
                &[&number.cast_signed(), &sql.starts_with(BREAKING)],
            )
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        tracing::info!(schema, number, "PostgreSQL's schema was brought forward");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_libpq_reads_it_and_never_repeated() {
        let options = PostgresOptions::parse(
            "postgres://baken:secret@a:5432,b:5433/fleet?sslmode=disable&statement_timeout=500",
        )
        .unwrap();
        assert_eq!(options.config.get_hosts().len(), 2);
        assert_eq!(options.config.get_dbname(), Some("fleet"));
        assert_eq!(options.statement_timeout_ms, 500);
        assert!(!format!("{options:?}").contains("secret"));
        for (url, named) in [
            ("postgres://u:secret@a", "postgres://USER@HOST"),
            ("postgres://u:secret@a/b?sslmode=sometimes", "postgres://USER@HOST"),
            ("postgres://u:secret@a/b?statement_timeout=soon", "statement_timeout"),
            ("postgres://u:secret@a/b?sslrootcert=/none.pem", "/none.pem"),
        ] {
            let error = PostgresOptions::parse(url).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
