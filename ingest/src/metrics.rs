//! The names of this crate's metrics. They are stable: dashboards and alerts
//! name them. None carries a label per router or device.

// Batching: submissions on their way into the journal.

/// Submissions accepted by a partition's queue, by `partition`.
pub const BATCH_SUBMISSIONS_TOTAL: &str = "baken_batch_submissions_total";
/// Rows put into journal records, by `partition`.
pub const BATCH_ROWS_TOTAL: &str = "baken_batch_rows_total";
/// Journal records made, by `partition`.
pub const BATCH_RECORDS_TOTAL: &str = "baken_batch_records_total";
/// Rows of one journal record.
pub const BATCH_RECORD_ROWS: &str = "baken_batch_record_rows";
/// Bytes that wait in a partition's queue or for the journal, by `partition`.
pub const BATCH_QUEUE_BYTES: &str = "baken_batch_queue_bytes";
/// The most bytes that may wait, by `partition`.
pub const BATCH_QUEUE_LIMIT_BYTES: &str = "baken_batch_queue_limit_bytes";
/// From a submission's arrival until the journal made it durable.
pub const BATCH_DURABLE_SECONDS: &str = "baken_batch_durable_seconds";
/// Submissions that the journal could not take, by `partition`.
pub const BATCH_FAILED_TOTAL: &str = "baken_batch_failed_total";
/// Distinct keys that the process knows.
pub const BATCH_KEYS: &str = "baken_batch_keys";

// Recording: from the journal into the history and the attributes.

/// The next journal position that a partition's recorder will take, by `partition`.
pub const RECORDER_POSITION: &str = "baken_recorder_position";
/// Durable journal records that the recorder has still to take, by `partition`.
pub const RECORDER_LAG_RECORDS: &str = "baken_recorder_lag_records";
/// Time since the last record taken was appended, by `partition`; 0 when none waits.
pub const RECORDER_LAG_SECONDS: &str = "baken_recorder_lag_seconds";
/// Rows recorded, by `partition`.
pub const RECORDER_ROWS_TOTAL: &str = "baken_recorder_rows_total";
/// 1 where a partition's recorder has stopped and wants a person, by `partition`.
pub const RECORDER_STOPPED: &str = "baken_recorder_stopped";
/// Writes that failed and were tried again, by `partition`.
pub const RECORDER_RETRIES_TOTAL: &str = "baken_recorder_retries_total";

// The broker: connections and what comes and goes on them.

/// Open sessions, by `protocol` (`mqtt3`, `mqtt5`) and `transport` (`tcp`, `tls`).
pub const BROKER_CONNECTIONS: &str = "baken_broker_connections";
/// Connections that have no session yet.
pub const BROKER_UNAUTHENTICATED: &str = "baken_broker_unauthenticated_connections";
/// Connection attempts, by `result`.
pub const BROKER_CONNECTS_TOTAL: &str = "baken_broker_connects_total";
/// Sessions that ended, by `cause`.
pub const BROKER_DISCONNECTS_TOTAL: &str = "baken_broker_disconnects_total";
/// Publishes taken, by `kind` of topic.
pub const BROKER_PUBLISHES_TOTAL: &str = "baken_broker_publishes_total";
/// Publishes and parts of them that were refused, by `reason`.
pub const BROKER_REFUSED_TOTAL: &str = "baken_broker_refused_total";
/// Readings taken.
pub const BROKER_READINGS_TOTAL: &str = "baken_broker_readings_total";
/// Attributes taken.
pub const BROKER_ATTRIBUTES_TOTAL: &str = "baken_broker_attributes_total";
/// Bytes read from sockets, TLS taken off.
pub const BROKER_RECEIVED_BYTES_TOTAL: &str = "baken_broker_received_bytes_total";
/// Bytes written to sockets, before TLS.
pub const BROKER_SENT_BYTES_TOTAL: &str = "baken_broker_sent_bytes_total";
/// Socket reads on their way into the journal.
pub const BROKER_SUBMISSIONS_IN_FLIGHT: &str = "baken_broker_submissions_in_flight";
/// Times that a socket was not read because a limit of its session was reached.
pub const BROKER_PAUSED_READS_TOTAL: &str = "baken_broker_paused_reads_total";
/// Rows that came at QoS 0 and were not submitted, by `reason`: their connection
/// ended without room for them in the queue (`no_room`), or the journal failed.
pub const BROKER_GIVEN_UP_ROWS_TOTAL: &str = "baken_broker_given_up_rows_total";
/// QoS 0 publishes that were read and not looked at when their connection ended.
pub const BROKER_UNREAD_PUBLISHES_TOTAL: &str = "baken_broker_unread_publishes_total";
/// Messages to routers.
pub const BROKER_DOWNLINK_TOTAL: &str = "baken_broker_downlink_total";
/// Calls to routers, by `result`.
pub const BROKER_CALLS_TOTAL: &str = "baken_broker_calls_total";
/// Passwords that are known to be right.
pub const BROKER_VERIFIED_PASSWORDS: &str = "baken_broker_verified_passwords";
/// Times that the TLS files were read again, by `result`.
pub const BROKER_TLS_RELOADS_TOTAL: &str = "baken_broker_tls_reloads_total";

/// Logins and refusals that whoever keeps the audit history had no room for.
pub const BROKER_LOGINS_UNTOLD_TOTAL: &str = "baken_broker_logins_untold_total";

/// When the first certificate of a `listener`'s chain expires, in seconds since 1970.
pub const TLS_CERTIFICATE_EXPIRY: &str = "baken_tls_certificate_expiry_timestamp_seconds";

// Among other nodes.

/// Connections that are still to be asked to go to another node.
pub const CONNECTIONS_DRAINING: &str = "baken_connections_draining";
/// Nodes that share the store.
pub const CLUSTER_NODES: &str = "baken_cluster_nodes";
/// Times that other nodes could not be heard.
pub const CLUSTER_FAILURES_TOTAL: &str = "baken_cluster_failures_total";
/// Connections that ended because their client came to another node.
pub const CLUSTER_YIELDED_TOTAL: &str = "baken_cluster_yielded_connections_total";
/// What was written to other nodes, by `kind`.
pub const CLUSTER_LETTERS_TOTAL: &str = "baken_cluster_letters_total";

// Presence: whether routers are there, as readings.

/// Readings written of whether routers are there.
pub const PRESENCE_READINGS_TOTAL: &str = "baken_presence_readings_total";
/// Writes of presence that failed and are tried again.
pub const PRESENCE_RETRIES_TOTAL: &str = "baken_presence_retries_total";
/// Routers that came or went and of which it is not written yet.
pub const PRESENCE_WAITING: &str = "baken_presence_waiting_routers";
/// Routers that are connected and silent past their limit.
pub const PRESENCE_SILENT: &str = "baken_presence_silent_routers";
