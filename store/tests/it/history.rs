//! What a history must do wherever it is kept, seen through its face.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus::Registry;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use schema::{
    DeviceId, Origin, PartitionId, Position, RECORD_VERSION, RecordBuilder, RecordKind, RecordRows,
    RouterId, TenantId, TimestampMs, Value,
};
use store::history::{
    AggregateQuery, Bucket, Buckets, Clock, DAY_MS, HistoryError, HistoryOptions, HistoryWriter,
    Order, RangeQuery, ReadingValue, ScanDevice, ScanQuery,
};
use store::{History, PostgresOptions};

use super::place::{Place, on_both};
use super::postgres::Server;

const P0: PartitionId = PartitionId(0);
/// 2026-11-26.
const NOW: i64 = 1_795_651_200_000;

fn open(place: &Place, options: &HistoryOptions) -> History {
    let registry = Registry::new();
    let postgres = |url: &str| {
        let address = PostgresOptions::parse(url).unwrap();
        History::open_postgres(&address, 2, options.clone(), &registry).unwrap()
    };
    place.open(|dir| History::open(dir, 2, options.clone(), &registry).unwrap(), postgres)
}

fn now_at(now: i64) -> HistoryOptions {
    let clock = Clock::Fixed(Arc::new(AtomicI64::new(now)));
    HistoryOptions { clock, ..HistoryOptions::default() }
}

/// Readings as (device, key, time, value); the tenant is the device's hundreds.
fn rows(readings: &[(u64, &str, i64, Value<'_>)]) -> RecordRows {
    let mut builder = RecordBuilder::new(RecordKind::Readings);
    for (device, key, at, value) in readings {
        let (tenant, router) = (TenantId(device / 100), RouterId(1));
        let origin = Origin { tenant, router, device: DeviceId(*device) };
        let key = builder.key(key).unwrap();
        builder.push(origin, key, TimestampMs(*at), TimestampMs(0), Some(*value)).unwrap();
    }
    RecordRows::decode(RECORD_VERSION, &builder.finish().payload).unwrap()
}

fn all(device: u64, key: &str, order: Order) -> RangeQuery {
    RangeQuery {
        device: DeviceId(device),
        key: key.to_owned(),
        from: TimestampMs(i64::MIN),
        to: TimestampMs(i64::MAX),
        order,
        limit: usize::MAX,
        cursor: None,
    }
}

async fn samples(history: &History, device: u64, key: &str) -> Vec<(i64, ReadingValue)> {
    let page = history.range(all(device, key, Order::Ascending)).await.unwrap();
    page.samples.into_iter().map(|sample| (sample.observed_at.0, sample.value)).collect()
}

async fn keys(history: &History, device: u64) -> Vec<String> {
    let history = history.clone();
    let keys = move || history.keys(DeviceId(device)).unwrap();
    tokio::task::spawn_blocking(keys).await.unwrap()
}

/// A value of each kind, and texts that a database may stumble over.
fn odd_values() -> Vec<(Value<'static>, ReadingValue)> {
    let values = [
        Value::Number(-0.5),
        Value::Number(f64::MAX),
        Value::Integer(i64::MIN),
        Value::Integer(i64::MAX),
        Value::Boolean(true),
        Value::Boolean(false),
        Value::Text(""),
        Value::Text("ä\u{0}\"\\ \u{1F4A1}"),
        Value::Text("\"quoted\""),
        Value::Json(r#"{"a": [1, "\u0000"]}"#),
        Value::Json("[]"),
    ];
    values.into_iter().map(|value| (value, value.into())).collect()
}

on_both!(every_kind_of_value_is_read_back_as_it_was_sent);

async fn every_kind_of_value_is_read_back_as_it_was_sent(place: Place) {
    let history = open(&place, &now_at(NOW));
    let mut writer = history.writer(P0).unwrap();
    let odd = odd_values();
    let sent: Vec<_> =
        (0..).zip(&odd).map(|(place, (value, _))| (107, "k\u{0}ey", NOW + place, *value)).collect();
    writer.write(Position(0), &rows(&sent)).unwrap();
    drop(writer);
    history.flush().await.unwrap();
    let expected: Vec<_> =
        (0..).zip(&odd).map(|(place, (_, value))| (NOW + place, value.clone())).collect();
    assert_eq!(samples(&history, 107, "k\u{0}ey").await, expected);
    assert_eq!(keys(&history, 107).await, ["k\u{0}ey"]);
    let latest = history.latest(DeviceId(107), None).await.unwrap();
    assert_eq!((latest.len(), &latest[0].value), (1, &expected[10].1));
    history.close().await;
    let again = open(&place, &now_at(NOW));
    assert_eq!(samples(&again, 107, "k\u{0}ey").await, expected);
    assert_eq!(again.durable_position(P0), Position(1));
}

on_both!(a_reading_that_is_sent_again_takes_the_place_of_the_first);

async fn a_reading_that_is_sent_again_takes_the_place_of_the_first(place: Place) {
    let history = open(&place, &now_at(NOW));
    let mut writer = history.writer(P0).unwrap();
    let reading = |at: i64, value: i64| (107, "a", NOW + at, Value::Integer(value));
    // Within a record, within what is gathered, and when it is there already.
    writer.write(Position(0), &rows(&[reading(0, 1), reading(0, 2), reading(1, 3)])).unwrap();
    writer.write(Position(1), &rows(&[reading(1, 4), reading(2, 5)])).unwrap();
    history.flush().await.unwrap();
    writer.write(Position(2), &rows(&[reading(2, 6), reading(3, 7)])).unwrap();
    history.flush().await.unwrap();
    writer.write(Position(3), &rows(&[reading(0, 8)])).unwrap();
    history.flush().await.unwrap();
    let expected: Vec<_> = [(0, 8), (1, 4), (2, 6), (3, 7)]
        .map(|(at, value)| (NOW + at, ReadingValue::Integer(value)))
        .to_vec();
    assert_eq!(samples(&history, 107, "a").await, expected);
}

on_both!(times_far_away_are_kept_and_found);

async fn times_far_away_are_kept_and_found(place: Place) {
    let history = open(&place, &now_at(NOW));
    let mut writer = history.writer(P0).unwrap();
    let times =
        [i64::MIN, -1, 0, 946_684_799_999, 946_684_800_000, NOW, NOW + 400 * DAY_MS, i64::MAX - 1];
    let sent: Vec<_> = times.iter().map(|at| (107, "a", *at, Value::Integer(*at))).collect();
    writer.write(Position(0), &rows(&sent)).unwrap();
    history.flush().await.unwrap();
    let found: Vec<i64> = samples(&history, 107, "a").await.into_iter().map(|it| it.0).collect();
    assert_eq!(found, times);
    let query = RangeQuery { limit: 3, ..all(107, "a", Order::Descending) };
    let page = history.range(query).await.unwrap();
    let found: Vec<i64> = page.samples.iter().map(|it| it.observed_at.0).collect();
    assert_eq!(found, [i64::MAX - 1, NOW + 400 * DAY_MS, NOW]);
}

on_both!(pages_stay_right_while_readings_arrive);

async fn pages_stay_right_while_readings_arrive(place: Place) {
    let history = open(&place, &now_at(NOW));
    let mut writer = history.writer(P0).unwrap();
    let text = "x".repeat(100);
    let reading = |at: i64| (107, "a", NOW + at * 1_000, Value::Text(&text));
    let even: Vec<_> = (0..50).map(|at| reading(at * 2)).collect();
    writer.write(Position(0), &rows(&even)).unwrap();
    history.flush().await.unwrap();
    for (number, order) in (1..).zip([Order::Ascending, Order::Descending]) {
        let mut query = RangeQuery { limit: 7, ..all(107, "a", order) };
        let mut found = Vec::new();
        loop {
            let page = history.range(query.clone()).await.unwrap();
            assert!(page.samples.len() <= 7);
            found.extend(page.samples.iter().map(|sample| sample.observed_at.0));
            if found.len() == 14 {
                // One behind what was shown, and one ahead of it.
                let (behind, ahead) = if order == Order::Ascending { (3, 91) } else { (95, 5) };
                writer.write(Position(number), &rows(&[reading(behind), reading(ahead)])).unwrap();
                history.flush().await.unwrap();
            }
            let Some(next) = page.next else { break };
            query.cursor = Some(next);
        }
        let mut sorted = found.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), found.len(), "none twice");
        if order == Order::Descending {
            found.reverse();
        }
        assert_eq!(found, sorted);
        assert!(found.len() >= 51, "{order:?}: {}", found.len());
    }
    let wrong = RangeQuery { cursor: Some("1d0".to_owned()), ..all(107, "a", Order::Ascending) };
    assert!(matches!(history.range(wrong).await, Err(HistoryError::Cursor)));
}

on_both!(a_tenants_retention_counts_at_once_and_leaves_others_alone);

async fn a_tenants_retention_counts_at_once_and_leaves_others_alone(place: Place) {
    let history = open(&place, &now_at(NOW));
    let mut writer = history.writer(P0).unwrap();
    let ages = [0, 10, 40, 400];
    let mut sent = Vec::new();
    for device in [107, 207] {
        sent.extend(ages.map(|days| (device, "a", NOW - days * DAY_MS, Value::Integer(days))));
    }
    writer.write(Position(0), &rows(&sent)).unwrap();
    history.flush().await.unwrap();
    history.set_retention(TenantId(1), 30);
    history.set_retention(TenantId(2), 365);
    for _ in 0..2 {
        let left = |found: Vec<(i64, ReadingValue)>| found.len();
        assert_eq!(left(samples(&history, 107, "a").await), 2);
        assert_eq!(left(samples(&history, 207, "a").await), 3);
        let query = AggregateQuery {
            device: DeviceId(107),
            key: "a".to_owned(),
            from: TimestampMs(0),
            to: TimestampMs(NOW + 1),
            buckets: Buckets::Points(1),
        };
        let buckets = history.aggregate(query).await.unwrap();
        assert_eq!((buckets[0].count, buckets[0].max), (2, Some(10.0)));
        // And what is past its time may go now.
        history.compact().await.unwrap();
    }
    history.set_retention(TenantId(1), 1);
    let query = || history.latest(DeviceId(107), None);
    assert_eq!(query().await.unwrap().len(), 1);
}

on_both!(a_record_is_taken_once_and_in_order);

async fn a_record_is_taken_once_and_in_order(place: Place) {
    let history = open(&place, &now_at(NOW));
    let mut writer = history.writer(P0).unwrap();
    assert!(matches!(history.writer(P0), Err(HistoryError::WriterTaken(P0))));
    assert!(matches!(history.writer(PartitionId(2)), Err(HistoryError::Partition { .. })));
    let one = rows(&[(107, "a", NOW, Value::Integer(1))]);
    writer.write(Position(4), &one).unwrap();
    writer.advance(Position(9)).unwrap();
    assert_eq!(writer.position(), Position(9));
    let refused = writer.write(Position(8), &one).unwrap_err();
    assert!(matches!(refused, HistoryError::Position { next: Position(9), .. }), "{refused}");
    assert!(writer.advance(Position(8)).is_err());
    history.flush().await.unwrap();
    drop(writer);
    history.close().await;
    let again = open(&place, &now_at(NOW));
    // What came without rows may not be written yet.
    let position = again.writer(P0).unwrap().position();
    assert!((Position(5)..=Position(9)).contains(&position), "{position}");
    assert_eq!(again.durable_position(P0), position);
}

/// What one would work out by hand.
fn naive(readings: &[(i64, Value<'_>)], from: i64, to: i64, width: i64) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut sums: Vec<(f64, u64)> = Vec::new();
    for (at, value) in readings.iter().filter(|(at, _)| (from..to).contains(at)) {
        let start = from + (at - from) / width * width;
        if buckets.last().is_none_or(|bucket| bucket.from.0 != start) {
            let (first, last) = ((*value).into(), (*value).into());
            let (from, to) = (TimestampMs(start), TimestampMs((start + width).min(to)));
            buckets.push(Bucket {
                from,
                to,
                min: None,
                max: None,
                avg: None,
                first,
                last,
                count: 0,
            });
            sums.push((0.0, 0));
        }
        let (bucket, sum) = (buckets.last_mut().unwrap(), sums.last_mut().unwrap());
        bucket.count += 1;
        bucket.last = (*value).into();
        let number = match value {
            Value::Number(number) => *number,
            #[allow(clippy::cast_precision_loss, reason = "the integers of the test are small")]
            Value::Integer(integer) => *integer as f64,
            Value::Boolean(boolean) => f64::from(u8::from(*boolean)),
            Value::Text(_) | Value::Json(_) => continue,
        };
        bucket.min = Some(bucket.min.map_or(number, |least| least.min(number)));
        bucket.max = Some(bucket.max.map_or(number, |most| most.max(number)));
        *sum = (sum.0 + number, sum.1 + 1);
        #[allow(clippy::cast_precision_loss, reason = "counts of the test are small")]
        let mean = sum.0 / sum.1 as f64;
        bucket.avg = Some(mean);
    }
    buckets
}

fn random_value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        // Sums of these are exact, in whatever order.
        (-400i64..400)
            .prop_map(|eighths| Value::Number(f64::from(i32::try_from(eighths).unwrap()) / 8.0)),
        (-50i64..50).prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Boolean),
        prop_oneof![Just("on"), Just("")].prop_map(Value::Text),
    ]
}

on_both!(buckets_and_scans_are_as_by_hand);

async fn buckets_and_scans_are_as_by_hand(place: Place) {
    let history = open(&place, &now_at(NOW));
    let mut writer = history.writer(P0).unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    let cases = prop::collection::vec(
        (
            prop::collection::btree_map(0..12 * 86_400_000i64, random_value(), 0..40),
            0..10 * 86_400_000i64,
            1..9 * 86_400_000i64,
            1..3 * 86_400_000i64,
            1..20usize,
        ),
        24,
    );
    let cases = cases.new_tree(&mut runner).unwrap().current();
    for (number, (readings, from, span, width, points)) in (0u64..).zip(cases) {
        let device = 300 + number;
        let readings: Vec<_> = readings.into_iter().map(|(at, value)| (NOW + at, value)).collect();
        let sent: Vec<_> = readings.iter().map(|(at, value)| (device, "a", *at, *value)).collect();
        if !sent.is_empty() {
            writer.write(Position(number), &rows(&sent)).unwrap();
            history.flush().await.unwrap();
        }
        let (from, to) = (NOW + from, NOW + from + span);
        let ask = |buckets| AggregateQuery {
            device: DeviceId(device),
            key: "a".to_owned(),
            from: TimestampMs(from),
            to: TimestampMs(to),
            buckets,
        };
        let found = history.aggregate(ask(Buckets::WidthMs(width))).await.unwrap();
        assert_eq!(found, naive(&readings, from, to, width));
        let found = history.aggregate(ask(Buckets::Points(points))).await.unwrap();
        let width = (span + i64::try_from(points).unwrap() - 1) / i64::try_from(points).unwrap();
        assert_eq!(found, naive(&readings, from, to, width));
    }
    let query = AggregateQuery {
        device: DeviceId(300),
        key: "a".to_owned(),
        from: TimestampMs(0),
        to: TimestampMs(NOW),
        buckets: Buckets::WidthMs(1),
    };
    assert!(matches!(history.aggregate(query).await, Err(HistoryError::Buckets { .. })));
}

on_both!(a_scan_gives_groups_in_order_of_time_and_device);

async fn a_scan_gives_groups_in_order_of_time_and_device(place: Place) {
    let history = open(&place, &now_at(NOW));
    let mut writer = history.writer(P0).unwrap();
    let mut sent = Vec::new();
    for at in (0..20i64).rev() {
        for device in [301, 302, 303] {
            // Two days apart, so that several slices are read.
            let time = NOW + at / 4 * 2 * DAY_MS + at % 4;
            sent.push((device, "b", time, Value::Integer(at)));
            if at % 2 == 0 {
                sent.push((device, "a", time, Value::Text("x")));
            }
        }
    }
    writer.write(Position(0), &rows(&sent)).unwrap();
    history.flush().await.unwrap();
    let names: Arc<[(Arc<str>, u8)]> =
        [("a".into(), 1), ("b".into(), 2), ("none".into(), 3)].into();
    let devices: Vec<_> = [303, 301, 999]
        .map(|device| ScanDevice { device: DeviceId(device), keys: names.clone() })
        .to_vec();
    let work = move || {
        let to = TimestampMs(NOW + 8 * DAY_MS + 1);
        let view = history.view(ScanQuery { devices, from: TimestampMs(NOW + 1), to }).unwrap();
        assert_eq!((0..3).map(|device| view.series_of(device)).collect::<Vec<_>>(), [2, 2, 0]);
        let mut found = Vec::new();
        let whole = view.scan(&[0, 1, 2], 1 << 20, |group| {
            let values: Vec<(u8, ReadingValue)> =
                group.values.iter().map(|(key, value)| (*key, (*value).into())).collect();
            found.push((group.at.0 - NOW, group.device, values));
            ControlFlow::Continue(())
        });
        whole.unwrap();
        let mut expected = Vec::new();
        for at in 1..17i64 {
            for device in [0, 1] {
                let mut values = Vec::new();
                if at % 2 == 0 {
                    values.push((1, ReadingValue::Text("x".into())));
                }
                values.push((2, ReadingValue::Integer(at)));
                expected.push((at / 4 * 2 * DAY_MS + at % 4, device, values));
            }
        }
        assert_eq!(found, expected);
        let mut count = 0;
        let ended = view.scan(&[1], 1 << 20, |_| {
            count += 1;
            if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        ended.unwrap();
        assert_eq!(count, 3);
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

#[tokio::test]
async fn who_has_lost_a_partition_cannot_record_it() {
    let place = Place::postgres();
    let one = open(&place, &now_at(NOW));
    let mut writer = one.writer(P0).unwrap();
    writer.write(Position(0), &rows(&[(107, "a", NOW, Value::Integer(1))])).unwrap();
    one.flush().await.unwrap();
    let two = open(&place, &now_at(NOW));
    writer.write(Position(1), &rows(&[(107, "a", NOW + 1, Value::Integer(2))])).unwrap();
    let refused = one.flush().await.unwrap_err();
    assert!(matches!(refused, HistoryError::Fenced(P0)), "{refused}");
    let refused = writer.advance(Position(9)).unwrap_err();
    assert!(matches!(refused, HistoryError::Fenced(P0)), "{refused}");
    let mut writer = two.writer(P0).unwrap();
    assert_eq!(writer.position(), Position(1));
    writer.write(Position(1), &rows(&[(107, "a", NOW + 1, Value::Integer(3))])).unwrap();
    two.flush().await.unwrap();
    let expected = [(NOW, ReadingValue::Integer(1)), (NOW + 1, ReadingValue::Integer(3))];
    assert_eq!(samples(&two, 107, "a").await, expected);
}

/// Written on while the server is killed again and again.
fn write_on(mut writer: HistoryWriter, records: u64) {
    for number in 0..records {
        let at = NOW + number.cast_signed();
        let values: Vec<_> =
            (300..310).map(|device| (device, "a", at, Value::Integer(at))).collect();
        writer.write(Position(number), &rows(&values)).unwrap();
        if number % 50 == 0 {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_loses_and_doubles_nothing() {
    const RECORDS: u64 = 20_000;
    let server = Arc::new(Server::start());
    let place = Place::Postgres(server.database().await);
    let history = open(&place, &now_at(NOW));
    let writer = history.writer(P0).unwrap();
    let writing = tokio::task::spawn_blocking(move || write_on(writer, RECORDS));
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let server = server.clone();
        let bounce = move || {
            server.kill();
            server.restart();
        };
        tokio::task::spawn_blocking(bounce).await.unwrap();
    }
    writing.await.unwrap();
    history.flush().await.unwrap();
    assert_eq!(history.durable_position(P0), Position(RECORDS));
    for device in [300, 309] {
        let mut found = Vec::new();
        let mut query = all(device, "a", Order::Ascending);
        loop {
            let page = history.range(query.clone()).await.unwrap();
            found.extend(page.samples.iter().map(|sample| sample.observed_at.0 - NOW));
            let Some(next) = page.next else { break };
            query.cursor = Some(next);
        }
        let expected: Vec<i64> = (0..RECORDS.cast_signed()).collect();
        assert_eq!(found, expected);
    }
    history.close().await;
}
