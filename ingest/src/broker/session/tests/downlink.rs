//! Subscriptions, shared attributes and calls.

use serde_json::json;

use super::*;

const ATTRIBUTES: &str = "v1/devices/me/attributes";

fn change(key: &str, value: i32) -> SharedChange {
    (key.to_owned(), Some(json!(value)))
}

fn push(bench: &mut Bench, device: DeviceId, changes: &[SharedChange]) -> Result<(), PushRefused> {
    bench.out.clear();
    let delivered = Some(Delivered { device, upto: 7 });
    bench.session.push_shared(device, changes, delivered, &mut bench.out)
}

fn call(bench: &mut Bench, device: u64) -> Result<Vec<Received>, PushRefused> {
    bench.out.clear();
    let call = Call {
        call: 99,
        device: DeviceId(device),
        method: "set".to_owned(),
        params: json!({"on": true}),
        expires_us: bench.now_us + SECOND_US,
    };
    bench.session.push_call(call, bench.now_us, &mut bench.out)?;
    Ok(received(bench.session.version, &bench.out.bytes))
}

fn delivered(bench: &Bench) -> usize {
    bench.out.actions.iter().filter(|action| matches!(action, Action::Delivered(_))).count()
}

#[test]
fn only_the_contracts_filters_are_granted() {
    for (filter, qos, v3_code, v5_code) in [
        (ATTRIBUTES, 0, 0, 0),
        (ATTRIBUTES, 1, 1, 1),
        ("v1/gateway/rpc", 2, 1, 1),
        ("v1/devices/me/rpc/request/+", 1, 1, 1),
        ("v2/a/res/+", 1, 1, 1),
        ("#", 1, 0x80, 0x87),
        ("v1/devices/me/telemetry", 1, 0x80, 0x87),
        ("$share/g/v2/a", 1, 0x80, 0x9e),
        ("a#", 1, 0x80, 0x8f),
    ] {
        let mut bench = v3();
        assert_eq!(bench.subscribe(filter, qos).out.bytes, [0x90, 3, 0, 9, v3_code], "{filter}");
        let mut bench = v5();
        assert_eq!(bench.subscribe(filter, qos).out.bytes, [0x90, 4, 0, 9, 0, v5_code], "{filter}");
    }
}

#[test]
fn shared_attributes_go_to_who_subscribed_and_are_noted_when_acknowledged() {
    let mut bench = v3();
    let changes = [change("a", 1), ("b".to_owned(), None)];
    assert_eq!(push(&mut bench, DEVICE, &changes), Err(PushRefused::NotSubscribed));
    bench.subscribe(ATTRIBUTES, 1);
    assert!(matches!(bench.out.actions[..], [Action::FetchUndelivered { device: DEVICE }]));
    push(&mut bench, DEVICE, &changes).unwrap();
    let down = received(Version::V3, &bench.out.bytes).remove(0);
    assert_eq!((&*down.topic, down.id), (ATTRIBUTES, 1));
    assert_eq!(down.payload, r#"{"a":1,"deleted":["b"]}"#);
    assert_eq!(delivered(&bench), 0);
    bench.feed(b"\x40\x02\x00\x01");
    assert_eq!(delivered(&bench), 1);
    bench.feed(b"\x40\x02\x00\x01");
    assert_eq!(delivered(&bench), 0, "a PUBACK counts once");
}

#[test]
fn at_qos_0_they_are_noted_when_written() {
    let mut bench = v3();
    bench.subscribe("v2/a", 0);
    push(&mut bench, DEVICE, &[change("a", 1)]).unwrap();
    let down = received(Version::V3, &bench.out.bytes).remove(0);
    assert_eq!((&*down.topic, down.id, delivered(&bench)), ("v2/a", 0, 1));
}

#[test]
fn after_unsubscribing_nothing_comes() {
    let mut bench = v5();
    bench.subscribe(ATTRIBUTES, 1);
    let unsubscribe = packet(0xa2, &[&[0, 3, 0][..], &text(ATTRIBUTES), &text("x")].concat());
    assert_eq!(bench.feed(&unsubscribe).out.bytes, [0xb0, 5, 0, 3, 0, 0, 0x11]);
    assert_eq!(push(&mut bench, DEVICE, &[change("a", 1)]), Err(PushRefused::NotSubscribed));
}

#[test]
fn the_clients_receive_maximum_is_kept_and_the_rest_waits_in_a_bounded_queue() {
    let mut bench = Setup { receive_maximum: 2, ..Setup::new(Version::V5) }.start();
    bench.subscribe(ATTRIBUTES, 1);
    let sent = |bench: &mut Bench, value| {
        push(bench, DEVICE, &[change("a", value)])
            .map(|()| received(Version::V5, &bench.out.bytes).len())
    };
    assert_eq!((sent(&mut bench, 1), sent(&mut bench, 2)), (Ok(1), Ok(1)));
    for value in 0..i32::try_from(SessionLimits::default().max_downlink_queue).unwrap() {
        assert_eq!(sent(&mut bench, value), Ok(0));
    }
    assert_eq!(sent(&mut bench, 9), Err(PushRefused::Full));
    bench.feed(b"\x40\x02\x00\x02");
    let down = received(Version::V5, &bench.out.bytes);
    assert_eq!((down.len(), down[0].id, &*down[0].payload), (1, 3, r#"{"a":0}"#));
}

#[test]
fn the_clients_maximum_packet_size_is_kept() {
    let mut bench = Setup { max_packet_bytes: 60, ..Setup::new(Version::V5) }.start();
    bench.subscribe(ATTRIBUTES, 1);
    assert!(push(&mut bench, DEVICE, &[change("a", 1)]).is_ok());
    let long = (String::from("k").repeat(60), Some(json!(1)));
    assert_eq!(push(&mut bench, DEVICE, &[long]), Err(PushRefused::TooLarge));
}

#[test]
fn a_topic_that_repeats_gets_an_alias_if_the_client_takes_them() {
    let mut bench = Setup { topic_alias_maximum: 1, ..Setup::new(Version::V5) }.start();
    bench.subscribe(ATTRIBUTES, 0).subscribe("v1/gateway/attributes", 0);
    let mut topics = Vec::new();
    for value in 0..2 {
        push(&mut bench, DEVICE, &[change("a", value)]).unwrap();
        let down = received(Version::V5, &bench.out.bytes).remove(0);
        topics.push((down.topic, down.alias));
    }
    assert_eq!(topics, [(ATTRIBUTES.to_owned(), 1), (String::new(), 1)]);
}

#[test]
fn a_call_and_its_answer() {
    let mut bench = v3();
    assert_eq!(call(&mut bench, 40), Err(PushRefused::NotSubscribed));
    bench.subscribe("v1/devices/me/rpc/request/+", 1);
    let down = call(&mut bench, 40).unwrap().remove(0);
    assert_eq!(down.topic, "v1/devices/me/rpc/request/0");
    assert_eq!(down.payload, r#"{"method":"set","params":{"on":true}}"#);
    let answer = publish(Version::V3, "v1/devices/me/rpc/response/0", 4, r#"{"ok":1}"#);
    bench.feed(&answer);
    assert_eq!(bench.out.bytes, b"\x40\x02\x00\x04");
    let [Action::CallAnswered { call, answer: text }] = &bench.out.actions[..] else { panic!() };
    assert_eq!((*call, &**text), (99, r#"{"ok":1}"#));
    assert!(bench.feed(&answer).out.actions.is_empty(), "an answer counts once");
}

#[test]
fn a_call_to_a_device_behind_the_router() {
    let mut bench = v3();
    bench.subscribe("v1/gateway/rpc", 1);
    assert_eq!(call(&mut bench, 51), Err(PushRefused::NotConnected));
    let connect = publish(Version::V3, "v1/gateway/connect", 1, r#"{"device":"P"}"#);
    bench.read(&connect);
    bench.resolved(&[("P", Ok(51))]);
    let down = call(&mut bench, 51).unwrap().remove(0);
    assert_eq!(down.topic, "v1/gateway/rpc");
    assert_eq!(
        down.payload,
        r#"{"data":{"id":0,"method":"set","params":{"on":true}},"device":"P"}"#
    );
    let answer = |device: &str| {
        let body = format!(r#"{{"device":"{device}","id":0,"data":[2]}}"#);
        publish(Version::V3, "v1/gateway/rpc", 0, &body)
    };
    assert!(bench.feed(&answer("Q")).out.actions.is_empty(), "another device's");
    bench.feed(&answer("P"));
    let [Action::CallAnswered { answer, .. }] = &bench.out.actions[..] else { panic!() };
    assert_eq!(&**answer, "[2]");
}

#[test]
fn calls_nobody_waits_for_make_room() {
    let limits = SessionLimits { max_pending_calls: 1, ..SessionLimits::default() };
    let mut bench = Setup { limits, ..Setup::new(Version::V3) }.start();
    bench.subscribe("v1/devices/me/rpc/request/+", 0);
    call(&mut bench, 40).unwrap();
    assert_eq!(call(&mut bench, 40), Err(PushRefused::Full));
    bench.now_us += SECOND_US;
    assert_eq!(call(&mut bench, 40).unwrap()[0].topic, "v1/devices/me/rpc/request/1");
}
