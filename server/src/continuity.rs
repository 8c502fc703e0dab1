//! Whether the journal is the one that the store was derived from, as far as
//! positions tell.
//!
//! A store that stands beyond the journal's end was derived from another journal:
//! from one that was lost, or from a newer one than was restored. What routers
//! sent would begin again at positions that count as read, so nothing of it would
//! be recorded or evaluated, in silence. Therefore the node does not start.

use anyhow::Context as _;
use journal::{Journal, ReadError};
use schema::{PartitionId, Position};
use store::Store;

/// Refuses a journal that ends before what the store has read of it. Where brokers
/// are slow to tell all that they have, it waits for them.
pub(crate) async fn refuse_another_journal(journal: &Journal, store: &Store) -> anyhow::Result<()> {
    let reached = reached(journal, store).await.context("cannot read where the store stands")?;
    for (partition, (reached, who)) in (0..).map(PartitionId).zip(reached) {
        if reached <= journal.bounds(partition).next {
            continue;
        }
        if let Err(ReadError::Ahead { next, .. }) =
            journal.reader_from(partition, reached, reached).await
        {
            anyhow::bail!(
                "the journal's partition {partition} ends at {next}, but {who} have read it up to \
                 {reached}: the journal was lost, replaced or restored without the store, and what \
                 is sent now would be passed over; docs/operations.md says under \"Backup and \
                 restore\" what to do"
            );
        }
    }
    Ok(())
}

/// How far each partition was read, and by whom.
async fn reached(
    journal: &Journal,
    store: &Store,
) -> anyhow::Result<Vec<(Position, &'static str)>> {
    let mut furthest = Vec::new();
    for partition in (0..journal.partitions()).map(PartitionId) {
        let readers = [
            (store.history().durable_position(partition), "the history"),
            (store.attributes().position(partition), "the attributes"),
            (store.alarms().position(partition).await?, "the alarms"),
        ];
        furthest.push(readers.into_iter().max_by_key(|(position, _)| *position).expect("three"));
    }
    for lane in store.forwarders().lanes().await? {
        let (Some(place), Some(known)) =
            (lane.place, furthest.get_mut(usize::from(lane.partition.0)))
        else {
            continue;
        };
        if place.position > known.0 {
            *known = (place.position, "the forwarders");
        }
    }
    Ok(furthest)
}
