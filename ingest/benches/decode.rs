//! What decoding costs: a message of a device with 3 and 10 keys, timestamped
//! or not, a gateway's, and the same into a batch.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ingest::batch::{KeyTable, Rows};
use ingest::decode::{self, Context, DeviceAnswer};
use ingest::limits::Limits;
use schema::{DeviceId, TenantId, TenantSettings, TimestampMs};

const NOW: TimestampMs = TimestampMs(1_764_000_000_000);

const KEYS_3: &str = r#"{"temperature":21.53,"running":true,"count":48211}"#;
const KEYS_10: &str = r#"{"temperature":21.53,"pressure":1013.25,"humidity":44.1,"running":true,"count":48211,"state":"heating","speed":1480,"current":3.275,"voltage":229.8,"alarm":false}"#;

fn payloads() -> Vec<(&'static str, String)> {
    let timestamped = |values: &str| format!(r#"{{"ts":1763999999000,"values":{values}}}"#);
    vec![
        ("3 keys", KEYS_3.to_owned()),
        ("3 keys with a time", timestamped(KEYS_3)),
        ("10 keys", KEYS_10.to_owned()),
        ("10 keys with a time", timestamped(KEYS_10)),
        ("3 keys, values first", format!(r#"{{"values":{KEYS_3},"ts":1763999999000}}"#)),
        ("nested", r#"{"limits":{"low":1.5,"high":[1,2,3]},"t":21.5}"#.to_owned()),
    ]
}

fn device(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("telemetry");
    let (limits, settings) = (Limits::default(), TenantSettings::default());
    let context = Context::new(&limits, &settings, NOW);
    for (name, payload) in payloads() {
        let mut keys = KeyTable::new().cache(TenantId(1), limits.max_cached_keys);
        let mut rows = Rows::new();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &payload, |bencher, payload| {
            bencher.iter(|| {
                rows.clear();
                let payload = black_box(payload.as_bytes());
                let taken = decode::telemetry(payload, DeviceId(7), &context, &mut keys, &mut rows);
                taken.expect("the payload is in order");
                black_box(rows.len())
            });
        });
    }
    group.finish();
}

fn gateway(criterion: &mut Criterion) {
    let (limits, settings) = (Limits::default(), TenantSettings::default());
    let context = Context::new(&limits, &settings, NOW);
    let parts: Vec<_> = (0..10)
        .map(|device| format!(r#""Device {device}":[{{"ts":1763999999000,"values":{KEYS_3}}}]"#))
        .collect();
    let payload = format!("{{{}}}", parts.join(","));
    let mut keys = KeyTable::new().cache(TenantId(1), limits.max_cached_keys);
    let mut rows = Rows::new();
    let mut group = criterion.benchmark_group("gateway telemetry");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("10 devices of 3 keys", |bencher| {
        bencher.iter(|| {
            rows.clear();
            let device = |_: &str| DeviceAnswer::Known(DeviceId(7));
            let payload = black_box(payload.as_bytes());
            let parts = decode::gateway_telemetry(payload, &context, &mut keys, &mut rows, device)
                .expect("the payload is in order");
            black_box(parts.rejected.len())
        });
    });
    group.finish();
}

criterion_group!(benches, device, gateway);
criterion_main!(benches);
