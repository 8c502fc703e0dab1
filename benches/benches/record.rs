//! The journal record: rows in, bytes out, and back. Figures are for each row;
//! the bytes of a row are printed first.

#![allow(clippy::unwrap_used, reason = "a bench may fail")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use schema::{
    DeviceId, Origin, RECORD_VERSION, Record, RecordBuilder, RecordKind, RecordRows, RouterId,
    TenantId, TimestampMs, Value,
};

const ROWS: [u64; 3] = [256, 1024, 4096];
const KEYS: [&str; 3] = ["temperature", "pressure", "speed"];

/// Readings as a fleet of 100 routers sends them: 3 keys a message, two of them
/// numbers with two decimals and one an integer.
fn build(builder: &mut RecordBuilder, rows: u64) -> Record {
    let keys = KEYS.map(|key| builder.key(key).unwrap());
    let received_at = TimestampMs(1_764_000_000_000);
    for row in 0..rows {
        let (message, key) = (row / 3, usize::try_from(row % 3).unwrap());
        let router = 1_000 + message % 100;
        let origin = Origin {
            tenant: TenantId(1),
            router: RouterId(router),
            device: DeviceId(router + 10_000),
        };
        let hash = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
        let value = match key {
            1 => Value::Integer(hash.cast_signed()),
            _ => Value::Number(f64::from(u32::try_from(hash).unwrap()) / 100.0),
        };
        let observed_at = TimestampMs(received_at.0 - 40 + (message / 100).cast_signed());
        builder.push(origin, keys[key], observed_at, received_at, Some(value)).unwrap();
    }
    builder.finish()
}

fn record(c: &mut Criterion) {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    let mut encode = c.benchmark_group("record/build_and_encode");
    for rows in ROWS {
        let bytes = build(&mut builder, rows).payload.len();
        eprintln!("{rows} rows: {:.2} bytes a row", bytes as f64 / rows as f64);
        encode.throughput(Throughput::Elements(rows));
        encode.bench_with_input(BenchmarkId::from_parameter(rows), &rows, |b, &rows| {
            b.iter(|| black_box(build(&mut builder, rows)));
        });
    }
    encode.finish();

    let mut decode = c.benchmark_group("record/decode");
    for rows in ROWS {
        let payload = build(&mut builder, rows).payload;
        decode.throughput(Throughput::Elements(rows));
        decode.bench_with_input(BenchmarkId::from_parameter(rows), &payload, |b, payload| {
            b.iter(|| RecordRows::decode(RECORD_VERSION, black_box(payload)).unwrap());
        });
    }
    decode.finish();

    let mut read = c.benchmark_group("record/decode_and_read_all");
    for rows in ROWS {
        let payload = build(&mut builder, rows).payload;
        read.throughput(Throughput::Elements(rows));
        read.bench_with_input(BenchmarkId::from_parameter(rows), &payload, |b, payload| {
            b.iter(|| {
                let rows = RecordRows::decode(RECORD_VERSION, black_box(payload)).unwrap();
                (0..rows.len()).filter_map(|row| rows.value(row)?.as_f64()).sum::<f64>()
            });
        });
    }
    read.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);
