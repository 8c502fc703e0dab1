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
