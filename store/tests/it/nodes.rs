//! Several nodes over one PostgreSQL: what one changes the others see, nobody
//! overwrites anybody, and a server that goes away and comes back loses nothing.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use schema::{DocumentBody, PartitionId, Position, Tenant, TenantSettings, TimestampMs};
use store::alarms::{AlarmStoreError, Commit, EventQuery};
use store::{AlarmStore, Directory, DirectoryError, ListQuery, NewEvent, PostgresOptions};

use super::place::Place;
use super::postgres::Server;

fn options(place: &Place) -> PostgresOptions {
    match place {
        Place::Postgres(url) => PostgresOptions::parse(url).unwrap(),
        Place::Folder(_) => unreachable!("several nodes need a server"),
    }
}

fn directory(place: &Place) -> Directory {
    let options = options(place);
    let open = |_: &str| Directory::open_postgres(&options, &Registry::new()).unwrap();
    place.open(|_| unreachable!(), open)
}

fn alarms(place: &Place) -> AlarmStore {
    let options = options(place);
    let open = |_: &str| AlarmStore::open_postgres(&options, &Registry::new()).unwrap();
    place.open(|_| unreachable!(), open)
}

fn tenant(name: &str) -> DocumentBody {
    DocumentBody::Tenant(Tenant { name: name.to_owned(), settings: TenantSettings::default() })
}

fn names(directory: &Directory) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut query = ListQuery::default();
    loop {
        let page = directory.tenants(&query);
        names.extend(page.items.iter().map(|tenant| tenant.name.clone()));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    names.sort();
    names
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), patience).await;
    waited.unwrap_or_else(|_| panic!("not within a minute: {what}"));
}

#[tokio::test]
async fn a_change_is_seen_by_the_other_node_with_its_feed() {
    let place = Place::postgres();
    let (one, two) = (directory(&place), directory(&place));
    let mut feed = two.subscribe();
    let made = one.create(tenant("acme")).await.unwrap();
    let change = tokio::time::timeout(Duration::from_secs(60), feed.recv()).await.unwrap().unwrap();
    assert_eq!((change.id, change.version, change.deleted), (made.id, 1, false));
    assert_eq!(names(&two), ["acme"]);
    two.update(made.id, Some(1), tenant("acme 2")).await.unwrap();
    until("the new name", || names(&one) == ["acme 2"]).await;
    one.delete(made.id, Some(2)).await.unwrap();
    until("the deletion", || names(&two).is_empty()).await;
    for directory in [one, two] {
        directory.close().await;
    }
}

#[tokio::test]
async fn a_name_is_given_once_whichever_node_is_asked() {
    let place = Place::postgres();
    let nodes = [directory(&place), directory(&place), directory(&place)];
    let mut making = tokio::task::JoinSet::new();
    for number in 0..40 {
        for node in &nodes {
            let node = node.clone();
            making.spawn(async move { node.create(tenant(&format!("t{number:02}"))).await });
        }
    }
    let (mut made, mut taken) = (0, 0);
    while let Some(outcome) = making.join_next().await {
        match outcome.unwrap() {
            Ok(_) => made += 1,
            Err(DirectoryError::NameTaken { .. }) => taken += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((made, taken), (40, 80));
    let expected: Vec<String> = (0..40).map(|number| format!("t{number:02}")).collect();
    for node in &nodes {
        until("all names", || names(node) == expected).await;
    }
}

#[tokio::test]
async fn a_stale_version_is_refused_though_its_node_had_not_heard_of_the_new_one() {
    let place = Place::postgres();
    let (one, two) = (directory(&place), directory(&place));
    let made = one.create(tenant("acme")).await.unwrap();
    // Two has to look before it refuses or takes.
    let refused = two.update(made.id, Some(2), tenant("b")).await.unwrap_err();
    assert!(matches!(refused, DirectoryError::VersionConflict { found: 1, .. }), "{refused}");
    let refused = two.create(tenant("acme")).await.unwrap_err();
    assert!(matches!(refused, DirectoryError::NameTaken { .. }), "{refused}");
}

fn stretch(epoch: u64, from: u64, to: u64) -> Arc<Commit> {
    Arc::new(Commit {
        partition: PartitionId(0),
        epoch,
        expected: Position(from),
        next: Position(to),
        transitions: Vec::new(),
        notices: Vec::new(),
        ticks: Vec::new(),
        met: Vec::new(),
        snapshot: None,
        at: TimestampMs(0),
    })
}

#[tokio::test]
async fn who_has_lost_a_partition_cannot_write_to_it() {
    let place = Place::postgres();
    let (one, two) = (alarms(&place), alarms(&place));
    let first = one.claim(PartitionId(0)).await.unwrap();
    one.commit(stretch(first.epoch, 0, 5)).await.unwrap();
    let second = two.claim(PartitionId(0)).await.unwrap();
    assert_eq!(second.position, Position(5));
    let refused = one.commit(stretch(first.epoch, 5, 6)).await.unwrap_err();
    assert!(matches!(refused, AlarmStoreError::Fenced { .. }), "{refused}");
    two.commit(stretch(second.epoch, 5, 9)).await.unwrap();
    // Again, as after a lost connection; and what would be another stretch.
    two.commit(stretch(second.epoch, 5, 9)).await.unwrap();
    let refused = two.commit(stretch(second.epoch, 5, 8)).await.unwrap_err();
    assert!(matches!(refused, AlarmStoreError::Fenced { .. }), "{refused}");
    assert_eq!(one.claim(PartitionId(0)).await.unwrap().position, Position(9));
}

fn event(number: u128) -> NewEvent {
    NewEvent {
        id: schema::TransitionId(number),
        tenant: None,
        at: TimestampMs(1),
        kind: "api_login".to_owned(),
        location: None,
        device: None,
        document: None,
        actor: None,
        provenance: schema::Provenance::default(),
        body: serde_json::json!({}),
    }
}

/// Who follows the events by their sequence sees each, though several nodes
/// write at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_passes_over_no_event_of_any_node() {
    const EACH: u128 = 150;
    let place = Place::postgres();
    let writers = [alarms(&place), alarms(&place), alarms(&place)];
    let follower = alarms(&place);
    let mut writing = tokio::task::JoinSet::new();
    for (writer, first) in writers.into_iter().zip((0..).step_by(1_000)) {
        writing.spawn(async move {
            for number in 0..EACH {
                writer.record(vec![event(first + number)]).await.unwrap();
            }
        });
    }
    let mut latest = follower.latest_event();
    let (mut seen, mut after) = (0, None);
    while seen < 3 * EACH {
        let query = EventQuery { after, oldest_first: true, limit: 100, ..EventQuery::default() };
        let page = follower.events(query).await.unwrap();
        seen += page.len() as u128;
        if let Some(last) = page.last() {
            after = Some(last.sequence);
            continue;
        }
        let woken = tokio::time::timeout(Duration::from_secs(60), latest.changed()).await;
        woken.unwrap_or_else(|_| panic!("{seen} events, and nothing more is told")).unwrap();
    }
    while let Some(written) = writing.join_next().await {
        written.unwrap();
    }
    assert_eq!(seen, 3 * EACH);
}

#[tokio::test]
async fn a_server_that_was_away_is_found_again_and_nothing_is_lost_or_doubled() {
    let server = Server::start();
    let place = Place::Postgres(server.database().await);
    let (directory, alarms) = (directory(&place), alarms(&place));
    let claim = alarms.claim(PartitionId(0)).await.unwrap();
    directory.create(tenant("before")).await.unwrap();
    server.kill();
    let refused = directory.create(tenant("while")).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    let refused = alarms.commit(stretch(claim.epoch, 0, 3)).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    server.restart();
    directory.create(tenant("after")).await.unwrap();
    alarms.commit(stretch(claim.epoch, 0, 3)).await.unwrap();
    assert_eq!(alarms.events(EventQuery::default()).await.unwrap(), []);
    assert_eq!(names(&directory), ["after", "before"]);
    // What other nodes do is heard again.
    let other = self::directory(&place);
    other.create(tenant("other")).await.unwrap();
    until("the other node's change", || names(&directory).len() == 3).await;
}
