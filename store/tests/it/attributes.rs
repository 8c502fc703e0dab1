//! The attributes through their face: the journal's order decides, a record
//! that is read again changes nothing, what a device missed is kept for it.

use prometheus::Registry;
use schema::{DeviceId, PartitionId, Position, TimestampMs};
use serde_json::{Value, json};
use store::attributes::AttributeLimits;
use store::{AttributeChange, Attributes, AttributesError, PostgresOptions, Scope};

use super::place::{Place, on_both};

const P0: PartitionId = PartitionId(0);
const P1: PartitionId = PartitionId(1);
const DEVICE: DeviceId = DeviceId(7);

fn open(place: &Place) -> Attributes {
    open_with(place, AttributeLimits::default(), &Registry::new())
}

fn open_with(place: &Place, limits: AttributeLimits, registry: &Registry) -> Attributes {
    let postgres = |url: &str| {
        let options = PostgresOptions::parse(url).unwrap();
        Attributes::open_postgres(&options, 4, limits, registry).unwrap()
    };
    place.open(|dir| Attributes::open(dir, 4, limits, registry).unwrap(), postgres)
}

fn change(scope: Scope, key: &str, value: Value, at: i64) -> AttributeChange {
    let value = (!value.is_null()).then_some(value);
    AttributeChange { device: DEVICE, scope, key: key.to_owned(), value, at: TimestampMs(at) }
}

async fn all(attributes: &Attributes, scope: Scope) -> Value {
    let found = attributes.get(DEVICE, scope, None).await.unwrap();
    Value::Object(found.into_iter().map(|a| (a.key, a.value)).collect())
}

on_both!(the_journal_decides_what_is_the_latest);

async fn the_journal_decides_what_is_the_latest(place: Place) {
    let attributes = open(&place);
    let later = change(Scope::Client, "a", json!(1), 2_000);
    let earlier = change(Scope::Client, "a", json!(2), 1_000);
    let nested = change(Scope::Client, "b", json!({"x": [1, "ä", null]}), 5);
    attributes.apply(P0, Position(1), vec![later]).await.unwrap();
    attributes.apply(P0, Position(2), vec![earlier, nested]).await.unwrap();
    let shared = change(Scope::Shared, "a", json!("other"), 5);
    attributes.apply(P1, Position(9), vec![shared]).await.unwrap();
    for attributes in [attributes, open(&place)] {
        let expected = json!({"a": 2, "b": {"x": [1, "ä", null]}});
        assert_eq!(all(&attributes, Scope::Client).await, expected);
        assert_eq!(all(&attributes, Scope::Shared).await, json!({"a": "other"}));
        assert_eq!((attributes.position(P0), attributes.position(P1)), (Position(2), Position(9)));
        let keys = Some(vec!["b".to_owned(), "nothing".to_owned(), "b".to_owned()]);
        let found = attributes.get(DEVICE, Scope::Client, keys).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key.as_str(), found[0].updated_at), ("b", TimestampMs(5)));
        attributes.close().await;
    }
}

on_both!(what_is_applied_already_changes_nothing);

async fn what_is_applied_already_changes_nothing(place: Place) {
    let attributes = open(&place);
    let first = vec![change(Scope::Shared, "a", json!(1), 1)];
    let second = vec![
        change(Scope::Shared, "a", Value::Null, 2),
        change(Scope::Shared, "b", json!(true), 2),
    ];
    attributes.apply(P0, Position(1), first.clone()).await.unwrap();
    attributes.apply(P0, Position(2), second.clone()).await.unwrap();
    let pending = attributes.undelivered(DEVICE).await.unwrap().unwrap();
    for _ in 0..2 {
        attributes.apply(P0, Position(1), first.clone()).await.unwrap();
        attributes.apply(P0, Position(2), second.clone()).await.unwrap();
    }
    assert_eq!(all(&attributes, Scope::Shared).await, json!({"b": true}));
    assert_eq!(attributes.undelivered(DEVICE).await.unwrap().unwrap(), pending);
    attributes.close().await;
    let again = open(&place);
    again.apply(P0, Position(1), first).await.unwrap();
    assert_eq!(all(&again, Scope::Shared).await, json!({"b": true}));
    assert_eq!(again.position(P0), Position(2));
}

on_both!(what_a_device_missed_is_merged_and_given_once);

async fn what_a_device_missed_is_merged_and_given_once(place: Place) {
    let attributes = open(&place);
    assert_eq!(attributes.undelivered(DEVICE).await.unwrap(), None);
    let changes = vec![
        change(Scope::Shared, "rate", json!(1), 1),
        change(Scope::Shared, "mode", json!("x"), 1),
        change(Scope::Shared, "rate", json!(2), 2),
        change(Scope::Shared, "mode", Value::Null, 3),
        change(Scope::Client, "own", json!(1), 3),
    ];
    attributes.apply(P0, Position(1), changes).await.unwrap();
    attributes.close().await;
    let attributes = open(&place);
    let pending = attributes.undelivered(DEVICE).await.unwrap().unwrap();
    let expected = [("mode".to_owned(), None), ("rate".to_owned(), Some(json!(2)))];
    assert_eq!(pending.changes, expected);

    // A change that comes while the others are on their way stays.
    let newer = vec![change(Scope::Shared, "rate", json!(3), 4)];
    attributes.apply(P0, Position(2), newer).await.unwrap();
    attributes.mark_delivered(DEVICE, pending.upto).await.unwrap();
    let left = attributes.undelivered(DEVICE).await.unwrap().unwrap();
    assert_eq!(left.changes, [("rate".to_owned(), Some(json!(3)))]);
    attributes.mark_delivered(DEVICE, left.upto).await.unwrap();
    assert_eq!(attributes.undelivered(DEVICE).await.unwrap(), None);
    attributes.close().await;
    let attributes = open(&place);
    assert_eq!(attributes.undelivered(DEVICE).await.unwrap(), None);
    assert_eq!(all(&attributes, Scope::Shared).await, json!({"rate": 3}));

    let other = AttributeChange { device: DeviceId(8), ..change(Scope::Shared, "k", json!(1), 5) };
    attributes.apply(P0, Position(3), vec![other]).await.unwrap();
    let of = attributes.undelivered_of(vec![DEVICE, DeviceId(8)]).await.unwrap();
    assert_eq!(of.iter().map(|(device, _)| device.0).collect::<Vec<_>>(), [8]);
    attributes.forget(vec![DeviceId(8)]).await.unwrap();
    assert_eq!(attributes.undelivered(DeviceId(8)).await.unwrap(), None);
    assert_eq!(attributes.get(DeviceId(8), Scope::Shared, None).await.unwrap(), []);
}

on_both!(what_is_over_a_limit_is_refused_at_the_edge_and_counted_behind_it);

async fn what_is_over_a_limit_is_refused_at_the_edge_and_counted_behind_it(place: Place) {
    let registry = Registry::new();
    let limits = AttributeLimits { keys_per_device: 3, key_bytes: 4, value_bytes: 8 };
    let attributes = open_with(&place, limits, &registry);
    let long = json!("123456789");
    let changes = vec![
        change(Scope::Shared, "a", json!(1), 1),
        change(Scope::Shared, "b", json!(1), 1),
        change(Scope::Shared, "c", json!(1), 1),
        change(Scope::Shared, "d", json!(1), 1),
        change(Scope::Shared, "a", long.clone(), 1),
        change(Scope::Shared, "abcde", json!(1), 1),
        change(Scope::Shared, "b", json!(2), 1),
    ];
    attributes.apply(P0, Position(1), changes).await.unwrap();
    assert_eq!(all(&attributes, Scope::Shared).await, json!({"a": 1, "b": 2, "c": 1}));
    let refused = registry
        .gather()
        .into_iter()
        .find(|family| family.name() == store::metrics::ATTRIBUTES_REFUSED)
        .unwrap();
    let total: f64 = refused.get_metric().iter().map(|m| m.get_counter().get_value()).sum();
    assert!((total - 3.0).abs() < f64::EPSILON, "{total}");

    let admit = async |changes: &[(&str, Value)]| {
        let changes: Vec<(String, Option<Value>)> = changes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (!value.is_null()).then(|| value.clone())))
            .collect();
        attributes.admit(DEVICE, Scope::Shared, &changes).await
    };
    admit(&[("a", json!(5)), ("b", json!(6))]).await.unwrap();
    admit(&[("d", json!(5)), ("b", Value::Null)]).await.unwrap();
    admit(&[("nope", Value::Null)]).await.unwrap();
    for refused in
        [vec![("d", json!(5))], vec![("a", long)], vec![("abcde", json!(1))], vec![("", json!(1))]]
    {
        let error = admit(&refused).await.unwrap_err();
        assert!(matches!(error, AttributesError::Limit { .. }), "{error}");
    }
}

on_both!(deletions_of_keys_that_come_and_go_do_not_pile_up);

async fn deletions_of_keys_that_come_and_go_do_not_pile_up(place: Place) {
    let limits = AttributeLimits { keys_per_device: 3, ..AttributeLimits::default() };
    let attributes = open_with(&place, limits, &Registry::new());
    for n in 0..20 {
        let key = format!("k{n}");
        let changes = vec![
            change(Scope::Shared, &key, json!(n), 1),
            change(Scope::Shared, &key, Value::Null, 2),
        ];
        attributes.apply(P0, Position(n + 1), changes).await.unwrap();
    }
    let pending = attributes.undelivered(DEVICE).await.unwrap().unwrap();
    assert!(pending.changes.len() <= 6, "{pending:?}");
}

on_both!(partitions_apply_side_by_side_and_each_keeps_its_order);

async fn partitions_apply_side_by_side_and_each_keeps_its_order(place: Place) {
    let attributes = open(&place);
    let tasks: Vec<_> = (0..4)
        .map(|p| {
            let attributes = attributes.clone();
            tokio::spawn(async move {
                for n in 1..=50 {
                    let mut change = change(Scope::Client, "n", json!(n), -n);
                    change.device = DeviceId(u64::from(p));
                    let next = Position(n.cast_unsigned());
                    attributes.apply(PartitionId(p), next, vec![change]).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    attributes.close().await;
    let again = open(&place);
    for p in 0..4 {
        assert_eq!(again.position(PartitionId(p)), Position(50));
        let found = again.get(DeviceId(u64::from(p)), Scope::Client, None).await.unwrap();
        assert_eq!(found[0].value, json!(50));
    }
}

on_both!(a_position_without_changes_is_kept_at_the_latest_when_closing);

async fn a_position_without_changes_is_kept_at_the_latest_when_closing(place: Place) {
    let attributes = open(&place);
    for n in 1..=100 {
        attributes.apply(P0, Position(n), Vec::new()).await.unwrap();
        assert!(attributes.position(P0) <= Position(n));
        attributes.wait_applied(P0, Position(n)).await.unwrap();
    }
    attributes.close().await;
    let error = attributes.mark_delivered(DEVICE, 1).await.unwrap_err();
    assert!(matches!(error, AttributesError::Closed), "{error}");
    assert_eq!(open(&place).position(P0), Position(100));
    let nowhere = open(&place).apply(PartitionId(4), Position(1), Vec::new()).await.unwrap_err();
    assert!(matches!(nowhere, AttributesError::Partition(PartitionId(4))), "{nowhere}");
}
