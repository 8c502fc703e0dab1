//! Readings that are too old are neither shown nor kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use schema::{DeviceId, TenantId, Value};
use store::history::{Clock, DAY_MS};

use super::{Limits, Place, both, postgres, rows, times, write_all, writer};

both!(each_tenant_has_its_own_retention);

async fn each_tenant_has_its_own_retention(place: Place) {
    let now = Arc::new(AtomicI64::new(100 * DAY_MS));
    let limits = Limits { clock: Clock::Fixed(now.clone()), ..Limits::default() };
    let history = place.open_with(&limits).await;
    let mut writer = writer(&history, 0).await;
    for day in 70..100 {
        let at = day * DAY_MS + 5;
        let readings = [
            (100, "t", at, Value::Integer(day)),
            (200, "t", at, Value::Text("kept for ever")),
            (300, "t", at, Value::Number(0.5)),
        ];
        write_all(&history, &mut writer, &[rows(&readings)]).await;
    }
    write_all(&history, &mut writer, &[rows(&[(100, "t", -7, Value::Integer(0))])]).await;
    history.set_retention(TenantId(1), 3);
    assert_eq!(times(&history, 100, "t").await.len(), 3, "hidden before it is removed");
    assert_eq!(times(&history, 200, "t").await.len(), 30);
    assert!(history.compact().await.is_ok());
    assert_eq!(times(&history, 100, "t").await.len(), 3);
    assert_eq!(times(&history, 200, "t").await.len(), 30);
    // What is removed does not come back with a longer retention.
    history.set_retention(TenantId(1), 0);
    let left = times(&history, 100, "t").await.len();
    assert!(left == 3 || matches!(place, Place::Folder(_)), "{left} rows are left");
    history.set_retention(TenantId(1), 3);
    history.set_retention(TenantId(2), 10);
    history.set_retention(TenantId(3), 1);
    history.compact().await.unwrap();
    assert_eq!(times(&history, 200, "t").await.len(), 10);
    assert_eq!(times(&history, 300, "t").await.len(), 1);
    now.store(130 * DAY_MS, Ordering::Relaxed);
    assert_eq!(history.latest(DeviceId(100), None).await.unwrap(), []);
    history.compact().await.unwrap();
    assert_eq!(times(&history, 200, "t").await, [0i64; 0]);
    // Late ones of a span that is gone are taken, and are hidden.
    write_all(&history, &mut writer, &[rows(&[(100, "t", 75 * DAY_MS, Value::Integer(1))])]).await;
    assert_eq!(times(&history, 100, "t").await, [0i64; 0]);
    history.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_are_too_old_for_all_go_whole() {
    let place = Place::database().await;
    let now = Arc::new(AtomicI64::new(100 * DAY_MS));
    let limits = Limits { clock: Clock::Fixed(now.clone()), ..Limits::default() };
    let history = place.open_with(&limits).await;
    let mut writer = writer(&history, 0).await;
    let readings: Vec<_> =
        (60..100).map(|day| (100, "t", day * DAY_MS, Value::Integer(day))).collect();
    write_all(&history, &mut writer, &[rows(&readings)]).await;
    let Place::Database(url) = &place else { panic!("it is a database") };
    let spans = || postgres::count(url, "SELECT count(*) FROM baken_history.spans");
    assert_eq!(spans().await, 7);
    history.set_retention(TenantId(1), 12);
    history.compact().await.unwrap();
    assert_eq!(spans().await, 3);
    assert_eq!(times(&history, 100, "t").await.len(), 12);
    let rows = postgres::count(url, "SELECT count(*) FROM baken_history.readings").await;
    assert_eq!(rows, 12);
    history.close().await;
}
