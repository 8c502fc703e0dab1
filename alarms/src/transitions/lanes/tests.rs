use schema::{AlarmId, LocationId, Provenance, Severity, TenantId, TimestampMs, TransitionId};

use super::*;

const PARTITIONS: u16 = 8;

/// A transition at a location, of whose partition nobody needs to know the number.
fn row(sequence: u64, location: u64) -> EventRow {
    EventRow {
        sequence,
        id: TransitionId(u128::from(sequence)),
        tenant: Some(TenantId(1)),
        at: TimestampMs(0),
        kind: "alarm_raised".to_owned(),
        location: Some(LocationId(location)),
        device: None,
        alarm: Some(AlarmId(1)),
        document: None,
        severity: Some(Severity::Major),
        actor: None,
        provenance: Provenance::default(),
        body: serde_json::Value::Null,
    }
}

fn at(location: u64) -> PartitionId {
    partition_of(TenantId(1), LocationId(location), PARTITIONS)
}

/// Lanes of the locations 1 and 2, which are in different partitions, open.
fn two() -> (Lanes, PartitionId, PartitionId) {
    let (one, two) = (at(1), at(2));
    assert_ne!(one, two);
    let mut lanes = Lanes::new(PARTITIONS);
    for partition in [one, two] {
        lanes.enter(partition, 1);
        assert_eq!(lanes.open(partition, 1, None), Opened::Yes);
    }
    (lanes, one, two)
}

fn sequences(pieces: &[Piece]) -> Vec<(PartitionId, Vec<u64>)> {
    let of = |piece: &Piece| piece.transitions.iter().map(|it| it.sequence).collect();
    pieces.iter().map(|piece| (piece.partition, of(piece))).collect()
}

fn published(sequence: u64, last: u64) -> Published {
    Published { sequence, last }
}

#[test]
fn what_is_read_is_divided_and_what_is_not_ours_is_passed_over() {
    let (mut lanes, one, two) = two();
    assert_eq!(lanes.wants(0), None, "there is nothing");
    assert_eq!(lanes.wants(9), Some(0));
    let elsewhere = (3..).find(|location| ![one, two].contains(&at(*location))).unwrap();
    let rows = vec![row(2, 1), row(4, elsewhere), row(5, 2), row(7, 1)];
    let pieces = lanes.divide(0, rows, 9, &[]);
    let mut expected = vec![(one, vec![2, 7]), (two, vec![5])];
    expected.sort_unstable();
    assert_eq!(sequences(&pieces), expected);
    assert_eq!((lanes.wants(9), lanes.on_their_way()), (None, 3));
    lanes.sent(one, 1, published(9, 7));
    assert!(!lanes.have(9));
    lanes.sent(two, 1, published(9, 5));
    assert!(lanes.have(9));
    assert_eq!(lanes.wants(9), None);
}

#[test]
fn one_whose_broker_is_away_keeps_no_other_and_misses_nothing() {
    let (mut lanes, one, two) = two();
    lanes.divide(0, vec![row(1, 1), row(2, 2)], 2, &[]);
    lanes.sent(one, 1, published(2, 1));
    assert_eq!(lanes.wants(5), Some(2), "the other is not waited for");
    let pieces = lanes.divide(2, vec![row(3, 2), row(4, 1)], 5, &[]);
    assert_eq!(sequences(&pieces), [(one, vec![4])]);
    lanes.sent(one, 1, published(5, 4));
    lanes.sent(two, 1, published(2, 2));
    assert_eq!(lanes.wants(5), Some(2), "it reads again what was passed over");
    let pieces = lanes.divide(2, vec![row(3, 2), row(4, 1)], 5, &[]);
    assert_eq!(sequences(&pieces), [(two, vec![3])], "and only its own");
}

#[test]
fn what_the_topic_ends_with_goes_before_what_is_noted() {
    let (one, epoch) = (at(1), 3);
    for (stored, ends_with, place) in [
        // Nothing was published since.
        (published(40, 30), Some(30), 40),
        (published(40, 30), None, 40),
        // It ended before it was noted.
        (published(40, 30), Some(45), 45),
    ] {
        let mut lanes = Lanes::new(PARTITIONS);
        lanes.enter(one, epoch);
        lanes.note_stored(one, epoch, stored);
        assert_eq!(lanes.open(one, epoch, ends_with), Opened::Yes);
        assert_eq!(lanes.wants(100), Some(place), "{stored:?} {ends_with:?}");
    }
}

#[test]
fn what_the_topic_has_lost_is_published_again_once_that_is_certain() {
    let (one, epoch) = (at(1), 3);
    let mut lanes = Lanes::new(PARTITIONS);
    lanes.enter(one, epoch);
    lanes.note_stored(one, epoch, published(40, 30));
    for _ in 1..MOST_DOUBTS {
        assert_eq!(lanes.open(one, epoch, Some(20)), Opened::Doubted);
        assert_eq!(lanes.wants(100), None);
    }
    assert_eq!(lanes.open(one, epoch, Some(20)), Opened::Lost);
    assert_eq!(lanes.wants(100), Some(20));
}

#[test]
fn answers_for_a_former_owner_change_nothing() {
    let (mut lanes, one, _) = two();
    lanes.divide(0, vec![row(1, 1)], 2, &[]);
    assert_eq!(lanes.remove(one), Some(Phase::Sending(1)));
    lanes.enter(one, 2);
    lanes.sent(one, 1, published(2, 1));
    lanes.stop(one, 1);
    assert_eq!(lanes.opening(), [(one, 2)]);
}

#[test]
fn one_that_another_has_claimed_is_known() {
    let (lanes, one, two) = two();
    assert_eq!(lanes.lost(&[(one, 1), (two, 2), (PartitionId(PARTITIONS), 9)]), [two]);
}

#[test]
fn one_that_is_given_away_is_looked_for_once_more() {
    let (mut lanes, one, _) = two();
    lanes.divide(0, Vec::new(), 9, &[]);
    assert_eq!(lanes.wants(9), None);
    assert!(lanes.leave(one));
    assert_eq!((lanes.wants(9), lanes.left()), (Some(9), vec![]));
    lanes.divide(9, Vec::new(), 9, &[]);
    assert_eq!(lanes.left(), [], "that reading may have begun before");
    let pieces = lanes.divide(9, vec![row(11, 1)], 11, &lanes.leaving());
    assert_eq!(sequences(&pieces), [(one, vec![11])]);
    assert_eq!(lanes.left(), [], "it is on its way");
    lanes.sent(one, 1, published(11, 11));
    assert_eq!(lanes.left(), [one]);
    assert!(lanes.to_note().iter().any(|it| it.published == published(11, 11)));
    lanes.note_stored(one, 1, published(11, 11));
    assert!(lanes.to_note().iter().all(|it| it.partition != one));
}

#[test]
fn the_store_is_told_of_what_was_published_and_seldom_of_what_was_not() {
    let (mut lanes, one, two) = two();
    lanes.divide(0, Vec::new(), UNTOLD_EVENTS - 1, &[]);
    assert_eq!(lanes.to_note(), []);
    let end = UNTOLD_EVENTS + 5;
    lanes.divide(UNTOLD_EVENTS - 1, vec![row(UNTOLD_EVENTS, 1)], end, &[]);
    let of = |partition, published| PublishedPlace { partition, epoch: 1, published };
    lanes.sent(one, 1, published(end, UNTOLD_EVENTS));
    let mut expected = [of(one, published(end, UNTOLD_EVENTS)), of(two, published(end, 0))];
    expected.sort_unstable_by_key(|it| it.partition);
    assert_eq!(lanes.to_note(), expected);
}

#[test]
fn one_that_wants_a_person_stays_so() {
    let (mut lanes, one, two) = two();
    lanes.stop(one, 1);
    lanes.reopen_all();
    assert_eq!(lanes.opening(), [(two, 1)]);
    assert!(!lanes.have(0));
    lanes.leave(one);
    assert_eq!(lanes.left(), [one]);
}

#[test]
fn what_is_not_here_is_not_waited_for() {
    let mut lanes = Lanes::new(4);
    assert!(!lanes.leave(PartitionId(1)), "it never came");
    lanes.enter(PartitionId(1), 1);
    lanes.remove(PartitionId(1));
    assert!(!lanes.leave(PartitionId(1)), "it went before");
}
