//! What one tenant, and all who read at once, may take.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

fn with_rules(id: Option<ProfileId>, name: &str, rules: u64) -> ProfileChange {
    ProfileChange { rules, ..change(id, None, Some(name)) }
}

on_both!(a_tenant_has_a_limited_number_of_profiles);

async fn a_tenant_has_a_limited_number_of_profiles(place: Place) {
    let store = open(&place);
    let system = ProfileChange { system: true, ..change(None, None, Some("System alarms")) };
    store.change_profile(system).await.unwrap();
    let mut last = None;
    for number in 0..MAX_PROFILES_PER_TENANT {
        let made = store.change_profile(change(None, None, Some(&number.to_string()))).await;
        last = Some(made.unwrap().id);
    }
    let refused = store.change_profile(change(None, None, Some("more"))).await.unwrap_err();
    assert!(matches!(refused, AlarmStoreError::TooManyProfiles), "{refused}");
    store.change_profile(change(last, None, Some("another name"))).await.unwrap();
    let elsewhere = ProfileChange { tenant: TenantId(2), ..change(None, None, Some("more")) };
    store.change_profile(elsewhere).await.unwrap();
    store.change_profile(change(last, None, None)).await.unwrap();
    store.change_profile(change(None, None, Some("more"))).await.unwrap();
}

on_both!(all_profiles_of_a_tenant_share_a_limit_of_rules);

async fn all_profiles_of_a_tenant_share_a_limit_of_rules(place: Place) {
    let store = open(&place);
    let most = MAX_RULES_PER_TENANT;
    let first = store.change_profile(with_rules(None, "first", most - 3)).await.unwrap().id;
    let second = store.change_profile(with_rules(None, "second", 3)).await.unwrap().id;
    for refused in [with_rules(None, "third", 1), with_rules(Some(second), "second", 4)] {
        let error = store.change_profile(refused).await.unwrap_err();
        assert!(matches!(error, AlarmStoreError::TooManyRules { .. }), "{error}");
    }
    let system = ProfileChange { system: true, ..with_rules(None, "System alarms", 4) };
    store.change_profile(system).await.unwrap();
    store.change_profile(with_rules(Some(first), "first", 1)).await.unwrap();
    store.change_profile(with_rules(None, "third", most - 4)).await.unwrap();
    store.change_profile(change(Some(second), None, None)).await.unwrap();
    store.change_profile(with_rules(None, "fourth", 3)).await.unwrap();
}

on_both!(so_many_read_at_once_and_the_others_wait_their_turn);

async fn so_many_read_at_once_and_the_others_wait_their_turn(place: Place) {
    let store = open(&place);
    let meters = store.shared.read_meters.clone();
    let (started, starts) = mpsc::sync_channel(MAX_READS + 2);
    let mut ends = Vec::new();
    let mut reads = Vec::new();
    for _ in 0..MAX_READS + 2 {
        let (end, ended) = mpsc::sync_channel::<()>(0);
        ends.push(end);
        let (store, started) = (store.clone(), started.clone());
        reads.push(tokio::spawn(async move {
            let read = move |_: &Session| {
                started.send(()).unwrap();
                // An error says that the test has let it go.
                let _ = ended.recv();
                Ok(())
            };
            store.read(read).await
        }));
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let mut running = 0;
    while running < MAX_READS || meters.waiting.get() < 2 {
        assert!(std::time::Instant::now() < deadline, "{running} run");
        running += starts.try_iter().count();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((running, meters.waiting.get()), (MAX_READS, 2));
    assert_eq!(meters.running.get(), i64::try_from(MAX_READS).unwrap());
    // Who gives up waits no more.
    reads.pop().unwrap().abort();
    ends.clear();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    assert_eq!(starts.try_iter().count(), 1);
    assert_eq!((meters.running.get(), meters.waiting.get()), (0, 0));
}
