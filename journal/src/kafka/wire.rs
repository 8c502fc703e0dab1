//! How a record lies in a Kafka message: the payload is the message's value as it
//! is, so that any consumer with an Arrow reader can read it; kind, version and
//! number of rows stand in one header; the time is the message's own.

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use schema::{PartitionId, Position, RECORD_VERSION, Record, RecordKind, TimestampMs};

use crate::{Entry, ReadError};

/// The header's name. Part of the stored format, as its bytes are: the format,
/// kind, version, then rows (u32, little-endian).
const HEADER: &str = "baken-record";
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 7;

pub(super) fn headers(record: &Record) -> OwnedHeaders {
    let bytes = header(record.kind, record.rows);
    OwnedHeaders::new_with_capacity(1).insert(Header { key: HEADER, value: Some(&bytes[..]) })
}

fn header(kind: RecordKind, rows: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [FORMAT, kind as u8, RECORD_VERSION, 0, 0, 0, 0];
    bytes[3..].copy_from_slice(&rows.to_le_bytes());
    bytes
}

/// What a message says of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    kind: u8,
    version: u8,
    rows: u32,
}

fn read_header(bytes: &[u8]) -> Option<Said> {
    let [FORMAT, kind, version, rows @ ..] = bytes else { return None };
    let rows = u32::from_le_bytes(rows.try_into().ok()?);
    Some(Said { kind: *kind, version: *version, rows })
}

/// The entry that a message of the journal's topic holds.
///
/// # Errors
/// The message is none of ours, or of a later version.
pub(super) fn entry(message: &BorrowedMessage<'_>) -> Result<Entry, ReadError> {
    let partition = PartitionId(u16::try_from(message.partition()).unwrap_or(u16::MAX));
    let position = Position(u64::try_from(message.offset()).unwrap_or(0));
    let header = message.headers().and_then(|headers| {
        let ours = headers.iter().find(|header| header.key == HEADER);
        ours.and_then(|header| read_header(header.value?))
    });
    let Some(Said { kind, version, rows }) = header else {
        return Err(ReadError::Foreign { partition, position });
    };
    let kind =
        RecordKind::from_u8(kind).ok_or(ReadError::UnknownKind { partition, position, kind })?;
    Ok(Entry {
        position,
        kind,
        version,
        rows,
        appended_at: TimestampMs(message.timestamp().to_millis().unwrap_or(0)),
        payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        decoded: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_the_header_are_stable() {
        let bytes = header(RecordKind::Commands, 0x0102_0304);
        assert_eq!(bytes, [1, RecordKind::Commands as u8, RECORD_VERSION, 4, 3, 2, 1]);
        let said =
            Said { kind: RecordKind::Commands as u8, version: RECORD_VERSION, rows: 0x0102_0304 };
        assert_eq!(read_header(&bytes), Some(said));
    }

    #[test]
    fn what_is_no_header_of_ours_is_none() {
        for wrong in [&[][..], &[2, 1, 1, 0, 0, 0, 0], &[1, 1, 1, 0, 0, 0], &[1; 8]] {
            assert_eq!(read_header(wrong), None, "{wrong:?}");
        }
    }
}
