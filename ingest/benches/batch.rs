//! What it costs to make submissions durable: many connections at once, each
//! waiting for its own, over a real journal in a temporary folder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ingest::batch::{BatchOptions, KeyId, Rows, Submission, Submitter};
use journal::{EmbeddedOptions, Journal};
use prometheus::Registry;
use schema::{DeviceId, PartitionId, RecordKind, RouterId, TenantId, TimestampMs, Value};

const PARTITIONS: u16 = 4;
const NOW: TimestampMs = TimestampMs(1_764_000_000_000);

fn submission(keys: &[KeyId], router: u64, number: i64) -> Submission {
    let mut rows = Rows::with_capacity(keys.len());
    for &key in keys {
        let value = Some(Value::Integer(number));
        rows.push(DeviceId(router), key, TimestampMs(NOW.0 + number), value);
    }
    let (tenant, router, kind) = (TenantId(1), RouterId(router), RecordKind::Readings);
    Submission { tenant, router, received_at: NOW, kind, rows }
}

/// `total` submissions over `connections`, each with one submission under way.
async fn run(submitter: &Submitter, keys: Arc<[KeyId]>, connections: u64, total: u64) -> Duration {
    let since = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for router in 0..connections {
        let (submitter, keys) = (submitter.clone(), Arc::clone(&keys));
        let partition = PartitionId(u16::try_from(router % 4).expect("a remainder of 4"));
        tasks.spawn(async move {
            for number in 0..i64::try_from(total.div_ceil(connections)).expect("a small count") {
                let submission = submission(&keys, router, number);
                let completion = submitter.submit(partition, submission).await.expect("it is open");
                completion.await.expect("the disk has room");
            }
        });
    }
    tasks.join_all().await;
    since.elapsed()
}

fn durable(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started");
    let mut group = criterion.benchmark_group("durable submissions of 3 rows");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for (connections, in_flight) in [(1, 4), (100, 1), (100, 2), (100, 4), (100, 8), (1_000, 4)] {
        let dir = tempfile::TempDir::new().expect("a temporary folder");
        let options = EmbeddedOptions {
            dir: dir.path().to_owned(),
            partitions: PARTITIONS,
            ..EmbeddedOptions::default()
        };
        let journal =
            Journal::open_embedded(options, &Registry::new()).expect("a new journal opens");
        let options = BatchOptions { max_records_in_flight: in_flight, ..BatchOptions::default() };
        let submitter = runtime
            .block_on(async { Submitter::start(&journal, &options, &Registry::new()) })
            .expect("a new registry");
        let mut cache = submitter.keys().cache(TenantId(1), 8);
        let keys: Arc<[KeyId]> = ["a", "b", "c"]
            .iter()
            .map(|name| cache.resolve(name, 10).expect("below the quota"))
            .collect();
        let name = format!("{connections} connections, {in_flight} in flight");
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_custom(|total| {
                runtime.block_on(run(&submitter, Arc::clone(&keys), connections, total))
            });
        });
        let records: u64 = (0..PARTITIONS).map(|p| journal.bounds(PartitionId(p)).next.0).sum();
        eprintln!("{records} records in all");
        runtime.block_on(async {
            submitter.close().await;
            journal.close().await;
        });
    }
    group.finish();
}

criterion_group!(benches, durable);
criterion_main!(benches);
