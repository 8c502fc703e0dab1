//! Against a naive model: writes of all types, re-sent, late and out of order,
//! restarts, and questions of every form.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use schema::{DeviceId, Position, RecordRows, TimestampMs};
use store::history::{
    AggregateQuery, Bucket, Buckets, History, HistoryWriter, Order, RangeQuery, Reading,
    ReadingValue, ScanDevice, ScanQuery,
};

use super::{Place, all, replay, rows, writer};

type Model = BTreeMap<(u64, String), BTreeMap<i64, ReadingValue>>;

#[derive(Clone, Debug)]
enum Op {
    Write {
        partition: u16,
        readings: Vec<(u64, u8, i64, ReadingValue)>,
    },
    /// Sends an earlier record once more.
    Resend {
        partition: u16,
        back: usize,
    },
    Reopen,
    Range {
        device: u64,
        key: u8,
        span: (i64, i64),
        descending: bool,
        limit: usize,
    },
    Aggregate {
        device: u64,
        key: u8,
        from: i64,
        to: i64,
        width: i64,
        points: bool,
    },
    Latest {
        device: u64,
    },
    Scan {
        keys: u8,
        span: (i64, i64),
        slice_bytes: usize,
    },
}

fn value() -> impl Strategy<Value = ReadingValue> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(|n| ReadingValue::Number(f64::from(n) / 8.0)),
        3 => prop_oneof![any::<i64>(), -9i64..9].prop_map(ReadingValue::Integer),
        1 => any::<bool>().prop_map(ReadingValue::Boolean),
        2 => "[a-zä\0]{0,12}".prop_map(|text| ReadingValue::Text(text.into())),
        1 => (0..99).prop_map(|n| ReadingValue::Json(format!("{{\"n\":{n}}}").into())),
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 300i64..420, 2 => -50i64..900, 1 => any::<i64>().prop_map(|t| t / 4)]
}

fn op() -> impl Strategy<Value = Op> {
    let device = || 100u64..104;
    let key = || 0u8..3;
    let reading = (0u64..2, key(), time(), value());
    let write = (0u16..2, prop::collection::vec(reading, 1..14)).prop_map(|(partition, rows)| {
        let of =
            |(device, key, at, value)| (100 + 2 * device + u64::from(partition), key, at, value);
        Op::Write { partition, readings: rows.into_iter().map(of).collect() }
    });
    let range = (device(), key(), (time(), time()), any::<bool>(), 1usize..12).prop_map(
        |(device, key, span, descending, limit)| Op::Range { device, key, span, descending, limit },
    );
    let aggregate = (device(), key(), -60i64..500, 1i64..600, 1i64..90, any::<bool>()).prop_map(
        |(device, key, from, span, width, points)| Op::Aggregate {
            device,
            key,
            from,
            to: from + span,
            width,
            points,
        },
    );
    let scan = (1u8..8, (time(), time()), 1usize..2_000)
        .prop_map(|(keys, span, slice_bytes)| Op::Scan { keys, span, slice_bytes });
    prop_oneof![
        12 => write,
        3 => (0u16..2, 0usize..6).prop_map(|(partition, back)| Op::Resend { partition, back }),
        1 => Just(Op::Reopen),
        3 => scan,
        3 => range,
        3 => aggregate,
        2 => device().prop_map(|device| Op::Latest { device }),
    ]
}

fn name(key: u8) -> String {
    ["temperature", "a", "zu\0stand"][usize::from(key)].to_owned()
}

struct Trial {
    place: Place,
    history: History,
    writers: Vec<HistoryWriter>,
    journal: [Vec<RecordRows>; 2],
    model: Model,
}

impl Trial {
    async fn new(place: Place) -> Self {
        let history = place.open().await;
        let writers = vec![writer(&history, 0).await, writer(&history, 1).await];
        Self { place, history, writers, journal: [Vec::new(), Vec::new()], model: Model::new() }
    }

    async fn apply(&mut self, op: Op) {
        if !matches!(op, Op::Write { .. } | Op::Resend { .. } | Op::Reopen) {
            self.history.flush().await.unwrap();
        }
        match op {
            Op::Write { partition, readings } => {
                let names: Vec<String> = readings.iter().map(|row| name(row.1)).collect();
                let borrowed: Vec<_> = readings
                    .iter()
                    .zip(&names)
                    .map(|((device, _, at, value), name)| {
                        (*device, name.as_str(), *at, value.as_value())
                    })
                    .collect();
                self.write(partition, rows(&borrowed)).await;
            }
            Op::Resend { partition, back } => {
                let records = &self.journal[usize::from(partition)];
                if let Some(rows) = records.iter().rev().nth(back).cloned() {
                    self.write(partition, rows).await;
                }
            }
            Op::Reopen => self.reopen().await,
            Op::Range { device, key, span, descending, limit } => {
                self.check_range(device, key, span, descending, limit).await;
            }
            Op::Aggregate { device, key, from, to, width, points } => {
                self.check_aggregate(device, key, (from, to), width, points).await;
            }
            Op::Latest { device } => self.check_latest(device).await,
            Op::Scan { keys, span, slice_bytes } => self.check_scan(keys, span, slice_bytes).await,
        }
    }

    async fn write(&mut self, partition: u16, rows: RecordRows) {
        for row in 0..rows.len() {
            let series = (rows.devices()[row], rows.key(row).to_owned());
            let of_series = self.model.entry(series).or_default();
            of_series.insert(rows.observed_at(row).0, rows.value(row).unwrap().into());
        }
        let records = &mut self.journal[usize::from(partition)];
        let position = Position(records.len() as u64);
        records.push(rows.clone());
        let writer = &mut self.writers[usize::from(partition)];
        writer.ready().await;
        writer.write(position, &rows).unwrap();
    }

    /// As after a SIGKILL: what is in memory is gone, the journal is read again.
    async fn reopen(&mut self) {
        self.writers.clear();
        self.history.halt().await;
        self.history = self.place.open().await;
        for (partition, records) in (0..).zip(&self.journal) {
            let mut writer = writer(&self.history, partition).await;
            replay(&mut writer, records).await;
            self.writers.push(writer);
        }
    }

    fn expected(&self, device: u64, key: u8, (from, to): (i64, i64)) -> Vec<(i64, ReadingValue)> {
        if from >= to {
            return Vec::new();
        }
        let series = self.model.get(&(device, name(key)));
        let rows = series.into_iter().flat_map(|rows| rows.range(from..to));
        rows.map(|(at, value)| (*at, value.clone())).collect()
    }

    async fn check_range(
        &self,
        device: u64,
        key: u8,
        span: (i64, i64),
        descending: bool,
        limit: usize,
    ) {
        let mut expected = self.expected(device, key, span);
        let mut order = Order::Ascending;
        if descending {
            expected.reverse();
            order = Order::Descending;
        }
        let (from, to) = (TimestampMs(span.0), TimestampMs(span.1));
        let mut query = RangeQuery { from, to, order, limit, ..all(device, &name(key)) };
        let mut found = Vec::new();
        loop {
            let page = self.history.range(query.clone()).await.unwrap();
            let full = page.samples.len() == limit;
            assert!(full || page.next.is_none(), "only a full page has one behind it");
            found.extend(page.samples.into_iter().map(|s| (s.observed_at.0, s.value)));
            let Some(next) = page.next else { break };
            query.cursor = Some(next);
        }
        assert_eq!(found, expected, "{query:?}");
    }

    async fn check_aggregate(
        &self,
        device: u64,
        key: u8,
        span: (i64, i64),
        width: i64,
        points: bool,
    ) {
        let buckets =
            if points { Buckets::Points(width as usize) } else { Buckets::WidthMs(width) };
        let (from, to) = (TimestampMs(span.0), TimestampMs(span.1));
        let query = AggregateQuery { device: DeviceId(device), key: name(key), from, to, buckets };
        let mut found = self.history.aggregate(query).await.unwrap();
        let width = if points { (span.1 - span.0 + width - 1) / width } else { width };
        let mut by_bucket: BTreeMap<i64, Vec<(i64, ReadingValue)>> = BTreeMap::new();
        for (at, value) in self.expected(device, key, span) {
            by_bucket.entry((at - span.0) / width).or_default().push((at, value));
        }
        let expected: Vec<Bucket> =
            by_bucket.into_iter().map(|(number, of)| bucket(span, number, width, &of)).collect();
        for (found, expected) in found.iter_mut().zip(&expected) {
            // Numbers are added in another order.
            let (Some(a), Some(b)) = (found.avg, expected.avg) else { continue };
            assert!((a - b).abs() <= b.abs() * 1e-9 + 1e4, "{a} is not {b}");
            found.avg = expected.avg;
        }
        assert_eq!(found, expected);
    }

    async fn check_latest(&self, device: u64) {
        let found = self.history.latest(DeviceId(device), None).await.unwrap();
        let expected: Vec<Reading> = self
            .model
            .iter()
            .filter(|((of, _), _)| *of == device)
            .map(|((_, key), rows)| {
                let (at, value) = rows.last_key_value().unwrap();
                let observed_at = TimestampMs(*at);
                Reading { key: key.clone(), observed_at, value: value.clone() }
            })
            .collect();
        assert_eq!(found, expected);
        let keys: Vec<String> = expected.iter().map(|reading| reading.key.clone()).collect();
        assert_eq!(self.history.keys(DeviceId(device)).await.unwrap(), keys);
    }

    /// `keys` is a mask.
    async fn check_scan(&self, keys: u8, span: (i64, i64), slice_bytes: usize) {
        let devices = [103, 100, 102, 101];
        let keys: Vec<u8> = (0..3).filter(|key| keys & (1 << key) != 0).collect();
        let names: Arc<[(Arc<str>, u32)]> =
            keys.iter().zip(0u32..).map(|(key, place)| (name(*key).into(), place)).collect();
        let of = |device: &u64| ScanDevice { device: DeviceId(*device), keys: names.clone() };
        let (from, to) = (TimestampMs(span.0), TimestampMs(span.1));
        let query = ScanQuery { devices: devices.iter().map(of).collect(), from, to };
        let view = self.history.view(query).await.unwrap();
        let mut expected: BTreeMap<(i64, usize), Vec<(u32, ReadingValue)>> = BTreeMap::new();
        for (place, device) in devices.iter().enumerate() {
            for (number, key) in (0u32..).zip(&keys) {
                for (at, value) in self.expected(*device, *key, span) {
                    expected.entry((at, place)).or_default().push((number, value));
                }
            }
        }
        let mut found = Vec::new();
        tokio::task::block_in_place(|| {
            view.scan(&[0, 1, 2, 3], slice_bytes, |group| {
                let values = group.values.iter().map(|(key, value)| (*key, (*value).into()));
                found.push(((group.at.0, group.device), values.collect()));
                ControlFlow::Continue(())
            })
        })
        .unwrap();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }

    async fn check_all(&self) {
        self.history.flush().await.unwrap();
        self.check_scan(7, (i64::MIN, i64::MAX), 64).await;
        for device in 100..104 {
            self.check_latest(device).await;
            for key in 0..3 {
                for descending in [false, true] {
                    let span = (i64::MIN, i64::MAX);
                    self.check_range(device, key, span, descending, 1_000).await;
                }
            }
        }
    }
}

fn bucket(span: (i64, i64), number: i64, width: i64, readings: &[(i64, ReadingValue)]) -> Bucket {
    let numbers: Vec<f64> =
        readings.iter().filter_map(|(_, value)| value.as_value().as_f64()).collect();
    let some = |value: f64| (!numbers.is_empty()).then_some(value);
    let start = span.0 + number * width;
    Bucket {
        from: TimestampMs(start),
        to: TimestampMs((start + width).min(span.1)),
        min: some(numbers.iter().copied().fold(f64::INFINITY, f64::min)),
        max: some(numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        avg: some(numbers.iter().fold(0.0, |sum, n| sum + n) / numbers.len() as f64),
        first: readings[0].1.clone(),
        last: readings[readings.len() - 1].1.clone(),
        count: readings.len() as u64,
    }
}

fn run(cases: u32, length: usize, place: impl AsyncFn() -> Place) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&prop::collection::vec(op(), 1..length), |ops| {
        runtime.block_on(async {
            let mut trial = Trial::new(place().await).await;
            for op in ops {
                trial.apply(op).await;
            }
            trial.check_all().await;
            trial.reopen().await;
            trial.check_all().await;
            trial.history.close().await;
        });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn answers_in_a_folder_are_the_models() {
    run(24, 60, async || Place::folder());
}

#[test]
fn answers_in_postgresql_are_the_models() {
    run(16, 60, async || Place::database().await);
}
