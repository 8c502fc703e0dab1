//! Changes of the directory on their way into the events: once, through
//! crashes, and never with a secret.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use schema::{
    ApiToken, Author, Credentials, DocumentBody, Location, LocationId, Provenance, RouterId,
    Sealed, Tenant, TenantId, TenantSettings, Webhook,
};
use serde_json::json;
use store::alarms::{EVENT_KINDS, EventQuery, EventRow};
use store::audit::{carry, keep_carrying};
use store::{AlarmStore, Directory, NewRouter, PostgresOptions};

use super::place::{Place, on_both};

fn open(place: &Place) -> (Directory, AlarmStore) {
    let registry = Registry::new();
    let embedded = |dir: &Path| {
        let directory = Directory::open_embedded(dir, &registry).unwrap();
        (directory, AlarmStore::open(dir, &registry).unwrap())
    };
    let postgres = |url: &str| {
        let options = PostgresOptions::parse(url).unwrap();
        let directory = Directory::open_postgres(&options, &registry).unwrap();
        (directory, AlarmStore::open_postgres(&options, &registry).unwrap())
    };
    place.open(embedded, postgres)
}

fn eva() -> Author {
    let provenance = Provenance { token: Some(77), from: Some("192.0.2.7".to_owned()) };
    Author { by: "eva".into(), provenance: Some(Arc::new(provenance)) }
}

fn tenant(name: &str) -> DocumentBody {
    DocumentBody::Tenant(Tenant { name: name.to_owned(), settings: TenantSettings::default() })
}

fn router(location: LocationId, secret: &str) -> NewRouter {
    NewRouter {
        location,
        name: "press".to_owned(),
        credentials: Credentials::AccessToken { hash: secret.to_owned() },
        enabled: true,
        cloud_host: None,
        send_interval_s: None,
    }
}

async fn events(alarms: &AlarmStore) -> Vec<EventRow> {
    let query = EventQuery { oldest_first: true, limit: 1_000, ..EventQuery::default() };
    alarms.events(query).await.unwrap()
}

on_both!(each_change_is_told_with_who_from_where_before_and_after_and_no_secret);

async fn each_change_is_told_with_who_from_where_before_and_after_and_no_secret(place: Place) {
    let (all, alarms) = open(&place);
    let directory = all.by(eva());
    let made = TenantId(directory.create(tenant("Acme")).await.unwrap().id);
    directory.update(made.0, None, tenant("Acme 2")).await.unwrap();
    let location = Location {
        tenant: made,
        name: "North".to_owned(),
        time_zone: "UTC".to_owned(),
        groups: Vec::new(),
    };
    let location = LocationId(directory.create(DocumentBody::Location(location)).await.unwrap().id);
    let first = directory.create_routers(vec![router(location, "s3cret-1")]).await.unwrap();
    let id = RouterId(first[0].id);
    all.ensure_device(id, "machine", Some("press")).await.unwrap();
    let DocumentBody::Router(mut body) = first[0].body.clone() else { panic!("a router") };
    body.credentials = Credentials::AccessToken { hash: "s3cret-2".to_owned() };
    directory.update(id.0, None, DocumentBody::Router(body)).await.unwrap();
    let token = ApiToken {
        tenant: Some(made),
        name: "ops".to_owned(),
        hash: "s3cret-3".to_owned(),
        read_only: true,
    };
    directory.create(DocumentBody::ApiToken(token)).await.unwrap();
    directory.delete(id.0, None).await.unwrap();
    directory.create(tenant("Acme 2")).await.unwrap_err();

    carry(&all, &alarms).await.unwrap();
    let found = events(&alarms).await;
    let kinds: Vec<&str> = found.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "tenant_created",
            "tenant_changed",
            "location_created",
            "router_created",
            "device_created",
            "router_changed",
            "token_created",
            // The machine goes with its router; the router's own device is a part of it.
            "device_deleted",
            "router_deleted",
        ]
    );
    assert!(kinds.iter().all(|kind| EVENT_KINDS.contains(kind)));
    let whole = format!("{found:?}");
    assert!(!whole.contains("s3cret"), "{whole}");
    let changed = &found[1];
    assert_eq!((changed.tenant, changed.document), (Some(made), Some(made.0)));
    assert_eq!(changed.actor.as_deref(), Some("eva"));
    assert_eq!(changed.provenance, *eva().provenance.unwrap());
    let names = (&changed.body["before"]["name"], &changed.body["after"]["name"]);
    assert_eq!(names, (&json!("Acme"), &json!("Acme 2")));
    assert_eq!(changed.body["version"], 2);
    assert_eq!(found[4].actor, Some(format!("router {id} (press)")));
    assert_eq!(found[4].location, Some(location));
    assert_eq!(found[5].body["secret_changed"], true);
    assert_eq!(found[5].body["after"]["credentials"], json!({ "type": "access_token" }));
    assert_eq!(found[8].body["after"], json!(null));
    let of_router = EventQuery { document: Some(id.0), limit: 10, ..EventQuery::default() };
    assert_eq!(alarms.events(of_router).await.unwrap().len(), 3);
}

on_both!(who_is_told_is_told_of_too_without_the_secret_of_a_webhook);

async fn who_is_told_is_told_of_too_without_the_secret_of_a_webhook(place: Place) {
    let (directory, alarms) = open(&place);
    let made = TenantId(directory.create(tenant("Acme")).await.unwrap().id);
    let hooked = |name: &str, secret: &str| {
        let secret = Sealed(secret.to_owned());
        let webhook = Webhook { url: "https://chat.example.com/in".to_owned(), secret };
        let user = json!({ "tenant": made, "name": name, "webhook": webhook });
        DocumentBody::User(serde_json::from_value(user).unwrap())
    };
    let user = directory.create(hooked("Chat", "s3cret-1")).await.unwrap().id;
    let subscription = json!({
        "tenant": made, "user": user, "channels": ["webhook"], "severity_from": "minor",
        "on": ["raised"],
    });
    let subscription = DocumentBody::Subscription(serde_json::from_value(subscription).unwrap());
    let subscription = directory.create(subscription).await.unwrap().id;
    let profile = json!({ "tenant": made, "name": "night", "after_s": 600, "emails": ["a@b.nl"] });
    let profile = DocumentBody::OfflineProfile(serde_json::from_value(profile).unwrap());
    directory.create(profile).await.unwrap();
    let template = json!({
        "tenant": made, "channel": "sms", "language": "nl", "kind": "raised", "text": "Alarm",
    });
    let template = DocumentBody::MessageTemplate(serde_json::from_value(template).unwrap());
    directory.create(template).await.unwrap();
    directory.update(user, None, hooked("Chat", "s3cret-2")).await.unwrap();
    directory.update(user, None, hooked("Room", "s3cret-3")).await.unwrap();
    directory.update(user, None, hooked("Hall", "s3cret-3")).await.unwrap();
    directory.delete(user, None).await.unwrap();

    carry(&directory, &alarms).await.unwrap();
    let found = events(&alarms).await;
    let kinds: Vec<&str> = found.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds[1..],
        [
            "user_created",
            "subscription_created",
            "offline_profile_created",
            "template_created",
            "user_changed",
            "user_changed",
            "user_changed",
            "subscription_deleted",
            "user_deleted",
        ]
    );
    assert!(kinds.iter().all(|kind| EVENT_KINDS.contains(kind)));
    assert!(found.iter().all(|event| event.tenant == Some(made)));
    let whole = format!("{found:?}");
    assert!(!whole.contains("s3cret"), "{whole}");
    let of = |place: usize| &found[place].body;
    assert_eq!(of(1)["after"]["webhook"], json!({ "url": "https://chat.example.com/in" }));
    assert_eq!(of(2)["name"], format!("of user {user}"));
    assert_eq!(of(4)["name"], "sms, nl, raised");
    // The secret alone, with the name, and not at all.
    let told: Vec<bool> = (5..8).map(|place| of(place)["secret_changed"] == true).collect();
    assert_eq!(told, [true, true, false]);
    assert_eq!(found[8].document, Some(subscription));
}

on_both!(a_crash_before_or_behind_the_carrying_neither_loses_nor_doubles);

async fn a_crash_before_or_behind_the_carrying_neither_loses_nor_doubles(place: Place) {
    let (directory, alarms) = open(&place);
    for number in 0..5 {
        directory.create(tenant(&format!("t{number}"))).await.unwrap();
    }
    // Ended before anything was carried.
    directory.close().await;
    alarms.close().await;
    let (directory, alarms) = open(&place);
    assert_eq!(events(&alarms).await, []);
    assert_eq!(carry(&directory, &alarms).await.unwrap(), 5);
    assert_eq!(events(&alarms).await.len(), 5);
    directory.close().await;
    alarms.close().await;

    // Ended when they were in the events, and still in the outbox.
    let of = |event: &EventRow| {
        json!({
            "id": event.id, "tenant": event.tenant, "at": event.at, "kind": event.kind,
            "document": event.document, "body": event.body,
        })
        .to_string()
    };
    let (directory, alarms) = open(&place);
    for event in events(&alarms).await {
        let text = of(&event).replace('\'', "''");
        let statement = format!("INSERT INTO outbox (event) VALUES ('{text}')");
        place.run("directory.db", "baken_directory", &statement).unwrap();
    }
    assert_eq!(carry(&directory, &alarms).await.unwrap(), 5);
    assert_eq!(events(&alarms).await.len(), 5);
    assert_eq!(carry(&directory, &alarms).await.unwrap(), 0);
}

on_both!(what_changes_while_it_is_carried_is_carried_too);

async fn what_changes_while_it_is_carried_is_carried_too(place: Place) {
    let (directory, alarms) = open(&place);
    let carrying = tokio::spawn(keep_carrying(directory.clone(), alarms.clone()));
    let mut latest = alarms.latest_event();
    let mut making = tokio::task::JoinSet::new();
    for number in 0..200 {
        let directory = directory.clone();
        let name = format!("t{number}");
        making.spawn(async move { directory.create(tenant(&name)).await.unwrap().id });
    }
    let made: HashSet<u64> = making.join_all().await.into_iter().collect();
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, latest.wait_for(|sequence| *sequence >= 200))
        .await
        .expect("all are carried in time")
        .unwrap();
    let told: HashSet<u64> =
        events(&alarms).await.iter().filter_map(|event| event.document).collect();
    assert_eq!(told, made);
    carrying.abort();
}
