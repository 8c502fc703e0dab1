//! A file of an older version keeps what is in it.

use super::*;

#[tokio::test]
async fn alarms_and_events_of_the_first_version_are_there_in_the_newest() {
    let place = Place::folder();
    let path = place.file("alarms.db").unwrap();
    let sql = crate::sql::sqlite::open(&path, &MIGRATIONS[..1]).unwrap();
    let id = 7u128.to_be_bytes();
    sql.execute(
        "INSERT INTO alarms (id, tenant, location, device, profile, rule, severity, active,
            acknowledged, raised_at, raised_severity, raised_details, peak_at, peak_severity,
            peak_details, updated_at, last_details, updates)
         VALUES (?1, 1, 2, 3, 4, 'hot', 3, 1, 0, 50, 3, '{}', 50, 3, '{}', 50, '{}', 0)",
        [id],
    )
    .unwrap();
    sql.execute(
        "INSERT INTO events (id, tenant, at, kind, location, device, alarm, severity, actor, body)
         VALUES (?1, 1, 50, 'alarm_raised', 2, 3, ?1, 3, NULL, '{}')",
        [id],
    )
    .unwrap();
    drop(sql);
    let store = open(&place);
    let query = EventQuery { kinds: vec!["alarm_raised".to_owned()], ..EventQuery::default() };
    let events = store.events(query).await.unwrap();
    assert_eq!((events[0].alarm, events[0].document), (Some(AlarmId(7)), None));
    assert_eq!(events[0].provenance, schema::Provenance::default());
    let open_alarms = store.open_alarms(Some(TenantId(1)), Vec::new()).await.unwrap();
    assert_eq!(open_alarms[&Some(LocationId(2))][&Severity::Major].active, 1);
    let (from, to) = (TimestampMs(0), TimestampMs(100));
    let query = quality::QualityQuery { tenant: None, location: None, from, to, now: to };
    assert_eq!(store.quality(query).await.unwrap().raised, 1);
}
