//! What a router publishes, and what it is answered.

use super::super::super::options::{Rate, RateLimits};
use super::*;

#[test]
fn all_publishes_of_a_read_are_one_group_answered_when_durable() {
    let mut bench = v3();
    let input = [
        telemetry(Version::V3, 1, r#"{"a":1}"#),
        telemetry(Version::V3, 2, r#"{"a":2,"b":true}"#),
        telemetry(Version::V3, 0, r#"{"a":3}"#),
        telemetry(Version::V3, 3, r#"{"a":4}"#),
    ]
    .concat();
    bench.feed(&input);
    assert!(bench.out.is_submitted && bench.out.bytes.is_empty());
    assert_eq!(bench.rows().len(), 5);
    assert_eq!((bench.out.counts.taken[0], bench.out.counts.readings), (4, 5));
    let expected = b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x02\x00\x03";
    assert_eq!(bench.durable(), expected, "QoS 0 gets no answer");
}

#[test]
fn a_refused_publish_is_answered_in_its_place() {
    for (version, refusal) in
        [(Version::V3, &b"\x40\x02\x00\x02"[..]), (Version::V5, b"\x40\x03\x00\x02\x99")]
    {
        let mut bench = Setup::new(version).start();
        let input = [
            telemetry(version, 1, r#"{"a":1}"#),
            telemetry(version, 2, "no JSON"),
            telemetry(version, 3, r#"{"a":3}"#),
        ]
        .concat();
        bench.feed(&input);
        assert!(bench.out.bytes.is_empty(), "not before the one in front of it");
        let rejection = bench.rejection().unwrap();
        assert_eq!(
            (&*rejection.topic, &*rejection.payload),
            ("v1/devices/me/telemetry", &b"no JSON"[..])
        );
        let refused = Refusal::Payload(Reason::Malformed).index();
        assert_eq!(bench.out.counts.refused[refused], 1);
        let expected = [b"\x40\x02\x00\x01", refusal, b"\x40\x02\x00\x03"].concat();
        assert_eq!(bench.durable(), expected);
    }
}

#[test]
fn a_refused_publish_alone_is_answered_at_once() {
    let mut bench = v5();
    bench.feed(&telemetry(Version::V5, 7, "[1"));
    assert_eq!(bench.out.bytes, b"\x40\x03\x00\x07\x99");
    assert!(!bench.out.is_submitted);
    bench.feed(&telemetry(Version::V5, 0, "[1"));
    assert!(bench.out.bytes.is_empty(), "QoS 0 gets no answer");
}

#[test]
fn a_refusal_has_words_where_the_client_takes_them() {
    let setup = Setup { wants_reason_strings: true, ..Setup::new(Version::V5) };
    let mut bench = setup.start();
    let input = [
        telemetry(Version::V5, 1, "no JSON"),
        telemetry(Version::V5, 2, r#"{"a":1}"#),
        publish(Version::V5, "elsewhere", 3, "{}"),
    ]
    .concat();
    bench.feed(&input);
    let said = String::from_utf8_lossy(&bench.durable()).into_owned();
    let places = ["expected ident at line 1 column 2 in `no JSON`", "is not one of the device"]
        .map(|words| said.find(words).unwrap_or_else(|| panic!("{words}: {said}")));
    assert!(places[0] < places[1], "each with its own");
    let max_packet_bytes = 40;
    let setup = Setup { max_packet_bytes, wants_reason_strings: true, ..Setup::new(Version::V5) };
    let mut bench = setup.start();
    bench.feed(&telemetry(Version::V5, 7, "no JSON"));
    assert_eq!(bench.out.bytes, b"\x40\x03\x00\x07\x99", "its Maximum Packet Size is small");
}

#[test]
fn a_tenant_may_have_a_malformed_payload_close_the_connection() {
    let settings = TenantSettings { close_on_malformed: true, ..TenantSettings::default() };
    let mut bench = Setup { settings, ..Setup::new(Version::V5) }.start();
    bench.read(&telemetry(Version::V5, 1, "[1"));
    assert_eq!(bench.out.end, Some(End::MalformedPayload));
    assert_eq!(bench.out.end.unwrap().reason_code(), Some(0x99));
    assert!(bench.out.bytes.is_empty());
}

#[test]
fn a_topic_outside_the_contract_is_refused() {
    for (topic, code) in [("v1/devices/you/telemetry", 0x87), ("v1/devices/+/telemetry", 0x90)] {
        let mut bench = v5();
        bench.feed(&publish(Version::V5, topic, 1, "{}"));
        assert_eq!(bench.out.bytes, [0x40, 3, 0, 1, code], "{topic}");
        assert_eq!(bench.out.counts.refused[Refusal::TopicNotAllowed.index()], 1);
        let mut bench = v3();
        bench.feed(&publish(Version::V3, topic, 1, "{}"));
        assert_eq!(bench.out.bytes, b"\x40\x02\x00\x01", "{topic}");
    }
}

#[test]
fn a_payload_over_the_limit_ends_it() {
    let payload = |bytes: usize| format!("{{\"k\":\"{}\"}}", "x".repeat(bytes - 8));
    let mut bench = v3();
    bench.feed(&telemetry(Version::V3, 1, &payload(65_536)));
    assert_eq!(bench.out.end, None);
    bench.read(&telemetry(Version::V3, 1, &payload(65_537)));
    assert_eq!(bench.out.end, Some(End::TooLarge));
    assert_eq!(End::TooLarge.reason_code(), Some(0x95));
}

#[test]
fn the_attributes_of_a_read_go_in_the_same_group() {
    let mut bench = v3();
    let input = [
        telemetry(Version::V3, 1, r#"{"a":1}"#),
        publish(Version::V3, "v2/a", 2, r#"{"serial":"x"}"#),
    ]
    .concat();
    bench.feed(&input);
    assert_eq!((bench.out.telemetry.len(), bench.out.attributes.len()), (1, 1));
    assert_eq!(bench.durable(), b"\x40\x02\x00\x01\x40\x02\x00\x02");
}

#[test]
fn aliases_stand_for_topics() {
    let aliased = |topic: &str, alias: u8, payload: &str| {
        let body = [&text(topic)[..], &[0, 1, 3, 0x23, 0, alias], payload.as_bytes()].concat();
        packet(0x32, &body)
    };
    let mut bench = v5();
    bench.feed(&aliased("v1/devices/me/telemetry", 2, r#"{"a":1}"#));
    bench.feed(&aliased("", 2, r#"{"a":2}"#));
    bench.feed(&aliased("", 2, r#"{"a":3}"#));
    assert_eq!(bench.rows(), [(40, "Integer(3)".to_owned())]);
    bench.feed(&aliased("v1/devices/me/attributes", 2, r#"{"a":4}"#));
    bench.feed(&aliased("", 2, r#"{"a":5}"#));
    assert_eq!((bench.out.telemetry.len(), bench.out.attributes.len()), (0, 1));
    bench.read(&aliased("", 3, "{}"));
    assert_eq!(bench.out.end, Some(End::TopicAlias), "never named");
    let mut bench = v5();
    bench.read(&aliased("v2/t", 17, "{}"));
    assert_eq!(bench.out.end, Some(End::TopicAlias), "above our maximum");
}

#[test]
fn past_its_bounds_nothing_more_is_taken() {
    let mut bench = v5();
    let one = telemetry(Version::V5, 1, r#"{"a":1}"#);
    let input = one.repeat(150);
    assert_eq!(bench.read(&input), one.len() * 100, "the Receive Maximum that was announced");
    assert!(!bench.session.may_take(0));
    assert_eq!(bench.read(&input), 0);
    bench.durable();
    assert_eq!(bench.read(&one.repeat(50)), one.len() * 50);

    let limits = SessionLimits { max_inflight_rows: 10, ..SessionLimits::default() };
    let mut bench = Setup { limits, ..Setup::new(Version::V3) }.start();
    let one = telemetry(Version::V3, 0, r#"{"a":1,"b":2,"c":3}"#);
    assert_eq!(bench.read(&one.repeat(9)), one.len() * 4, "the first past the bound is the last");

    let limits = SessionLimits { max_inflight_submissions: 2, ..SessionLimits::default() };
    let mut bench = Setup { limits, ..Setup::new(Version::V3) }.start();
    bench.feed(&one).feed(&one);
    assert_eq!(bench.read(&one), 0);
    bench.durable();
    bench.feed(&one);
}

#[test]
fn over_its_rate_mqtt_5_is_refused_and_3_1_1_is_read_later() {
    let rates =
        RateLimits { messages: vec![Rate { count: 2, seconds: 1 }], ..RateLimits::default() };
    let limits = SessionLimits { rates, ..SessionLimits::default() };
    let mut bench = Setup { limits: limits.clone(), ..Setup::new(Version::V5) }.start();
    let one = |version, id| telemetry(version, id, r#"{"a":1}"#);
    bench.feed(&[one(Version::V5, 1), one(Version::V5, 2), one(Version::V5, 3)].concat());
    assert_eq!(bench.durable(), b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x03\x00\x03\x97");

    let mut bench = Setup { limits, ..Setup::new(Version::V3) }.start();
    bench.feed(&[one(Version::V3, 1), one(Version::V3, 2), one(Version::V3, 3)].concat());
    assert_eq!(bench.durable().len(), 12, "nothing is refused");
    assert!(!bench.session.may_take(0));
    let open_us = bench.session.deadline_us(0).unwrap();
    assert!(open_us > 0 && open_us <= SECOND_US + SECOND_US / 2, "{open_us}");
    assert!(bench.session.may_take(open_us));
}

#[test]
fn a_tenant_over_its_rate_likewise() {
    let settings = TenantSettings { max_readings_per_s: 10, ..TenantSettings::default() };
    let mut bench = Setup { settings: settings.clone(), ..Setup::new(Version::V3) }.start();
    bench.feed(&telemetry(Version::V3, 1, r#"{"a":1}"#).repeat(30));
    assert!(!bench.session.may_take(SECOND_US) && bench.session.may_take(2 * SECOND_US));
    let mut bench = Setup { settings, ..Setup::new(Version::V5) }.start();
    bench.feed(&telemetry(Version::V5, 1, r#"{"a":1}"#).repeat(30));
    bench.feed(&telemetry(Version::V5, 1, r#"{"a":1}"#));
    assert_eq!(bench.out.counts.refused[Refusal::Rate.index()], 1);
}

#[test]
fn a_gateway_waits_for_its_devices_and_is_then_taken_whole() {
    let mut bench = v3();
    let topic = "v1/gateway/telemetry";
    let first = telemetry(Version::V3, 1, r#"{"a":1}"#);
    let second = publish(Version::V3, topic, 2, r#"{"P1":[{"a":2}],"P2":[{"a":3}]}"#);
    let third = telemetry(Version::V3, 3, r#"{"a":4}"#);
    let input = [&first[..], &second, &third].concat();
    assert_eq!(bench.read(&input), first.len(), "the order is kept");
    assert!(bench.out.is_submitted);
    let Some(Action::Resolve(wanted)) = bench.out.actions.pop() else { panic!() };
    let names: Vec<_> = wanted.iter().map(|wanted| &*wanted.name).collect();
    assert_eq!(names, ["P1", "P2"]);
    assert!(!bench.session.may_take(0));
    bench.resolved(&[("P1", Ok(51)), ("P2", Ok(52))]);
    bench.feed(&input[first.len()..]);
    let devices: Vec<_> = bench.rows().iter().map(|row| row.0).collect();
    assert_eq!(devices, [51, 52, 40]);
    bench.durable();
    assert_eq!(bench.durable(), b"\x40\x02\x00\x02\x40\x02\x00\x03");
}

#[test]
fn of_a_gateways_devices_the_refused_are_counted_and_the_others_kept() {
    let mut bench = v5();
    let topic = "v1/gateway/telemetry";
    let both = publish(Version::V5, topic, 1, r#"{"P1":[{"a":2}],"P2":[{"a":3}]}"#);
    bench.read(&both);
    bench.resolved(&[("P1", Ok(51)), ("P2", Err(Reason::DeviceQuota))]);
    bench.feed(&both);
    assert_eq!(bench.rows(), [(51, "Integer(2)".to_owned())]);
    assert_eq!(bench.out.counts.refused[Refusal::Payload(Reason::DeviceQuota).index()], 1);
    assert_eq!(bench.durable(), b"\x40\x02\x00\x01");

    let alone = publish(Version::V5, topic, 2, r#"{"P2":[{"a":3}]}"#);
    assert_eq!(
        bench.read(&alone),
        0,
        "a refusal is asked for anew: the quota may have been raised"
    );
    bench.resolved(&[("P2", Err(Reason::DeviceQuota))]);
    bench.feed(&alone);
    assert_eq!(bench.out.bytes, b"\x40\x03\x00\x02\x97");
}

#[test]
fn of_a_buffered_upload_only_what_is_out_of_time_is_refused() {
    for topic in ["v1/devices/me/telemetry", "v1/gateway/telemetry"] {
        let list = r#"[{"ts":9e14,"values":{"a":1}},{"a":2},{"ts":9e14,"values":{"a":3}},
            {"ts":5,"values":{"a":4}}]"#;
        let payload = match topic {
            "v1/gateway/telemetry" => format!(r#"{{"P1":{list}}}"#),
            _ => list.to_owned(),
        };
        let mut bench = v5();
        let one = publish(Version::V5, topic, 1, &payload);
        if topic == "v1/gateway/telemetry" {
            bench.read(&one);
            bench.resolved(&[("P1", Ok(40))]);
        }
        bench.feed(&one);
        assert_eq!(bench.rows(), [(40, "Integer(2)".to_owned())], "{topic}");
        for (reason, count) in [(Reason::Future, 2), (Reason::TooOld, 1)] {
            let refused = bench.out.counts.refused[Refusal::Payload(reason).index()];
            assert_eq!(refused, count, "{topic} {reason:?}");
        }
        let kept = bench.out.actions.iter().filter(|action| matches!(action, Action::Reject(_)));
        assert_eq!(kept.count(), 2, "one for each reason");
        let words = &bench.rejection().unwrap().reason;
        assert!(words.contains("2 objects left out; the first: `ts`: 9"), "{words}");
        assert_eq!(bench.durable(), b"\x40\x02\x00\x01");
    }
}

#[test]
fn a_gateway_connects_and_disconnects_devices() {
    let mut bench = v3();
    let connect = publish(Version::V3, "v1/gateway/connect", 1, r#"{"device":"P1","type":"plc"}"#);
    assert_eq!(bench.read(&connect), 0);
    let Some(Action::Resolve(wanted)) = bench.out.actions.pop() else { panic!() };
    let expected = Wanted { name: "P1".to_owned(), device_type: Some("plc".to_owned()) };
    assert_eq!(wanted, [expected]);
    bench.resolved(&[("P1", Ok(51))]);
    bench.feed(&connect);
    assert_eq!(bench.out.bytes, b"\x40\x02\x00\x01");
    let disconnect = publish(Version::V3, "v1/gateway/disconnect", 2, r#"{"device":"P1"}"#);
    assert_eq!(bench.feed(&disconnect).out.bytes, b"\x40\x02\x00\x02");
    assert_eq!(bench.read(&connect), 0, "it is known no more");
}

#[test]
fn a_deleted_device_is_forgotten() {
    let mut bench = v3();
    let rows = publish(Version::V3, "v1/gateway/attributes", 1, r#"{"P1":{"a":1}}"#);
    bench.read(&rows);
    bench.resolved(&[("P1", Ok(51))]);
    bench.feed(&rows);
    assert_eq!(bench.rows(), [(51, "Integer(1)".to_owned())]);
    bench.session.retain_devices(|_, _| false);
    assert_eq!(bench.read(&rows), 0);
}
