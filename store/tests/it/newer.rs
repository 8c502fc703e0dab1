//! A program meets a schema in PostgreSQL that a later one has brought forward, as
//! it does when nodes are upgraded one after another.

use std::error::Error as _;

use prometheus::Registry;
use store::{PostgresHistoryOptions, PostgresOptions, Store};

use super::postgres::{self, count};

async fn open(url: &str) -> Result<(), String> {
    let options = PostgresOptions::parse(url).unwrap();
    let history = PostgresHistoryOptions::default();
    let opened = Store::open_postgres(&options, 1, &history, &Registry::new()).await;
    match opened {
        Ok(store) => {
            store.close().await;
            Ok(())
        }
        Err(error) => Err(format!("{error}: {:?}", error.source())),
    }
}

async fn run(url: &str, sql: &str) {
    let (client, link) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let link = tokio::spawn(link);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    link.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_schema_is_worked_with_unless_it_says_that_this_can_t_be() {
    let url = postgres::shared().database().await;
    open(&url).await.unwrap();
    for schema in ["baken_alarms", "baken_history", "baken_cluster"] {
        let later = |number: u32, breaking: bool| {
            format!(
                "INSERT INTO {schema}.migrations (number, breaking) VALUES ({number}, {breaking})"
            )
        };
        run(&url, &later(900, false)).await;
        open(&url).await.unwrap_or_else(|error| panic!("{schema}: {error}"));
        run(&url, &later(901, true)).await;
        let error = open(&url).await.unwrap_err();
        assert!(error.contains(schema) && error.contains("version 901"), "{error}");
        run(&url, &format!("DELETE FROM {schema}.migrations WHERE number = 901")).await;
    }
}

/// A schema of the time before migrations said so is as one of which none does.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_migration_says_of_programs_before_it_is_kept() {
    let url = postgres::shared().database().await;
    open(&url).await.unwrap();
    run(&url, "ALTER TABLE baken_alarms.migrations DROP COLUMN breaking").await;
    open(&url).await.unwrap();
    let breaking = "SELECT count(*) FROM baken_alarms.migrations WHERE breaking";
    assert_eq!(count(&url, breaking).await, 0);
}
