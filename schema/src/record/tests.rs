use super::*;
use crate::{TimestampMs, Value};

fn origin(device: u64) -> Origin {
    Origin { tenant: TenantId(1), router: RouterId(2), device: DeviceId(device) }
}

fn sample() -> Record {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    let values = [
        ("temperature", Some(Value::Number(21.5))),
        ("count", Some(Value::Integer(i64::MIN))),
        ("running", Some(Value::Boolean(true))),
        ("state", Some(Value::Text("läuft"))),
        ("limits", Some(Value::Json("{\"a\":[1]}"))),
        ("temperature", None),
    ];
    for (row, (name, value)) in values.into_iter().enumerate() {
        let key = builder.key(name).unwrap();
        let at = TimestampMs(1_764_000_000_000 + row as i64);
        builder.push(origin(row as u64), key, at, TimestampMs(1_764_000_000_999), value).unwrap();
    }
    builder.finish()
}

#[test]
fn every_kind_of_value_survives() {
    let record = sample();
    let rows = RecordRows::decode(RECORD_VERSION, &record.payload).unwrap();
    assert_eq!((record.rows, rows.len(), rows.key_count()), (6, 6, 5));
    assert_eq!(rows.value(0), Some(Value::Number(21.5)));
    assert_eq!(rows.value(1), Some(Value::Integer(i64::MIN)));
    assert_eq!(rows.value(2), Some(Value::Boolean(true)));
    assert_eq!(rows.value(3), Some(Value::Text("läuft")));
    assert_eq!(rows.value(4), Some(Value::Json("{\"a\":[1]}")));
    assert_eq!(rows.value(5), None);
    assert_eq!((rows.key(0), rows.key(5)), ("temperature", "temperature"));
    assert_eq!(rows.origin(3), origin(3));
    assert_eq!(rows.observed_at(2), TimestampMs(1_764_000_000_002));
    assert_eq!(rows.received_at(2), TimestampMs(1_764_000_000_999));
}

#[test]
fn what_stands_decoded_beside_the_bytes_is_what_they_say() {
    let record = sample();
    let read = RecordRows::decode(RECORD_VERSION, &record.payload).unwrap();
    let beside = record.decoded.unwrap();
    assert_eq!(beside.batch(), read.batch());
    let values = |rows: &RecordRows| -> Vec<String> {
        (0..rows.len()).map(|row| format!("{:?}", rows.value(row))).collect()
    };
    assert_eq!(values(&beside), values(&read));
    assert_eq!(beside.memory_bytes(), beside.batch().get_array_memory_size() + beside.len());
}

#[test]
fn a_builder_starts_anew_after_each_record() {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    for name in ["a", "b"] {
        let key = builder.key(name).unwrap();
        let at = TimestampMs(0);
        builder.push(origin(1), key, at, at, Some(Value::Text(name))).unwrap();
        let rows = RecordRows::decode(RECORD_VERSION, &builder.finish().payload).unwrap();
        assert_eq!((rows.len(), rows.key_count(), rows.key(0)), (1, 1, name));
        assert_eq!(rows.value(0), Some(Value::Text(name)));
    }
    assert!(builder.is_empty());
}

#[test]
fn only_a_record_that_is_large_is_compressed_and_both_are_read() {
    let text = "the same words again and again ".repeat(20);
    for (rows, is_compressed) in [(3, false), (300, true)] {
        let mut builder = RecordBuilder::new(RecordKind::Readings);
        let key = builder.key("note").unwrap();
        for row in 0..rows {
            let at = TimestampMs(row);
            builder.push(origin(1), key, at, at, Some(Value::Text(&text))).unwrap();
        }
        let record = builder.finish();
        let all = text.len() * usize::try_from(rows).unwrap();
        assert_eq!(record.payload.len() < all, is_compressed, "{} of {all}", record.payload.len());
        let decoded = RecordRows::decode(RECORD_VERSION, &record.payload).unwrap();
        assert_eq!(decoded.len(), usize::try_from(rows).unwrap());
        assert!((0..decoded.len()).all(|row| decoded.value(row) == Some(Value::Text(&text))));
    }
}

#[test]
fn a_full_record_refuses_the_next_row() {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    let key = builder.key("k").unwrap();
    let at = TimestampMs(0);
    for _ in 0..MAX_RECORD_ROWS {
        builder.push(origin(1), key, at, at, Some(Value::Integer(1))).unwrap();
    }
    assert_eq!(builder.push(origin(1), key, at, at, None), Err(RowLimit));
    assert_eq!(builder.finish().rows, 65_536);
}

#[test]
fn a_later_version_is_refused_by_name() {
    let error = RecordRows::decode(3, &sample().payload).unwrap_err();
    assert_eq!(
        error.to_string(),
        "record version 3 is newer than 2, the newest that this build reads"
    );
}

#[test]
fn damaged_bytes_are_an_error_and_no_panic() {
    let payload = sample().payload;
    for cut in 0..payload.len() {
        if let Ok(rows) = RecordRows::decode(RECORD_VERSION, &payload.slice(..cut)) {
            assert_eq!(rows.len(), 6, "only the end marker may be missing (cut at {cut})");
        }
    }
}

/// The bytes that version 1 wrote when it was fixed. If this fails because an
/// Arrow release writes other bytes, check that it still reads these, and add
/// the new ones beside them.
#[test]
fn golden_bytes_of_version_1_are_read() {
    let golden = Bytes::from_static(include_bytes!("golden/record-v1.arrows"));
    same_rows(&RecordRows::decode(1, &golden).unwrap());
}

/// As above, of version 2.
#[test]
fn golden_bytes_of_version_2_are_read() {
    let golden = Bytes::from_static(include_bytes!("golden/record-v2.arrows"));
    same_rows(&RecordRows::decode(2, &golden).unwrap());
    let golden = Bytes::from_static(include_bytes!("golden/record-v2-integers.arrows"));
    let rows = RecordRows::decode(2, &golden).unwrap();
    assert_eq!(rows.batch().num_columns(), 7);
    assert_eq!(rows.value(1), Some(Value::Integer(1)));
}

fn same_rows(read: &RecordRows) {
    let now = RecordRows::decode(RECORD_VERSION, &sample().payload).unwrap();
    assert_eq!(read.len(), now.len());
    for row in 0..now.len() {
        let all = |rows: &RecordRows| (rows.origin(row), rows.key(row).to_owned());
        assert_eq!(all(read), all(&now));
        assert_eq!(read.value(row), now.value(row));
        assert_eq!(read.observed_at(row), now.observed_at(row));
        assert_eq!(read.received_at(row), now.received_at(row));
    }
}

fn integers() -> Record {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    let key = builder.key("count").unwrap();
    for value in 0..3 {
        let at = TimestampMs(value);
        builder.push(origin(1), key, at, at, Some(Value::Integer(value))).unwrap();
    }
    builder.finish()
}

#[test]
fn columns_without_a_value_are_left_out() {
    let record = integers();
    let rows = RecordRows::decode(RECORD_VERSION, &record.payload).unwrap();
    assert_eq!((rows.batch().num_columns(), rows.value(2)), (7, Some(Value::Integer(2))));
    assert_eq!(record.decoded.unwrap().batch(), rows.batch());
}
