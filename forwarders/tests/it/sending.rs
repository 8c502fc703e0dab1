//! What is sent, to whom, and what is not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forwarders::{ForwarderOptions, State};
use schema::Value;
use serde_json::json;

use super::double::{Answer, Double};
use super::node::{Node, influxdb, options, until};

/// The values and times of lines of a field.
pub fn points(lines: &[String]) -> Vec<(i64, String)> {
    let point = |line: &String| {
        let mut parts = line.rsplitn(3, ' ');
        let at: i64 = parts.next().unwrap().parse().unwrap();
        let field = parts.next().unwrap();
        (at / 1_000, field.split_once('=').unwrap().1.to_owned())
    };
    lines.iter().map(point).collect()
}

#[tokio::test]
async fn only_changes_are_sent_and_a_restart_neither_repeats_nor_skips() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    let node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let mut document = influxdb(device, &double.url());
    document["smart_interval_s"] = json!(0);
    let id = node.forwarder(document).await;
    node.append(device, "other", 0, &[7.0]).await;
    node.append(device, "t", 0, &[1.0, 1.0, 2.0]).await;
    node.append_rows(device, "t", &[(3_000, Value::Text("warm"))]).await;
    let accounting = node.settled(id, 4).await;
    let counts = accounting.counts;
    assert_eq!((counts.sent, counts.same, counts.wrong_type), (2, 1, 1));
    assert_eq!(node.standing(id).state, State::Connected);
    node.stop().await;

    let node = Node::start(dir.path()).await;
    node.append(device, "t", 4, &[2.0, 3.0]).await;
    let accounting = node.settled(id, 6).await;
    assert_eq!((accounting.counts.sent, accounting.counts.same), (3, 2));
    let sent = points(&double.lines());
    assert_eq!(sent, [(0, "1".to_owned()), (2, "2".to_owned()), (5, "3".to_owned())]);
    let request = &double.taken()[0];
    assert_eq!(request.headers["authorization"], "Token secret-token");
    assert_eq!(request.uri.path_and_query().unwrap(), "/api/v2/write?bucket=b&precision=ms");
    assert!(request.body.starts_with("m,device=pump,location=at\\ pump t=1 0\n"));
    node.stop().await;
}

#[tokio::test]
async fn what_comes_while_there_is_no_forwarder_is_held_for_nobody_and_sent_to_nobody() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    let node = Node::start_keeping(dir.path(), &options(), 128 << 10).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let partition = node.partition(device);
    let values: Vec<f64> = (0..2_000).map(f64::from).collect();
    until("retention that nothing holds up", async || {
        node.append(device, "t", 0, &values).await;
        (node.journal.bounds(partition).oldest.0 > 0).then_some(())
    })
    .await;
    for round in 0..2 {
        node.append(device, "t", 5_000, &values).await;
        let id = node.forwarder(influxdb(device, &double.url())).await;
        node.append(device, "t", 9_000 + round, &[0.5]).await;
        node.settled(id, 1).await;
        node.store.directory().delete(id, None).await.unwrap();
    }
    let sent = points(&double.lines());
    assert_eq!(sent, [(9_000, "0.5".to_owned()), (9_001, "0.5".to_owned())]);
    node.stop().await;
}

#[tokio::test]
async fn a_tenant_s_a_group_s_and_a_location_s_forwarder_each_send_what_is_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let (acme, other) = (node.tenant("Acme").await, node.tenant("Other").await);
    let coast = node.device(acme, "coast", &["Coast"]).await;
    let hill = node.device(acme, "hill", &[]).await;
    let foreign = node.device(other, "foreign", &["Coast"]).await;
    let scopes = [
        (json!("tenant"), 2),
        (json!({ "location_group": "Coast" }), 1),
        (json!({ "location": hill.location }), 1),
    ];
    let mut begun = Vec::new();
    for (number, (scope, expected)) in scopes.into_iter().enumerate() {
        let double = Double::start().await;
        let mut document = influxdb(coast, &double.url());
        document["name"] = json!(format!("forwarder {number}"));
        document["scope"] = scope;
        begun.push((node.forwarder(document).await, double, expected));
    }
    for device in [coast, hill, foreign] {
        node.append(device, "t", 0, &[1.0]).await;
    }
    for (id, double, expected) in &begun {
        node.settled(*id, *expected).await;
        assert_eq!(double.lines().len() as u64, *expected);
    }
    // A location that joins the group is sent from then on.
    let entry = node.store.directory().location(hill.location).unwrap();
    let mut location = entry.body.clone();
    location.groups.push("Coast".to_owned());
    let body = schema::DocumentBody::Location(location);
    node.store.directory().update(hill.location.0, None, body).await.unwrap();
    let (group, double, _) = &begun[1];
    until("the location's readings", async || {
        node.append(hill, "t", 5, &[2.0]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        double.lines().iter().any(|line| line.contains("at\\ hill")).then_some(())
    })
    .await;
    node.accounting(*group).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_split_and_what_is_refused_is_kept_sent_again_or_dropped() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    double.answer(|request| {
        let lines = request.body.lines().count();
        if lines > 10 {
            return Answer::of(413);
        }
        let is_bad = request.body.contains("=13 ") || request.body.contains("=14 ");
        let body = r#"{"message":"field type conflict"}"#.to_owned();
        if is_bad { Answer { body, ..Answer::of(422) } } else { Answer::of(204) }
    });
    let node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(influxdb(device, &double.url())).await;
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    node.append(device, "t", 0, &values).await;
    let accounting = node.settled(id, 100).await;
    assert_eq!((accounting.counts.sent, accounting.counts.dead_letters), (98, 2));
    let times: Vec<i64> = points(&double.lines()).iter().map(|(at, _)| *at).collect();
    let expected: Vec<i64> = (0..100).filter(|at| !(13..=14).contains(at)).collect();
    assert_eq!(times, expected, "in order, each once");

    let letters = until("the dead letters are stored", async || {
        let letters = node.forwarders.dead_letters(id, 0, 10).await.unwrap();
        (letters.len() == 2).then_some(letters)
    })
    .await;
    assert!(letters[0].reason.contains("field type conflict"), "{}", letters[0].reason);
    let entry = node.store.directory().forwarder(id).unwrap();
    let patience = Duration::from_secs(20);
    let resent = node.forwarders.resend(&entry, &letters, patience).await.unwrap();
    assert_eq!((resent.sent, resent.refused), (0, 2));
    double.answer(|_| Answer::of(204));
    let resent = node.forwarders.resend(&entry, &letters[..1], patience).await.unwrap();
    assert_eq!((resent.sent, resent.refused), (1, 0));
    assert!(double.lines().last().unwrap().ends_with(" t=13 13000"));
    let dropped = node.forwarders.discard(id, vec![letters[1].sequence]).await.unwrap();
    assert_eq!(dropped, 1);
    let totals = node.accounting(id).await.dead_letters;
    assert_eq!((totals.kept, totals.resent, totals.discarded), (0, 1, 1));
    node.stop().await;
}

#[tokio::test]
async fn a_token_that_is_refused_pauses_the_forwarder_and_its_data_is_kept() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    double.answer(|_| Answer::of(401));
    let mut node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(influxdb(device, &double.url())).await;
    node.append(device, "t", 0, &[1.0, 2.0]).await;
    let standing = node.stands(id, State::Paused).await;
    assert!(standing.detail.unwrap().contains("token"));
    let trouble = node.troubles.recv().await.unwrap();
    assert_eq!((trouble.forwarder, trouble.tenant), (id, tenant));
    assert!(trouble.reason.unwrap().contains("token"));
    let refused = double.refused();
    node.append(device, "t", 2, &[3.0]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(double.refused(), refused, "it is not tried any more");
    assert_eq!(node.accounting(id).await.counts.selected, 3);
    double.answer(|_| Answer::of(204));
    node.forwarders.resume(id);
    node.settled(id, 3).await;
    assert_eq!(double.lines().len(), 3);
    assert_eq!(node.troubles.recv().await.unwrap().reason, None);
    node.stop().await;
}

#[tokio::test]
async fn a_platform_that_asks_to_be_spared_is_spared() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    let count = AtomicUsize::new(0);
    double.answer(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => {
            let headers = vec![("retry-after", "2".to_owned())];
            Answer { headers, ..Answer::of(429) }
        }
        _ => Answer::of(204),
    });
    let node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(influxdb(device, &double.url())).await;
    let begun = std::time::Instant::now();
    node.append(device, "t", 0, &[1.0]).await;
    node.stands(id, State::Throttled).await;
    node.settled(id, 1).await;
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(double.refused(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_forwarder_that_is_paused_keeps_its_data_and_one_that_is_switched_off_does_not() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    let node = Node::start(dir.path()).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(influxdb(device, &double.url())).await;
    node.append(device, "t", 0, &[1.0]).await;
    node.settled(id, 1).await;
    node.change(id, |forwarder| forwarder.paused = true).await;
    node.stands(id, State::Paused).await;
    node.append(device, "t", 1, &[2.0]).await;
    node.change(id, |forwarder| forwarder.paused = false).await;
    node.settled(id, 2).await;
    node.change(id, |forwarder| forwarder.enabled = false).await;
    node.stands(id, State::Disabled).await;
    node.append(device, "t", 2, &[3.0]).await;
    node.change(id, |forwarder| forwarder.enabled = true).await;
    node.stands(id, State::Connecting).await;
    until("it begins", async || (node.accounting(id).await.counts.selected == 2).then_some(()))
        .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    node.append(device, "t", 3, &[4.0]).await;
    node.settled(id, 3).await;
    let values: Vec<String> = points(&double.lines()).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["1", "2", "4"]);
    node.stop().await;
}

#[tokio::test]
async fn what_became_of_values_is_kept_when_a_forwarder_is_switched_off() {
    let (dir, double) = (tempfile::tempdir().unwrap(), Double::start().await);
    // So seldom that nothing is stored but for the switching off.
    let options = ForwarderOptions { commit_interval_ms: 3_600_000, ..options() };
    let node = Node::start_with(dir.path(), &options).await;
    let tenant = node.tenant("Acme").await;
    let device = node.device(tenant, "pump", &[]).await;
    let id = node.forwarder(influxdb(device, &double.url())).await;
    // Its place is stored before anything comes.
    node.append(device, "t", 0, &[1.0]).await;
    node.settled(id, 1).await;
    double.answer(|_| Answer::of(422));
    node.append(device, "t", 1, &[2.0]).await;
    node.settled(id, 2).await;
    node.change(id, |forwarder| forwarder.enabled = false).await;
    node.stands(id, State::Disabled).await;
    node.change(id, |forwarder| forwarder.enabled = true).await;
    node.stands(id, State::Connecting).await;
    let accounting = until("it begins", async || {
        let accounting = node.accounting(id).await;
        (accounting.counts.selected > 0).then_some(accounting)
    });
    let accounting = accounting.await;
    assert_eq!((accounting.counts.sent, accounting.counts.dead_letters), (1, 1));
    assert_eq!(node.forwarders.dead_letters(id, 0, 10).await.unwrap().len(), 1);
    node.stop().await;
}
