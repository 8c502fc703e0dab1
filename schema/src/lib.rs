//! The shape of data everywhere in Baken: identities, readings, the journal
//! record and the directory's documents.
//!
//! Every other crate of the workspace stands on this one; it stands on none of
//! them. It never performs IO, reads a clock or starts a task.

mod address;
mod alarm;
mod author;
mod derived;
mod device_map;
mod document;
mod forwarder;
mod ids;
mod notification;
mod partition;
mod record;
mod sealed;
mod system;
mod value;
mod weekly;

pub use address::{Networks, ParseNetworksError, is_localhost_name, is_public_address};
pub use alarm::{
    AlarmAction, AlarmId, AlarmProfile, AlarmRule, AppliesTo, Cause, ClearReason, Command,
    CommandBody, Condition, DurationMs, Filter, Flapping, MAX_TENANT_ALARM_KEY_BYTES, Operand,
    Originator, ParseDurationError, ParseSeverityError, ProfileId, Reference, RuleId, Schedule,
    Severity, SuppressReason, Transition, TransitionId, TransitionKind,
};
pub use author::{Author, Provenance};
pub use derived::ParseIdError;
pub use device_map::DeviceMap;
pub use document::{
    ApiToken, Credentials, Device, Document, DocumentBody, DocumentKind, Location,
    MAX_GROUPS_OF_LOCATION, MAX_LOCATION_GROUP_BYTES, MAX_NAME_BYTES, Router, Tenant,
    TenantSettings, is_location_group,
};
pub use forwarder::{ForwardedTolerance, ForwardedType, Forwarder, ForwarderItem, ForwarderScope};
pub use ids::{
    DeviceId, LocationId, PartitionId, Position, RouterId, TenantId, TimestampMs, UserId,
};
pub use notification::{
    Channel, ChannelLimits, Contact, Delivery, Language, MessageId, MessageTemplate, Moment,
    NoticeId, OfflineProfile, Purpose, QuietHours, Recipient, RuleChoice, Scope, Subscription,
    TemplateKind, User, Webhook, is_email, is_phone,
};
pub use partition::{home_partition_of, partition_of};
pub use record::{
    DecodeError, LocalKey, MAX_RECORD_ROWS, Origin, RECORD_VERSION, Record, RecordBuilder,
    RecordKind, RecordRows, RowLimit, decode_commands, encode_commands,
};
pub use sealed::Sealed;
pub use system::{
    KEY_CLOCK_OFFSET, KEY_CONNECTED, KEY_DISCONNECT_CAUSE, KEY_DISCONNECTED_SINCE, KEY_ENABLED,
    KEY_REFUSED, KEY_REFUSED_REASONS, KEY_SILENT, KEY_SILENT_SINCE, MAX_SILENT_FACTOR,
    MAX_SYSTEM_DELAY_S, SYSTEM_KEY_PREFIX, SYSTEM_KEYS, SystemAlarm, SystemAlarms,
};
pub use value::{Value, ValueKind};
pub use weekly::{DAYS, WeeklyHours, Window, parse_day, parse_time, time_zone};
