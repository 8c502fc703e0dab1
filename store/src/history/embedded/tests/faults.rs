//! Damaged files and a full disk.

use std::future::Future;
use std::sync::atomic::AtomicI64;

use super::*;

async fn written(dir: &Path, options: HistoryOptions) -> History {
    let history = open(dir, options);
    let mut writer = history.writer(PartitionId(0)).unwrap();
    let readings: Vec<_> = (0..2_000)
        .map(|n| {
            let value = match n % 4 {
                0 => Value::Number(n as f64 / 3.0),
                1 => Value::Integer(n * 7_919),
                2 => Value::Text("läuft"),
                _ => Value::Json("[1]"),
            };
            (100 + n as u64 % 3, "t", n, value)
        })
        .collect();
    writer.write(Position(0), &rows(&readings)).unwrap();
    history.flush().await.unwrap();
    history
}

fn big() -> HistoryOptions {
    HistoryOptions { memtable_rows: 10_000, row_group_rows: 700, page_rows: 64, ..tiny() }
}

#[tokio::test]
async fn a_damaged_file_is_an_error_that_names_it_and_never_a_shorter_answer() {
    let dir = tempfile::tempdir().unwrap();
    let options = HistoryOptions { cache_bytes: 0, ..big() };
    let history = written(dir.path(), options).await;
    let whole = history.range(all(101, "t")).await.unwrap();
    let path = parquet_files(dir.path()).pop().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        match history.range(all(101, "t")).await {
            // Not all bytes are read for every question.
            Ok(page) => assert_eq!(page, whole, "byte {at}"),
            Err(error) => {
                assert!(matches!(error, HistoryError::Corrupt { .. }), "{error}");
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
                assert!(!error.is_retryable());
                refused += 1;
            }
        }
        assert!(history.compact().await.is_ok(), "one file is nothing to merge");
    }
    assert!(refused > 0);
    for cut in [0, 8, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = history.range(all(101, "t")).await.unwrap_err();
        assert!(matches!(error, HistoryError::Corrupt { .. }), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = history.range(all(101, "t")).await.unwrap_err();
    assert!(error.to_string().ends_with("it is missing"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_stops_its_merge_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), HistoryOptions { cache_bytes: 0, ..tiny() });
    let mut writer = history.writer(PartitionId(0)).unwrap();
    for position in 0..3 {
        let reading = (100, "t", 10 + position, Value::Integer(position));
        writer.write(Position(position as u64), &rows(&[reading])).unwrap();
        history.flush().await.unwrap();
    }
    let files = parquet_files(dir.path());
    let mut bytes = std::fs::read(&files[1]).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&files[1], &bytes).unwrap();
    let error = history.compact().await.unwrap_err();
    assert!(error.to_string().contains(files[1].to_str().unwrap()), "{error}");
    assert_eq!(parquet_files(dir.path()), files, "nothing is left behind, nothing removed");
    bytes[5] ^= 1;
    std::fs::write(&files[1], &bytes).unwrap();
    assert_eq!(history.compact().await.unwrap(), 1);
    assert_eq!(times(&history, 100, "t").await, [10, 11, 12]);
}

#[tokio::test]
async fn a_damaged_catalog_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), big()).await.halt().await;
    let folder = std::fs::read_dir(dir.path().join("history")).unwrap();
    let path = folder
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_str().unwrap().ends_with(".series.parquet"))
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = History::open(dir.path(), 2, big(), &Registry::new()).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_slows_the_writer_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Arc::new(AtomicI64::new(0));
    let disk = DiskBudget::limited(budget.clone());
    let history = open(dir.path(), HistoryOptions { disk, ..tiny() });
    let mut writer = history.writer(PartitionId(0)).unwrap();
    let mut position = 0;
    let mut write = |writer: &mut HistoryWriter| {
        let at = position as i64;
        writer.write(Position(position), &rows(&[(100, "t", at, Value::Integer(at))])).unwrap();
        position += 1;
    };
    // Two memtables wait and a third is full: 72 rows; then there is no room.
    for _ in 0..72 {
        writer.ready().await;
        write(&mut writer);
    }
    let mut ready = Box::pin(writer.ready());
    let polled =
        std::future::poll_fn(|context| std::task::Poll::Ready(ready.as_mut().poll(context)));
    assert!(polled.await.is_pending(), "there is no room");
    let error = history.flush().await.unwrap_err();
    assert!(matches!(error, HistoryError::Background(_)) && error.is_retryable(), "{error}");
    assert!(error.to_string().starts_with("cannot write"), "{error}");
    assert!(history.shared.metrics.failures.with_label_values(&["flush"]).get() > 0);
    assert_eq!(history.durable_position(PartitionId(0)), Position(0));
    assert_eq!(times(&history, 100, "t").await, (0..72).collect::<Vec<i64>>());
    budget.store(i64::MAX / 2, Ordering::Relaxed);
    ready.await;
    write(&mut writer);
    history.flush().await.unwrap();
    assert_eq!(history.durable_position(PartitionId(0)), Position(73));
    assert_eq!(times(&history, 100, "t").await, (0..73).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_disk_that_fills_at_any_byte_of_a_flush_or_merge_loses_nothing() {
    for bytes in (0..12_000).step_by(613) {
        let dir = tempfile::tempdir().unwrap();
        let budget = Arc::new(AtomicI64::new(bytes));
        let disk = DiskBudget::limited(budget.clone());
        let history = open(dir.path(), HistoryOptions { disk, retry_ms: 50, ..tiny() });
        let mut writer = history.writer(PartitionId(0)).unwrap();
        for position in 0..3 {
            let reading = (100, "t", 10 + position, Value::Integer(position));
            writer.write(Position(position as u64), &rows(&[reading])).unwrap();
            let _ = history.flush().await;
            let _ = history.compact().await;
        }
        assert_eq!(times(&history, 100, "t").await, [10, 11, 12], "{bytes}");
        history.halt().await;
        drop((writer, history));
        let left = parquet_files(dir.path());
        let history = open(dir.path(), tiny());
        assert_eq!(parquet_files(dir.path()), left, "failed attempts leave nothing: {bytes}");
        let mut writer = history.writer(PartitionId(0)).unwrap();
        for position in writer.position().0 as i64..3 {
            let reading = (100, "t", 10 + position, Value::Integer(position));
            writer.write(Position(position as u64), &rows(&[reading])).unwrap();
        }
        assert_eq!(times(&history, 100, "t").await, [10, 11, 12], "{bytes}");
        history.halt().await;
    }
}
