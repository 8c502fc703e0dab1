//! Parsing of MQTT packets as they come from a socket: a buffer full of
//! publishes of 3 keys each. Figures are for each packet.

#![allow(clippy::unwrap_used, reason = "a bench may fail")]

use bytes::BytesMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loadtest::packets::{QoS, Version, parse};
use loadtest::plan::{Lane, Plan};
use loadtest::swing::Swing;
use loadtest::template::Template;
use schema::TimestampMs;
use tokio_util::codec::Decoder;

const PACKETS: u64 = 100;
const MAX_PACKET_BYTES: u32 = 65_536;

fn buffer(version: Version) -> Vec<u8> {
    let plan = Plan {
        live_base: TimestampMs(1_764_000_000_000),
        buffered_base: TimestampMs(1_763_000_000_000),
        keys: 3,
        times_per_message: 1,
        devices_behind: 0,
        buffered_every: 0,
        times_per_batch: 1,
        swing: Swing::default(),
    };
    let template = Template::new(&plan, Lane::Live, 0, version, QoS::AtLeastOnce);
    let mut out = Vec::new();
    for m in 0..PACKETS {
        let packet_id = u16::try_from(m + 1).unwrap();
        template.append(&plan, plan.message(m), packet_id, false, &mut out);
    }
    out
}

fn packets(c: &mut Criterion) {
    let mut server = c.benchmark_group("packets/parse_by_the_servers_codec");
    server.throughput(Throughput::Elements(PACKETS));
    let input = buffer(Version::V311);
    server.bench_function(BenchmarkId::from_parameter("3.1.1"), |b| {
        let mut codec = rmqtt_codec::v3::Codec::new(MAX_PACKET_BYTES);
        b.iter_batched_ref(
            || BytesMut::from(&input[..]),
            |bytes| while codec.decode(bytes).unwrap().is_some() {},
            BatchSize::SmallInput,
        );
    });
    let input = buffer(Version::V5);
    server.bench_function(BenchmarkId::from_parameter("5"), |b| {
        let mut codec = rmqtt_codec::v5::Codec::new(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        b.iter_batched_ref(
            || BytesMut::from(&input[..]),
            |bytes| while codec.decode(bytes).unwrap().is_some() {},
            BatchSize::SmallInput,
        );
    });
    server.finish();

    let mut generator = c.benchmark_group("packets/of_the_load_test");
    generator.throughput(Throughput::Elements(PACKETS));
    generator.bench_function("make", |b| b.iter(|| buffer(Version::V311)));
    let acknowledgements: Vec<u8> = (1..=100).flat_map(|id| [0x40, 2, 0, id]).collect();
    generator.bench_function("parse acknowledgements", |b| {
        b.iter(|| {
            let mut at = 0;
            while let Some((_, length)) = parse(Version::V311, &acknowledgements[at..]).unwrap() {
                at += length;
            }
            at
        });
    });
    generator.finish();
}

criterion_group!(benches, packets);
criterion_main!(benches);
