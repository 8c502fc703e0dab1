//! How much a tenant may have of what says who is told of alarms.

/// The most users of a tenant.
pub const MAX_USERS: u32 = 1_000;

/// The most subscriptions of a tenant; a transition is held against all of them.
pub const MAX_SUBSCRIPTIONS: u32 = 5_000;

/// The most offline profiles of a tenant.
pub const MAX_OFFLINE_PROFILES: u32 = 200;

/// The most message templates of a tenant.
pub const MAX_TEMPLATES: u32 = 200;

/// The most further addresses of an offline profile, e-mail and telephone together.
pub const MAX_ADDRESSES: usize = 50;

/// The most locations and groups that one scope names.
pub const MAX_SCOPE_ENTRIES: usize = 1_000;

/// The most rules that one subscription chooses.
pub const MAX_RULE_CHOICES: usize = 1_000;

/// The most quiet hours of a user.
pub const MAX_QUIET_HOURS: usize = 20;

/// The longest time within which messages are grouped.
pub const MAX_GROUP_S: u32 = 86_400;

/// The most messages an hour to one user by one channel.
pub const MAX_PER_HOUR: u32 = 3_600;

/// The shortest wait of an escalation and interval of a reminder.
pub const MIN_WAIT_S: u32 = 60;

/// The longest wait of an escalation or an offline profile, and interval of a
/// reminder: 30 days.
pub const MAX_WAIT_S: u32 = 30 * 24 * 3_600;

/// The longest address of a webhook, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// The longest subject of a template, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 1_024;

/// The longest plain or HTML text of a template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 32_768;
