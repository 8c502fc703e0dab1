mod model;

use super::*;

const SMART: Policy = Policy { smart_ms: Some(0), newer_only: false };
const SERIES: (DeviceId, KeyId) = (DeviceId(7), KeyId::for_test(0));

fn lane(policy: Policy) -> Lane {
    Lane::new(policy, Counts::default())
}

/// Takes an integer at a time in seconds, which is its row as well.
fn take(lane: &mut Lane, at_s: i64, value: f64) -> Decision {
    let place = Place { position: Position(0), row: u32::try_from(at_s).unwrap() };
    lane.take(place, SERIES, at_s * 1_000, &Datum::Number(value), None)
}

#[test]
fn each_reading_has_its_reason() {
    use Decision::{Drop, Send, Suppress};
    let mut lane = lane(Policy { smart_ms: Some(10_000), newer_only: true });
    let tolerance = Some(Tolerance::Relative(0.1));
    let cases = [
        (0, 100.0, Send(SendReason::First)),
        (1, 100.0, Suppress(SuppressReason::Same)),
        (1, 105.0, Suppress(SuppressReason::WithinTolerance)),
        (2, 111.0, Send(SendReason::Changed)),
        (2, 111.0, Drop(DropReason::OutOfOrder)),
        (1, 5.0, Drop(DropReason::OutOfOrder)),
        (11, 111.0, Suppress(SuppressReason::Same)),
        (12, 112.0, Send(SendReason::IntervalPassed)),
    ];
    for (at_s, value, expected) in cases {
        let datum = Datum::Number(value);
        let place = Place::at(Position(1));
        let decision = lane.take(place, SERIES, at_s * 1_000, &datum, tolerance);
        assert_eq!(decision, expected, "{value} at {at_s} s");
    }
    lane.drop_value(DropReason::WrongType);
    let all = lane.taken();
    assert_eq!((all.selected, all.same, all.within_tolerance), (9, 2, 1));
    assert_eq!((all.out_of_order, all.wrong_type), (2, 1));
    assert_eq!(all.selected, all.settled() + lane.outstanding() as u64);
    // What is outstanding holds all behind it back.
    assert_eq!(lane.settled(), Counts::default());
    for _ in 0..3 {
        lane.resolve(Outcome::Sent);
    }
    let settled = lane.settled();
    assert_eq!((settled.selected, settled.settled(), settled.sent), (9, 9, 3));
}

#[test]
fn all_is_sent_where_nothing_is_to_be_suppressed_and_nothing_is_remembered() {
    let mut lane = lane(Policy { smart_ms: None, newer_only: false });
    for at in 0..3 {
        assert_eq!(take(&mut lane, at, 1.0), Decision::Send(SendReason::Always));
        lane.resolve(Outcome::Sent);
    }
    assert_eq!(lane.series(), 0);
    assert!(lane.unstored(&Keys::default()).next().is_none() && lane.is_changed());
}

#[test]
fn what_the_platform_refused_was_never_sent_last() {
    let mut lane = lane(SMART);
    take(&mut lane, 0, 1.0);
    lane.resolve(Outcome::Sent);
    take(&mut lane, 1, 2.0);
    assert_eq!(take(&mut lane, 2, 2.0), Decision::Suppress(SuppressReason::Same));
    lane.resolve(Outcome::DeadLetter);
    assert_eq!(take(&mut lane, 3, 1.0), Decision::Suppress(SuppressReason::Same));
    assert_eq!(take(&mut lane, 4, 2.0), Decision::Send(SendReason::Changed));
}

#[test]
fn a_value_that_a_clock_from_the_future_sent_does_not_silence_its_series() {
    let mut lane = lane(Policy { smart_ms: Some(60_000), newer_only: false });
    take(&mut lane, 1_000_000, 1.0);
    assert_eq!(take(&mut lane, 10, 1.0), Decision::Send(SendReason::IntervalPassed));
    assert_eq!(take(&mut lane, 20, 1.0), Decision::Suppress(SuppressReason::Same));
}

#[test]
fn last_values_read_back_as_they_were_stored_and_nothing_else_is_read() {
    let mut keys = Keys::default();
    let key = keys.id("temperature");
    let mut first = lane(SMART);
    let datum = Datum::Text("warm".into());
    first.take(Place::default(), (DeviceId(7), key), 5, &datum, None);
    assert!(first.unstored(&keys).next().is_none(), "not acknowledged");
    first.resolve(Outcome::Sent);
    let stored: Vec<_> = first.unstored(&keys).collect();
    let (device, bytes) = (stored[0].0, stored[0].1.clone().unwrap());
    // Golden: version, one series, the name, the time, the kind of text, its digest.
    assert_eq!(hex::encode(&bytes), GOLDEN);
    let (mut second, mut other_keys) = (lane(SMART), Keys::default());
    other_keys.id("another");
    second.restore(device, &bytes, &mut other_keys).unwrap();
    let key = other_keys.id("temperature");
    let again = second.take(Place::default(), (device, key), 9, &datum, None);
    assert_eq!(again, Decision::Suppress(SuppressReason::Same));
    for length in 0..bytes.len() {
        assert!(second.restore(device, &bytes[..length], &mut other_keys).is_err(), "{length}");
    }
    assert!(second.restore(device, &[2, 0], &mut other_keys).is_err());
}

const GOLDEN: &str = "01010b74656d70657261747572650a030f0aa408c1832abefd06bced5378aa79";

#[test]
fn a_forgotten_device_is_stored_as_nothing() {
    let mut keys = Keys::default();
    let key = keys.id("a");
    let mut lane = lane(SMART);
    lane.take(Place::default(), (DeviceId(1), key), 0, &Datum::Integer(1), None);
    lane.resolve(Outcome::Sent);
    lane.stored();
    assert!(!lane.is_changed());
    lane.forget(DeviceId(1));
    assert_eq!(lane.unstored(&keys).collect::<Vec<_>>(), [(DeviceId(1), None)]);
    assert_eq!(lane.series(), 0);
}
