//! A record's readings to the lanes that want them.

use std::sync::Arc;

use journal::Entry;
use schema::{DeviceId, Position, RecordKind, RecordRows, SYSTEM_KEY_PREFIX};

use super::partition::{End, Partition};
use super::routes::{LaneIndex, Routes};
use super::slot::Slot;
use crate::lane::{Decision, KeyId, Keys, Place};
use crate::outgoing::{MessageId, Outgoing, Source};

/// For whom a record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Lanes that keep up.
    Live,
    /// Lanes that are behind and wait for this record.
    Behind,
}

/// The keys of a record, each looked up when it is first wanted.
struct RecordKeys<'a> {
    rows: &'a RecordRows,
    ids: Vec<Option<KeyId>>,
}

impl RecordKeys<'_> {
    fn id(&mut self, row: usize, keys: &mut Keys) -> KeyId {
        let index = usize::from(self.rows.key_indexes()[row]);
        *self.ids[index].get_or_insert_with(|| keys.id(self.rows.key_name(index)))
    }
}

/// The device of the rows in hand, and where they go. Rows of a device stand
/// together, so that it is looked up once for a message.
struct Here {
    device: u64,
    to: Option<(Arc<Source>, Arc<[LaneIndex]>)>,
}

impl Here {
    fn at(&mut self, device: u64, routes: &mut Routes) {
        if self.device != device {
            self.device = device;
            self.to.clone_from(&routes.of(DeviceId(device)).to);
        }
    }
}

impl Partition {
    /// Gives a record's readings to all lanes that it is read for.
    pub(super) fn route(&mut self, entry: &Entry, mode: Mode) -> Result<(), End> {
        let position = entry.position;
        if entry.kind == RecordKind::Readings {
            let rows = entry.record_rows().map_err(|source| End::Record { position, source })?;
            self.route_rows(&rows, position, mode);
        }
        if mode == Mode::Behind {
            self.step_behind(position);
        }
        Ok(())
    }

    fn route_rows(&mut self, rows: &RecordRows, position: Position, mode: Mode) {
        let mut keys = RecordKeys { rows, ids: vec![None; rows.key_count()] };
        // No device has the highest id.
        let mut here = Here { device: u64::MAX, to: None };
        self.metrics.rows.inc_by(rows.len() as u64);
        for (row, device) in rows.devices().iter().enumerate() {
            here.at(*device, &mut self.routes);
            let Some((source, lanes)) = &here.to else { continue };
            let place = Place { position, row: u32::try_from(row).unwrap_or(u32::MAX) };
            for index in lanes.iter() {
                let Some(slot) = &mut self.slots[*index as usize] else { continue };
                if !wants(slot, place, mode) {
                    continue;
                }
                let moment = (position, *device, rows.observed_at(row).0);
                // A message that is begun is taken whole: in two parts it would
                // cost the platform, and the forwarder's rate, twice as much.
                if slot.is_full(self.options.queue_values, self.options.queue_bytes)
                    && slot.amid != Some(moment)
                {
                    slot.is_blocked = true;
                    slot.read = place;
                    if mode == Mode::Live {
                        slot.is_live = false;
                        self.behind.push(*index);
                        self.metrics.left_behind.inc();
                    }
                    self.touched.push(*index);
                    continue;
                }
                let key = keys.id(row, &mut self.keys);
                let was_empty = slot.scratch.is_empty();
                let names = (source, self.keys.name(key), self.partition);
                take(slot, rows, row, place, key, names);
                if was_empty && !slot.scratch.is_empty() {
                    self.touched.push(*index);
                }
            }
        }
        for index in self.touched.drain(..) {
            if let Some(slot) = &mut self.slots[index as usize] {
                slot.hand_over();
                if mode == Mode::Live {
                    slot.is_blocked = false;
                }
            }
        }
    }

    /// Lanes behind for which the record was read and that were not held up in
    /// it wait for the next.
    fn step_behind(&mut self, position: Position) {
        for index in &self.behind {
            let Some(slot) = &mut self.slots[*index as usize] else { continue };
            if slot.read.position == position && !slot.is_blocked {
                slot.read = Place::at(position.next());
            }
            slot.is_blocked = false;
        }
    }
}

/// Whether a lane takes part in this row now.
fn wants(slot: &Slot, place: Place, mode: Mode) -> bool {
    match mode {
        Mode::Live => slot.is_live,
        Mode::Behind => {
            !slot.is_live
                && !slot.is_blocked
                && slot.read.position == place.position
                && slot.read.row <= place.row
        }
    }
}

/// Decides of one reading, and queues it if it is to be sent.
fn take(
    slot: &mut Slot,
    rows: &RecordRows,
    row: usize,
    place: Place,
    key: KeyId,
    (source, name, partition): (&Arc<Source>, &Arc<str>, schema::PartitionId),
) {
    let item = match slot.by_key.get(&key) {
        Some(item) => Some(*item),
        None if slot.by_key.is_empty() && !name.starts_with(SYSTEM_KEY_PREFIX) => None,
        None => return,
    };
    let Some(value) = rows.value(row) else { return };
    let (datum, tolerance) = match slot.spec.treat(item, value) {
        Ok(treated) => treated,
        Err(reason) => return slot.lane.drop_value(reason),
    };
    let at_ms = rows.observed_at(row).0;
    let of = (source.device, key);
    if let Decision::Send(_) = slot.lane.take(place, of, at_ms, &datum, tolerance) {
        let id = MessageId { partition, position: place.position, row: place.row };
        let (source, key) = (Arc::clone(source), Arc::clone(name));
        slot.scratch.push(Outgoing { id, source, key, item, at_ms, datum });
        slot.amid = Some((place.position, rows.devices()[row], at_ms));
    }
}
