//! The record of commands: an Arrow IPC stream with columns of its own.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt64Type};
use arrow_array::{RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;

use super::decode::check_version;
use super::{DecodeError, Record, RecordKind};
use crate::{Command, TenantId, TimestampMs};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("at", timestamp, false),
        Field::new("tenant", DataType::UInt64, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("body", DataType::Utf8, false),
    ]))
});

/// Encodes commands as one record: `at`, `tenant`, `kind` and `body` (JSON text).
///
/// # Panics
/// If Arrow refuses to write its own columns, which is a defect of ours.
#[must_use]
pub fn encode_commands(commands: &[Command]) -> Record {
    let bodies = commands.iter().map(|command| {
        serde_json::to_string(&command.body).expect("a command is text keys and plain values")
    });
    let at = TimestampMillisecondArray::from_iter_values(commands.iter().map(|c| c.at.0));
    let batch = RecordBatch::try_new(
        SCHEMA.clone(),
        vec![
            Arc::new(at.with_timezone("UTC")),
            Arc::new(UInt64Array::from_iter_values(commands.iter().map(|c| c.tenant.0))),
            Arc::new(StringArray::from_iter_values(commands.iter().map(|c| c.body.kind()))),
            Arc::new(StringArray::from_iter_values(bodies)),
        ],
    )
    .expect("the columns are built to the schema and of one length");
    let mut writer =
        StreamWriter::try_new(Vec::new(), &SCHEMA).expect("a schema can be written to memory");
    writer.write(&batch).expect("a batch can be written to memory");
    let payload = writer.into_inner().expect("the end marker can be written to memory");
    Record {
        kind: RecordKind::Commands,
        rows: u32::try_from(commands.len()).expect("fewer commands than a record has rows"),
        payload: Bytes::from(payload),
        decoded: None,
    }
}

/// Reads the commands of a record of the given version.
///
/// # Errors
/// [`DecodeError`] when the bytes are no record of commands of ours.
pub fn decode_commands(version: u8, payload: &Bytes) -> Result<Vec<Command>, DecodeError> {
    check_version(version)?;
    let mut buffer = Buffer::from(payload.clone());
    let batch = StreamDecoder::new().decode(&mut buffer)?.ok_or(DecodeError::Empty)?;
    if batch.schema_ref().fields() != SCHEMA.fields() {
        return Err(DecodeError::Columns);
    }
    let at = batch.column(0).as_primitive::<TimestampMillisecondType>();
    let tenants = batch.column(1).as_primitive::<UInt64Type>();
    let bodies = batch.column(3).as_string::<i32>();
    (0..batch.num_rows())
        .map(|row| {
            Ok(Command {
                at: TimestampMs(at.value(row)),
                tenant: TenantId(tenants.value(row)),
                body: serde_json::from_str(bodies.value(row))?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RECORD_VERSION;
    use crate::{
        AlarmAction, AlarmId, AlarmProfile, CommandBody, DeviceId, ProfileId, Provenance, RuleId,
        Severity,
    };

    #[test]
    fn commands_read_back_as_they_were_written() {
        let profile = AlarmProfile { name: "Cold store".to_owned(), ..AlarmProfile::default() };
        let commands = vec![
            Command {
                at: TimestampMs(5),
                tenant: TenantId(1),
                body: CommandBody::ProfileSaved {
                    profile: ProfileId(3),
                    version: 2,
                    body: Arc::new(profile),
                },
            },
            Command {
                at: TimestampMs(6),
                tenant: TenantId(1),
                body: CommandBody::Alarm {
                    alarm: AlarmId(7),
                    device: Some(DeviceId(8)),
                    location: None,
                    rule: RuleId { profile: ProfileId(3), key: "too_warm".into() },
                    severity: Severity::Major,
                    by: "eva".into(),
                    provenance: Some(Arc::new(Provenance {
                        token: Some(4),
                        from: Some("192.0.2.7".to_owned()),
                    })),
                    action: AlarmAction::Shelve { until: TimestampMs(9) },
                },
            },
        ];
        let record = encode_commands(&commands);
        assert_eq!((record.kind, record.rows), (RecordKind::Commands, 2));
        assert_eq!(decode_commands(RECORD_VERSION, &record.payload).unwrap(), commands);
    }

    #[test]
    fn a_record_of_readings_is_no_record_of_commands() {
        let record = crate::RecordBuilder::new(RecordKind::Readings).finish();
        let error = decode_commands(RECORD_VERSION, &record.payload).unwrap_err();
        assert!(matches!(error, DecodeError::Columns | DecodeError::Empty), "{error}");
    }
}
