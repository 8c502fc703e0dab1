//! The durable, partitioned journal: the second step of a reading's way and the
//! ground that all else is derived from. A record that was acknowledged here is
//! on disk and stays readable, in the order of its partition, until retention
//! deletes it; nothing is ever skipped in silence.
//!
//! It never looks into a record, and knows neither MQTT nor SQL.

mod assignment;
mod embedded;
mod entry;
mod error;
mod kafka;
mod metrics;
mod reader;
mod status;
mod tail;

pub use assignment::{Assignment, AssignmentChange, FIRST, Release};
pub use embedded::{
    Disk, EmbeddedJournal, EmbeddedOptions, EmbeddedReader, JournalFile, JournalFiles, Kept,
    LocalDisk, MAX_PARTITIONS,
};
pub use entry::{Bounds, Entry, Pending};
pub use error::{AppendError, Corruption, DamageReason, OpenError, ReadError};
pub use kafka::{
    KafkaJournal, KafkaOptions, KafkaReader, LastMessage, Outlet, OutletError, OutletMessage,
    SaslMechanism, Secret,
};
pub use reader::Reader;
pub use status::{HeldBack, JournalStatus, PartitionStatus, StallReason, Writing};

use schema::{PartitionId, Position, Record};

/// The journal of this node. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub enum Journal {
    /// In a folder of this machine.
    Embedded(EmbeddedJournal),
    /// In Kafka, which several nodes share.
    Kafka(KafkaJournal),
}

impl Journal {
    /// Opens the folder, recovers it and starts its threads. Blocks while it
    /// reads the last segment.
    ///
    /// # Errors
    /// The folder is in use, of another shape, or cannot be read.
    pub fn open_embedded(
        options: EmbeddedOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, OpenError> {
        EmbeddedJournal::open(options, registry).map(Self::Embedded)
    }

    /// Connects to the brokers, makes the topic where it is missing, and looks
    /// whether it fits.
    ///
    /// # Errors
    /// The brokers don't answer, or the topic would lose records or is of
    /// another shape.
    pub async fn open_kafka(
        options: KafkaOptions,
        registry: &prometheus::Registry,
    ) -> Result<Self, OpenError> {
        KafkaJournal::open(options, registry).await.map(Self::Kafka)
    }

    #[must_use]
    pub fn partitions(&self) -> u16 {
        match self {
            Self::Embedded(journal) => journal.partitions(),
            Self::Kafka(journal) => journal.partitions(),
        }
    }

    /// Waits for room in the bounded queue; on return the record has its place
    /// in its partition's order. It is durable once the [`Pending`] resolves.
    /// Dropping the `Pending` does not take the record back.
    ///
    /// # Errors
    /// The partition is stopped, the record is too large, or the journal is
    /// closed. A full disk is no error: the record stays pending.
    pub async fn submit(
        &self,
        partition: PartitionId,
        record: Record,
    ) -> Result<Pending, AppendError> {
        match self {
            Self::Embedded(journal) => journal.submit(partition, record).await,
            Self::Kafka(journal) => journal.submit(partition, record).await,
        }
    }

    /// A reader whose first entry is `from`, which may be the next position to
    /// be written.
    ///
    /// # Errors
    /// `from` is no longer kept, or ahead of all that was ever written.
    pub fn reader(&self, partition: PartitionId, from: Position) -> Result<Reader, ReadError> {
        match self {
            Self::Embedded(journal) => journal.reader(partition, from).map(Reader::Embedded),
            Self::Kafka(journal) => journal.reader(partition, from).map(Reader::Kafka),
        }
    }

    /// As [`Journal::reader`], for who takes a partition over: it waits for brokers
    /// that do not answer, and for a while until they have all before `reached`,
    /// which somebody has read already.
    ///
    /// # Errors
    /// `from` is no longer kept, or `reached` is ahead of all that is there.
    pub async fn reader_from(
        &self,
        partition: PartitionId,
        from: Position,
        reached: Position,
    ) -> Result<Reader, ReadError> {
        match self {
            Self::Embedded(journal) => {
                let next = journal.bounds(partition).next;
                if reached > next {
                    return Err(ReadError::Ahead { partition, position: reached, next });
                }
                journal.reader(partition, from).map(Reader::Embedded)
            }
            Self::Kafka(journal) => {
                journal.reader_from(partition, from, reached).await.map(Reader::Kafka)
            }
        }
    }

    /// The position behind all that is durable of a partition, whoever wrote it.
    ///
    /// # Panics
    /// If there is no such partition.
    pub async fn end(&self, partition: PartitionId) -> Position {
        match self {
            Self::Embedded(journal) => journal.bounds(partition).next,
            Self::Kafka(journal) => journal.end(partition).await,
        }
    }

    /// The partitions of a role that are this process's: all of them in a folder,
    /// and a share of them where processes share the journal in Kafka, each of
    /// which takes part in a role once.
    ///
    /// # Errors
    /// The consumer group can't be joined, or the role has an assignment already.
    pub fn assignment(
        &self,
        role: &str,
        registry: &prometheus::Registry,
    ) -> Result<Assignment, OpenError> {
        match self {
            Self::Embedded(journal) => {
                Ok(Assignment::of_all(journal.partitions(), role, registry)?)
            }
            Self::Kafka(journal) => journal.assignment(role, registry),
        }
    }

    /// A topic beside the journal's, with as many partitions and copies, in which
    /// something is published for others.
    ///
    /// # Errors
    /// The brokers don't answer, the topic would lose records or is of another
    /// shape, or the journal is in a folder.
    pub async fn outlet(&self, topic: &str, retention_ms: u64) -> Result<Outlet, OpenError> {
        match self {
            Self::Embedded(_) => {
                let reason = "a journal in a folder has no topics beside it".to_owned();
                Err(OpenError::Topic { topic: topic.to_owned(), reason })
            }
            Self::Kafka(journal) => journal.outlet(topic, retention_ms).await,
        }
    }

    /// What a partition holds.
    ///
    /// # Panics
    /// If there is no such partition.
    #[must_use]
    pub fn bounds(&self, partition: PartitionId) -> Bounds {
        match self {
            Self::Embedded(journal) => journal.bounds(partition),
            Self::Kafka(journal) => journal.bounds(partition),
        }
    }

    /// Reader `name` still needs `needed` and all behind it: retention keeps
    /// it, and reports it when it keeps more than it should. Cheap enough for
    /// every batch. A hold lasts until this process ends or it is moved; set it
    /// before the first record is submitted, since retention knows no reader
    /// that has not spoken.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn hold(&self, name: &'static str, partition: PartitionId, needed: Position) {
        match self {
            Self::Embedded(journal) => journal.hold(name, partition, needed),
            Self::Kafka(journal) => journal.hold(name, partition, needed),
        }
    }

    /// Reader `name` of another process sees to the partition from now on. In a
    /// folder, which is no other process's, the hold stays.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn let_go(&self, name: &'static str, partition: PartitionId) {
        match self {
            Self::Embedded(_) => {}
            Self::Kafka(journal) => journal.let_go(name, partition),
        }
    }

    #[must_use]
    pub fn status(&self) -> JournalStatus {
        match self {
            Self::Embedded(journal) => journal.status(),
            Self::Kafka(journal) => journal.status(),
        }
    }

    /// Takes no more records, makes all that were taken durable, and gives the
    /// folder free. While the disk is full, what is pending fails with
    /// [`AppendError::Closed`] instead.
    pub async fn close(&self) {
        match self {
            Self::Embedded(journal) => journal.close().await,
            Self::Kafka(journal) => journal.close().await,
        }
    }
}
