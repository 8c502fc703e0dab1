//! The engine's named limits.

/// The most rules of one profile.
pub const MAX_RULES: usize = 1_000;

/// The most location groups that one profile names.
pub const MAX_APPLIED_GROUPS: usize = 256;

/// The deepest nesting of `all` and `any` in a condition.
pub const MAX_NESTING: usize = 8;

/// The most comparisons of one condition.
pub const MAX_FILTERS: usize = 64;

/// The most values of a list after `in` and `not in`.
pub const MAX_LIST: usize = 256;

/// The highest `times` of a repeating condition, each of which is remembered.
pub const MAX_TIMES: u32 = 1_000;

/// The longest pattern of `matches`, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1_024;

/// The most memory that a compiled pattern may take.
pub const MAX_PATTERN_MEMORY_BYTES: usize = 256 * 1_024;

/// The most patterns of one profile.
pub const MAX_PATTERNS: usize = 64;

/// The most memory that all compiled patterns of one profile may take, each
/// counted as the next power of two of what it needs.
pub const MAX_PATTERNS_MEMORY_BYTES: usize = 2 * 1_024 * 1_024;

/// A text value is kept and compared up to this many bytes.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// A `delta` remembers the first reading of each of this many parts of its window.
pub const DELTA_PARTS: i64 = 64;

/// The longest description of a rule, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 4_096;

/// The longest description of a transition, in bytes, with values in its places;
/// the rest is cut off, and `…` says so. As long as a rule's, so that one without
/// places is never cut.
pub const MAX_FILLED_BYTES: usize = MAX_DESCRIPTION_BYTES;

/// The most bytes of keys and values that a transition tells; the first keys of
/// the rule come first.
pub const MAX_VALUES_BYTES: usize = 16 * 1_024;

/// The longest `lateness` of a profile.
pub const MAX_LATENESS_MS: i64 = 24 * 3_600_000;

/// The most groups of readings that one device's lateness holds back; past it
/// the earliest is evaluated before its time, and counted.
pub const MAX_HELD: usize = 10_000;

/// Active alarms of one rule that a tenant has at most, where the rule sets no
/// `max_active`.
pub const DEFAULT_MAX_ACTIVE: u32 = 100_000;

/// With this begins the rule's key of the alarm that says that a limit of alarms
/// is reached. Part of stored data.
pub const LIMIT_KEY_PREFIX: &str = "alarm_limit/";

/// How long a device must be silent before its deadlines fire by the clock,
/// so that a reading that is on its way still comes first.
pub const DEFAULT_GRACE_MS: i64 = 2_000;

/// The states that flapping looks back on.
pub const FLAP_STATES: u32 = 21;
