//! The history against a naive model, with everything interleaved: writes of
//! all types, re-sent, late and out of order, flushes, compactions, restarts
//! without a flush, and questions of every form.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

type Model = BTreeMap<(u64, String), BTreeMap<i64, ReadingValue>>;

#[derive(Clone, Debug)]
enum Op {
    Write {
        partition: u16,
        readings: Vec<(u64, u8, i64, ReadingValue)>,
    },
    Advance {
        partition: u16,
    },
    /// Sends an earlier record once more.
    Resend {
        partition: u16,
        back: usize,
    },
    Flush,
    Compact,
    Reopen,
    Range {
        device: u64,
        key: u8,
        from: i64,
        to: i64,
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
        devices: Vec<u64>,
        keys: u8,
        from: i64,
        to: i64,
        slice_bytes: usize,
    },
}

fn value() -> impl Strategy<Value = ReadingValue> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(|n| ReadingValue::Number(f64::from(n) / 8.0)),
        3 => prop_oneof![any::<i64>(), -9i64..9].prop_map(ReadingValue::Integer),
        1 => any::<bool>().prop_map(ReadingValue::Boolean),
        2 => "[a-zä]{0,12}".prop_map(|text| ReadingValue::Text(text.into())),
        1 => (0..99).prop_map(|n| ReadingValue::Json(format!("{{\"n\":{n}}}").into())),
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 300i64..420, 2 => -50i64..900, 1 => any::<i64>().prop_map(|t| t / 4)]
}

fn op() -> impl Strategy<Value = Op> {
    let device = || 100u64..104;
    let key = || 0u8..3;
    // Readings of one type mostly, as a real key has.
    let reading = (0u64..2, key(), time(), value());
    let write = (0u16..2, prop::collection::vec(reading, 1..14)).prop_map(|(partition, rows)| {
        let of =
            |(device, key, at, value)| (100 + 2 * device + u64::from(partition), key, at, value);
        Op::Write { partition, readings: rows.into_iter().map(of).collect() }
    });
    let range = (device(), key(), time(), time(), any::<bool>(), 1usize..12).prop_map(
        |(device, key, from, to, descending, limit)| Op::Range {
            device,
            key,
            from,
            to,
            descending,
            limit,
        },
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
    let devices = prop::collection::vec(device(), 1..5);
    let scan = (devices, 1u8..8, time(), time(), 1usize..2_000).prop_map(
        |(mut devices, keys, from, to, slice_bytes)| {
            devices.sort_unstable();
            devices.dedup();
            Op::Scan { devices, keys, from, to, slice_bytes }
        },
    );
    prop_oneof![
        12 => write,
        3 => scan,
        1 => (0u16..2).prop_map(|partition| Op::Advance { partition }),
        2 => (0u16..2, 0usize..6).prop_map(|(partition, back)| Op::Resend { partition, back }),
        2 => Just(Op::Flush),
        2 => Just(Op::Compact),
        1 => Just(Op::Reopen),
        3 => range,
        3 => aggregate,
        1 => device().prop_map(|device| Op::Latest { device }),
    ]
}

fn name(key: u8) -> String {
    ["temperature", "a", "zustand"][usize::from(key)].to_owned()
}

/// The journal: for each partition its records, `None` for attributes.
type Journal = [Vec<Option<RecordRows>>; 2];

struct Trial {
    dir: tempfile::TempDir,
    options: HistoryOptions,
    history: History,
    writers: Vec<HistoryWriter>,
    journal: Journal,
    model: Model,
    /// The last view and what it gives.
    kept: RefCell<Option<(HistoryView<u32>, Groups)>>,
}

/// What devices, named by their places, observed together.
type Groups = Vec<((i64, usize), Vec<(u32, ReadingValue)>)>;

fn groups(view: &HistoryView<u32>, slice_bytes: usize) -> Groups {
    let mut found = Vec::new();
    let all: Vec<usize> = (0..view.devices().len()).collect();
    view.scan(&all, slice_bytes, |group| {
        let values = group.values.iter().map(|(key, value)| (*key, (*value).into())).collect();
        found.push(((group.at.0, group.device), values));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

impl Trial {
    fn new(options: HistoryOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path(), options.clone());
        let writers = (0..2).map(|p| history.writer(PartitionId(p)).unwrap()).collect();
        let journal = [Vec::new(), Vec::new()];
        Self {
            dir,
            options,
            history,
            writers,
            journal,
            model: Model::new(),
            kept: RefCell::default(),
        }
    }

    async fn apply(&mut self, op: Op) {
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
                let found = records.iter().rev().flatten().nth(back).cloned();
                if let Some(rows) = found {
                    self.write(partition, rows).await;
                }
            }
            Op::Advance { partition } => {
                self.journal[usize::from(partition)].push(None);
                let next = Position(self.journal[usize::from(partition)].len() as u64);
                self.writers[usize::from(partition)].advance(next).unwrap();
            }
            Op::Flush => {
                self.history.flush().await.unwrap();
                for (partition, records) in (0..).zip(&self.journal) {
                    let durable = self.history.durable_position(PartitionId(partition));
                    assert_eq!(durable, Position(records.len() as u64));
                }
            }
            Op::Compact => {
                self.history.compact().await.unwrap();
            }
            Op::Reopen => self.reopen().await,
            Op::Range { device, key, from, to, descending, limit } => {
                self.check_range(device, key, (from, to), descending, limit).await;
            }
            Op::Aggregate { device, key, from, to, width, points } => {
                self.check_aggregate(device, key, (from, to), width, points).await;
            }
            Op::Latest { device } => self.check_latest(device).await,
            Op::Scan { devices, keys, from, to, slice_bytes } => {
                self.check_scan(&devices, keys, (from, to), slice_bytes).await;
            }
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
        records.push(Some(rows.clone()));
        let writer = &mut self.writers[usize::from(partition)];
        writer.ready().await;
        writer.write(position, &rows).unwrap();
        assert!(matches!(writer.write(position, &rows), Err(HistoryError::Position { .. })));
    }

    /// As after a SIGKILL: what is in memory is gone, the journal is read again.
    async fn reopen(&mut self) {
        self.writers.clear();
        self.kept.take();
        self.history.halt().await;
        self.history = open(self.dir.path(), self.options.clone());
        for (partition, records) in (0..).zip(&self.journal) {
            let mut writer = self.history.writer(PartitionId(partition)).unwrap();
            let from = writer.position().0;
            assert!(from <= records.len() as u64);
            for (position, record) in (0..).zip(records).skip(from as usize) {
                match record {
                    Some(rows) => {
                        writer.ready().await;
                        writer.write(Position(position), rows).unwrap();
                    }
                    None => writer.advance(Position(position + 1)).unwrap(),
                }
            }
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
        let found = self.history.aggregate(query).await.unwrap();
        let width = if points { (span.1 - span.0 + width - 1) / width } else { width };
        let mut by_bucket: BTreeMap<i64, Vec<(i64, ReadingValue)>> = BTreeMap::new();
        for (at, value) in self.expected(device, key, span) {
            by_bucket.entry((at - span.0) / width).or_default().push((at, value));
        }
        let expected: Vec<Bucket> = by_bucket
            .into_iter()
            .map(|(number, readings)| {
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
            })
            .collect();
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
        assert_eq!(self.history.keys(DeviceId(device)), keys);
        let some = self.history.latest(DeviceId(device), Some(vec![name(1), "no".to_owned()]));
        let only: Vec<Reading> =
            expected.into_iter().filter(|reading| reading.key == name(1)).collect();
        assert_eq!(some.await.unwrap(), only);
    }

    /// `keys` is a mask. A view is left open over what comes next, as the files
    /// of a long scan are.
    async fn check_scan(&self, devices: &[u64], keys: u8, span: (i64, i64), slice_bytes: usize) {
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
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(groups(&view, slice_bytes), expected);
        // The one before is still right, whatever was merged away since.
        if let Some((view, expected)) = self.kept.replace(Some((view, expected))) {
            assert_eq!(groups(&view, slice_bytes), expected, "an older view");
        }
    }

    async fn check_all(&self) {
        self.check_scan(&[100, 101, 102, 103], 7, (i64::MIN, i64::MAX), 64).await;
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

fn run(options: &HistoryOptions, cases: u32, length: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&prop::collection::vec(op(), 1..length), |ops| {
        runtime.block_on(async {
            let mut trial = Trial::new(options.clone());
            for op in ops {
                trial.apply(op).await;
            }
            trial.check_all().await;
            trial.reopen().await;
            trial.check_all().await;
            trial.history.flush().await.unwrap();
            trial.history.compact().await.unwrap();
            trial.check_all().await;
            trial.reopen().await;
            trial.check_all().await;
            trial.history.halt().await;
        });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn answers_are_the_models_whatever_comes_between() {
    run(&tiny(), 48, 90);
}

#[test]
fn answers_are_the_models_while_compaction_runs_beside() {
    let options = HistoryOptions { background_compaction: true, fanout: 2, ..tiny() };
    run(&options, 24, 90);
}

/// One row a page, a row group, a chunk, a file; and a cache that holds nothing.
#[test]
fn answers_are_the_models_at_the_smallest_limits() {
    let options = HistoryOptions {
        chunk_rows: 1,
        memtable_rows: 5,
        row_group_rows: 1,
        page_rows: 1,
        file_rows: 1,
        open_outputs: 1,
        fanout: 2,
        mixed_files: 1,
        quiet_flushes: 1,
        cache_bytes: 0,
        ..tiny()
    };
    run(&options, 16, 40);
}
