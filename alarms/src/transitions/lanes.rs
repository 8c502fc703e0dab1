//! What is to be published of each partition that is this node's, decided without
//! IO, clock or task.
//!
//! Transitions are read once for all partitions, in the one order of their
//! sequences, and divided. So most of the time all partitions stand at one place;
//! one whose broker is away is left behind and reads again what it needs.

use std::collections::BTreeMap;

use schema::{PartitionId, home_partition_of, partition_of};
use store::alarms::{EventRow, Published, PublishedPlace};

/// By so many events a place may be ahead of what the store says of it where
/// nothing was published: so many are read again by the next owner at most.
const UNTOLD_EVENTS: u64 = 10_000;

/// The partition of a transition: that of its location, or of its tenant as a whole.
pub(super) fn partition_of_transition(event: &EventRow, partitions: u16) -> PartitionId {
    let tenant = event.tenant.unwrap_or_default();
    match event.location {
        Some(location) => partition_of(tenant, location, partitions),
        None => home_partition_of(tenant, partitions),
    }
}

/// So many times in a row a topic must end before what it had, until that is
/// believed: a broker that has just become the partition's leader may not show all
/// for a while.
const MOST_DOUBTS: u32 = 30;

/// Whether it is known where a partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Yes,
    /// The topic ends before what it had. It is to be asked again.
    Doubted,
    /// It has lost what it had, which is published again.
    Lost,
}

/// What is being done for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not known yet what the topic ends with.
    Opening,
    Idle,
    /// So many transitions are on their way.
    Sending(usize),
    /// It wants a person.
    Stopped,
}

/// One partition that is this node's.
#[derive(Debug)]
struct Lane {
    epoch: u64,
    phase: Phase,
    /// All of its transitions up to this sequence are in the topic; a lower bound
    /// while it is opening.
    place: u64,
    /// The last of them.
    last: u64,
    /// What the store says of it.
    stored: Published,
    doubts: u32,
    /// It is to be given away once all that is durable by now is published: whether
    /// it was looked since then what that is.
    leaving: Option<bool>,
}

/// Transitions of one partition that are sent together.
#[derive(Debug)]
pub(super) struct Piece {
    pub partition: PartitionId,
    pub epoch: u64,
    pub transitions: Vec<EventRow>,
    /// Where the partition stands once they are in the topic.
    pub end: u64,
}

#[derive(Debug)]
pub(super) struct Lanes {
    partitions: u16,
    lanes: BTreeMap<PartitionId, Lane>,
}

impl Lanes {
    /// `partitions` as the journal has them, and the topic.
    pub fn new(partitions: u16) -> Self {
        Self { partitions, lanes: BTreeMap::new() }
    }

    /// The partition is this node's, from this epoch on.
    pub fn enter(&mut self, partition: PartitionId, epoch: u64) {
        let lane = Lane {
            epoch,
            phase: Phase::Opening,
            place: 0,
            last: 0,
            stored: Published::default(),
            doubts: 0,
            leaving: None,
        };
        self.lanes.insert(partition, lane);
    }

    /// The partition is to be given away; false if it is not this node's any more.
    pub fn leave(&mut self, partition: PartitionId) -> bool {
        let Some(lane) = self.lanes.get_mut(&partition) else { return false };
        lane.leaving.get_or_insert(false);
        true
    }

    /// Leaves a partition as it stands; the phase that it was in.
    pub fn remove(&mut self, partition: PartitionId) -> Option<Phase> {
        self.lanes.remove(&partition).map(|lane| lane.phase)
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Those of which it is to be found out what the topic ends with.
    pub fn opening(&self) -> Vec<(PartitionId, u64)> {
        let opening = self.lanes.iter().filter(|(_, lane)| lane.phase == Phase::Opening);
        opening.map(|(partition, lane)| (*partition, lane.epoch)).collect()
    }

    /// The store says how far it is published.
    pub fn note_stored(&mut self, partition: PartitionId, epoch: u64, stored: Published) {
        if let Some(lane) = self.of(partition, epoch) {
            lane.stored = stored;
            if lane.phase == Phase::Opening {
                lane.place = lane.place.max(stored.sequence);
            }
        }
    }

    /// It goes on behind the sequence that the topic ends with, where there is any.
    pub fn open(&mut self, partition: PartitionId, epoch: u64, ends_with: Option<u64>) -> Opened {
        let Some(lane) = self.of(partition, epoch).filter(|it| it.phase == Phase::Opening) else {
            return Opened::Yes;
        };
        let known = lane.last.max(lane.stored.last);
        let last = ends_with.unwrap_or(known);
        let has_lost = last < known;
        lane.doubts = if has_lost { lane.doubts + 1 } else { 0 };
        if has_lost && lane.doubts < MOST_DOUBTS {
            return Opened::Doubted;
        }
        lane.place = if has_lost { last } else { last.max(lane.place) };
        (lane.phase, lane.last, lane.doubts) = (Phase::Idle, last, 0);
        if has_lost { Opened::Lost } else { Opened::Yes }
    }

    /// It has to be found out anew what the topic ends with.
    pub fn reopen(&mut self, partition: PartitionId, epoch: u64) {
        if let Some(lane) = self.of(partition, epoch) {
            lane.phase = Phase::Opening;
        }
    }

    /// The same of all but those that want a person.
    pub fn reopen_all(&mut self) {
        for lane in self.lanes.values_mut().filter(|lane| lane.phase != Phase::Stopped) {
            lane.phase = Phase::Opening;
        }
    }

    pub fn stop(&mut self, partition: PartitionId, epoch: u64) {
        if let Some(lane) = self.of(partition, epoch) {
            lane.phase = Phase::Stopped;
        }
    }

    /// Behind which sequence transitions are to be read, where any may be there:
    /// `latest` is the last that is known. Whoever reads for partitions that are
    /// given away looks whatever is known.
    pub fn wants(&self, latest: u64) -> Option<u64> {
        let wants = |lane: &&Lane| {
            lane.phase == Phase::Idle && (lane.place < latest || lane.leaving == Some(false))
        };
        self.lanes.values().filter(wants).map(|lane| lane.place).min()
    }

    /// Those that are given away, as of now.
    pub fn leaving(&self) -> Vec<(PartitionId, u64)> {
        let leaving = self.lanes.iter().filter(|(_, lane)| lane.leaving.is_some());
        leaving.map(|(partition, lane)| (*partition, lane.epoch)).collect()
    }

    /// Those that are another node's, as the store says.
    pub fn lost(&self, epochs: &[(PartitionId, u64)]) -> Vec<PartitionId> {
        let is_lost = |(partition, epoch): &&(PartitionId, u64)| {
            self.lanes.get(partition).is_some_and(|lane| lane.epoch != *epoch)
        };
        epochs.iter().filter(is_lost).map(|(partition, _)| *partition).collect()
    }

    /// Divides what was read behind `from`: all transitions up to `end`. What is
    /// given away was `looked_for` where it was known before the reading began.
    pub fn divide(
        &mut self,
        from: u64,
        rows: Vec<EventRow>,
        end: u64,
        looked_for: &[(PartitionId, u64)],
    ) -> Vec<Piece> {
        let mut pieces: BTreeMap<PartitionId, Vec<EventRow>> = BTreeMap::new();
        for row in rows {
            let partition = partition_of_transition(&row, self.partitions);
            let lane = self.lanes.get(&partition);
            if lane.is_some_and(|it| it.takes_behind(from) && row.sequence > it.place) {
                pieces.entry(partition).or_default().push(row);
            }
        }
        for (partition, lane) in &mut self.lanes {
            if !lane.takes_behind(from) {
                continue;
            }
            if lane.leaving.is_some() && looked_for.contains(&(*partition, lane.epoch)) {
                lane.leaving = Some(true);
            }
            match pieces.get(partition) {
                Some(transitions) => lane.phase = Phase::Sending(transitions.len()),
                None => lane.place = lane.place.max(end),
            }
        }
        let piece = |(partition, transitions)| {
            let epoch = self.lanes[&partition].epoch;
            Piece { partition, epoch, transitions, end }
        };
        pieces.into_iter().map(piece).collect()
    }

    /// A piece is in the topic.
    pub fn sent(&mut self, partition: PartitionId, epoch: u64, now: Published) {
        if let Some(lane) = self.of(partition, epoch)
            && matches!(lane.phase, Phase::Sending(_))
        {
            (lane.phase, lane.place, lane.last) = (Phase::Idle, now.sequence, now.last);
        }
    }

    /// Whether something is on its way.
    pub fn is_sending(&self) -> bool {
        self.lanes.values().any(|lane| matches!(lane.phase, Phase::Sending(_)))
    }

    /// Transitions that are on their way.
    pub fn on_their_way(&self) -> usize {
        let count = |lane: &Lane| match lane.phase {
            Phase::Sending(count) => count,
            _ => 0,
        };
        self.lanes.values().map(count).sum()
    }

    /// Whether all transitions up to a sequence are in the topic, for certain.
    pub fn have(&self, sequence: u64) -> bool {
        let has = |lane: &Lane| {
            lane.place >= sequence && matches!(lane.phase, Phase::Idle | Phase::Sending(_))
        };
        self.lanes.values().all(has)
    }

    /// Behind which sequence nothing is known to be in the topic.
    pub fn least(&self) -> Option<u64> {
        self.lanes.values().map(|lane| lane.place).min()
    }

    /// Whether a transition is to be published here and is not known to be.
    pub fn lack(&self, event: &EventRow) -> bool {
        let partition = partition_of_transition(event, self.partitions);
        self.lanes.get(&partition).is_some_and(|lane| event.sequence > lane.place)
    }

    /// What the store is to be told.
    pub fn to_note(&self) -> Vec<PublishedPlace> {
        let is_new = |lane: &Lane| {
            let moved = lane.place.abs_diff(lane.stored.sequence);
            let is_told = lane.last == lane.stored.last && moved < UNTOLD_EVENTS;
            lane.phase != Phase::Opening && (!is_told || lane.leaving.is_some() && moved > 0)
        };
        let of = |(partition, lane): (&PartitionId, &Lane)| PublishedPlace {
            partition: *partition,
            epoch: lane.epoch,
            published: Published { sequence: lane.place, last: lane.last },
        };
        self.lanes.iter().filter(|(_, lane)| is_new(lane)).map(of).collect()
    }

    /// Those that can be given away: there is nothing left to do for them.
    pub fn left(&self) -> Vec<PartitionId> {
        let is_left = |lane: &Lane| match lane.phase {
            Phase::Stopped => lane.leaving.is_some(),
            Phase::Idle => lane.leaving == Some(true),
            Phase::Opening | Phase::Sending(_) => false,
        };
        let left = self.lanes.iter().filter(|(_, lane)| is_left(lane));
        left.map(|(partition, _)| *partition).collect()
    }

    fn of(&mut self, partition: PartitionId, epoch: u64) -> Option<&mut Lane> {
        self.lanes.get_mut(&partition).filter(|lane| lane.epoch == epoch)
    }
}

impl Lane {
    /// Whether what was read behind a sequence is all that it lacks.
    fn takes_behind(&self, from: u64) -> bool {
        self.phase == Phase::Idle && self.place >= from
    }
}

#[cfg(test)]
mod tests;
