//! The limit of active alarms of a rule, reached in several partitions at once.

use alarms::AlarmOptions;
use schema::{Device, DeviceId, DocumentBody, Location, LocationId};
use store::alarms::{AlarmQuery, AlarmRow};

use crate::node::{FAR_MS, Node, PARTITIONS, Place};

const PROFILE: &str = r#"
    name = "Machines"
    [[rules]]
    key = "hot"
    max_active = 1
    raise.major = { when = { key = "temperature", operator = ">", value = 80 } }
    clear = { when = { key = "temperature", operator = "<", value = 70 } }
"#;

/// The same tenant's devices at a location of another partition.
async fn elsewhere(node: &Node, place: &Place) -> Place {
    let directory = node.store.directory();
    for number in 0.. {
        let location = Location {
            tenant: place.tenant,
            name: format!("Yard {number}"),
            time_zone: "UTC".to_owned(),
            groups: Vec::new(),
        };
        let made = directory.create(DocumentBody::Location(location)).await.unwrap();
        let location = LocationId(made.id);
        if schema::partition_of(place.tenant, location, PARTITIONS) == place.partition() {
            continue;
        }
        let router = node.router(location, &format!("router {number}")).await;
        let mut devices = Vec::new();
        for index in 0..2 {
            let device = Device {
                tenant: place.tenant,
                location,
                router,
                name: format!("other-{index}"),
                device_type: None,
                behind_router: true,
            };
            let made = directory.create(DocumentBody::Device(device)).await.unwrap();
            devices.push(DeviceId(made.id));
        }
        return Place { location, router, devices, ..place.clone() };
    }
    unreachable!("the numbers end later than the partitions")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_says_so_and_none_stops() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let here = node.place(2).await;
    let there = elsewhere(&node, &here).await;
    let commands = node.workers.commands();
    commands.save_profile(here.tenant, None, None, PROFILE.to_owned(), "eva").await.unwrap();
    for (place, later) in [(&here, 0), (&there, 500)] {
        let hot = [(0, FAR_MS + later, 90.5), (1, FAR_MS + later, 90.5)];
        node.append(place, place.record(&hot)).await;
    }
    node.settle().await;
    let query = || AlarmQuery { limit: 100, ..AlarmQuery::default() };
    let alarms = node.store.alarms().alarms(query()).await.unwrap();
    let limits = alarms.iter().filter(|alarm| alarm.device.is_none());
    assert_eq!((alarms.len(), limits.clone().count()), (4, 2), "{alarms:#?}");
    for place in [&here, &there] {
        let named = format!("1 active alarms in partition {}, its limit", place.partition());
        let says = |alarm: &AlarmRow| alarm.last_details["description"].to_string();
        assert!(limits.clone().any(|alarm| says(alarm).contains(&named)), "{named}: {alarms:#?}");
    }

    for place in [&here, &there] {
        node.append(place, place.record(&[(0, FAR_MS + 1_000, 60.5)])).await;
        node.settle().await;
    }
    let alarms = node.store.alarms().alarms(query()).await.unwrap();
    assert!(alarms.iter().all(|alarm| !alarm.status.active), "{alarms:#?}");
    node.stop().await;
}
