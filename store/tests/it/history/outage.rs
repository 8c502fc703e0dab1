//! PostgreSQL ends without a word while readings are written.

use std::time::Duration;

use schema::{PartitionId, Position, Value};
use store::history::{History, PostgresHistoryOptions};

use super::{open_database, postgres, postgres_options, rows, times, writer};

const DEVICES: u64 = 5;

/// A reading of each device, of a time of its own.
fn record(partition: u16, number: i64) -> schema::RecordRows {
    let readings: Vec<_> = (0..DEVICES)
        .map(|n| (100 + 10 * n + u64::from(partition), "t", number, Value::Integer(number)))
        .collect();
    rows(&readings)
}

async fn write(history: History, partition: u16, count: i64) {
    let mut writer = writer(&history, partition).await;
    assert_eq!(writer.position(), Position(0));
    for number in 0..count {
        writer.ready().await;
        writer.write(Position(number as u64), &record(partition, number)).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while history.durable_position(PartitionId(partition)) < Position(count as u64) {
        // It fails while PostgreSQL is away.
        let _ = history.flush().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_postgresql_is_killed() {
    const RECORDS: i64 = 3_000;
    let server = postgres::Server::start();
    let url = server.database().await;
    let options = PostgresHistoryOptions {
        batch_rows: 60,
        group_rows: 100,
        write_connections: 2,
        ..postgres_options()
    };
    let history = open_database(&url, 2, &options).await.unwrap();
    let tasks: Vec<_> =
        (0..2).map(|partition| tokio::spawn(write(history.clone(), partition, RECORDS))).collect();
    for round in 1..4 {
        let reached = Position(round * 500);
        while history.durable_position(PartitionId(0)) < reached {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::task::block_in_place(|| server.kill());
        let error = history.range(super::all(100, "t")).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        tokio::task::block_in_place(|| server.restart());
    }
    for task in tasks {
        task.await.unwrap();
    }
    let expected: Vec<i64> = (0..RECORDS).collect();
    for device in [100, 101, 140, 141] {
        assert_eq!(times(&history, device, "t").await, expected);
    }
    let rows = postgres::count(&url, "SELECT count(*) FROM baken_history.readings").await;
    assert_eq!(rows, 2 * RECORDS * DEVICES as i64);
    let positions = "SELECT sum(position)::bigint FROM baken_history.positions";
    assert_eq!(postgres::count(&url, positions).await, 2 * RECORDS);
    history.close().await;
}
