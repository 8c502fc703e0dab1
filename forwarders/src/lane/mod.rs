//! What one forwarder has to do with one partition, without IO and without a
//! clock: which of its readings are sent, what is outstanding, and from where
//! it would go on after a crash.
//!
//! A reading that is selected is sent, suppressed or dropped, each with its
//! reason. What was sent last of a series moves only when the platform has
//! acknowledged, in the order of the journal. So at any moment the lane's
//! [`Lane::place`], its counts and its last values say the same: all before the
//! place is dealt with, and nothing behind it has happened. Read again from
//! there, a journal gives the same decisions.

mod counts;
mod keys;
mod series;
mod state;

pub use counts::{Counts, DROP_REASONS, Delta, DropReason};
pub use keys::{KeyId, Keys};
pub use series::{Decision, Last, Policy, SendReason, SuppressReason, Tolerance};
pub use state::StateError;

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};
use schema::{DeviceId, Position};

use crate::limits::MAX_SERIES;
use crate::value::{Datum, Fingerprint};
use series::{Series, decide};

/// A row of a record of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub position: Position,
    /// Rows before it in that record are dealt with.
    pub row: u32,
}

impl Place {
    /// The beginning of a record.
    #[must_use]
    pub fn at(position: Position) -> Self {
        Self { position, row: 0 }
    }
}

/// What became of a value that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The platform acknowledged it.
    Sent,
    /// The platform refused it for good, and it is kept as a dead letter.
    DeadLetter,
}

/// A value that is queued or in flight.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    id: u64,
    place: Place,
    device: DeviceId,
    key: KeyId,
    last: Last,
    bytes: u32,
    /// What was decided of the readings since the ticket before.
    before: Delta,
}

type DeviceSeries = Vec<(KeyId, Series)>;

/// See the module's own words.
#[derive(Debug)]
pub struct Lane {
    policy: Policy,
    devices: HashMap<DeviceId, DeviceSeries, foldhash::fast::RandomState>,
    series: usize,
    outstanding: VecDeque<Ticket>,
    next_ticket: u64,
    bytes: usize,
    /// What was decided since the last ticket.
    tail: Delta,
    /// Of all before the lane's place.
    counts: Counts,
    /// Devices whose last values differ from what is stored.
    dirty: HashSet<DeviceId, foldhash::fast::RandomState>,
    is_changed: bool,
}

impl Lane {
    #[must_use]
    pub fn new(policy: Policy, counts: Counts) -> Self {
        Self {
            policy,
            devices: HashMap::default(),
            series: 0,
            outstanding: VecDeque::new(),
            next_ticket: 0,
            bytes: 0,
            tail: Delta::default(),
            counts,
            dirty: HashSet::default(),
            is_changed: false,
        }
    }

    /// Decides of a reading that is selected. One to be sent is outstanding from
    /// now on, until [`Lane::resolve`] has come to it.
    pub fn take(
        &mut self,
        place: Place,
        (device, key): (DeviceId, KeyId),
        at_ms: i64,
        datum: &Datum,
        tolerance: Option<Tolerance>,
    ) -> Decision {
        let value = Fingerprint::of(datum);
        let series = self.series_of(device, key);
        let decision = decide(self.policy, tolerance, series, at_ms, value);
        match decision {
            Decision::Send(_) => {
                let bytes = size_of::<Ticket>() + size_of::<Datum>() + datum.heap_bytes();
                let last = Last { at_ms, value };
                self.queue(place, (device, key), last, u32::try_from(bytes).unwrap_or(u32::MAX));
            }
            Decision::Suppress(reason) => self.tail.suppress(reason),
            Decision::Drop(reason) => self.tail.drop(reason),
        }
        decision
    }

    /// A reading that is selected and can't be sent.
    pub fn drop_value(&mut self, reason: DropReason) {
        self.tail.drop(reason);
    }

    fn queue(&mut self, place: Place, of: (DeviceId, KeyId), last: Last, bytes: u32) {
        let id = self.next_ticket;
        self.next_ticket += 1;
        let (device, key) = of;
        if let Some(series) = self.series_mut(device, key) {
            series.queued(id, last);
        }
        self.bytes += bytes as usize;
        // What stands before the first that is outstanding is before the place.
        self.settled();
        let before = std::mem::take(&mut self.tail);
        self.outstanding.push_back(Ticket { id, place, device, key, last, bytes, before });
    }

    /// What became of the oldest value that is outstanding.
    ///
    /// # Panics
    /// If none is, which would be a defect of the caller's.
    pub fn resolve(&mut self, outcome: Outcome) {
        let ticket = self.outstanding.pop_front().expect("only what is outstanding is resolved");
        self.bytes -= ticket.bytes as usize;
        self.counts.selected += 1;
        match outcome {
            Outcome::Sent => self.counts.sent += 1,
            Outcome::DeadLetter => self.counts.dead_letters += 1,
        }
        if let Some(next) = self.outstanding.front_mut() {
            let before = std::mem::take(&mut next.before);
            self.counts.add_delta(&before);
        }
        self.is_changed = true;
        let Some(series) = self.series_mut(ticket.device, ticket.key) else { return };
        match outcome {
            Outcome::Sent => series.sent(ticket.id, ticket.last),
            Outcome::DeadLetter => series.failed(ticket.id),
        }
        if outcome == Outcome::Sent {
            self.dirty.insert(ticket.device);
        }
    }

    /// Forgets all that is outstanding, as a crash would; the caller reads again
    /// from [`Lane::place`], which it asks before.
    pub fn reset(&mut self) {
        // What was decided since the last of a lane without any is before its
        // place, and is not decided again.
        self.settled();
        for ticket in std::mem::take(&mut self.outstanding) {
            if let Some(series) = self.series_mut(ticket.device, ticket.key) {
                series.failed(ticket.id);
            }
        }
        self.bytes = 0;
        self.tail = Delta::default();
    }

    /// Treats what is taken from now on otherwise. Nothing is outstanding.
    pub fn set_policy(&mut self, policy: Policy) {
        debug_assert!(self.outstanding.is_empty(), "the lane was reset before");
        self.policy = policy;
    }

    /// From where a crash would go on, if `read` is the next row to be taken.
    #[must_use]
    pub fn place(&self, read: Place) -> Place {
        self.outstanding.front().map_or(read, |ticket| ticket.place)
    }

    /// Values that are queued or in flight.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// What they take of memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The counts of all before the place that a crash would go on from.
    pub fn settled(&mut self) -> Counts {
        if self.outstanding.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.is_changed |= tail != Delta::default();
            self.counts.add_delta(&tail);
        }
        self.counts
    }

    /// The counts of all that was taken, where what is outstanding is selected
    /// and nothing else yet.
    #[must_use]
    pub fn taken(&self) -> Counts {
        let mut counts = self.counts;
        counts.selected += self.outstanding.len() as u64;
        for ticket in &self.outstanding {
            counts.add_delta(&ticket.before);
        }
        counts.add_delta(&self.tail);
        counts
    }

    /// Series whose last value is remembered.
    #[must_use]
    pub fn series(&self) -> usize {
        self.series
    }

    /// Forgets a device that is no more.
    pub fn forget(&mut self, device: DeviceId) {
        if let Some(series) = self.devices.remove(&device) {
            self.series -= series.len();
            self.dirty.insert(device);
        }
    }

    /// Gives a device the last values that were stored of it.
    ///
    /// # Errors
    /// [`StateError`] when they are no state of ours.
    pub fn restore(
        &mut self,
        device: DeviceId,
        stored: &[u8],
        keys: &mut Keys,
    ) -> Result<(), StateError> {
        let mut series = state::decode(stored, keys)?;
        series.sort_unstable_by_key(|(key, _)| *key);
        self.series += series.len();
        if let Some(old) = self.devices.insert(device, series) {
            self.series -= old.len();
        }
        Ok(())
    }

    /// Whether there is anything to store since [`Lane::stored`].
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.is_changed || !self.dirty.is_empty()
    }

    /// The devices to be stored, with their last values; none for one that is
    /// forgotten. They belong to [`Lane::place`] and [`Lane::settled`].
    pub fn unstored<'a>(
        &'a self,
        keys: &'a Keys,
    ) -> impl Iterator<Item = (DeviceId, Option<Vec<u8>>)> + 'a {
        self.dirty.iter().map(|device| {
            let series = self.devices.get(device);
            (*device, series.map(|series| state::encode(series, keys)))
        })
    }

    /// All that [`Lane::unstored`] gave is durable.
    pub fn stored(&mut self) {
        self.dirty.clear();
        self.is_changed = false;
    }

    fn series_of(&self, device: DeviceId, key: KeyId) -> Option<&Series> {
        if !self.policy.remembers() {
            return None;
        }
        let series = self.devices.get(&device)?;
        let place = series.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(&series[place].1)
    }

    /// The series, made if there is room; none where nothing is remembered.
    fn series_mut(&mut self, device: DeviceId, key: KeyId) -> Option<&mut Series> {
        if !self.policy.remembers() {
            return None;
        }
        let series = self.devices.entry(device).or_default();
        match series.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(place) => Some(&mut series[place].1),
            Err(_) if self.series >= MAX_SERIES => None,
            Err(place) => {
                self.series += 1;
                series.insert(place, (key, Series::default()));
                Some(&mut series[place].1)
            }
        }
    }
}

#[cfg(test)]
mod tests;
