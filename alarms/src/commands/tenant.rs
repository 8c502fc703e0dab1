//! System alarms of a tenant as a whole, which other parts of Baken raise and
//! clear: of what is no device's, such as a notification that nobody can be sent.

use std::sync::Arc;

use alarm_core::limits::LIMIT_KEY_PREFIX;
use schema::{
    Command, CommandBody, MAX_TENANT_ALARM_KEY_BYTES, Severity, TenantId, encode_commands,
    home_partition_of,
};

use super::{AlarmCommands, CommandError};
use crate::clock::now;

impl AlarmCommands {
    /// Raises, updates or clears an alarm of the tenant as a whole, and returns
    /// when that is durable; the alarm is there a moment later. While it is
    /// active, another severity changes it and the same updates it. Cleared where
    /// there is none, or raised again after a person has cleared it, it is as
    /// with any other.
    ///
    /// The key says what is wrong and of what, such as `forwarder_failing/17`.
    /// Of a description and values that are too long the engine tells what has
    /// room.
    ///
    /// # Errors
    /// The journal doesn't take it, or the key is none of a tenant's alarm.
    pub async fn tenant_alarm(
        &self,
        tenant: TenantId,
        key: impl Into<Arc<str>>,
        active: bool,
        severity: Severity,
        description: String,
        values: Vec<(Arc<str>, serde_json::Value)>,
    ) -> Result<(), CommandError> {
        let key = key.into();
        let has_room = (1..=MAX_TENANT_ALARM_KEY_BYTES).contains(&key.len());
        if !has_room || key.starts_with(LIMIT_KEY_PREFIX) {
            return Err(CommandError::TenantAlarmKey(key));
        }
        let body = CommandBody::TenantAlarm { key, active, severity, description, values };
        let command = Command { at: now(), tenant, body };
        let partition = home_partition_of(tenant, self.journal.partitions());
        let record = encode_commands(std::slice::from_ref(&command));
        self.journal.submit(partition, record).await?.await?;
        Ok(())
    }
}
