//! Where a forwarder's lanes begin. A new one begins at the journal's end, and
//! that is stored before it is said to have begun: a node that ends without a
//! word a moment later must not begin at a later end.

use std::collections::HashMap;

use schema::PartitionId;
use store::forwarders::{LaneCommit, LanePlace, StoredLane};

use super::messages::Stored;
use super::supervisor::Supervisor;
use crate::lane::Counts;

impl Supervisor {
    /// What is stored of a forwarder's lanes in these partitions, a place for each
    /// of them.
    pub(super) async fn places(
        &self,
        forwarder: u64,
        partitions: &[PartitionId],
    ) -> HashMap<PartitionId, Stored> {
        let lanes = self.patiently(|| self.store.lanes()).await.unwrap_or_default();
        let mut places = HashMap::new();
        let mut steps = Vec::new();
        for partition in partitions {
            let is_it =
                |lane: &&StoredLane| lane.forwarder == forwarder && lane.partition == *partition;
            let (lane, devices) = match lanes.iter().find(is_it) {
                Some(lane) if lane.place.is_some() => {
                    let devices = self.patiently(|| self.store.devices(forwarder, *partition));
                    (lane.clone(), devices.await.unwrap_or_default())
                }
                // Its counts go on where it was switched off and is on again.
                known => {
                    let lane = self.at_the_end(forwarder, *partition, known);
                    let (devices, dead_letters) = (Vec::new(), Vec::new());
                    steps.push(LaneCommit { lane: lane.clone(), devices, dead_letters });
                    (lane, Vec::new())
                }
            };
            places.insert(*partition, (lane, devices));
        }
        if !steps.is_empty() {
            self.patiently(|| self.store.commit(steps.clone(), self.max_dead_letters)).await;
        }
        places
    }

    fn at_the_end(
        &self,
        forwarder: u64,
        partition: PartitionId,
        known: Option<&StoredLane>,
    ) -> StoredLane {
        let none =
            || serde_json::to_string(&Counts::default()).expect("counts have text keys only");
        let position = self.journal.bounds(partition).next;
        StoredLane {
            forwarder,
            partition,
            place: Some(LanePlace { position, row: 0 }),
            counts: known.map_or_else(none, |lane| lane.counts.clone()),
            expired: known.map_or(0, |lane| lane.expired),
        }
    }
}
