//! Readings that are too old are neither shown nor kept.

use std::sync::atomic::AtomicI64;

use super::*;

#[tokio::test]
async fn each_tenant_has_its_own_retention_and_whole_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(10 * DAY_MS));
    let clock = Clock::Fixed(now.clone());
    let options = HistoryOptions { window_ms: DAY_MS, clock, file_rows: 1_000, ..tiny() };
    let history = open(dir.path(), options);
    let mut writer = history.writer(PartitionId(0)).unwrap();
    for day in 0..10 {
        let at = day * DAY_MS + 5;
        let readings = [
            (100, "t", at, Value::Integer(day)),
            (200, "t", at, Value::Text("kept for ever")),
            (300, "t", at, Value::Number(0.5)),
        ];
        writer.write(Position(day as u64), &rows(&readings)).unwrap();
        history.flush().await.unwrap();
    }
    history.set_retention(TenantId(1), 3);
    assert_eq!(times(&history, 100, "t").await.len(), 3, "hidden before it is removed");
    assert_eq!(times(&history, 200, "t").await.len(), 10);
    history.compact().await.unwrap();
    let stored = |tenant: u64| {
        let state = history.shared.partitions[0].state();
        let of = |file: &&Arc<files::FileEntry>| file.record.tenants.contains(&TenantId(tenant));
        state.files.iter().filter(of).count()
    };
    assert_eq!((stored(1), stored(2), stored(3)), (3, 10, 10));
    assert_eq!(times(&history, 200, "t").await.len(), 10);
    history.set_retention(TenantId(2), 1);
    history.set_retention(TenantId(3), 1);
    history.compact().await.unwrap();
    assert_eq!((stored(1), stored(2), stored(3)), (3, 1, 1));
    assert_eq!(parquet_files(dir.path()).len(), 3);
    now.store(30 * DAY_MS, Ordering::Relaxed);
    assert_eq!(history.latest(DeviceId(100), None).await.unwrap(), []);
    history.compact().await.unwrap();
    assert_eq!(parquet_files(dir.path()), Vec::<std::path::PathBuf>::new());
    assert_eq!(times(&history, 100, "t").await, [0i64; 0]);
}
