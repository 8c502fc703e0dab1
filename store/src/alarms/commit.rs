//! Writes what came of a stretch of the journal.

use std::collections::BTreeMap;

use schema::{
    AlarmId, ClearReason, DeviceId, Originator, PartitionId, Position, TimestampMs, Transition,
    TransitionKind,
};
use serde_json::{Map, Value, json};

use super::{AlarmStoreError, Claim, Commit, MetDevice, Snapshot, Tick};
use crate::sql::{Optional as _, Session, params};

pub(super) fn claim(sql: &Session, partition: PartitionId) -> Result<Claim, AlarmStoreError> {
    let number = i64::from(partition.0);
    let (epoch, position): (u64, u64) = sql.query_row(
        "INSERT INTO partitions (partition, epoch, position) VALUES (?1, 1, 0)
         ON CONFLICT (partition) DO UPDATE SET epoch = partitions.epoch + 1
         RETURNING epoch, position",
        [number],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let snapshot = sql
        .query_row("SELECT position, bytes FROM snapshots WHERE partition = ?1", [number], |row| {
            Ok(Snapshot { position: Position(row.get(0)?), bytes: row.get(1)? })
        })
        .optional()?;
    let ticks = sql
        .prepare_cached("SELECT position, clock FROM ticks WHERE partition = ?1 ORDER BY sequence")?
        .query_map([number], |row| {
            Ok(Tick { position: Position(row.get(0)?), clock: TimestampMs(row.get(1)?) })
        })?;
    let met = sql
        .prepare_cached(
            "SELECT device, position, body FROM met_devices WHERE partition = ?1
             ORDER BY position, device",
        )?
        .query_map([number], |row| {
            Ok(MetDevice {
                device: DeviceId(row.get(0)?),
                position: Position(row.get(1)?),
                body: row.get(2)?,
            })
        })?;
    Ok(Claim { epoch, position: Position(position), snapshot, ticks, met })
}

pub(super) fn commit(
    sql: &Session,
    stretch: &Commit,
    events: &mut u64,
) -> Result<(), AlarmStoreError> {
    let partition = i64::from(stretch.partition.0);
    let moved = sql
        .prepare_cached(
            "UPDATE partitions SET position = ?1 WHERE partition = ?2 AND position = ?3 AND epoch = ?4",
        )?
        .execute(params![stretch.next.0, partition, stretch.expected.0, stretch.epoch])?;
    if moved != 1 {
        if sql.is_postgres() && stands_at(sql, stretch)? {
            // The connection was lost behind the commit and before the word of
            // it, and the worker tries again.
            return Ok(());
        }
        return Err(AlarmStoreError::Fenced {
            partition: stretch.partition,
            expected: stretch.expected,
        });
    }
    write_transitions(sql, &stretch.transitions, events)?;
    if let Some(bytes) = &stretch.snapshot {
        sql.execute("DELETE FROM ticks WHERE partition = ?1", [partition])?;
        sql.execute("DELETE FROM met_devices WHERE partition = ?1", [partition])?;
        sql.execute(
            "INSERT INTO snapshots (partition, position, taken_at, bytes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (partition) DO UPDATE SET position = excluded.position,
                taken_at = excluded.taken_at, bytes = excluded.bytes",
            params![partition, stretch.next.0, stretch.at.0, bytes],
        )?;
        return Ok(());
    }
    for tick in &stretch.ticks {
        sql.prepare_cached("INSERT INTO ticks (partition, position, clock) VALUES (?1, ?2, ?3)")?
            .execute(params![partition, tick.position.0, tick.clock.0])?;
    }
    for met in &stretch.met {
        sql.prepare_cached(
            "INSERT INTO met_devices (partition, device, position, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (partition, device, position) DO UPDATE SET body = excluded.body",
        )?
        .execute(params![partition, met.device.0, met.position.0, met.body])?;
    }
    Ok(())
}

/// Whether the partition's owner has come so far already, by this very stretch.
fn stands_at(sql: &Session, stretch: &Commit) -> Result<bool, AlarmStoreError> {
    let found = sql
        .prepare_cached("SELECT epoch, position FROM partitions WHERE partition = ?1")?
        .query_row([stretch.partition.0], |row| Ok((row.get::<u64>(0)?, row.get::<u64>(1)?)))
        .optional()?;
    if found != Some((stretch.epoch, stretch.next.0)) || stretch.next <= stretch.expected {
        return Ok(false);
    }
    // That an alarm was true again leaves no event.
    let told = |it: &&Transition| !matches!(it.kind, TransitionKind::Updated { .. });
    let Some(last) = stretch.transitions.iter().rfind(told) else { return Ok(true) };
    let is_there = sql
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM events WHERE id = ?1)")?
        .query_row([id(last.id.0)], |row| row.get(0))?;
    Ok(is_there)
}

/// Writes transitions in their order. `updated` ones only move the alarm's own
/// row, and are as many as its readings: those of one alarm are written together,
/// before what else happens to it.
fn write_transitions(
    sql: &Session,
    transitions: &[Transition],
    events: &mut u64,
) -> Result<(), AlarmStoreError> {
    // The last one of each alarm, and how many there are.
    let mut updates: BTreeMap<AlarmId, (&Transition, usize)> = BTreeMap::new();
    for transition in transitions {
        if let TransitionKind::Updated { times } = transition.kind {
            let (last, count) = updates.entry(transition.alarm).or_insert((transition, 0));
            (*last, *count) = (transition, *count + times as usize);
            continue;
        }
        if let Some((last, count)) = updates.remove(&transition.alarm) {
            update(sql, last, count)?;
        }
        if change_alarm(sql, transition)? {
            insert_event(sql, transition)?;
            *events += 1;
        }
    }
    updates.into_values().try_for_each(|(last, count)| update(sql, last, count))
}

fn id(number: u128) -> [u8; 16] {
    number.to_be_bytes()
}

fn details(transition: &Transition) -> String {
    let values: Map<String, Value> =
        transition.values.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
    json!({ "description": transition.description, "values": values }).to_string()
}

fn device(transition: &Transition) -> Option<u64> {
    match transition.originator {
        Originator::Device(device) => Some(device.0),
        Originator::Tenant(_) => None,
    }
}

fn update(sql: &Session, last: &Transition, count: usize) -> Result<(), AlarmStoreError> {
    sql.prepare_cached(
        "UPDATE alarms SET updates = updates + ?2, updated_at = ?3, last_details = ?4 WHERE id = ?1",
    )?
    .execute(params![id(last.alarm.0), count, last.at.0, details(last)])?;
    Ok(())
}

/// Applies a transition to its alarm's row; false when it changes nothing, as
/// an acknowledgement of what is acknowledged already.
fn change_alarm(sql: &Session, transition: &Transition) -> Result<bool, AlarmStoreError> {
    let alarm = id(transition.alarm.0);
    let at = transition.at.0;
    let by = transition.by.as_deref();
    let changed = match &transition.kind {
        TransitionKind::Raised => return raise(sql, transition),
        TransitionKind::Updated { .. } => return Ok(false),
        TransitionKind::SeverityChanged { .. } => {
            return change_severity(sql, transition);
        }
        TransitionKind::Acknowledged => sql
            .prepare_cached(
                "UPDATE alarms SET acknowledged = 1, acknowledged_at = ?2, acknowledged_by = ?3
                 WHERE id = ?1 AND acknowledged = 0",
            )?
            .execute(params![alarm, at, by])?,
        TransitionKind::Unacknowledged => sql
            .prepare_cached(
                "UPDATE alarms SET acknowledged = 0, acknowledged_at = NULL, acknowledged_by = NULL
                 WHERE id = ?1 AND acknowledged = 1",
            )?
            .execute([alarm])?,
        TransitionKind::Cleared { reason } => sql
            .prepare_cached(
                "UPDATE alarms SET active = 0, cleared_at = ?2, cleared_reason = ?3,
                 cleared_details = ?4, shelved_until = NULL WHERE id = ?1 AND active = 1",
            )?
            .execute(params![alarm, at, clear_reason(*reason), details(transition)])?,
        TransitionKind::Shelved { until } => sql
            .prepare_cached("UPDATE alarms SET shelved_until = ?2 WHERE id = ?1")?
            .execute(params![alarm, until.0])?,
        TransitionKind::Unshelved { .. } => sql
            .prepare_cached(
                "UPDATE alarms SET shelved_until = NULL WHERE id = ?1 AND shelved_until IS NOT NULL",
            )?
            .execute([alarm])?,
        TransitionKind::Assigned { to } => sql
            .prepare_cached("UPDATE alarms SET assigned_to = ?2 WHERE id = ?1")?
            .execute(params![alarm, to])?,
        TransitionKind::Suppressed { .. } | TransitionKind::Commented { .. } => 1,
    };
    Ok(changed > 0)
}

fn raise(sql: &Session, transition: &Transition) -> Result<bool, AlarmStoreError> {
    let details = details(transition);
    let written = sql
        .prepare_cached(
            "INSERT INTO alarms (id, tenant, location, device, profile, rule, severity, active,
                acknowledged, raised_at, raised_severity, raised_details, peak_at, peak_severity,
                peak_details, updated_at, last_details, updates, received_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, 0, ?8, ?7, ?9, ?8, ?7, ?9, ?8, ?9, 0, ?10)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            id(transition.alarm.0),
            transition.tenant.0,
            transition.location.map(|location| location.0),
            device(transition),
            transition.rule.profile.0,
            &*transition.rule.key,
            transition.severity as u8,
            transition.at.0,
            details,
            transition.received_at.0,
        ])?;
    Ok(written == 1)
}

fn change_severity(sql: &Session, transition: &Transition) -> Result<bool, AlarmStoreError> {
    let changed = sql
        .prepare_cached(
            "UPDATE alarms SET severity = ?2, updated_at = ?3, last_details = ?4,
                peak_at = CASE WHEN ?2 > peak_severity THEN ?3 ELSE peak_at END,
                peak_details = CASE WHEN ?2 > peak_severity THEN ?4 ELSE peak_details END,
                peak_severity = CASE WHEN ?2 > peak_severity THEN ?2 ELSE peak_severity END
             WHERE id = ?1 AND active = 1",
        )?
        .execute(params![
            id(transition.alarm.0),
            transition.severity as u8,
            transition.at.0,
            details(transition),
        ])?;
    Ok(changed > 0)
}

fn clear_reason(reason: ClearReason) -> &'static str {
    match reason {
        ClearReason::Condition => "condition",
        ClearReason::Time => "time",
        ClearReason::Person => "person",
        ClearReason::RuleRemoved => "rule_removed",
        ClearReason::DeviceRemoved => "device_removed",
    }
}

fn insert_event(sql: &Session, transition: &Transition) -> Result<(), AlarmStoreError> {
    let mut body = serde_json::to_value(&transition.kind)
        .map_err(|error| AlarmStoreError::Stored(error.to_string()))?;
    if let Value::Object(body) = &mut body {
        body.remove("kind");
        body.insert("rule".to_owned(), json!(transition.rule.key));
        body.insert("profile".to_owned(), json!(transition.rule.profile));
        body.insert("description".to_owned(), json!(transition.description));
        body.insert("received_at".to_owned(), json!(transition.received_at));
        let values: Map<String, Value> =
            transition.values.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        body.insert("values".to_owned(), Value::Object(values));
    }
    let provenance = transition.provenance.as_deref();
    sql.prepare_cached(
        "INSERT INTO events (id, tenant, at, kind, location, device, alarm, severity, actor, body,
            actor_token, peer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![
        id(transition.id.0),
        transition.tenant.0,
        transition.at.0,
        format!("alarm_{}", transition.kind.as_str()),
        transition.location.map(|location| location.0),
        device(transition),
        id(transition.alarm.0),
        transition.severity as u8,
        transition.by.as_deref(),
        body.to_string(),
        provenance.and_then(|known| known.token),
        provenance.and_then(|known| known.from.as_deref()),
    ])?;
    Ok(())
}
