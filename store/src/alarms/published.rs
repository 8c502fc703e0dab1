//! How far transitions are published in a topic for others, and those that are not
//! yet.
//!
//! Transitions are events, and an event's sequence says its place in the order in
//! which they became durable, whichever node wrote it. So there is no second list
//! of what waits: it is what has a greater sequence. An event is never deleted.

use schema::{PartitionId, TransitionId};

use super::events::{COLUMNS, event};
use super::writer::Request;
use super::{AlarmStore, AlarmStoreError, EventRow, MAX_PAGE};
use crate::sql::{Optional as _, Session, params};

/// How far a partition is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// All of its transitions up to this sequence of an event are.
    pub sequence: u64,
    /// The sequence of the last of them, or of the event behind which the topic
    /// began.
    pub last: u64,
}

/// The same, as the partition's owner says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPlace {
    pub partition: PartitionId,
    /// See [`super::Claim::epoch`].
    pub epoch: u64,
    pub published: Published,
}

impl AlarmStore {
    /// The topic begins with what becomes durable from now on, in each partition in
    /// which it has not begun.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn begin_publishing(
        &self,
        topic: &str,
        partitions: u16,
    ) -> Result<(), AlarmStoreError> {
        let topic = topic.to_owned();
        self.shared
            .writer
            .ask(|answer| Request::BeginPublishing { topic, partitions, answer })
            .await
    }

    /// How far each partition of a topic is published.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn published(
        &self,
        topic: &str,
    ) -> Result<Vec<(PartitionId, Published)>, AlarmStoreError> {
        let topic = topic.to_owned();
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT partition, sequence, last FROM published WHERE topic = ?1",
            )?;
            let rows = statement.query_map(params![topic], |row| {
                let published = Published { sequence: row.get(1)?, last: row.get(2)? };
                Ok((PartitionId(row.get(0)?), published))
            })?;
            Ok(rows)
        })
        .await
    }

    /// Notes how far partitions are published, and answers with those that are
    /// another owner's, of which nothing is noted.
    ///
    /// # Errors
    /// The database refuses; then nothing is noted.
    pub async fn set_published(
        &self,
        topic: &str,
        places: Vec<PublishedPlace>,
    ) -> Result<Vec<PartitionId>, AlarmStoreError> {
        let topic = topic.to_owned();
        self.shared.writer.ask(|answer| Request::Published { topic, places, answer }).await
    }

    /// The transitions of all partitions behind a sequence, in their order.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn transitions_after(
        &self,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<EventRow>, AlarmStoreError> {
        let limit = limit.clamp(1, MAX_PAGE);
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM events WHERE sequence > ?1 AND alarm IS NOT NULL
                 ORDER BY sequence LIMIT ?2"
            ))?;
            Ok(statement.query_map(params![sequence, limit], event)?)
        })
        .await
    }

    /// The epoch of each partition's owner; see [`super::Claim::epoch`].
    ///
    /// # Errors
    /// The database refuses.
    pub async fn epochs(&self) -> Result<Vec<(PartitionId, u64)>, AlarmStoreError> {
        self.read(|sql| {
            let mut statement = sql.prepare_cached("SELECT partition, epoch FROM partitions")?;
            Ok(statement.query_map([], |row| Ok((PartitionId(row.get(0)?), row.get(1)?)))?)
        })
        .await
    }

    /// The transition with this sequence, if there is one.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn transition_at(
        &self,
        sequence: u64,
    ) -> Result<Option<TransitionId>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached("SELECT id FROM events WHERE sequence = ?1")?;
            let id = statement.query_row(params![sequence], |row| row.get(0)).optional()?;
            Ok(id.map(|id| TransitionId(u128::from_be_bytes(id))))
        })
        .await
    }
}

pub(super) fn begin(sql: &Session, topic: &str, partitions: u16) -> Result<(), AlarmStoreError> {
    let latest = super::events::latest(sql)?;
    for partition in 0..partitions {
        sql.prepare_cached(
            "INSERT INTO published (topic, partition, sequence, last) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (topic, partition) DO NOTHING",
        )?
        .execute(params![topic, partition, latest])?;
    }
    Ok(())
}

pub(super) fn set(
    sql: &Session,
    topic: &str,
    places: &[PublishedPlace],
) -> Result<Vec<PartitionId>, AlarmStoreError> {
    let mut others = Vec::new();
    for PublishedPlace { partition, epoch, published } in places {
        let Published { sequence, last } = published;
        let noted = sql
            .prepare_cached(
                "UPDATE published SET sequence = ?3, last = ?5
                 WHERE topic = ?1 AND partition = ?2
                 AND EXISTS (SELECT 1 FROM partitions WHERE partition = ?2 AND epoch = ?4)",
            )?
            .execute(params![topic, partition.0, sequence, epoch, last])?;
        if noted == 0 {
            others.push(*partition);
        }
    }
    Ok(others)
}
