//! Nodes that share a history in PostgreSQL: only the last one that claimed a
//! partition writes it.

use schema::{PartitionId, Position, Value};
use store::history::{HistoryError, PostgresHistoryOptions};

use super::{
    PARTITIONS, Place, integer, open_database, postgres, postgres_options, replay, rows, samples,
    times, writer,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_commits_nothing_more() {
    let place = Place::database().await;
    let (first, second) = (place.open().await, place.open().await);
    let mut former = writer(&first, 0).await;
    let mut other = writer(&first, 1).await;
    former.write(Position(0), &integer(1)).unwrap();
    first.flush().await.unwrap();
    let mut owner = writer(&second, 0).await;
    assert_eq!(owner.position(), Position(1));
    former.write(Position(1), &rows(&[(100, "t", 2, Value::Text("from the former"))])).unwrap();
    other.write(Position(0), &rows(&[(201, "t", 5, Value::Integer(5))])).unwrap();
    owner.write(Position(1), &integer(2)).unwrap();
    second.flush().await.unwrap();
    let error = first.flush().await.unwrap_err();
    assert!(matches!(error, HistoryError::Fenced(PartitionId(0))), "{error}");
    former.ready().await;
    let error = former.write(Position(2), &integer(3)).unwrap_err();
    assert!(matches!(error, HistoryError::Fenced(PartitionId(0))), "{error}");
    assert!(!error.is_retryable());
    // What shared a transaction with it is committed all the same.
    assert_eq!(first.durable_position(PartitionId(1)), Position(1));
    assert_eq!(times(&second, 201, "t").await, [5]);
    let found = samples(&second, 100, "t").await;
    let values: Vec<_> = found.iter().map(|(_, value)| format!("{value:?}")).collect();
    assert_eq!(values, ["Integer(1)", "Integer(2)"]);
    // It may claim it back, and begins where the other was.
    drop(former);
    first.flush().await.unwrap_err();
    let mut again = writer(&first, 0).await;
    assert_eq!(again.position(), Position(2));
    again.write(Position(2), &integer(3)).unwrap();
    first.flush().await.unwrap();
    assert_eq!(times(&second, 100, "t").await, [1, 2, 3]);
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_and_write_at_the_same_time_do_not_clash() {
    let Place::Database(url) = Place::database().await else { panic!("it is a database") };
    let options = PostgresHistoryOptions { span_ms: 10_000, ..postgres_options() };
    let (one, two) = tokio::join!(
        open_database(&url, PARTITIONS, &options),
        open_database(&url, PARTITIONS, &options)
    );
    let nodes = [one.unwrap(), two.unwrap()];
    let now = store::history::Clock::System.now().0;
    let mut tasks = Vec::new();
    for (number, history) in (0u16..).zip(nodes.clone()) {
        tasks.push(tokio::spawn(async move {
            let mut writer = writer(&history, number).await;
            let device = 100 + u64::from(number);
            let journal: Vec<_> = (0..60i64)
                .map(|n| rows(&[(device, "t", now - 3_000 * n, Value::Integer(n))]))
                .collect();
            replay(&mut writer, &journal).await;
            history.flush().await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for device in [100, 101] {
        assert_eq!(times(&nodes[0], device, "t").await.len(), 60);
    }
    let both = "SELECT count(*) FROM baken_history.readings";
    let odd = "SELECT count(*) FROM baken_history.odd_readings";
    let (both, odd) = (postgres::count(&url, both).await, postgres::count(&url, odd).await);
    assert_eq!(both + odd, 120, "{odd} of them are odd");
    for history in nodes {
        history.close().await;
    }
}

/// A device that moved to another partition: both write the same series.
#[tokio::test(flavor = "multi_thread")]
async fn a_series_of_two_partitions_has_each_reading_once() {
    let place = Place::database().await;
    let history = place.open().await;
    let (mut a, mut b) = (writer(&history, 0).await, writer(&history, 1).await);
    let journal: Vec<_> = (0..30).map(integer).collect();
    tokio::join!(replay(&mut a, &journal), replay(&mut b, &journal));
    history.flush().await.unwrap();
    assert_eq!(times(&history, 100, "t").await, (0..30).collect::<Vec<_>>());
    history.close().await;
}

/// What was odd moves where it belongs when its span is made.
#[tokio::test(flavor = "multi_thread")]
async fn an_odd_reading_moves_into_its_span() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use store::history::{Clock, DAY_MS, ReadingValue};

    let Place::Database(url) = Place::database().await else { panic!("it is a database") };
    let now = Arc::new(AtomicI64::new(1_000 * DAY_MS));
    let clock = Clock::Fixed(now.clone());
    let options = PostgresHistoryOptions { clock, ..postgres_options() };
    let history = open_database(&url, PARTITIONS, &options).await.unwrap();
    let mut writer = writer(&history, 0).await;
    let early = 1_100 * DAY_MS + 123;
    let record = rows(&[(100, "t", early, Value::Text("a\0b")), (100, "t", 0, Value::Integer(0))]);
    super::write_all(&history, &mut writer, &[record]).await;
    let odd = || postgres::count(&url, "SELECT count(*) FROM baken_history.odd_readings");
    assert_eq!(odd().await, 1);
    now.store(1_100 * DAY_MS, Ordering::Relaxed);
    let at = early + 1;
    super::write_all(&history, &mut writer, &[rows(&[(100, "t", at, Value::Integer(1))])]).await;
    assert_eq!(odd().await, 0);
    let expected = [
        (0, ReadingValue::Integer(0)),
        (early, ReadingValue::Text("a\0b".into())),
        (at, ReadingValue::Integer(1)),
    ];
    assert_eq!(samples(&history, 100, "t").await, expected);
    super::write_all(&history, &mut writer, &[rows(&[(100, "t", early, Value::Integer(9))])]).await;
    assert_eq!(samples(&history, 100, "t").await[1].1, ReadingValue::Integer(9));
    history.close().await;
}
