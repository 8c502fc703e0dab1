use schema::Severity::{Critical, Major};

use super::Kind::{Cleared, Raised, SeverityChanged};
use super::*;
use crate::swing::{Swing, rule_name};
use crate::values;

const NAME: SeriesName = SeriesName { connection: 4, device: 2, key: 0 };
const DEVICE: u64 = 77;

fn transitions(readings: &[(i64, u32)]) -> Vec<(i64, Kind, Severity)> {
    let mut expectation = Expectation::default();
    for &(at, value) in readings {
        expectation.reading(0, TimestampMs(at), Sample::Hundredths(value * 100));
    }
    expectation.finish().into_iter().map(|due| (due.at.0, due.kind, due.severity)).collect()
}

#[test]
fn an_alarm_is_raised_grows_worse_and_is_cleared_at_its_readings_times() {
    // At a limit is not above it; a lower severity changes nothing.
    let readings = [(1, 650), (2, 651), (3, 800), (4, 875), (5, 876), (6, 700), (7, 650), (8, 100)];
    let due = [(2, Raised, Major), (5, SeverityChanged, Critical), (7, Cleared, Critical)];
    assert_eq!(transitions(&readings), due);
    assert_eq!(transitions(&[(1, 900), (2, 600)]), [(1, Raised, Critical), (2, Cleared, Critical)]);
}

#[test]
fn a_reading_that_comes_late_or_twice_changes_no_alarm() {
    let readings = [(5, 700), (5, 700), (3, 100), (4, 900), (6, 700), (5, 100), (7, 100)];
    assert_eq!(transitions(&readings), [(5, Raised, Major), (7, Cleared, Major)]);
}

/// A series with some alarms, and the events of a faultless server.
fn faultless() -> (Vec<Watched>, Vec<Found>) {
    let (swing, series) = (Swing::new(50_000), values::series(4, 2, false));
    let mut expectation = Expectation::default();
    for number in 0..1_000_u64 {
        let at = TimestampMs(1_000 + number.cast_signed());
        expectation.reading(0, at, swing.sample(series, 0, number));
    }
    let expected = expectation.finish();
    assert!(expected.len() > 50, "{}", expected.len());
    let mut alarm = 0;
    let found = (1_u32..)
        .zip(&expected)
        .map(|(id, due)| {
            alarm += u128::from(due.kind == Raised);
            Found {
                id: u128::from(id),
                alarm,
                device: DEVICE,
                rule: rule_name(0),
                at: due.at,
                kind: due.kind,
                severity: due.severity,
            }
        })
        .collect();
    (vec![Watched { name: NAME, device: DEVICE, rule: rule_name(0), expected }], found)
}

fn faults(change: impl FnOnce(&mut Vec<Found>)) -> (u64, u64, u64) {
    let (watched, mut found) = faultless();
    change(&mut found);
    let Transitions { missing, doubled, wrong, examples, .. } = compare(&watched, &found);
    assert_eq!(examples.is_empty(), missing + doubled + wrong == 0);
    (missing, doubled, wrong)
}

#[test]
fn a_faultless_server_is_clean() {
    let (watched, found) = faultless();
    let transitions = compare(&watched, &found);
    assert!(transitions.is_clean(), "{transitions:?}");
    assert_eq!(transitions.expected, transitions.found);
    assert_eq!(transitions.expected, watched[0].expected.len() as u64);
}

#[test]
fn one_that_is_not_there_is_missing() {
    let count = faultless().1.len();
    for gone in 0..count {
        let (_, found) = faultless();
        let kind = found[gone].kind;
        let (missing, doubled, wrong) = faults(|found| drop(found.remove(gone)));
        assert_eq!((missing, doubled), (1, 0));
        // What follows a raise that is gone belongs to no alarm.
        assert_eq!(wrong > 0, kind == Raised && gone + 1 < count, "{kind:?} {gone}");
    }
    assert_eq!(faults(Vec::clear).0, count as u64);
}

#[test]
fn one_that_is_told_again_is_doubled_wherever_it_stands() {
    let again = |place: usize, alarm: Option<u128>| {
        faults(|found| {
            let mut copy = found[10].clone();
            copy.id = 1 << 100;
            copy.alarm = alarm.unwrap_or(copy.alarm);
            found.insert(place, copy);
        })
    };
    assert_eq!(again(11, None), (0, 1, 0));
    assert_eq!(again(faultless().1.len(), None), (0, 1, 0));
    assert_eq!(again(11, Some(1 << 90)), (0, 1, 0), "as an alarm of its own too");
}

#[test]
fn another_time_kind_severity_alarm_or_order_is_wrong() {
    assert_eq!(faults(|found| found[10].at.0 += 1), (0, 0, 1));
    assert_eq!(faults(|found| found[10].at.0 -= 1), (0, 0, 1));
    let place = |kind| faultless().1.iter().position(|told| told.kind == kind).unwrap();
    let cleared = place(Cleared);
    assert_eq!(faults(|found| found[cleared].kind = SeverityChanged), (0, 0, 1));
    assert_eq!(faults(|found| found[cleared].severity = Severity::Minor), (0, 0, 1));
    assert_eq!(faults(|found| found[cleared].alarm = 1 << 90), (0, 0, 1));
    let first = faultless().1[0].alarm;
    let second = 1 + faultless().1[1..].iter().position(|told| told.kind == Raised).unwrap();
    assert!(faults(|found| found[second].alarm = first).2 > 0, "one alarm has two beginnings");
    assert!(faults(|found| found.swap(20, 21)).2 > 0);
}

#[test]
fn one_that_nobody_expected_is_wrong() {
    let extra = |change: fn(&mut Found)| {
        faults(|found| {
            let mut copy = found[0].clone();
            copy.id = 1 << 100;
            change(&mut copy);
            found.push(copy);
        })
    };
    assert_eq!(extra(|told| told.at.0 += 1), (0, 0, 1));
    assert_eq!(extra(|told| told.device = 1), (0, 0, 1));
    assert_eq!(extra(|told| told.rule = "another".to_owned()), (0, 0, 1));
}

#[test]
fn a_replay_is_compared_by_id_and_in_every_field() {
    let (_, whole) = faultless();
    let count = whole.len() as u64;
    let replay = |change: fn(&mut Vec<Found>)| {
        let mut killed = whole.clone();
        change(&mut killed);
        let Replay { transitions, missing, added, different, examples } =
            Replay::compare(&killed, &whole);
        assert_eq!(transitions, count);
        assert_eq!(examples.is_empty(), missing + added + different == 0);
        (missing, added, different)
    };
    assert_eq!(replay(|_| {}), (0, 0, 0));
    assert_eq!(replay(|killed| killed.reverse()), (0, 0, 0), "partitions go their own pace");
    assert_eq!(replay(|killed| drop(killed.remove(3))), (1, 0, 0));
    assert_eq!(replay(|killed| killed.push(killed[3].clone())), (0, 1, 0));
    assert_eq!(replay(|killed| killed[3].id = 1 << 100), (1, 1, 0), "another id");
    let changes: [fn(&mut Found); 6] = [
        |told| told.at.0 += 1,
        |told| told.alarm += 1,
        |told| told.device += 1,
        |told| told.severity = Severity::Minor,
        |told| told.kind = if told.kind == Raised { Cleared } else { Raised },
        |told| told.rule.push('x'),
    ];
    for change in changes {
        let mut killed = whole.clone();
        change(&mut killed[5]);
        let Replay { missing, added, different, .. } = Replay::compare(&killed, &whole);
        assert_eq!((missing, added, different), (0, 0, 1));
    }
    let twice = [whole.clone(), whole.clone()].concat();
    assert!(!Replay::compare(&whole, &twice).is_clean());
}
