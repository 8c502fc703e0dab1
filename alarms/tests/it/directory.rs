//! What changes in the directory reaches the engines, once and in order, also
//! where the workers are killed between any two steps and replay all.

use std::path::Path;

use alarms::AlarmOptions;
use schema::{Device, DeviceId, DocumentBody, SystemAlarm, TenantId};
use store::alarms::EventRow;

use crate::node::{FAR_MS, Node, Place};

const PROFILE: &str = r#"
    name = "Machines"
    applies_to = { device_types = ["machine"] }
    [[rules]]
    key = "hot"
    description = "${device} in ${location}: ${temperature}"
    raise.major = { when = { key = "temperature", operator = ">", value = 80 } }
    clear = { when = { key = "temperature", operator = "<", value = 70 } }
"#;

/// Without snapshots, so that each start replays everything.
fn replaying() -> AlarmOptions {
    AlarmOptions {
        threads: 1,
        commit_interval_ms: 5,
        idle_ms: 5,
        snapshot_rows: u64::MAX,
        snapshot_interval_ms: u64::MAX,
        ..AlarmOptions::default()
    }
}

/// With one behind every record.
fn snapshotting() -> AlarmOptions {
    AlarmOptions { snapshot_rows: 1, snapshot_interval_ms: 0, ..replaying() }
}

/// Waits until all that has changed so far is carried and evaluated.
async fn carried(node: &Node) {
    let last = node.store.directory().changes_since(0, 10_000).await.unwrap();
    let last = last.iter().rev().find(|change| change.version > 1).map_or(0, |it| it.sequence);
    let started = std::time::Instant::now();
    while node.store.alarms().followed("alarms").await.unwrap() < last {
        assert!(started.elapsed().as_secs() < 60, "the directory's changes were not carried");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    node.settle().await;
}

async fn change_device(node: &Node, device: DeviceId, change: impl FnOnce(&mut Device)) {
    let directory = node.store.directory();
    let mut body = directory.device(device).unwrap().body.clone();
    change(&mut body);
    directory.update(device.0, None, DocumentBody::Device(body)).await.unwrap();
}

/// Kind, why it was cleared, and the description; the oldest first.
async fn told(node: &Node) -> Vec<(String, String, String)> {
    let told = |event: EventRow| {
        let text = |name: &str| event.body[name].as_str().unwrap_or_default().to_owned();
        (event.kind.clone(), text("reason"), text("description"))
    };
    node.events().await.into_iter().map(told).collect()
}

type Expected = Vec<(String, String, String)>;

fn raised(description: &str) -> (String, String, String) {
    ("alarm_raised".to_owned(), String::new(), description.to_owned())
}

fn cleared(reason: &str, description: &str) -> (String, String, String) {
    ("alarm_cleared".to_owned(), reason.to_owned(), description.to_owned())
}

struct Run<'a> {
    dir: &'a Path,
    options: AlarmOptions,
    node: Option<Node>,
    expected: Expected,
}

impl Run<'_> {
    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    /// Compares, kills, opens again and compares once more.
    async fn check(&mut self, what: &str, more: &[(String, String, String)]) {
        self.expected.extend_from_slice(more);
        carried(self.node()).await;
        assert_eq!(told(self.node()).await, self.expected, "after: {what}");
        let before = self.node().events().await;
        self.node.take().unwrap().kill().await;
        self.node = Some(Node::open(self.dir, &self.options));
        carried(self.node()).await;
        assert_eq!(self.node().events().await, before, "after a kill behind: {what}");
    }
}

async fn story(options: AlarmOptions) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &options);
    let place = node.place(2).await;
    let commands = node.workers.commands();
    commands.save_profile(place.tenant, None, None, PROFILE.to_owned(), "eva").await.unwrap();
    let reading = |place: &Place, device, at, value| place.record(&[(device, FAR_MS + at, value)]);
    let mut run = Run { dir: dir.path(), options, node: Some(node), expected: Vec::new() };
    let (first, second) = (place.devices[0], place.devices[1]);

    run.node().append(&place, reading(&place, 0, 0, 85.5)).await;
    run.check("it is hot", &[raised("machine-0 in Hall: 85.5")]).await;

    change_device(run.node(), first, |device| device.name = "press".to_owned()).await;
    run.check("a new name", &[]).await;
    let directory = run.node().store.directory();
    let mut location = directory.location(place.location).unwrap().body.clone();
    location.name = "Yard".to_owned();
    let body = DocumentBody::Location(location);
    directory.update(place.location.0, None, body).await.unwrap();
    run.check("the location's new name", &[]).await;

    run.node().append(&place, reading(&place, 0, 1_000, 60.5)).await;
    run.check("it is cool", &[cleared("condition", "press in Yard: 60.5")]).await;
    run.node().append(&place, reading(&place, 0, 2_000, 86.5)).await;
    run.check("it is hot again", &[raised("press in Yard: 86.5")]).await;

    let fan = |device: &mut Device| device.device_type = Some("fan".to_owned());
    change_device(run.node(), first, fan).await;
    run.check("another type", &[cleared("rule_removed", "press in Yard: 86.5")]).await;
    run.node().append(&place, reading(&place, 0, 3_000, 87.0)).await;
    run.check("a fan may be hot", &[]).await;

    run.node().append(&place, reading(&place, 1, 0, 90.5)).await;
    run.check("the other is hot", &[raised("machine-1 in Yard: 90.5")]).await;
    run.node().store.directory().delete(second.0, None).await.unwrap();
    run.check("it is deleted", &[cleared("device_removed", "machine-1 in Yard: 90.5")]).await;
    // What was on its way when it was deleted.
    run.node().append(&place, reading(&place, 1, 1_000, 95.0)).await;
    run.check("nobody knows it any more", &[]).await;
    run.node.take().unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_devices_reach_the_engine_and_a_replay_from_every_step_is_the_same() {
    story(replaying()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_from_snapshots() {
    story(snapshotting()).await;
}

const GROUPED: &str = r#"
    name = "Coast"
    applies_to = { location_groups = ["Coast"] }
    [[rules]]
    key = "hot"
    description = "${device} in ${location}: ${temperature}"
    raise.major = { when = { key = "temperature", operator = ">", value = 80 } }
    clear = { when = { key = "temperature", operator = "<", value = 70 } }
"#;

async fn story_of_groups(options: AlarmOptions) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &options);
    let place = node.place(2).await;
    let commands = node.workers.commands();
    commands.save_profile(place.tenant, None, None, GROUPED.to_owned(), "eva").await.unwrap();
    let reading = |device, at, value| place.record(&[(device, FAR_MS + at, value)]);
    let mut run = Run { dir: dir.path(), options, node: Some(node), expected: Vec::new() };
    let groups = async |run: &Run<'_>, groups: &[&str]| {
        let directory = run.node().store.directory();
        let mut location = directory.location(place.location).unwrap().body.clone();
        location.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let body = DocumentBody::Location(location);
        directory.update(place.location.0, None, body).await.unwrap();
    };

    run.node().append(&place, reading(0, 0, 85.5)).await;
    run.check("it is in no group", &[]).await;
    groups(&run, &["Coast", "North"]).await;
    run.check("it joins", &[]).await;
    run.node().append(&place, reading(0, 1_000, 86.5)).await;
    run.check("the next reading", &[raised("machine-0 in Hall: 86.5")]).await;
    // The engine meets this one with the groups that the location has by now.
    run.node().append(&place, reading(1, 0, 87.5)).await;
    run.check("another device", &[raised("machine-1 in Hall: 87.5")]).await;
    groups(&run, &["Coast"]).await;
    run.check("it leaves another group", &[]).await;
    groups(&run, &["Inland"]).await;
    let both = ["machine-0 in Hall: 86.5", "machine-1 in Hall: 87.5"];
    run.check("it leaves", &both.map(|description| cleared("rule_removed", description))).await;
    run.node().append(&place, reading(0, 2_000, 88.5)).await;
    run.check("it is hot inland", &[]).await;
    run.node.take().unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_location_s_groups_reach_the_engine_and_a_replay_from_every_step_is_the_same() {
    story_of_groups(replaying()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_location_s_groups_are_in_the_snapshots() {
    story_of_groups(snapshotting()).await;
}

async fn system_source(node: &Node, tenant: TenantId) -> String {
    node.store.alarms().system_profile(tenant).await.unwrap().unwrap().source
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_s_system_alarms_follow_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &replaying());
    let place = node.place(0).await;
    let first = node.store.alarms().system_profile(place.tenant).await.unwrap().unwrap();
    assert!(first.system && first.version == 1);
    assert!(first.source.contains("raise.major = { for = \"600s\""), "{}", first.source);

    let directory = node.store.directory();
    let mut tenant = directory.tenant(place.tenant).unwrap().body.clone();
    tenant.settings.system_alarms.offline =
        SystemAlarm { enabled: true, severity: schema::Severity::Critical, delay_s: 5 };
    directory.update(place.tenant.0, None, DocumentBody::Tenant(tenant)).await.unwrap();
    carried(&node).await;
    let source = system_source(&node, place.tenant).await;
    assert!(source.contains("raise.critical = { for = \"5s\""), "{source}");
    node.kill().await;

    let node = Node::open(dir.path(), &replaying());
    node.settle().await;
    let kept = node.store.alarms().system_profile(place.tenant).await.unwrap().unwrap();
    assert_eq!((kept.version, kept.source), (2, source), "a restart writes nothing new");
    let commands = node.workers.commands();
    let refused = commands.delete_profile(place.tenant, kept.id, None, "eva").await.unwrap_err();
    assert!(refused.to_string().contains("Baken itself"), "{refused}");
    node.stop().await;
}
