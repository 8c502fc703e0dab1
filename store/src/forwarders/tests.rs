use super::*;
use crate::place::{Place, on_both};

fn step(forwarder: u64, position: u64, letters: usize) -> LaneCommit {
    LaneCommit {
        lane: StoredLane {
            forwarder,
            partition: PartitionId(1),
            place: Some(LanePlace { position: Position(position), row: 3 }),
            counts: format!("{{\"sent\":{position}}}"),
            expired: 2,
        },
        devices: vec![(DeviceId(5), Some(vec![1, 2])), (DeviceId(6), None)],
        dead_letters: (0..letters)
            .map(|number| NewDeadLetter {
                at: TimestampMs(9),
                reason: "refused".to_owned(),
                value: number.to_string(),
            })
            .collect(),
    }
}

fn open(place: &Place) -> ForwarderStore {
    let registry = Registry::new();
    let postgres = |url: &str| {
        let options = PostgresOptions::parse(url).unwrap();
        ForwarderStore::open_postgres(&options, &registry).unwrap()
    };
    place.open(|dir| ForwarderStore::open(dir, &registry).unwrap(), postgres)
}

on_both!(a_step_is_read_back_after_opening_again_and_rest_keeps_the_counts);

async fn a_step_is_read_back_after_opening_again_and_rest_keeps_the_counts(place: Place) {
    let store = open(&place);
    store.commit(vec![step(1, 7, 0), step(2, 8, 1)], 10).await.unwrap();
    store.commit(vec![step(1, 9, 0)], 10).await.unwrap();
    store.close().await;
    assert!(matches!(store.rest(1).await, Err(ForwarderStoreError::Closed)));
    let store = open(&place);
    let mut lanes = store.lanes().await.unwrap();
    assert_eq!(lanes, [step(1, 9, 0).lane, step(2, 8, 0).lane]);
    let devices = store.devices(1, PartitionId(1)).await.unwrap();
    assert_eq!(devices, [(DeviceId(5), vec![1, 2])]);
    store.rest(1).await.unwrap();
    lanes[0].place = None;
    assert_eq!(store.lanes().await.unwrap(), lanes);
    assert!(store.devices(1, PartitionId(1)).await.unwrap().is_empty());
    store.forget(2).await.unwrap();
    assert_eq!(store.lanes().await.unwrap().len(), 1);
    assert_eq!(store.dead_letter_totals(2).await.unwrap(), DeadLetterTotals::default());
    store.close().await;
}

on_both!(dead_letters_are_listed_and_settled_and_the_oldest_make_room);

async fn dead_letters_are_listed_and_settled_and_the_oldest_make_room(place: Place) {
    let store = open(&place);
    store.commit(vec![step(1, 1, 5), step(2, 1, 1)], 3).await.unwrap();
    let totals = store.dead_letter_totals(1).await.unwrap();
    assert_eq!(totals, DeadLetterTotals { kept: 3, overflowed: 2, ..Default::default() });
    let letters = store.dead_letters(1, 0, 2).await.unwrap();
    let values: Vec<&str> = letters.iter().map(|letter| letter.value.as_str()).collect();
    assert_eq!(values, ["2", "3"]);
    let more = store.dead_letters(1, letters[1].sequence, 10).await.unwrap();
    assert_eq!(more.len(), 1);
    let foreign = store.dead_letters(2, 0, 10).await.unwrap()[0].sequence;
    let sequences = vec![letters[0].sequence, foreign, 999];
    assert_eq!(store.settle(1, sequences, Fate::Resent).await.unwrap(), 1);
    assert_eq!(store.settle(1, vec![more[0].sequence], Fate::Discarded).await.unwrap(), 1);
    let totals = store.dead_letter_totals(1).await.unwrap();
    let expected = DeadLetterTotals { kept: 1, resent: 1, discarded: 1, overflowed: 2 };
    assert_eq!(totals, expected);
    store.close().await;
}
