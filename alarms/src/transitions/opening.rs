//! Finds out where publishing goes on in a partition that was taken over.

use std::collections::BTreeMap;

use journal::{LastMessage, Outlet};
use schema::{PartitionId, TransitionId};
use store::AlarmStore;
use store::alarms::{AlarmStoreError, Published};

use super::{HEADER_ID, HEADER_SEQUENCE};

/// What was found out of one partition.
#[derive(Debug)]
pub(super) struct Found {
    pub partition: PartitionId,
    pub epoch: u64,
    /// What the store says.
    pub stored: Published,
    /// The sequence that the topic ends with; none where it is empty, because it is
    /// new or its retention has deleted all.
    pub ends_with: Result<Option<u64>, Unopened>,
}

/// Why publishing does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unopened {
    /// Asked again, it may be known.
    #[error("{0}")]
    Unknown(String),
    #[error(
        "topic {topic} ends in partition {partition} at offset {offset} with a record that is no \
         transition of Baken; nobody else may write to it"
    )]
    Foreign { topic: String, partition: PartitionId, offset: u64 },
    #[error(
        "topic {topic} ends in partition {partition} with transition {id} of sequence {sequence}, \
         which the store does not have: the store was restored from an older copy, or the topic \
         is another installation's; name another topic"
    )]
    OtherStore { topic: String, partition: PartitionId, id: String, sequence: u64 },
}

/// What is known of each of the partitions.
///
/// # Errors
/// The store says nothing.
pub(super) async fn find(
    store: &AlarmStore,
    outlet: &Outlet,
    opening: Vec<(PartitionId, u64)>,
) -> Result<Vec<Found>, AlarmStoreError> {
    let stored: BTreeMap<PartitionId, Published> =
        store.published(outlet.topic()).await?.into_iter().collect();
    let lasts = outlet.last(opening.iter().map(|(partition, _)| *partition).collect()).await;
    let mut found = Vec::with_capacity(opening.len());
    for ((partition, epoch), (_, last)) in opening.into_iter().zip(lasts) {
        let stored = stored.get(&partition).copied().unwrap_or_default();
        let ends_with = match last {
            Err(error) => Err(Unopened::Unknown(error.to_string())),
            Ok(None) => Ok(None),
            Ok(Some(last)) => behind(store, outlet, partition, &last).await?.map(Some),
        };
        found.push(Found { partition, epoch, stored, ends_with });
    }
    Ok(found)
}

/// The sequence of the last record, if it is one of this store's.
async fn behind(
    store: &AlarmStore,
    outlet: &Outlet,
    partition: PartitionId,
    last: &LastMessage,
) -> Result<Result<u64, Unopened>, AlarmStoreError> {
    let topic = outlet.topic().to_owned();
    let header = |name: &str| last.headers.get(name).cloned().unwrap_or_default();
    let (id, sequence) = (header(HEADER_ID), header(HEADER_SEQUENCE).parse::<u64>());
    let (Ok(known), Ok(sequence)) = (id.parse::<TransitionId>(), sequence) else {
        return Ok(Err(Unopened::Foreign { topic, partition, offset: last.offset }));
    };
    Ok(match store.transition_at(sequence).await? {
        Some(found) if found == known => Ok(sequence),
        _ => Err(Unopened::OtherStore { topic, partition, id, sequence }),
    })
}
