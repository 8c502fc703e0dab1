//! How long and how much. A message that nobody can read helps nobody, and what
//! comes from routers and tenants has no limit of its own.

/// The most notices that one message lists; of the others it says how many.
pub const MAX_LISTED: usize = 50;

/// The longest field of a template that a tenant writes.
pub const MAX_TEMPLATE_BYTES: usize = 32 * 1024;

/// The longest subject; mail programs show far less.
pub const MAX_SUBJECT_CHARS: usize = 160;

/// The longest plain part of an e-mail.
pub const MAX_TEXT_BYTES: usize = 96 * 1024;

/// The longest HTML part. Baken's own stay below 100 KiB even with hostile names,
/// because Gmail shows no more than that at once.
pub const MAX_HTML_BYTES: usize = 256 * 1024;

/// The longest SMS: three segments of the GSM alphabet.
pub const MAX_SMS_CHARS: usize = 459;

/// The longest SMS with letters outside of the GSM alphabet: three segments of
/// UTF-16.
pub(super) const MAX_WIDE_SMS_CHARS: usize = 201;

/// The longest body of a webhook, as JSON.
pub const MAX_DATA_BYTES: usize = 1024 * 1024;

/// Of a rule's description in a message about one alarm.
pub(super) const MAX_DESCRIPTION_CHARS: usize = 1_000;

/// Of a rule's description in a list.
pub(super) const MAX_LISTED_DESCRIPTION_CHARS: usize = 200;

/// Of a name: a tenant's, a location's, a device's, a rule's, a person's.
pub(super) const MAX_NAME_CHARS: usize = 120;

/// Of one value.
pub(super) const MAX_VALUE_CHARS: usize = 200;

/// The most values of one notice that are shown.
pub(super) const MAX_VALUES: usize = 20;

/// The same in a list, so that a template that shows all values of all notices can
/// still be used.
pub(super) const MAX_LISTED_VALUES: usize = 5;

/// Of a key and of its value in a list.
pub(super) const MAX_LISTED_VALUE_CHARS: usize = 60;

/// Of a link. A browser takes more; ours are below 500.
pub(super) const MAX_LINK_CHARS: usize = 2_000;

/// The longest text in quotes within a tag of a template. What a step works on is
/// then short, as the facts are, and so is the step.
pub(super) const MAX_QUOTED_BYTES: usize = 200;

/// How many steps (instructions of the engine) one field of a message may take.
/// The longest of Baken's own takes about 3,500; a full list with all its values
/// some 20,000.
pub(super) const FUEL: u64 = 100_000;

/// How deep the loops of a template may nest.
pub(super) const MAX_RECURSION: usize = 16;

/// What came later than this after it happened is told to have come late.
pub(super) const LATE_MS: i64 = 60_000;
