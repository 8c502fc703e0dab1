//! Every bound of the forwarders, with its default. Those that an operator may
//! want otherwise are settings of [`crate::ForwarderOptions`].

/// Values of one forwarder and partition that are queued or in flight. One more
/// and the forwarder reads from its own place in the journal instead.
pub const QUEUE_VALUES: usize = 4_096;

/// Bytes of the same.
pub const QUEUE_BYTES: usize = 1 << 20;

/// Series of one forwarder and partition whose last sent value is remembered.
/// Readings of further ones are sent as if they were the first.
pub const MAX_SERIES: usize = 1_000_000;

/// Dead letters that are kept for one forwarder; the oldest make room.
pub const MAX_DEAD_LETTERS: u32 = 10_000;

/// The longest pause between two attempts, also where a platform asks for more.
pub const MAX_RETRY_MS: u64 = 600_000;

/// The ceiling of the first pause; each attempt doubles it.
pub const MIN_RETRY_MS: u64 = 500;

/// How often a value is tried that the platform answers with a fault of its own
/// (HTTP 500 and the like) before it becomes a dead letter.
pub const BOUNDED_ATTEMPTS: u32 = 10;

/// Failures in a row after which a target account is left alone for a while.
pub const BREAKER_FAILURES: u32 = 5;

/// How long it is left alone before one attempt is made.
pub const BREAKER_OPEN_MS: u64 = 10_000;

/// New connections a second over all forwarders.
pub const CONNECTS_PER_S: u32 = 50;

/// How long one attempt to send may take.
pub const SEND_TIMEOUT_MS: u64 = 30_000;

/// How long a test of a connection may take.
pub const TEST_TIMEOUT_MS: u64 = 15_000;

/// How long a forwarder fails before it is called failing to others.
pub const TROUBLE_AFTER_MS: u64 = 60_000;
