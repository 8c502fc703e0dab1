//! What a partition's task is told: lanes that come, change and go, what became
//! of values, and questions.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::messages::{LaneView, Message, Put, Resolved, Stored};
use super::partition::Partition;
use super::routes::LaneIndex;
use super::sender::Queued;
use super::slot::Slot;
use super::spec::Spec;
use crate::lane::{Counts, Place, StateError};

impl Partition {
    pub async fn hear(&mut self, message: Message) {
        match message {
            Message::Put(put) => self.put(*put),
            Message::Remove { forwarder, done } => {
                // What is being stored may still be of it, and what became of its
                // last values is not stored yet.
                self.finish_storing().await;
                if let Some(mut slot) = self.take_away(forwarder) {
                    let step = slot.commit(self.partition, self.live, &self.keys);
                    self.store_steps(vec![step]);
                    self.finish_storing().await;
                }
                let _ = done.send(());
            }
            Message::Resolved(resolved) => self.resolve(resolved),
            Message::Device { device, is_gone } => {
                self.routes.forget_device(device);
                if is_gone {
                    for slot in self.slots.iter_mut().flatten() {
                        slot.lane.forget(device);
                    }
                }
            }
            Message::Places => self.routes.forget_all(),
            Message::View { forwarder, answer } => {
                let slots = self.slots.iter().flatten();
                let wanted =
                    slots.filter(|slot| forwarder.is_none_or(|id| id == slot.spec.forwarder));
                let _ = answer.send(wanted.map(|slot| self.view(slot)).collect());
            }
        }
    }

    fn take_away(&mut self, forwarder: u64) -> Option<Slot> {
        let index = self.by_forwarder.remove(&forwarder)?;
        self.behind.retain(|other| *other != index);
        self.free.push(index);
        let slot = self.slots[index as usize].take()?;
        self.routes.remove(&slot.spec, index);
        Some(slot)
    }

    fn resolve(&mut self, resolved: Resolved) {
        let Resolved { forwarder, epoch, resolutions } = resolved;
        let Some(index) = self.find(forwarder) else { return };
        let Some(slot) = &mut self.slots[index as usize] else { return };
        // A sender that was stopped since: what it did is not known to be done.
        if slot.epoch == epoch {
            slot.resolve(resolutions);
        }
    }

    fn find(&self, forwarder: u64) -> Option<LaneIndex> {
        self.by_forwarder.get(&forwarder).copied()
    }

    fn put(&mut self, put: Put) {
        let Put { spec, epoch, queue, stored } = put;
        if let Some(index) = self.find(spec.forwarder) {
            let live = self.live;
            let Some(slot) = &mut self.slots[index as usize] else { return };
            let old = Arc::clone(&slot.spec);
            slot.renew(Arc::clone(&spec), epoch, queue, live, &mut self.keys);
            self.routes.remove(&old, index);
            self.routes.add(&spec, index);
            if !self.behind.contains(&index) {
                self.behind.push(index);
            }
            return;
        }
        let slot = match self.begin(spec, epoch, queue, stored) {
            Ok(slot) => slot,
            Err((forwarder, error)) => {
                let partition = self.partition;
                tracing::error!(%partition, forwarder, %error, "a forwarder can't begin");
                return;
            }
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            LaneIndex::try_from(self.slots.len() - 1).expect("far fewer forwarders than 2^32")
        });
        self.routes.add(&slot.spec, index);
        self.by_forwarder.insert(slot.spec.forwarder, index);
        self.slots[index as usize] = Some(slot);
        self.behind.push(index);
    }

    /// A lane from what is stored, or from the journal's end.
    fn begin(
        &mut self,
        spec: Arc<Spec>,
        epoch: u64,
        queue: mpsc::Sender<Queued>,
        stored: Option<Stored>,
    ) -> Result<Slot, (u64, StateError)> {
        let forwarder = spec.forwarder;
        let mut begin = (Place::at(self.live), Counts::default(), 0);
        let mut devices = Vec::new();
        if let Some((lane, of_devices)) = stored {
            begin.1 = serde_json::from_str(&lane.counts).unwrap_or_default();
            begin.2 = lane.expired;
            if let Some(place) = lane.place {
                begin.0 = Place { position: place.position, row: place.row };
            }
            devices = of_devices;
        }
        // The journal may have been replaced by an older one.
        begin.0 = begin.0.min(Place::at(self.live));
        let mut slot = Slot::new(spec, epoch, queue, begin, &mut self.keys);
        for (device, last) in devices {
            let restored = slot.lane.restore(device, &last, &mut self.keys);
            restored.map_err(|error| (forwarder, error))?;
        }
        Ok(slot)
    }

    fn view(&self, slot: &Slot) -> LaneView {
        let next = self.journal.bounds(self.partition).next;
        let place = slot.place(self.live);
        let is_done = place.position >= next;
        LaneView {
            counts: slot.lane.taken(),
            outstanding: slot.lane.outstanding(),
            lag_records: next.0.saturating_sub(place.position.0),
            oldest_ms: if is_done { None } else { self.marks.time_of(place.position) },
            expired: slot.expired,
            stopped: self.stopped.clone(),
        }
    }
}
