//! Positions, back pressure, age, and what a start finds.

use super::*;

fn reading(at: i64) -> RecordRows {
    rows(&[(100, "t", at, Value::Integer(at))])
}

#[tokio::test]
async fn a_partition_has_one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), tiny());
    let writer = history.writer(PartitionId(1)).unwrap();
    let error = history.writer(PartitionId(1)).unwrap_err();
    assert!(matches!(error, HistoryError::WriterTaken(PartitionId(1))), "{error}");
    drop(writer);
    history.writer(PartitionId(1)).unwrap();
    let error = history.writer(PartitionId(2)).unwrap_err();
    assert_eq!(error.to_string(), "the history has 2 partitions and no partition 2");
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), tiny()).halt().await;
    let error = History::open(dir.path(), 3, tiny(), &Registry::new()).unwrap_err();
    assert!(matches!(error, HistoryError::Partitions { known: 2, asked: 3 }), "{error}");
}

#[tokio::test]
async fn an_old_memtable_is_flushed_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), HistoryOptions { memtable_age_ms: 0, ..tiny() });
    let mut writer = history.writer(PartitionId(0)).unwrap();
    writer.write(Position(0), &reading(1)).unwrap();
    writer.advance(Position(7)).unwrap();
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    while history.durable_position(PartitionId(0)) < Position(7) {
        assert!(Instant::now() < deadline, "the age limit was not kept");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(times(&history, 100, "t").await, [1]);
}

#[tokio::test]
async fn what_an_unfinished_flush_left_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), tiny());
    let mut writer = history.writer(PartitionId(0)).unwrap();
    writer.write(Position(0), &reading(1)).unwrap();
    history.close().await;
    assert!(matches!(writer.write(Position(1), &reading(2)), Err(HistoryError::Closed)));
    let folder = dir.path().join("history");
    let before: usize = std::fs::read_dir(&folder).unwrap().count();
    for name in ["p00000-000000000099.parquet", "p00001-000000000098.series.parquet"] {
        std::fs::write(folder.join(name), b"PAR1 torn").unwrap();
    }
    let history = open(dir.path(), tiny());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), before);
    assert_eq!(history.durable_position(PartitionId(0)), Position(1));
    assert_eq!(times(&history, 100, "t").await, [1]);
}

#[tokio::test]
async fn a_cursor_stays_right_while_readings_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), tiny());
    let mut writer = history.writer(PartitionId(0)).unwrap();
    for at in 0..10 {
        writer.write(Position(at), &reading(10 * at as i64)).unwrap();
    }
    let query = RangeQuery { limit: 4, order: Order::Descending, ..all(100, "t") };
    let first = history.range(query.clone()).await.unwrap();
    // One ahead of the page, one behind it, one of the page again.
    for (position, at) in (10..).zip([200, 25, 60]) {
        writer.write(Position(position), &reading(at)).unwrap();
    }
    history.flush().await.unwrap();
    let cursor = first.next.clone();
    let second = history.range(RangeQuery { cursor, limit: 99, ..query }).await.unwrap();
    let at = |page: &Page| page.samples.iter().map(|s| s.observed_at.0).collect::<Vec<_>>();
    assert_eq!(at(&first), [90, 80, 70, 60]);
    assert_eq!(at(&second), [50, 40, 30, 25, 20, 10, 0]);
    assert_eq!(second.next, None);
}

#[tokio::test]
async fn a_page_of_long_texts_ends_early_and_the_next_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), HistoryOptions { page_text_bytes: 25, ..tiny() });
    let mut writer = history.writer(PartitionId(0)).unwrap();
    let readings: Vec<_> = (0..8).map(|at| (100, "t", at, Value::Text("ten bytes!"))).collect();
    writer.write(Position(0), &rows(&readings)).unwrap();
    let mut query = all(100, "t");
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

#[tokio::test]
async fn questions_that_cannot_be_answered_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), HistoryOptions { bucket_limit: 10, ..tiny() });
    for cursor in ["", "1a", "1d5", "2a5", "1axyz", "1a11112222333344445"] {
        let query = RangeQuery { cursor: Some(cursor.to_owned()), ..all(1, "t") };
        let error = history.range(query).await.unwrap_err();
        assert!(matches!(error, HistoryError::Cursor) && error.is_bad_request(), "{cursor}");
    }
    let ask = |buckets, to| {
        let (from, to) = (TimestampMs(0), TimestampMs(to));
        history.aggregate(AggregateQuery {
            device: DeviceId(1),
            key: "t".to_owned(),
            from,
            to,
            buckets,
        })
    };
    let error = ask(Buckets::WidthMs(1), 11).await.unwrap_err();
    assert!(matches!(error, HistoryError::Buckets { asked: 11, limit: 10 }), "{error}");
    for none in [Buckets::WidthMs(0), Buckets::WidthMs(-1), Buckets::Points(0)] {
        assert!(matches!(ask(none, 5).await, Err(HistoryError::BucketWidth)));
    }
    assert_eq!(ask(Buckets::Points(10), i64::MAX).await.unwrap(), []);
}

#[tokio::test]
async fn the_number_of_files_stays_bounded_and_each_reading_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = HistoryOptions { file_rows: 1_000_000, ..tiny() };
    let history = open(dir.path(), options);
    let mut writer = history.writer(PartitionId(0)).unwrap();
    for flush in 0..120 {
        // Three windows, the same readings again and again, and late ones.
        let at = |n: i64| (flush % 3) * 100 + n;
        let readings: Vec<_> =
            (0..20).map(|n| (100 + n as u64 % 4, "t", at(n), Value::Integer(flush))).collect();
        writer.write(Position(2 * flush as u64), &rows(&readings)).unwrap();
        if flush % 5 == 0 {
            let late = rows(&[(100, "t", 7, Value::Integer(flush))]);
            writer.write(Position(2 * flush as u64 + 1), &late).unwrap();
        }
        history.flush().await.unwrap();
        history.compact().await.unwrap();
        assert!(parquet_files(dir.path()).len() <= 14, "{:?}", parquet_files(dir.path()));
    }
    // Nothing more comes to these windows: each settles into one run.
    for flush in 120..130 {
        let other = rows(&[(104, "t", 990, Value::Integer(flush))]);
        writer.write(Position(2 * flush as u64), &other).unwrap();
        history.flush().await.unwrap();
        history.compact().await.unwrap();
    }
    let files = history.shared.partitions[0].state().files.clone();
    let stored: u64 = files.iter().filter(|f| f.record.max_ms < 900).map(|f| f.record.rows).sum();
    assert_eq!(stored, 61);
    let page = history.range(all(100, "t")).await.unwrap();
    assert_eq!(page.samples.len(), 16);
    let seven = page.samples.iter().find(|sample| sample.observed_at.0 == 7).unwrap();
    assert_eq!(seven.value, ReadingValue::Integer(115));
}
