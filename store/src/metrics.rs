//! The names of the store's metrics. They are stable: dashboards and alerting
//! rules stand on them. No metric has a label per device or router.

/// Live documents by `kind`.
pub const DIRECTORY_DOCUMENTS: &str = "baken_directory_documents";
/// Transactions that were made durable.
pub const DIRECTORY_COMMITS: &str = "baken_directory_commits_total";
/// Documents written by them.
pub const DIRECTORY_CHANGES: &str = "baken_directory_changes_total";
/// How long a transaction took, its fsync included.
pub const DIRECTORY_COMMIT_SECONDS: &str = "baken_directory_commit_seconds";
/// Requests waiting for the writer.
pub const DIRECTORY_QUEUE: &str = "baken_directory_queue_requests";
/// How many may wait before callers are slowed.
pub const DIRECTORY_QUEUE_LIMIT: &str = "baken_directory_queue_limit_requests";
/// Requests refused, by `reason`.
pub const DIRECTORY_REFUSED: &str = "baken_directory_refused_total";

/// Transactions of attributes that were made durable.
pub const ATTRIBUTES_COMMITS: &str = "baken_attributes_commits_total";
/// Attribute changes written by them.
pub const ATTRIBUTES_CHANGES: &str = "baken_attributes_changes_total";
/// How long a transaction took, its fsync included.
pub const ATTRIBUTES_COMMIT_SECONDS: &str = "baken_attributes_commit_seconds";
/// Attribute changes not kept, by `reason`.
pub const ATTRIBUTES_REFUSED: &str = "baken_attributes_refused_total";
/// Devices with shared attributes that they have not been given yet.
pub const ATTRIBUTES_UNDELIVERED: &str = "baken_attributes_undelivered_devices";
/// Batches waiting for the writer.
pub const ATTRIBUTES_QUEUE: &str = "baken_attributes_queue_batches";
/// How many may wait before recorders are slowed.
pub const ATTRIBUTES_QUEUE_LIMIT: &str = "baken_attributes_queue_limit_batches";

/// Readings written to the history.
pub const HISTORY_ROWS: &str = "baken_history_rows_total";
/// Readings that replaced one of the same device, key and time.
pub const HISTORY_DEDUPLICATED: &str = "baken_history_deduplicated_rows_total";
/// Readings removed by retention.
pub const HISTORY_EXPIRED: &str = "baken_history_expired_rows_total";
/// Rows in memtables, and the limit at which they are flushed.
pub const HISTORY_MEMTABLE_ROWS: &str = "baken_history_memtable_rows";
pub const HISTORY_MEMTABLE_LIMIT_ROWS: &str = "baken_history_memtable_limit_rows";
/// Bytes in memtables, and the limit at which they are flushed.
pub const HISTORY_MEMTABLE_BYTES: &str = "baken_history_memtable_bytes";
pub const HISTORY_MEMTABLE_LIMIT_BYTES: &str = "baken_history_memtable_limit_bytes";
/// Memtables that wait for their flush, and how many may before writers wait.
pub const HISTORY_WAITING: &str = "baken_history_waiting_memtables";
pub const HISTORY_WAITING_LIMIT: &str = "baken_history_waiting_limit_memtables";
/// Writes that had to wait for a flush.
pub const HISTORY_BLOCKED: &str = "baken_history_blocked_writes_total";
/// Pairs of device and key.
pub const HISTORY_SERIES: &str = "baken_history_series";
/// Files of the history, and their bytes.
pub const HISTORY_FILES: &str = "baken_history_files";
pub const HISTORY_FILE_BYTES: &str = "baken_history_file_bytes";
/// How long a flush took, and what it wrote.
pub const HISTORY_FLUSH_SECONDS: &str = "baken_history_flush_seconds";
pub const HISTORY_FLUSHED_ROWS: &str = "baken_history_flushed_rows_total";
pub const HISTORY_FLUSHED_BYTES: &str = "baken_history_flushed_bytes_total";
/// How long a compaction took, what it wrote, and how many files it read.
pub const HISTORY_COMPACTION_SECONDS: &str = "baken_history_compaction_seconds";
pub const HISTORY_COMPACTED_ROWS: &str = "baken_history_compacted_rows_total";
pub const HISTORY_COMPACTED_BYTES: &str = "baken_history_compacted_bytes_total";
pub const HISTORY_COMPACTED_FILES: &str = "baken_history_compacted_files_total";
/// Failed attempts, by `work` (`flush`, `compaction`).
pub const HISTORY_FAILURES: &str = "baken_history_failures_total";
/// How long a query took, by `kind` (`latest`, `range`, `aggregate`).
pub const HISTORY_QUERY_SECONDS: &str = "baken_history_query_seconds";
/// Bytes of file footers and indexes in memory, their limit, and how often a
/// query had to open a file.
pub const HISTORY_CACHE_BYTES: &str = "baken_history_cache_bytes";
pub const HISTORY_CACHE_LIMIT_BYTES: &str = "baken_history_cache_limit_bytes";
pub const HISTORY_CACHE_MISSES: &str = "baken_history_cache_misses_total";

/// Rows that were brought into PostgreSQL, by `way`: `copy` straight into their
/// table, `replace` in the place of what may be there, `odd` of odd times.
pub const HISTORY_COPIED_ROWS: &str = "baken_history_copied_rows_total";
/// Their bytes as they were sent.
pub const HISTORY_COPIED_BYTES: &str = "baken_history_copied_bytes_total";
/// Transactions of readings that PostgreSQL has made durable.
pub const HISTORY_COMMITS: &str = "baken_history_commits_total";
/// How long one took, from when its readings were due, attempts that failed included.
pub const HISTORY_COMMIT_SECONDS: &str = "baken_history_commit_seconds";
/// Attempts that failed and were made again.
pub const HISTORY_RETRIES: &str = "baken_history_retries_total";
/// Transactions that met a reading that was there already.
pub const HISTORY_CONFLICTS: &str = "baken_history_conflicts_total";
/// Writers that were ended because another has taken their partition over.
pub const HISTORY_FENCED: &str = "baken_history_fenced_writers_total";
/// Batches and rows on their way to PostgreSQL, and how many may be: what is
/// beyond is gathered, up to a batch for each partition, and then writers wait.
pub const HISTORY_IN_FLIGHT_BATCHES: &str = "baken_history_in_flight_batches";
pub const HISTORY_IN_FLIGHT_ROWS: &str = "baken_history_in_flight_rows";
pub const HISTORY_IN_FLIGHT_LIMIT_ROWS: &str = "baken_history_in_flight_limit_rows";
/// Rows that a partition gathers before its writer waits.
pub const HISTORY_BATCH_LIMIT_ROWS: &str = "baken_history_batch_limit_rows";
/// Spans of time that PostgreSQL has tables or chunks for, and their limit.
pub const HISTORY_SPANS: &str = "baken_history_spans";
pub const HISTORY_SPANS_LIMIT: &str = "baken_history_spans_limit";
/// Questions that PostgreSQL is asked at the same time, and how many may be.
pub const HISTORY_QUESTIONS: &str = "baken_history_questions";
pub const HISTORY_QUESTIONS_LIMIT: &str = "baken_history_questions_limit";

/// Transactions of forwarders' progress that were made durable.
pub const FORWARDERS_COMMITS: &str = "baken_forwarders_commits_total";
/// How long a transaction took, its fsync included.
pub const FORWARDERS_COMMIT_SECONDS: &str = "baken_forwarders_commit_seconds";
/// Requests waiting for the writer, and how many may before callers are slowed.
pub const FORWARDERS_STORE_QUEUE: &str = "baken_forwarders_store_queue_requests";
pub const FORWARDERS_STORE_QUEUE_LIMIT: &str = "baken_forwarders_store_queue_limit_requests";
