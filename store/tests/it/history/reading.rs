//! Questions and their answers.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schema::{DeviceId, Position, TimestampMs, Value};
use store::history::{
    AggregateQuery, Buckets, History, HistoryError, Order, Page, RangeQuery, ReadingValue,
    ScanDevice, ScanQuery,
};

use super::{
    Limits, PARTITIONS, Place, all, both, integer, open_database, postgres_options, rows,
    write_all, writer,
};

both!(
    a_cursor_stays_right_while_readings_arrive,
    a_page_of_long_texts_ends_early_and_the_next_goes_on,
    questions_that_cannot_be_answered_are_refused,
    buckets_begin_where_the_question_does,
    whole_hours_and_days_are_buckets_like_others,
    sums_beyond_the_greatest_number_are_no_error,
    latest_and_keys_are_in_the_order_of_names,
    a_scan_goes_by_time_and_then_by_device,
    a_scan_ends_where_its_visitor_has_seen_enough,
    answers_may_be_awaited_on_any_thread,
);

async fn a_cursor_stays_right_while_readings_arrive(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let ten: Vec<_> = (0..10).map(|at| integer(10 * at)).collect();
    write_all(&history, &mut writer, &ten).await;
    let at = |page: &Page| page.samples.iter().map(|s| s.observed_at.0).collect::<Vec<_>>();
    let down = RangeQuery { limit: 4, order: Order::Descending, ..all(100, "t") };
    let first_down = history.range(down.clone()).await.unwrap();
    let up = RangeQuery { limit: 4, ..all(100, "t") };
    let first_up = history.range(up.clone()).await.unwrap();
    // One ahead of the page, one behind it, one of the page again.
    write_all(&history, &mut writer, &[integer(200), integer(25), integer(60), integer(-5)]).await;
    let cursor = first_down.next.clone();
    let second = history.range(RangeQuery { cursor, limit: 99, ..down }).await.unwrap();
    assert_eq!(at(&first_down), [90, 80, 70, 60]);
    assert_eq!(at(&second), [50, 40, 30, 25, 20, 10, 0, -5]);
    assert_eq!(second.next, None);
    let cursor = first_up.next.clone();
    let second = history.range(RangeQuery { cursor, limit: 99, ..up.clone() }).await.unwrap();
    assert_eq!(at(&first_up), [0, 10, 20, 30]);
    assert_eq!(at(&second), [40, 50, 60, 70, 80, 90, 200]);
    // A page that holds all there is has none behind it.
    let whole = history.range(RangeQuery { limit: 13, ..all(100, "t") }).await.unwrap();
    assert_eq!((whole.samples.len(), whole.next), (13, None));
    history.close().await;
}

async fn a_page_of_long_texts_ends_early_and_the_next_goes_on(place: Place) {
    let limits = Limits { page_text_bytes: 25, ..Limits::default() };
    let history = place.open_with(&limits).await;
    let mut writer = writer(&history, 0).await;
    let readings: Vec<_> = (0..8).map(|at| (100, "t", at, Value::Text("ten bytes!"))).collect();
    write_all(&history, &mut writer, &[rows(&readings)]).await;
    for order in [Order::Ascending, Order::Descending] {
        let mut query = RangeQuery { order, ..all(100, "t") };
        let mut pages = Vec::new();
        loop {
            let page = history.range(query.clone()).await.unwrap();
            pages.push(page.samples.len());
            query.cursor = page.next;
            if query.cursor.is_none() {
                break;
            }
        }
        assert_eq!(pages, [3, 3, 2]);
    }
    history.close().await;
}

fn ask(key: &str, (from, to): (i64, i64), buckets: Buckets) -> AggregateQuery {
    let (from, to) = (TimestampMs(from), TimestampMs(to));
    AggregateQuery { device: DeviceId(100), key: key.to_owned(), from, to, buckets }
}

async fn questions_that_cannot_be_answered_are_refused(place: Place) {
    let history = place.open_with(&Limits { bucket_limit: 10, ..Limits::default() }).await;
    for cursor in ["", "1a", "1d5", "2a5", "1axyz", "1a11112222333344445"] {
        let query = RangeQuery { cursor: Some(cursor.to_owned()), ..all(1, "t") };
        let error = history.range(query).await.unwrap_err();
        assert!(matches!(error, HistoryError::Cursor) && error.is_bad_request(), "{cursor}");
    }
    let error = history.aggregate(ask("t", (0, 11), Buckets::WidthMs(1))).await.unwrap_err();
    assert!(matches!(error, HistoryError::Buckets { asked: 11, limit: 10 }), "{error}");
    for none in [Buckets::WidthMs(0), Buckets::WidthMs(-1), Buckets::Points(0)] {
        let error = history.aggregate(ask("t", (0, 5), none)).await.unwrap_err();
        assert!(matches!(error, HistoryError::BucketWidth), "{error}");
    }
    let all = ask("t", (0, i64::MAX), Buckets::Points(10));
    assert_eq!(history.aggregate(all).await.unwrap(), []);
    history.close().await;
}

async fn buckets_begin_where_the_question_does(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let readings = [
        (100, "t", -3, Value::Number(1.5)),
        (100, "t", 4, Value::Integer(2)),
        (100, "t", 5, Value::Boolean(true)),
        (100, "t", 6, Value::Text("a\0b")),
        (100, "t", 17, Value::Json("{\"a\": 1}")),
    ];
    write_all(&history, &mut writer, &[rows(&readings)]).await;
    let found = history.aggregate(ask("t", (-3, 18), Buckets::WidthMs(10))).await.unwrap();
    let bounds: Vec<_> = found.iter().map(|b| (b.from.0, b.to.0, b.count)).collect();
    assert_eq!(bounds, [(-3, 7, 4), (17, 18, 1)]);
    assert_eq!((found[0].min, found[0].max, found[0].avg), (Some(1.0), Some(2.0), Some(1.5)));
    assert_eq!(found[0].first, ReadingValue::Number(1.5));
    assert_eq!(found[0].last, ReadingValue::Text("a\0b".into()));
    assert_eq!((found[1].min, found[1].max, found[1].avg), (None, None, None));
    assert_eq!(found[1].first, ReadingValue::Json("{\"a\": 1}".into()));
    // Beyond what the database's times can be.
    let whole =
        history.aggregate(ask("t", (i64::MIN, i64::MAX), Buckets::Points(2))).await.unwrap();
    let counts: Vec<_> = whole.iter().map(|b| b.count).collect();
    assert_eq!(counts.iter().sum::<u64>(), 5);
    history.close().await;
}

async fn whole_hours_and_days_are_buckets_like_others(place: Place) {
    const HOUR: i64 = 3_600_000;
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let day = store::history::DAY_MS;
    let now = store::history::Clock::System.now().0;
    let start = now - now % day - 5 * day;
    let readings: Vec<_> = (0..5 * 24 * 4)
        .map(|n| {
            let value = match n % 3 {
                0 => Value::Integer(n),
                1 => Value::Number(n as f64 / 2.0),
                _ => Value::Text("between"),
            };
            (100, "t", start + n * HOUR / 4 + 1, value)
        })
        .collect();
    write_all(&history, &mut writer, &[rows(&readings)]).await;
    for (width, count) in [(HOUR, 4), (2 * HOUR, 8), (day, 96), (2 * day, 192)] {
        let span = (start, start + 4 * day);
        let found = history.aggregate(ask("t", span, Buckets::WidthMs(width))).await.unwrap();
        assert_eq!(found.len() as i64, 4 * day / width);
        for (number, bucket) in found.iter().enumerate() {
            let of = &readings[number * count..(number + 1) * count];
            let numbers: Vec<f64> = of.iter().filter_map(|(.., value)| value.as_f64()).collect();
            assert_eq!(bucket.from.0, start + number as i64 * width);
            assert_eq!((bucket.count as usize, bucket.to.0 - bucket.from.0), (count, width));
            assert_eq!(bucket.first, of[0].3.into());
            assert_eq!(bucket.last, of[count - 1].3.into());
            assert_eq!(bucket.min, numbers.iter().copied().reduce(f64::min));
            assert_eq!(bucket.max, numbers.iter().copied().reduce(f64::max));
            let average = numbers.iter().sum::<f64>() / numbers.len() as f64;
            assert!((bucket.avg.unwrap() - average).abs() < 1e-9);
        }
    }
    let huge = rows(&[(100, "t", start + 7, Value::Number(f64::MAX))]);
    write_all(&history, &mut writer, &[huge]).await;
    let span = (start, start + day);
    let found = history.aggregate(ask("t", span, Buckets::WidthMs(day))).await.unwrap();
    assert_eq!((found[0].count, found[0].max), (97, Some(f64::MAX)));
    history.close().await;
}

async fn sums_beyond_the_greatest_number_are_no_error(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let huge = (0..3).map(|at| (100, "t", at, Value::Number(f64::MAX))).collect::<Vec<_>>();
    write_all(&history, &mut writer, &[rows(&huge)]).await;
    let found = history.aggregate(ask("t", (0, 9), Buckets::Points(1))).await.unwrap();
    assert_eq!((found[0].min, found[0].max), (Some(f64::MAX), Some(f64::MAX)));
    assert_eq!(found[0].avg, Some(f64::INFINITY));
    history.close().await;
}

async fn latest_and_keys_are_in_the_order_of_names(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let readings: Vec<_> =
        ["b", "ä", "B", "a", "Z"].iter().map(|key| (100, *key, 5, Value::Integer(1))).collect();
    let late = rows(&[(100, "a", 3, Value::Integer(0)), (101, "x", 1, Value::Integer(1))]);
    write_all(&history, &mut writer, &[rows(&readings), late]).await;
    let device = DeviceId(100);
    assert_eq!(history.keys(device).await.unwrap(), ["B", "Z", "a", "b", "ä"]);
    assert_eq!(history.keys(DeviceId(9)).await.unwrap(), [""; 0]);
    let latest = history.latest(device, None).await.unwrap();
    let names: Vec<_> = latest.iter().map(|one| (one.key.as_str(), one.observed_at.0)).collect();
    assert_eq!(names, [("B", 5), ("Z", 5), ("a", 5), ("b", 5), ("ä", 5)]);
    let some = Some(vec!["ä".to_owned(), "none".to_owned(), "B".to_owned()]);
    let latest = history.latest(device, some).await.unwrap();
    assert_eq!(latest.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["B", "ä"]);
    history.close().await;
}

/// Who has gone does not keep PostgreSQL at work, nor a connection from others.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_waits_for_is_cancelled() {
    let Place::Database(url) = Place::database().await else { panic!("it is a database") };
    let history = open_database(&url, PARTITIONS, &postgres_options()).await.unwrap();
    let (client, link) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let link = tokio::spawn(link);
    let lock = "BEGIN; LOCK TABLE baken_history.series";
    client.batch_execute(lock).await.unwrap();
    for _ in 0..4 {
        let asked = history.range(all(100, "t"));
        let waited = tokio::time::timeout(Duration::from_millis(50), asked).await;
        assert!(waited.is_err(), "it can't be answered");
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "it still works on questions of nobody");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(history.range(all(100, "t")).await.unwrap().samples, []);
    drop(client);
    link.await.unwrap().unwrap();
    history.close().await;
}

type Groups = Vec<(i64, usize, Vec<(char, ReadingValue)>)>;

async fn scan(
    history: &History,
    devices: &[(u64, &[&str])],
    span: (i64, i64),
    wanted: &[usize],
    slice_bytes: usize,
    most: usize,
) -> Groups {
    let of = |(device, keys): &(u64, &[&str])| {
        let keys: Vec<(Arc<str>, char)> =
            keys.iter().map(|key| ((*key).into(), key.chars().next().unwrap())).collect();
        ScanDevice { device: DeviceId(*device), keys: keys.into() }
    };
    let devices = devices.iter().map(of).collect();
    let query = ScanQuery { devices, from: TimestampMs(span.0), to: TimestampMs(span.1) };
    let view = history.view(query).await.unwrap();
    let mut groups = Groups::new();
    tokio::task::block_in_place(|| {
        view.scan(wanted, slice_bytes, |group| {
            let values = group.values.iter().map(|(key, value)| (*key, (*value).into()));
            groups.push((group.at.0, group.device, values.collect()));
            if groups.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })
    .unwrap();
    groups
}

async fn a_scan_goes_by_time_and_then_by_device(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let year = 365 * store::history::DAY_MS;
    let mut readings = vec![
        (101, "a", 5, Value::Integer(1)),
        (101, "b", 5, Value::Text("b")),
        (100, "a", 5, Value::Integer(2)),
        (100, "a", 6, Value::Boolean(false)),
        (100, "no", 6, Value::Integer(0)),
        (102, "a", 30 * year, Value::Integer(3)),
        (100, "a", i64::MIN, Value::Integer(4)),
        (100, "a", i64::MAX - 1, Value::Integer(5)),
    ];
    readings.extend((0..50).map(|n| (102, "a", 20 * year + 1_000 * n, Value::Integer(n))));
    let again = rows(&[(100, "a", 5, Value::Integer(9))]);
    write_all(&history, &mut writer, &[rows(&readings), again]).await;
    let devices: [(u64, &[&str]); 4] =
        [(102, &["a"]), (100, &["b", "a"]), (101, &["b", "x", "a"]), (103, &["a"])];
    let int = ReadingValue::Integer;
    let mut expected = vec![
        (i64::MIN, 1, vec![('a', int(4))]),
        (5, 1, vec![('a', int(9))]),
        (5, 2, vec![('b', ReadingValue::Text("b".into())), ('a', int(1))]),
        (6, 1, vec![('a', ReadingValue::Boolean(false))]),
    ];
    expected.extend((0..50).map(|n| (20 * year + 1_000 * n, 0, vec![('a', int(n))])));
    expected.push((30 * year, 0, vec![('a', int(3))]));
    expected.push((i64::MAX - 1, 1, vec![('a', int(5))]));
    let whole = (i64::MIN, i64::MAX);
    for slice_bytes in [1, 700, 1 << 20] {
        let found = scan(&history, &devices, whole, &[0, 1, 2, 3], slice_bytes, usize::MAX).await;
        assert_eq!(found, expected, "{slice_bytes} bytes");
    }
    let part: Groups =
        expected.iter().filter(|group| group.0 == 5 && group.1 == 2).cloned().collect();
    assert_eq!(scan(&history, &devices, (5, 6), &[2, 3], 64, usize::MAX).await, part);
    assert_eq!(scan(&history, &devices, (6, 5), &[0, 1], 64, usize::MAX).await, []);
    history.close().await;
}

async fn a_scan_ends_where_its_visitor_has_seen_enough(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    let readings: Vec<_> = (0..40).map(|at| (100, "a", at, Value::Integer(at))).collect();
    write_all(&history, &mut writer, &[rows(&readings)]).await;
    for _ in 0..3 {
        let found = scan(&history, &[(100, &["a"])], (0, 99), &[0], 64, 3).await;
        assert_eq!(found.len(), 3);
    }
    // The connections are free for others again.
    assert_eq!(scan(&history, &[(100, &["a"])], (0, 99), &[0], 64, usize::MAX).await.len(), 40);
    history.close().await;
}

async fn answers_may_be_awaited_on_any_thread(place: Place) {
    let history = place.open().await;
    let mut writer = writer(&history, 0).await;
    writer.write(Position(0), &integer(1)).unwrap();
    history.flush().await.unwrap();
    let asked = history.clone();
    let answered = tokio::spawn(async move {
        let page = asked.range(all(100, "t")).await.unwrap();
        let buckets = asked.aggregate(ask("t", (0, 9), Buckets::Points(3))).await.unwrap();
        let latest = asked.latest(DeviceId(100), None).await.unwrap();
        (page.samples.len(), buckets.len(), latest.len(), asked.keys(DeviceId(100)).await.unwrap())
    });
    assert_eq!(answered.await.unwrap(), (1, 1, 1, vec!["t".to_owned()]));
    history.close().await;
}
