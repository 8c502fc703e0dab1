//! How far transitions are published, and what is not yet.

use super::*;

const TOPIC: &str = "transitions";

on_both!(a_topic_begins_with_what_comes_and_is_noted_by_the_owner_only);

async fn a_topic_begins_with_what_comes_and_is_noted_by_the_owner_only(place: Place) {
    let store = open(&place);
    let claim = store.claim(PartitionId(0)).await.unwrap();
    let before = vec![transition(1, 9, 10, TransitionKind::Raised)];
    store.commit(Arc::new(stretch(&claim, 0, 1, before))).await.unwrap();
    let known = store.published(TOPIC).await.unwrap();
    assert_eq!(known, []);
    store.begin_publishing(TOPIC, 2).await.unwrap();
    let end = TransitionKind::Cleared { reason: ClearReason::Condition };
    let then = vec![
        transition(2, 9, 20, TransitionKind::Updated { times: 3 }),
        transition(3, 9, 30, end),
        transition(4, 10, 40, TransitionKind::Raised),
    ];
    store.commit(Arc::new(stretch(&claim, 1, 2, then))).await.unwrap();
    // Once begun it stays so.
    store.begin_publishing(TOPIC, 2).await.unwrap();
    let began = store.published(TOPIC).await.unwrap();
    let places: Vec<_> = began.iter().map(|(partition, _)| *partition).collect();
    assert_eq!(places, [PartitionId(0), PartitionId(1)]);
    let Published { sequence, last } = began[0].1;
    assert_eq!(sequence, last);

    let rows = store.transitions_after(sequence, 10).await.unwrap();
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, [TransitionId(3), TransitionId(4)], "neither what was nor updates");
    assert!(rows.is_sorted_by(|one, next| one.sequence < next.sequence));
    assert_eq!(store.transitions_after(sequence, 1).await.unwrap(), rows[..1]);
    let last = rows[1].sequence;
    assert_eq!(store.transition_at(last).await.unwrap(), Some(TransitionId(4)));
    assert_eq!(store.transition_at(last + 100).await.unwrap(), None);

    let to = |epoch, sequence| PublishedPlace {
        partition: PartitionId(0),
        epoch,
        published: Published { sequence, last: sequence },
    };
    let others = store.set_published(TOPIC, vec![to(claim.epoch, last)]).await.unwrap();
    assert_eq!(others, []);
    let next = store.claim(PartitionId(0)).await.unwrap();
    assert_eq!(store.epochs().await.unwrap(), [(PartitionId(0), next.epoch)]);
    let others = store.set_published(TOPIC, vec![to(claim.epoch, last + 1)]).await.unwrap();
    assert_eq!(others, [PartitionId(0)], "a former owner notes nothing");
    let known = store.published(TOPIC).await.unwrap();
    assert_eq!(known[0].1, Published { sequence: last, last });
    assert_eq!(store.published("another").await.unwrap(), []);
}
