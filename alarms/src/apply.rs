//! Puts one journal record through the engine.

use alarm_core::{DeviceDescription, DeviceIndex, Engine, KeyIndex, Readings};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use journal::Entry;
use schema::{
    Cause, DecodeError, DeviceId, Position, RecordKind, RecordRows, Transition, Value,
    decode_commands,
};
use store::Directory;
use store::alarms::MetDevice;

/// Who a device is, from the directory or, in a replay, as it was then.
#[derive(Debug)]
pub(crate) struct Acquaintance {
    directory: Directory,
    /// What was said of devices that are met again in the replay, each at the
    /// very record that it was met at: one that is deleted behind that is not
    /// met again by what else comes of it.
    replayed: HashMap<(DeviceId, Position), MetDevice, FixedState>,
    /// All before this is replayed.
    replay_until: Position,
    /// Met since the last commit.
    pub met: Vec<MetDevice>,
}

impl Acquaintance {
    pub fn new(directory: Directory, met: Vec<MetDevice>, replay_until: Position) -> Self {
        let replayed = met.into_iter().map(|met| ((met.device, met.position), met)).collect();
        Self { directory, replayed, replay_until, met: Vec::new() }
    }

    fn describe(&self, device: DeviceId) -> Option<DeviceDescription> {
        let entry = self.directory.device(device)?;
        let location = self.directory.location(entry.location)?;
        Some(DeviceDescription {
            device,
            name: entry.name.clone(),
            device_type: entry.device_type.clone(),
            tenant: entry.tenant,
            location: entry.location,
            location_name: location.name.clone(),
            time_zone: location.time_zone.clone(),
            version: entry.version,
            location_version: location.version,
            location_groups: location.groups.clone(),
        })
    }

    /// The engine's place for a device; none where nobody knows the device.
    fn find(
        &mut self,
        engine: &mut Engine,
        device: DeviceId,
        position: Position,
    ) -> Result<Option<DeviceIndex>, ApplyError> {
        if let Some(known) = engine.device(device) {
            return Ok(Some(known));
        }
        if position < self.replay_until {
            // What was unknown then is unknown now, whatever the directory says.
            let Some(met) = self.replayed.get(&(device, position)) else { return Ok(None) };
            let description: DeviceDescription = serde_json::from_str(&met.body)?;
            return Ok(Some(engine.meet(&description)));
        }
        let Some(description) = self.describe(device) else { return Ok(None) };
        let body = serde_json::to_string(&description)?;
        self.met.push(MetDevice { device, position, body });
        Ok(Some(engine.meet(&description)))
    }
}

/// Why a record can't be applied. It came from our own journal, so the
/// partition stops and wants a person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("the record can't be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("what is kept of a device can't be read: {0}")]
    Device(#[from] serde_json::Error),
}

/// What one record came to, besides transitions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Applied {
    pub rows: u64,
    /// Rows of devices that nobody knows.
    pub unknown_device: u64,
    /// Somebody may wait for the effect.
    pub commands: bool,
}

/// Applies a record in the order of its rows.
pub(crate) fn apply(
    engine: &mut Engine,
    devices: &mut Acquaintance,
    entry: &Entry,
    out: &mut Vec<Transition>,
) -> Result<Applied, ApplyError> {
    match entry.kind {
        RecordKind::Readings => {
            let rows = entry.record_rows()?;
            readings(engine, devices, entry.position, &rows, out)
        }
        RecordKind::ClientAttributes => {
            let rows = entry.record_rows()?;
            attributes(engine, devices, entry.position, &rows, false, out)
        }
        RecordKind::SharedAttributes => {
            let rows = entry.record_rows()?;
            attributes(engine, devices, entry.position, &rows, true, out)
        }
        RecordKind::Commands => {
            let commands = decode_commands(entry.version, &entry.payload)?;
            for (row, command) in (0..).zip(&commands) {
                let cause = Cause::Record { position: entry.position, row };
                if let Err(report) = engine.command(command, cause, out) {
                    // It was checked before it was saved, so only a later
                    // program that is stricter can come here.
                    tracing::error!(position = %entry.position, ?report, "a profile in the journal is refused");
                }
            }
            Ok(Applied { rows: commands.len() as u64, unknown_device: 0, commands: true })
        }
    }
}

fn cause(position: Position, row: usize) -> Cause {
    Cause::Record { position, row: u32::try_from(row).expect("a record has fewer rows than 2^32") }
}

fn readings(
    engine: &mut Engine,
    devices: &mut Acquaintance,
    position: Position,
    rows: &RecordRows,
    out: &mut Vec<Transition>,
) -> Result<Applied, ApplyError> {
    let mut applied = Applied { rows: rows.len() as u64, ..Applied::default() };
    let keys = intern(engine, rows);
    let indexes = rows.key_indexes();
    let mut values: Vec<(KeyIndex, Value<'_>)> = Vec::new();
    let mut known: Option<(u64, Option<DeviceIndex>)> = None;
    let mut ahead: Vec<Group> = Vec::with_capacity(AHEAD);
    let mut first = 0;
    while first < rows.len() {
        first = look_ahead(engine, rows, &keys, first, &mut ahead);
        for group in &ahead {
            let id = rows.devices()[group.first];
            let device = match (group.device, known) {
                (Some(device), _) => Some(device),
                (None, Some((last, device))) if last == id => device,
                (None, _) => devices.find(engine, DeviceId(id), position)?,
            };
            known = Some((id, device));
            let Some(device) = device else {
                applied.unknown_device += (group.end - group.first) as u64;
                continue;
            };
            values.clear();
            for row in group.first..group.end {
                if let Some(value) = rows.value(row) {
                    values.push((keys[usize::from(indexes[row])], value));
                }
            }
            let readings = Readings {
                device,
                at: rows.observed_at(group.first),
                received_at: rows.received_at(group.first),
                cause: cause(position, group.first),
                values: &values,
            };
            engine.readings(&readings, out);
        }
    }
    Ok(applied)
}

/// Groups whose devices are fetched from memory together. A record jumps from
/// device to device, so with many devices each one is far away; that way their
/// fetches overlap. All of them fit in the processor's first cache.
const AHEAD: usize = 64;

/// Rows of one device at one time.
struct Group {
    first: usize,
    end: usize,
    /// None if it has not been met yet.
    device: Option<DeviceIndex>,
}

/// The groups that begin at `first`, with their devices brought near. Returns
/// where the next one begins.
fn look_ahead(
    engine: &Engine,
    rows: &RecordRows,
    keys: &[KeyIndex],
    mut first: usize,
    ahead: &mut Vec<Group>,
) -> usize {
    let (ids, times, indexes) = (rows.devices(), rows.observed_at_ms(), rows.key_indexes());
    ahead.clear();
    while first < rows.len() && ahead.len() < AHEAD {
        let (id, at) = (ids[first], times[first]);
        let others = ids[first..].iter().zip(&times[first..]);
        let end = first + others.take_while(|other| other == &(&id, &at)).count();
        ahead.push(Group { first, end, device: None });
        first = end;
    }
    for group in &mut *ahead {
        group.device = engine.device(DeviceId(ids[group.first]));
    }
    for group in &*ahead {
        if let Some(device) = group.device {
            engine.bring_near(device, keys[usize::from(indexes[group.first])]);
        }
    }
    first
}

fn intern(engine: &mut Engine, rows: &RecordRows) -> Vec<KeyIndex> {
    (0..rows.key_count()).map(|index| engine.key(rows.key_name(index))).collect()
}

fn attributes(
    engine: &mut Engine,
    devices: &mut Acquaintance,
    position: Position,
    rows: &RecordRows,
    by_platform: bool,
    out: &mut Vec<Transition>,
) -> Result<Applied, ApplyError> {
    let mut applied = Applied { rows: rows.len() as u64, ..Applied::default() };
    let keys = intern(engine, rows);
    for row in 0..rows.len() {
        let Some(device) = devices.find(engine, DeviceId(rows.devices()[row]), position)? else {
            applied.unknown_device += 1;
            continue;
        };
        let key = keys[usize::from(rows.key_indexes()[row])];
        engine.attribute(
            device,
            by_platform,
            key,
            rows.value(row),
            rows.observed_at(row),
            rows.received_at(row),
            cause(position, row),
            out,
        );
    }
    Ok(applied)
}
