//! Alarm profiles as versioned documents, and the commands that carry them to
//! the partitions.

use schema::{Author, Command, PartitionId, ProfileId, TenantId, TimestampMs};
use serde_json::json;

use super::writer::Request;
use super::{AlarmStore, AlarmStoreError};
use crate::sql::{Optional as _, Row, Session, SqlError, params};

/// One version of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileVersion {
    pub id: ProfileId,
    pub tenant: TenantId,
    pub name: String,
    pub version: u64,
    pub changed_at: TimestampMs,
    pub changed_by: String,
    /// TOML text as it was written; empty for the version that deleted it.
    pub source: String,
    /// Baken itself writes it.
    pub system: bool,
}

/// A profile to be made, changed or deleted.
#[derive(Debug)]
pub struct ProfileChange {
    pub tenant: TenantId,
    /// The tenant's profile of system alarms; any other may not be touched then,
    /// nor that one otherwise.
    pub system: bool,
    /// None makes a new one.
    pub id: Option<ProfileId>,
    /// The version that must be in force, where the caller says so.
    pub expected_version: Option<u64>,
    /// Name and TOML text; none deletes the profile.
    pub document: Option<(String, String)>,
    pub at: TimestampMs,
    pub author: Author,
    /// Makes the command that tells the partitions, once id and version are known.
    pub command: fn(&ProfileVersion, &[u8]) -> Result<Command, String>,
    /// How many rules the document has.
    pub rules: u64,
    /// Given to `command` as it is: the parsed document as JSON.
    pub body: Vec<u8>,
    /// The partitions that must be told.
    pub partitions: u16,
}

/// A command that is not in its partition's journal yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub sequence: u64,
    pub partition: PartitionId,
    pub command: Command,
}

/// The most profiles that a tenant has, those deleted and Baken's own left out.
pub const MAX_PROFILES_PER_TENANT: u64 = 200;

/// The most rules that all of a tenant's profiles have, Baken's own left out.
pub const MAX_RULES_PER_TENANT: u64 = 10_000;

/// Bytes of a profile's source that its event tells.
const MAX_TOLD_BYTES: usize = 32_768;

const COLUMNS: &str =
    "p.id, p.tenant, p.name, v.version, v.changed_at, v.changed_by, v.source, p.system";

fn version(row: &Row<'_>) -> Result<ProfileVersion, SqlError> {
    Ok(ProfileVersion {
        id: ProfileId(row.get(0)?),
        tenant: TenantId(row.get(1)?),
        name: row.get(2)?,
        version: row.get(3)?,
        changed_at: TimestampMs(row.get(4)?),
        changed_by: row.get(5)?,
        source: row.get(6)?,
        system: row.get(7)?,
    })
}

impl AlarmStore {
    /// Writes a new version and the commands for all partitions, in one transaction.
    ///
    /// # Errors
    /// No such profile, another version in force, or a name that is taken.
    pub async fn change_profile(
        &self,
        change: ProfileChange,
    ) -> Result<ProfileVersion, AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::ChangeProfile(Box::new(change), answer)).await
    }

    /// The version in force of a profile that is not deleted.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn profile(&self, id: ProfileId) -> Result<Option<ProfileVersion>, AlarmStoreError> {
        self.read(move |sql| current(sql, id)).await
    }

    /// The profiles of a tenant, or of all, by id, from the first behind `after`.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn profiles(
        &self,
        tenant: Option<TenantId>,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<ProfileVersion>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM profiles p
                 JOIN profile_versions v ON v.profile = p.id AND v.version = p.version
                 WHERE p.deleted = 0 AND p.id > ?1 AND (CAST(?2 AS BIGINT) IS NULL OR p.tenant = ?2)
                 ORDER BY p.id LIMIT ?3"
            ))?;
            let rows = statement
                .query_map(params![after.0, tenant.map(|tenant| tenant.0), limit], version)?;
            Ok(rows)
        })
        .await
    }

    /// The profile of a tenant's system alarms.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn system_profile(
        &self,
        tenant: TenantId,
    ) -> Result<Option<ProfileVersion>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM profiles p
                 JOIN profile_versions v ON v.profile = p.id AND v.version = p.version
                 WHERE p.tenant = ?1 AND p.deleted = 0 AND p.system = 1"
            ))?;
            Ok(statement.query_row([tenant.0], version).optional()?)
        })
        .await
    }

    /// All versions of a profile, the newest first, of a deleted one too.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn profile_versions(
        &self,
        id: ProfileId,
    ) -> Result<Vec<ProfileVersion>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM profiles p JOIN profile_versions v ON v.profile = p.id
                 WHERE p.id = ?1 ORDER BY v.version DESC"
            ))?;
            let rows = statement.query_map([id.0], version)?;
            Ok(rows)
        })
        .await
    }

    /// Commands that are not in the journal yet, oldest first.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn deliveries(&self) -> Result<Vec<Delivery>, AlarmStoreError> {
        self.read(|sql| {
            let mut statement = sql.prepare_cached(
                "SELECT sequence, partition, command FROM deliveries ORDER BY sequence",
            )?;
            let rows = statement.query_map([], |row| {
                Ok((row.get::<u64>(0)?, row.get::<u16>(1)?, row.get::<String>(2)?))
            })?;
            let delivery = |(sequence, partition, text): (u64, u16, String)| {
                let command = serde_json::from_str(&text)
                    .map_err(|error| AlarmStoreError::Stored(error.to_string()))?;
                Ok(Delivery { sequence, partition: PartitionId(partition), command })
            };
            rows.into_iter().map(delivery).collect()
        })
        .await
    }

    /// The command is durable in the journal.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn delivered(&self, sequence: u64) -> Result<(), AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Delivered(sequence, answer)).await
    }
}

fn current(sql: &Session, id: ProfileId) -> Result<Option<ProfileVersion>, AlarmStoreError> {
    let found = sql
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM profiles p
             JOIN profile_versions v ON v.profile = p.id AND v.version = p.version
             WHERE p.id = ?1 AND p.deleted = 0"
        ))?
        .query_row([id.0], version)
        .optional()?;
    Ok(found)
}

pub(super) fn change(
    sql: &Session,
    change: &ProfileChange,
) -> Result<ProfileVersion, AlarmStoreError> {
    let before = match change.id {
        None => None,
        Some(id) => Some(
            current(sql, id)?
                .filter(|profile| profile.tenant == change.tenant)
                .ok_or(AlarmStoreError::NoSuchProfile)?,
        ),
    };
    if before.as_ref().is_some_and(|before| before.system != change.system) {
        return Err(AlarmStoreError::SystemProfile);
    }
    if let (Some(expected), Some(before)) = (change.expected_version, &before)
        && expected != before.version
    {
        return Err(AlarmStoreError::VersionConflict { expected, found: before.version });
    }
    if change.document.is_some() && !change.system {
        has_room(sql, change)?;
    }
    let after = write_version(sql, change, before.as_ref())?;
    let command = (change.command)(&after, &change.body).map_err(AlarmStoreError::Stored)?;
    let text = serde_json::to_string(&command)
        .map_err(|error| AlarmStoreError::Stored(error.to_string()))?;
    for partition in 0..change.partitions {
        sql.prepare_cached("INSERT INTO deliveries (partition, command) VALUES (?1, ?2)")?
            .execute(params![partition, text])?;
    }
    write_event(sql, change, before.as_ref(), &after)?;
    Ok(after)
}

/// Refuses what would give the tenant too much, unless it has less than before.
fn has_room(sql: &Session, change: &ProfileChange) -> Result<(), AlarmStoreError> {
    let own = change.id.map(|id| id.0);
    let (profiles, others, before): (u64, u64, u64) = sql
        .prepare_cached(
            "SELECT count(*),
                 CAST(coalesce(sum(rules) FILTER (WHERE id IS DISTINCT FROM ?2), 0) AS BIGINT),
                 CAST(coalesce(sum(rules) FILTER (WHERE id = ?2), 0) AS BIGINT)
             FROM profiles WHERE tenant = ?1 AND deleted = 0 AND system = 0",
        )?
        .query_row(params![change.tenant.0, own], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    if own.is_none() && profiles >= MAX_PROFILES_PER_TENANT {
        return Err(AlarmStoreError::TooManyProfiles);
    }
    let rules = change.rules;
    if others + rules > MAX_RULES_PER_TENANT && rules > before {
        return Err(AlarmStoreError::TooManyRules { others, rules });
    }
    Ok(())
}

fn write_version(
    sql: &Session,
    change: &ProfileChange,
    before: Option<&ProfileVersion>,
) -> Result<ProfileVersion, AlarmStoreError> {
    let deleted = change.document.is_none();
    let (name, source) = match (&change.document, before) {
        (Some((name, source)), _) => (name.clone(), source.clone()),
        (None, Some(before)) => (before.name.clone(), String::new()),
        (None, None) => return Err(AlarmStoreError::NoSuchProfile),
    };
    let number = before.map_or(1, |before| before.version + 1);
    let written = match before {
        None => sql.query_row(
            "INSERT INTO profiles (tenant, name, version, deleted, system, rules)
             VALUES (?1, ?2, ?3, 0, ?4, ?5) RETURNING id",
            params![change.tenant.0, name, number, change.system, change.rules],
            |row| Ok(ProfileId(row.get(0)?)),
        ),
        Some(before) => sql
            .execute(
                "UPDATE profiles SET name = ?2, version = ?3, deleted = ?4, rules = ?5
                 WHERE id = ?1",
                params![before.id.0, name, number, deleted, change.rules],
            )
            .map(|_| before.id),
    };
    let id = match written {
        Err(error) if error.is_taken() => return Err(AlarmStoreError::NameTaken { name }),
        other => other?,
    };
    sql.execute(
        "INSERT INTO profile_versions (profile, version, changed_at, changed_by, source)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![id.0, number, change.at.0, &*change.author.by, source],
    )?;
    Ok(ProfileVersion {
        id,
        tenant: change.tenant,
        name,
        version: number,
        changed_at: change.at,
        changed_by: change.author.by.to_string(),
        source,
        system: change.system,
    })
}

/// The beginning of a source, as its event tells it; the versions have it whole.
fn told(source: &str) -> &str {
    &source[..source.floor_char_boundary(MAX_TOLD_BYTES)]
}

fn write_event(
    sql: &Session,
    change: &ProfileChange,
    before: Option<&ProfileVersion>,
    after: &ProfileVersion,
) -> Result<(), AlarmStoreError> {
    let kind = match (before, &change.document) {
        (None, _) => "profile_created",
        (Some(_), Some(_)) => "profile_changed",
        (Some(_), None) => "profile_deleted",
    };
    let body = json!({
        "profile": after.id, "name": after.name, "version": after.version,
        "before": before.map(|before| told(&before.source)), "after": told(&after.source),
    });
    // A profile's events number themselves: id and version are unique, and no
    // transition's id has the upper half zero but by a chance of 2^-64.
    let provenance = change.author.provenance.as_deref();
    let id = (u128::from(after.id.0) << 32) | u128::from(after.version);
    sql.execute(
        "INSERT INTO events (id, tenant, at, kind, actor, body, actor_token, peer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            id.to_be_bytes(),
            change.tenant.0,
            change.at.0,
            kind,
            &*change.author.by,
            body.to_string(),
            provenance.and_then(|known| known.token),
            provenance.and_then(|known| known.from.as_deref()),
        ],
    )?;
    Ok(())
}

pub(super) fn delivered(sql: &Session, sequence: u64) -> Result<(), AlarmStoreError> {
    sql.execute("DELETE FROM deliveries WHERE sequence = ?1", [sequence])?;
    Ok(())
}
