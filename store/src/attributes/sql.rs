//! The statements behind the attributes.

use std::collections::HashSet;
use std::sync::Arc;

use schema::{DeviceId, PartitionId, Position, TimestampMs};
use serde_json::Value;

use super::{Attribute, AttributeChange, AttributeLimits, AttributesError, PendingShared, Scope};
use crate::sql::{Database, Optional as _, Readers, Row, Session, SqlError, params};

pub(super) const MIGRATIONS: &[&str] =
    &[include_str!("../../../schema/migrations/embedded/attributes/0001-attributes.sql")];

pub(super) const POSTGRES_MIGRATIONS: &[&str] =
    &[include_str!("../../../schema/migrations/postgres/attributes/0001-attributes.sql")];

/// How many reads run at once; more wait their turn.
pub(super) const READERS: usize = 4;

/// The writer's session.
#[derive(Debug)]
pub(super) struct Tables {
    pub session: Session,
    /// The sequence of the latest undelivered change.
    pub sequence: u64,
}

/// Why a change is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    KeyBytes,
    ValueBytes,
    Keys,
    /// The deletion was done, but the device will not be told of it.
    Undelivered,
}

impl Over {
    pub fn reason(self) -> &'static str {
        match self {
            Self::KeyBytes => "key_bytes",
            Self::ValueBytes => "value_bytes",
            Self::Keys => "keys_per_device",
            Self::Undelivered => "undelivered_deletions",
        }
    }

    pub fn explain(
        self,
        key: &str,
        value: Option<&str>,
        limits: &AttributeLimits,
    ) -> AttributesError {
        let (value, allowed) = match self {
            Self::KeyBytes => (
                format!("a key of {} bytes", key.len()),
                format!("1 to {} bytes without control characters", limits.key_bytes),
            ),
            Self::ValueBytes => (
                format!("a value of {} bytes", value.map_or(0, str::len)),
                format!("{} bytes at most", limits.value_bytes),
            ),
            Self::Keys | Self::Undelivered => {
                ("one key more".to_owned(), format!("{} keys at most", limits.keys_per_device))
            }
        };
        let key = key.chars().take(64).collect();
        AttributesError::Limit { key, value, allowed }
    }
}

pub(super) fn check_size(
    key: &str,
    value: Option<&str>,
    limits: &AttributeLimits,
) -> Result<(), Over> {
    if key.is_empty() || key.len() > limits.key_bytes || key.chars().any(char::is_control) {
        return Err(Over::KeyBytes);
    }
    if value.is_some_and(|value| value.len() > limits.value_bytes) {
        return Err(Over::ValueBytes);
    }
    Ok(())
}

impl Tables {
    pub fn open(database: &Arc<Database>) -> Result<Self, SqlError> {
        let session = database.open()?;
        let sequence = sequence(&session)?;
        Ok(Self { session, sequence })
    }

    pub fn positions(&self) -> Result<Vec<(PartitionId, Position)>, SqlError> {
        let mut statement = self.session.prepare_cached("SELECT partition, next FROM positions")?;
        let rows = statement.query_map([], |row| {
            let next: i64 = row.get(1)?;
            Ok((PartitionId(row.get(0)?), Position(next.cast_unsigned())))
        })?;
        Ok(rows)
    }

    pub fn waiting(&self) -> Result<HashSet<DeviceId>, SqlError> {
        let mut statement =
            self.session.prepare_cached("SELECT DISTINCT device FROM undelivered")?;
        let rows = statement.query_map([], |row| Ok(DeviceId(row.get(0)?)))?;
        Ok(rows.into_iter().collect())
    }
}

/// All devices; each step of the recursion is one search in the primary key.
pub(super) fn devices(sql: &Session) -> Result<Vec<DeviceId>, AttributesError> {
    let mut found = std::collections::BTreeSet::new();
    for table in ["attributes", "undelivered"] {
        let mut statement = sql.prepare_cached(&format!(
            "WITH RECURSIVE devices (id) AS (
                 SELECT min(device) FROM {table}
                 UNION ALL
                 SELECT (SELECT min(device) FROM {table} WHERE device > id) FROM devices
                 WHERE id IS NOT NULL
             )
             SELECT id FROM devices WHERE id IS NOT NULL"
        ))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            found.insert(DeviceId(row.get(0)?));
        }
    }
    Ok(found.into_iter().collect())
}

/// The sequence of the latest undelivered change.
pub(super) fn sequence(sql: &Session) -> Result<u64, SqlError> {
    sql.query_row("SELECT coalesce(max(sequence), 0) FROM undelivered", [], |row| row.get(0))
}

/// Where a partition stands, whichever node works on it.
pub(super) fn position(sql: &Session, partition: PartitionId) -> Result<Position, SqlError> {
    let found = sql
        .prepare_cached("SELECT next FROM positions WHERE partition = ?1")?
        .query_row([partition.0], |row| row.get(0))
        .optional()?;
    Ok(Position(found.unwrap_or(0)))
}

/// Moves a partition's position forward; false where it is there already.
pub(super) fn advance(
    sql: &Session,
    partition: PartitionId,
    next: Position,
) -> Result<bool, SqlError> {
    let moved = sql
        .prepare_cached(
            "INSERT INTO positions (partition, next) VALUES (?1, ?2)
             ON CONFLICT (partition) DO UPDATE SET next = excluded.next
             WHERE positions.next < excluded.next",
        )?
        .execute(params![partition.0, next.0.cast_signed()])?;
    Ok(moved == 1)
}

/// Sets or deletes one attribute; the outer error is the file's, the inner one
/// says that a limit kept it out.
pub(super) fn change(
    sql: &Session,
    change: &AttributeChange,
    sequence: u64,
    limits: &AttributeLimits,
) -> Result<Result<(), Over>, SqlError> {
    let text = change.value.as_ref().map(Value::to_string);
    if let Err(over) = check_size(&change.key, text.as_deref(), limits) {
        return Ok(Err(over));
    }
    let device = change.device.0.cast_signed();
    let scope = change.scope as u8;
    match &text {
        Some(text) => {
            let updated = sql
                .prepare_cached(
                    "UPDATE attributes SET value = ?4, updated_at = ?5
                     WHERE device = ?1 AND scope = ?2 AND key = ?3",
                )?
                .execute(params![device, scope, change.key, text, change.at.0])?;
            if updated == 0 {
                let keys: u32 = sql
                    .prepare_cached(
                        "SELECT count(*) FROM attributes WHERE device = ?1 AND scope = ?2",
                    )?
                    .query_row(params![device, scope], |row| row.get(0))?;
                if keys >= limits.keys_per_device {
                    return Ok(Err(Over::Keys));
                }
                sql.prepare_cached(
                    "INSERT INTO attributes (device, scope, key, value, updated_at)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![device, scope, change.key, text, change.at.0])?;
            }
        }
        None => {
            sql.prepare_cached(
                "DELETE FROM attributes WHERE device = ?1 AND scope = ?2 AND key = ?3",
            )?
            .execute(params![device, scope, change.key])?;
        }
    }
    if change.scope == Scope::Client {
        return Ok(Ok(()));
    }
    await_delivery(sql, change, text.as_deref(), sequence, limits)
}

/// Keeps a shared change until the device has it. Deletions of keys that come
/// and go while a device is away are kept up to the limit of its keys.
fn await_delivery(
    sql: &Session,
    change: &AttributeChange,
    text: Option<&str>,
    sequence: u64,
    limits: &AttributeLimits,
) -> Result<Result<(), Over>, SqlError> {
    let device = change.device.0.cast_signed();
    let sequence = sequence.cast_signed();
    if text.is_none() {
        let deletions: u32 = sql
            .prepare_cached(
                "SELECT count(*) FROM undelivered
                 WHERE device = ?1 AND key <> ?2 AND value IS NULL",
            )?
            .query_row(params![device, change.key], |row| row.get(0))?;
        if deletions >= limits.keys_per_device {
            sql.prepare_cached("DELETE FROM undelivered WHERE device = ?1 AND key = ?2")?
                .execute(params![device, change.key])?;
            return Ok(Err(Over::Undelivered));
        }
    }
    sql.prepare_cached(
        "INSERT INTO undelivered (device, key, value, sequence) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (device, key)
             DO UPDATE SET value = excluded.value, sequence = excluded.sequence",
    )?
    .execute(params![device, change.key, text, sequence])?;
    Ok(Ok(()))
}

/// Forgets what was delivered; true where nothing is left for the device.
pub(super) fn delivered(sql: &Session, device: DeviceId, upto: u64) -> Result<bool, SqlError> {
    let id = device.0.cast_signed();
    sql.prepare_cached("DELETE FROM undelivered WHERE device = ?1 AND sequence <= ?2")?
        .execute([id, upto.cast_signed()])?;
    let left: bool = sql
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM undelivered WHERE device = ?1)")?
        .query_row([id], |row| row.get(0))?;
    Ok(!left)
}

pub(super) fn forget(sql: &Session, device: DeviceId) -> Result<(), SqlError> {
    for statement in
        ["DELETE FROM attributes WHERE device = ?1", "DELETE FROM undelivered WHERE device = ?1"]
    {
        sql.prepare_cached(statement)?.execute([device.0.cast_signed()])?;
    }
    Ok(())
}

pub(super) fn get(
    sql: &Session,
    device: DeviceId,
    scope: Scope,
    keys: Option<&[String]>,
) -> Result<Vec<Attribute>, AttributesError> {
    let id = device.0.cast_signed();
    let row =
        |row: &Row<'_>| Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<i64>(2)?));
    let mut found: Vec<(String, String, i64)> = Vec::new();
    if let Some(keys) = keys {
        let mut statement = sql.prepare_cached(
            "SELECT key, value, updated_at FROM attributes
             WHERE device = ?1 AND scope = ?2 AND key = ?3",
        )?;
        let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
        for key in distinct {
            found.extend(statement.query_row(params![id, scope as u8, key], row).optional()?);
        }
    } else {
        let mut statement = sql.prepare_cached(
            "SELECT key, value, updated_at FROM attributes
             WHERE device = ?1 AND scope = ?2 ORDER BY key",
        )?;
        found.extend(statement.query_map(params![id, scope as u8], row)?);
    }
    let attribute = |(key, text, at): (String, String, i64)| {
        let value = parse(device, &key, &text)?;
        Ok(Attribute { key, value, updated_at: TimestampMs(at) })
    };
    found.into_iter().map(attribute).collect()
}

pub(super) fn keys(
    sql: &Session,
    device: DeviceId,
    scope: Scope,
) -> Result<HashSet<String>, AttributesError> {
    let mut statement =
        sql.prepare_cached("SELECT key FROM attributes WHERE device = ?1 AND scope = ?2")?;
    let rows = statement.query_map(params![device.0, scope as u8], |row| row.get(0))?;
    Ok(rows.into_iter().collect())
}

pub(super) fn undelivered(
    sql: &Session,
    devices: &[DeviceId],
) -> Result<Vec<(DeviceId, PendingShared)>, AttributesError> {
    let mut statement = sql.prepare_cached(
        "SELECT key, value, sequence FROM undelivered WHERE device = ?1 ORDER BY key",
    )?;
    let mut found = Vec::new();
    for &device in devices {
        let mut pending = PendingShared { changes: Vec::new(), upto: 0 };
        let mut rows = statement.query([device.0.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            let text: Option<String> = row.get(1)?;
            let value = text.map(|text| parse(device, &key, &text)).transpose()?;
            pending.upto = pending.upto.max(row.get(2)?);
            pending.changes.push((key, value));
        }
        if !pending.changes.is_empty() {
            found.push((device, pending));
        }
    }
    Ok(found)
}

fn parse(device: DeviceId, key: &str, text: &str) -> Result<Value, AttributesError> {
    serde_json::from_str(text).map_err(|_| AttributesError::Damaged { device, key: key.to_owned() })
}

/// Runs `query` on a thread for blocking work, a few at a time.
pub(super) async fn read<T: Send + 'static>(
    readers: &Arc<Readers>,
    query: impl FnOnce(&Session) -> Result<T, AttributesError> + Send + 'static,
) -> Result<T, AttributesError> {
    readers.read(query).await.unwrap_or(Err(AttributesError::Closed))
}
