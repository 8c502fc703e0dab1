//! Reading a partition, wherever the journal is.

use schema::Position;

use crate::embedded::EmbeddedReader;
use crate::kafka::KafkaReader;
use crate::{Entry, ReadError};

/// Reads the durable entries of one partition in order, each once.
#[derive(Debug)]
pub enum Reader {
    Embedded(EmbeddedReader),
    Kafka(KafkaReader),
}

impl Reader {
    /// The position of the entry that is read next.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Embedded(reader) => reader.position(),
            Self::Kafka(reader) => reader.position(),
        }
    }

    /// The next entry; waits until there is one, and until the brokers answer.
    /// Cancelling it loses nothing.
    ///
    /// # Errors
    /// The entry cannot be read; asking again gives it, or the error, again.
    pub async fn next(&mut self) -> Result<Entry, ReadError> {
        match self {
            Self::Embedded(reader) => reader.next().await,
            Self::Kafka(reader) => reader.next().await,
        }
    }

    /// The next entry if it is known to be durable; waits until it can be had, for
    /// the brokers too. None at the end of the journal.
    ///
    /// # Errors
    /// The entry cannot be read; asking again gives it, or the error, again.
    pub async fn next_durable(&mut self) -> Result<Option<Entry>, ReadError> {
        match self {
            Self::Embedded(reader) => reader.try_next(),
            Self::Kafka(reader) if reader.has_more() => reader.next().await.map(Some),
            Self::Kafka(reader) => reader.try_next(),
        }
    }

    /// The next entry if it is at hand: on this machine's disk, which is read on
    /// the calling thread, or in memory. None says nothing of whether there is
    /// more at the brokers; [`Reader::next_durable`]
    /// says that.
    ///
    /// # Errors
    /// The entry cannot be read; asking again gives it, or the error, again.
    pub fn try_next(&mut self) -> Result<Option<Entry>, ReadError> {
        match self {
            Self::Embedded(reader) => reader.try_next(),
            Self::Kafka(reader) => reader.try_next(),
        }
    }
}
