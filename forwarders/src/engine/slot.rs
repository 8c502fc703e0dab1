//! A lane in its partition's task: how far it has read, and what is to be stored
//! of it.

use std::collections::HashMap;
use std::sync::Arc;

use schema::{PartitionId, Position};
use store::forwarders::{LaneCommit, LanePlace, NewDeadLetter, StoredLane};
use tokio::sync::mpsc;

use super::messages::Resolution;
use super::sender::Queued;
use super::spec::Spec;
use crate::lane::{Counts, KeyId, Keys, Lane, Outcome, Place};
use crate::outgoing::Outgoing;

#[derive(Debug)]
pub(super) struct Slot {
    pub spec: Arc<Spec>,
    pub epoch: u64,
    pub lane: Lane,
    /// Takes what the partition reads as it comes; otherwise it reads behind, at
    /// a pace of its own, from `read`.
    pub is_live: bool,
    pub read: Place,
    pub by_key: HashMap<KeyId, u32, foldhash::fast::RandomState>,
    pub queue: mpsc::Sender<Queued>,
    /// Values of the record in hand.
    pub scratch: Vec<Outgoing>,
    /// Record, device and time of the last value that was queued.
    pub amid: Option<(Position, u64, i64)>,
    /// Its queue was full in the record in hand.
    pub is_blocked: bool,
    pub letters: Vec<NewDeadLetter>,
    pub expired: u64,
    pub stored: Option<Place>,
}

impl Slot {
    pub fn new(
        spec: Arc<Spec>,
        epoch: u64,
        queue: mpsc::Sender<Queued>,
        (read, counts, expired): (Place, Counts, u64),
        keys: &mut Keys,
    ) -> Self {
        let by_key = spec.by_key.iter().map(|(key, item)| (keys.id(key), *item)).collect();
        Self {
            lane: Lane::new(spec.policy, counts),
            spec,
            epoch,
            is_live: false,
            read,
            by_key,
            queue,
            scratch: Vec::new(),
            amid: None,
            is_blocked: false,
            letters: Vec::new(),
            expired,
            stored: None,
        }
    }

    /// The same forwarder with other settings, or a sender that began anew: what
    /// is outstanding is read again.
    pub fn renew(
        &mut self,
        spec: Arc<Spec>,
        epoch: u64,
        queue: mpsc::Sender<Queued>,
        live: Position,
        keys: &mut Keys,
    ) {
        self.read = self.place(live);
        self.is_live = false;
        self.lane.reset();
        self.lane.set_policy(spec.policy);
        self.by_key = spec.by_key.iter().map(|(key, item)| (keys.id(key), *item)).collect();
        (self.spec, self.epoch, self.queue) = (spec, epoch, queue);
        self.scratch.clear();
        self.amid = None;
    }

    /// The first row that it has not dealt with.
    pub fn place(&self, live: Position) -> Place {
        let read = if self.is_live { Place::at(live) } else { self.read };
        self.lane.place(read)
    }

    /// Whether nothing more may be queued, but for the rest of a message.
    pub fn is_full(&self, values: usize, bytes: usize) -> bool {
        self.lane.outstanding() >= values || self.lane.bytes() >= bytes
    }

    /// Hands over what the record in hand brought.
    pub fn hand_over(&mut self) {
        if self.scratch.is_empty() {
            return;
        }
        let values = std::mem::take(&mut self.scratch);
        // Fails if the sender is being stopped: what is outstanding is read again
        // by the one that follows. It holds as many messages as a lane may have
        // values outstanding, so that it is never full.
        let _ = self.queue.try_send(Queued { values });
    }

    /// What became of the oldest values.
    pub fn resolve(&mut self, resolutions: Vec<Resolution>) {
        for resolution in resolutions {
            match resolution {
                Resolution::Sent(run) => {
                    for _ in 0..run {
                        self.lane.resolve(Outcome::Sent);
                    }
                }
                Resolution::Dead(letter) => {
                    self.lane.resolve(Outcome::DeadLetter);
                    self.letters.push(*letter);
                }
            }
        }
    }

    /// What is to be stored of it now; taken as stored from here on.
    pub fn commit(&mut self, partition: PartitionId, live: Position, keys: &Keys) -> LaneCommit {
        let place = self.place(live);
        let counts = self.lane.settled();
        let counts = serde_json::to_string(&counts).expect("counts have text keys only");
        let devices = self.lane.unstored(keys).collect();
        self.lane.stored();
        self.stored = Some(place);
        LaneCommit {
            lane: StoredLane {
                forwarder: self.spec.forwarder,
                partition,
                place: Some(LanePlace { position: place.position, row: place.row }),
                counts,
                expired: self.expired,
            },
            devices,
            dead_letters: std::mem::take(&mut self.letters),
        }
    }
}
