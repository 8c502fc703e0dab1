//! The settings of the parts that keep: journal, history and alarms.

use std::path::PathBuf;

use alarms::AlarmOptions;
use ingest::batch::BatchOptions;
use ingest::recorder::RecorderOptions;
use journal::{EmbeddedOptions, KafkaOptions, OpenError, Secret};
use serde::{Deserialize, Serialize};
use store::{HistoryOptions, PostgresHistoryOptions, PostgresOptions, PostgresUrlError};
use utoipa::ToSchema;

use super::ServiceUrl;

/// An hour, the unit of the journal's retention and of the history's windows.
const HOUR_MS: u64 = 3_600_000;

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// Where the journal is: empty for the folder's own, else Kafka, as
    /// `kafka://user@host:port,host:port/topic?option=value&…`. The options are
    /// `partitions` (64), `replication_factor` (3), `min_insync_replicas` (2) and
    /// `retention_hours` (168) of a topic that is made and at least of one that is
    /// there, `tls` (`true` or `false`), `ca_file`, and `sasl` (`plain`,
    /// `scram-sha-256`, `scram-sha-512`), and `linger_ms` (1): how long a record
    /// waits for others of its partition to go with it. Of this section only
    /// `queue_bytes` and what is below `batch` apply then. Also the flag
    /// `--journal`.
    #[schema(value_type = String, format = "empty, or kafka://host:port,host:port/topic")]
    pub url: ServiceUrl,
    /// The file with the password of the user in `journal.url`, of which the
    /// first line counts; empty takes the one in the address, if there is one.
    #[schema(value_type = String, format = "file")]
    pub password_file: PathBuf,
    /// Partitions of a new journal. A folder keeps its number for life, because
    /// a location's readings would otherwise lose their order.
    #[schema(minimum = 1, maximum = 1_024)]
    pub partitions: u16,
    /// The size at which a file of the journal is closed and the next begun.
    #[schema(minimum = 1_048_576, maximum = 2_000_000_000)]
    pub segment_bytes: u64,
    /// Records are deleted when the journal is larger than this and no reader
    /// needs them any more.
    #[schema(minimum = 16_777_216)]
    pub retention_bytes: u64,
    /// Records are deleted when they are older than this and no reader needs
    /// them any more.
    #[schema(minimum = 1, maximum = 876_000)]
    pub retention_hours: u32,
    /// Bytes that may wait to be written; past it publishers are slowed.
    #[schema(minimum = 1_048_576, maximum = 1_073_741_824)]
    pub queue_bytes: u64,
    /// A commit begins at the earliest this long after the one before, unless
    /// much waits: more saves processor time on a fleet of many small messages
    /// and delays each PUBACK by as much; 0 paces nothing.
    #[schema(minimum = 0, maximum = 1_000)]
    pub commit_interval_ms: u64,
    /// The journal stalls rather than leave less than this free on its disk, so
    /// that history and database can go on and free some; 0 to use all.
    #[schema(minimum = 0)]
    pub reserve_bytes: u64,
    /// How messages of many routers are gathered into records.
    #[schema(inline)]
    pub batch: BatchConfig,
}

/// How messages become records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Bytes of one partition that may be gathered and not yet durable; past it
    /// publishers are slowed.
    #[schema(minimum = 1_048_576, maximum = 1_073_741_824)]
    pub queue_bytes: usize,
    /// A record is closed once it has as many readings.
    #[schema(minimum = 1, maximum = 65_536)]
    pub max_record_rows: usize,
    /// A record is closed once it has as many bytes before compression.
    #[schema(minimum = 4_096, maximum = 33_554_432)]
    pub max_record_bytes: usize,
    /// Records of one partition that are being written while the next is gathered.
    #[schema(minimum = 1, maximum = 1_024)]
    pub max_records_in_flight: usize,
    /// While one is being written, the next is begun only with as many
    /// readings; fewer wait for it and share its successor.
    #[schema(minimum = 1, maximum = 65_536)]
    pub pipelined_rows: usize,
}

/// The history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// Records that the history may be behind the journal before
    /// `/health/ready` says so.
    #[schema(minimum = 1)]
    pub max_lag_records: u64,
    /// Readings of one partition that are kept in memory, in bytes, before they
    /// are written to a file.
    #[schema(minimum = 1_048_576, maximum = 2_000_000_000)]
    pub memtable_bytes: usize,
    /// They are written at this number too.
    #[schema(minimum = 1_000, maximum = 100_000_000)]
    pub memtable_rows: usize,
    /// They are written at this age too, so that the journal need not be kept
    /// for them.
    #[schema(minimum = 1_000, maximum = 86_400_000)]
    pub memtable_age_ms: u64,
    /// So many times these readings may wait to be written; past it the history
    /// falls behind the journal.
    #[schema(minimum = 1, maximum = 64)]
    pub waiting_memtables: usize,
    /// Memory for what is known of files, over all partitions.
    #[schema(minimum = 1_048_576, maximum = 2_000_000_000)]
    pub cache_bytes: usize,
    /// Queries that read files at the same time; more wait for their turn.
    #[schema(minimum = 1, maximum = 1_024)]
    pub concurrent_queries: usize,
    /// Bytes of texts at which a page of readings ends early.
    #[schema(minimum = 65_536, maximum = 1_073_741_824)]
    pub page_text_bytes: usize,
    /// How long a write that failed waits before it is tried again.
    #[schema(minimum = 1, maximum = 600_000)]
    pub retry_ms: u64,
    /// Threads that write history; 0 takes as many as there are cores.
    #[schema(minimum = 0, maximum = 1_024)]
    pub recorder_threads: usize,
    /// Records whose attributes are stored in one transaction.
    #[schema(minimum = 1, maximum = 65_536)]
    pub recorder_batch_records: usize,
    /// How readings lie in files, and when files are merged.
    #[schema(inline)]
    pub files: HistoryFilesConfig,
}

/// The history's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryFilesConfig {
    /// The span of time that files are sorted into, so that whole files go when
    /// their readings are too old.
    #[schema(minimum = 1, maximum = 8_760)]
    pub window_hours: u32,
    /// As many files of about one size are merged into one.
    #[schema(minimum = 2, maximum = 64)]
    pub fanout: usize,
    /// Files over several spans of time before they are split.
    #[schema(minimum = 1, maximum = 1_024)]
    pub mixed_files: usize,
    /// A span of time to which nothing was added for so many writes is merged.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub quiet_flushes: u64,
    /// Readings of one file, about.
    #[schema(minimum = 1_000, maximum = 1_000_000_000)]
    pub file_rows: usize,
    /// Files that one merge writes at the same time.
    #[schema(minimum = 1, maximum = 256)]
    pub open_outputs: usize,
    /// Readings of one row group of a file.
    #[schema(minimum = 1_000, maximum = 16_777_216)]
    pub row_group_rows: usize,
    /// Readings of one page of a file: what is read at least for one reading.
    #[schema(minimum = 16, maximum = 1_048_576)]
    pub page_rows: usize,
}

/// The alarm workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmConfig {
    /// Records that the alarms may be behind the journal before
    /// `/health/ready` says so.
    #[schema(minimum = 1)]
    pub max_lag_records: u64,
    /// How long a device must be silent before its deadlines fire by the clock
    /// instead of by the next reading's time.
    #[schema(minimum = 0, maximum = 3_600_000)]
    pub grace_ms: u32,
    /// Threads that evaluate rules; 0 takes half of the cores.
    #[schema(minimum = 0, maximum = 1_024)]
    pub threads: usize,
    /// Records that are evaluated before what came of them is stored, at most.
    #[schema(minimum = 1, maximum = 65_536)]
    pub max_batch_records: usize,
    /// How often the place in the journal is stored while no alarm changes.
    #[schema(minimum = 10, maximum = 60_000)]
    pub commit_interval_ms: u64,
    /// The longest pause while there is nothing to do.
    #[schema(minimum = 1, maximum = 60_000)]
    pub idle_ms: u64,
    /// What the rules remember is stored after so many readings, so that a
    /// restart need not evaluate them again.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub snapshot_rows: u64,
    /// It is stored after this time too.
    #[schema(minimum = 100, maximum = 86_400_000)]
    pub snapshot_interval_ms: u64,
    /// How long a write that failed waits before it is tried again.
    #[schema(minimum = 1, maximum = 600_000)]
    pub retry_ms: u64,
    /// The topic in Kafka in which each transition of an alarm is published for
    /// others, beside the journal's and with as many partitions and copies; empty
    /// publishes none. It begins with what happens from then on. See
    /// docs/transitions.md.
    #[schema(format = "empty, or letters, digits, dots, hyphens and underscores")]
    pub transitions_topic: String,
    /// How long Kafka keeps what is published there, at least.
    #[schema(minimum = 1, maximum = 876_000)]
    pub transitions_retention_hours: u32,
}

/// Where directory, history, alarms and what else is stored are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Empty for the folder's own files, else PostgreSQL, as
    /// `postgres://user@host:port/database?option=value&…`; several hosts stand
    /// with commas between them. The options are those of libpq (`sslmode`, of
    /// which `require` also checks the certificate, `target_session_attrs`,
    /// `connect_timeout`), `sslrootcert`, and `statement_timeout` in milliseconds
    /// (60,000). Several nodes share it where they share a journal in Kafka. Also
    /// the flag `--store`.
    #[schema(value_type = String, format = "empty, or postgres://user@host:port/database")]
    pub url: ServiceUrl,
    /// The file with the password of the user in `store.url`, of which the first
    /// line counts; empty takes the one in the address, if there is one.
    #[schema(value_type = String, format = "file")]
    pub password_file: PathBuf,
    /// How long a node that starts waits for PostgreSQL that is away or starting
    /// itself. It serves nothing meanwhile, and ends with an error after that.
    #[schema(minimum = 0, maximum = 3_600_000)]
    pub start_patience_ms: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let (url, password_file) = (ServiceUrl::default(), PathBuf::new());
        Self { url, password_file, start_patience_ms: 60_000 }
    }
}

impl StoreConfig {
    /// How PostgreSQL is reached. `password` is what the file says, or empty.
    ///
    /// # Errors
    /// The address names what is wrong in it.
    pub fn postgres_options(&self, password: &str) -> Result<PostgresOptions, PostgresUrlError> {
        Ok(PostgresOptions::parse(self.url.expose())?.with_password(password))
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        let options = EmbeddedOptions::default();
        Self {
            url: ServiceUrl::default(),
            password_file: PathBuf::new(),
            partitions: options.partitions,
            segment_bytes: options.segment_bytes,
            retention_bytes: options.retention_bytes,
            retention_hours: u32::try_from(options.retention_ms / HOUR_MS).unwrap_or(u32::MAX),
            queue_bytes: options.queue_bytes as u64,
            commit_interval_ms: options.commit_interval_ms,
            reserve_bytes: options.reserve_bytes,
            batch: BatchConfig::default(),
        }
    }
}

impl Default for BatchConfig {
    fn default() -> Self {
        let options = BatchOptions::default();
        Self {
            queue_bytes: options.queue_bytes,
            max_record_rows: options.max_record_rows,
            max_record_bytes: options.max_record_bytes,
            max_records_in_flight: options.max_records_in_flight,
            pipelined_rows: options.pipelined_rows,
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        let (options, recorder) = (HistoryOptions::default(), RecorderOptions::default());
        Self {
            max_lag_records: 100_000,
            memtable_bytes: options.memtable_bytes,
            memtable_rows: options.memtable_rows,
            memtable_age_ms: options.memtable_age_ms,
            waiting_memtables: options.waiting_memtables,
            cache_bytes: options.cache_bytes,
            concurrent_queries: options.concurrent_queries,
            page_text_bytes: options.page_text_bytes,
            retry_ms: options.retry_ms,
            recorder_threads: recorder.threads,
            recorder_batch_records: recorder.max_batch_records,
            files: HistoryFilesConfig::default(),
        }
    }
}

impl Default for HistoryFilesConfig {
    fn default() -> Self {
        let options = HistoryOptions::default();
        let window_ms = u64::try_from(options.window_ms).unwrap_or(HOUR_MS);
        Self {
            window_hours: u32::try_from(window_ms / HOUR_MS).unwrap_or(u32::MAX),
            fanout: options.fanout,
            mixed_files: options.mixed_files,
            quiet_flushes: options.quiet_flushes,
            file_rows: options.file_rows,
            open_outputs: options.open_outputs,
            row_group_rows: options.row_group_rows,
            page_rows: options.page_rows,
        }
    }
}

impl Default for AlarmConfig {
    fn default() -> Self {
        let options = AlarmOptions::default();
        Self {
            max_lag_records: 100_000,
            grace_ms: u32::try_from(options.grace_ms).unwrap_or(0),
            threads: options.threads,
            max_batch_records: options.max_batch_records,
            commit_interval_ms: options.commit_interval_ms,
            idle_ms: options.idle_ms,
            snapshot_rows: options.snapshot_rows,
            snapshot_interval_ms: options.snapshot_interval_ms,
            retry_ms: options.retry_ms,
            transitions_topic: String::new(),
            transitions_retention_hours: 168,
        }
    }
}

impl JournalConfig {
    /// The journal in Kafka. `password` is what the file says, or empty.
    ///
    /// # Errors
    /// The address names what is wrong in it.
    pub fn kafka_options(&self, password: &str) -> Result<KafkaOptions, OpenError> {
        let mut options = KafkaOptions::parse(self.url.expose())?;
        options.queue_bytes = usize::try_from(self.queue_bytes).unwrap_or(usize::MAX);
        if !password.is_empty() {
            options.password = Secret::from(password.to_owned());
        }
        options.check()?;
        Ok(options)
    }

    /// The same with a journal that deletes nothing: for who opens a folder whose
    /// readers do not run, and so can't say what they need.
    #[must_use]
    pub fn keeping_all(&self) -> Self {
        Self { retention_bytes: u64::MAX, retention_hours: u32::MAX, ..self.clone() }
    }

    /// The journal in the folder `dir`.
    #[must_use]
    pub fn options(&self, dir: PathBuf) -> EmbeddedOptions {
        EmbeddedOptions {
            dir,
            partitions: self.partitions,
            segment_bytes: self.segment_bytes,
            retention_bytes: self.retention_bytes,
            retention_ms: u64::from(self.retention_hours) * HOUR_MS,
            queue_bytes: usize::try_from(self.queue_bytes).unwrap_or(usize::MAX),
            commit_interval_ms: self.commit_interval_ms,
            reserve_bytes: self.reserve_bytes,
            ..EmbeddedOptions::default()
        }
    }

    #[must_use]
    pub fn batch_options(&self) -> BatchOptions {
        BatchOptions {
            queue_bytes: self.batch.queue_bytes,
            max_record_rows: self.batch.max_record_rows,
            max_record_bytes: self.batch.max_record_bytes,
            max_records_in_flight: self.batch.max_records_in_flight,
            pipelined_rows: self.batch.pipelined_rows,
        }
    }
}

impl HistoryConfig {
    #[must_use]
    pub fn options(&self) -> HistoryOptions {
        let files = &self.files;
        let window_ms = u64::from(files.window_hours) * HOUR_MS;
        HistoryOptions {
            memtable_bytes: self.memtable_bytes,
            memtable_rows: self.memtable_rows,
            memtable_age_ms: self.memtable_age_ms,
            waiting_memtables: self.waiting_memtables,
            cache_bytes: self.cache_bytes,
            concurrent_queries: self.concurrent_queries,
            page_text_bytes: self.page_text_bytes,
            retry_ms: self.retry_ms,
            window_ms: i64::try_from(window_ms).unwrap_or(i64::MAX),
            fanout: files.fanout,
            mixed_files: files.mixed_files,
            quiet_flushes: files.quiet_flushes,
            file_rows: files.file_rows,
            open_outputs: files.open_outputs,
            row_group_rows: files.row_group_rows,
            page_rows: files.page_rows,
            ..HistoryOptions::default()
        }
    }

    /// The history in PostgreSQL, as far as the same limits concern it.
    #[must_use]
    pub fn postgres_options(&self) -> PostgresHistoryOptions {
        PostgresHistoryOptions {
            read_connections: self.concurrent_queries,
            page_text_bytes: self.page_text_bytes,
            retry_max_ms: self.retry_ms.max(1),
            retry_min_ms: self.retry_ms.clamp(1, 50),
            ..PostgresHistoryOptions::default()
        }
    }

    #[must_use]
    pub fn recorder_options(&self) -> RecorderOptions {
        RecorderOptions {
            threads: self.recorder_threads,
            max_batch_records: self.recorder_batch_records,
            ..RecorderOptions::default()
        }
    }
}

impl AlarmConfig {
    /// How long transitions that are published stay in their topic, at least.
    #[must_use]
    pub fn transitions_retention_ms(&self) -> u64 {
        u64::from(self.transitions_retention_hours) * HOUR_MS
    }

    #[must_use]
    pub fn options(&self) -> AlarmOptions {
        AlarmOptions {
            threads: self.threads,
            grace_ms: i64::from(self.grace_ms),
            max_batch_records: self.max_batch_records,
            commit_interval_ms: self.commit_interval_ms,
            idle_ms: self.idle_ms,
            snapshot_rows: self.snapshot_rows,
            snapshot_interval_ms: self.snapshot_interval_ms,
            retry_ms: self.retry_ms,
            ..AlarmOptions::default()
        }
    }
}
