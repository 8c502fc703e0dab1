//! The limit of active alarms of a rule, of a tenant with several partitions.

use std::time::{Duration, Instant};

use alarms::AlarmOptions;
use schema::{
    CommandBody, Device, DeviceId, DocumentBody, Location, LocationId, Position, RecordKind,
    decode_commands,
};
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

/// Waits until the alarms are as wanted: `ours` active ones of devices, and the
/// system alarm about the limit active or not.
async fn becomes(node: &Node, ours: usize, limit: bool) -> Vec<AlarmRow> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let query = AlarmQuery { limit: 100, ..AlarmQuery::default() };
        let alarms = node.store.alarms().alarms(query).await.unwrap();
        let (of_tenant, of_devices): (Vec<_>, Vec<_>) =
            alarms.iter().partition(|alarm| alarm.device.is_none());
        let active = |alarms: &[&AlarmRow]| alarms.iter().filter(|it| it.status.active).count();
        assert!(active(&of_tenant) <= 1, "one for the tenant: {alarms:#?}");
        if (active(&of_devices), active(&of_tenant) == 1) == (ours, limit) {
            return alarms;
        }
        assert!(Instant::now() < deadline, "wanted {ours} and {limit}: {alarms:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a place's partition was last told that so many are elsewhere.
async fn told(node: &Node, place: &Place, elsewhere: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let last = || {
        let partition = place.partition();
        let mut reader = node.journal.reader(partition, Position(0)).unwrap();
        let mut last = None;
        while let Some(entry) = reader.try_next().unwrap() {
            if entry.kind != RecordKind::Commands {
                continue;
            }
            for command in decode_commands(entry.version, &entry.payload).unwrap() {
                if let CommandBody::ActiveElsewhere { active, .. } = command.body {
                    last = Some(active);
                }
            }
        }
        last
    };
    while last() != Some(elsewhere) {
        assert!(Instant::now() < deadline, "told {:?}, not {elsewhere}", last());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.settle().await;
}

/// Sends readings again and again until one of them has the effect.
async fn until(node: &Node, place: &Place, device: usize, value: f64, ours: usize, limit: bool) {
    for step in 0..60 {
        node.append(place, place.record(&[(device, FAR_MS + 60_000 + step * 500, value)])).await;
        node.settle().await;
        let query = AlarmQuery { limit: 100, ..AlarmQuery::default() };
        let alarms = node.store.alarms().alarms(query).await.unwrap();
        let active = alarms.iter().filter(|it| it.status.active && it.device.is_some()).count();
        if active == ours {
            becomes(node, ours, limit).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("device {device} at {value} never made it {ours}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_the_tenants_over_all_partitions_and_one_alarm_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let here = node.place(2).await;
    let there = elsewhere(&node, &here).await;
    let commands = node.workers.commands();
    commands.save_profile(here.tenant, None, None, PROFILE.to_owned(), "eva").await.unwrap();

    node.append(&here, here.record(&[(0, FAR_MS, 90.5)])).await;
    becomes(&node, 1, false).await;
    told(&node, &there, 1).await;
    // Each of them, and the second here, would be one too many.
    node.append(&there, there.record(&[(0, FAR_MS, 90.5), (1, FAR_MS, 90.5)])).await;
    node.append(&here, here.record(&[(1, FAR_MS, 90.5)])).await;
    let alarms = becomes(&node, 1, true).await;
    let says = alarms.iter().find(|alarm| alarm.device.is_none()).unwrap();
    assert_eq!(says.last_details["values"]["max_active"], 1, "{says:#?}");
    let text = says.last_details["description"].as_str().unwrap();
    assert!(text.starts_with("Rule hot has 1 active alarms, its limit;"), "{text}");

    // It ends here, so there is room there; then the same the other way.
    node.append(&here, here.record(&[(0, FAR_MS + 1_000, 60.5), (1, FAR_MS + 1_000, 60.5)])).await;
    becomes(&node, 0, false).await;
    until(&node, &there, 0, 91.5, 1, false).await;
    told(&node, &here, 1).await;
    node.append(&here, here.record(&[(1, FAR_MS + 90_000, 92.5)])).await;
    becomes(&node, 1, true).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_neither_what_others_have_nor_that_it_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &AlarmOptions::default());
    let here = node.place(2).await;
    let there = elsewhere(&node, &here).await;
    let commands = node.workers.commands();
    commands.save_profile(here.tenant, None, None, PROFILE.to_owned(), "eva").await.unwrap();
    node.append(&here, here.record(&[(0, FAR_MS, 90.5)])).await;
    becomes(&node, 1, false).await;
    told(&node, &there, 1).await;
    node.append(&there, there.record(&[(0, FAR_MS, 90.5)])).await;
    becomes(&node, 1, true).await;
    node.stop().await;

    let node = Node::open(dir.path(), &AlarmOptions::default());
    node.append(&there, there.record(&[(1, FAR_MS + 500, 90.5)])).await;
    node.settle().await;
    becomes(&node, 1, true).await;
    node.append(&here, here.record(&[(0, FAR_MS + 1_000, 60.5)])).await;
    becomes(&node, 0, false).await;
    until(&node, &there, 1, 91.5, 1, false).await;
    node.stop().await;
}
