//! What followers are told, and the bounds of what routers and tenants set.

use super::*;

#[tokio::test]
async fn who_kept_a_sequence_is_told_the_last_change_of_each_document_behind_it() {
    for backend in backends() {
        let directory = backend.open();
        let (_, here) = site(&directory, "t", 10).await;
        let id = made_router(&directory, here, "r").await;
        let all = directory.changes_since(0, 100).await.unwrap();
        assert_eq!(all.len(), 4, "tenant, location, router and its device: {all:?}");
        assert!(all.is_sorted_by_key(|change| change.sequence));
        let seen = all[3].sequence;
        assert_eq!(directory.changes_since(seen, 100).await.unwrap(), []);

        for name in ["one", "two"] {
            let body =
                Router { name: name.to_owned(), ..directory.router(id).unwrap().body.clone() };
            directory.update(id.0, None, DocumentBody::Router(body)).await.unwrap();
        }
        let renamed = directory.changes_since(seen, 100).await.unwrap();
        let shown: Vec<_> = renamed.iter().map(|it| (it.kind, it.version, it.deleted)).collect();
        let mut kinds: Vec<_> = shown.iter().map(|it| it.0.as_str()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["device", "router"], "each once: {renamed:?}");
        assert!(shown.iter().all(|it| (it.1, it.2) == (3, false)), "{renamed:?}");
        assert_eq!(directory.changes_since(seen, 1).await.unwrap(), renamed[..1]);

        directory.delete(id.0, None).await.unwrap();
        directory.close().await;
        let directory = backend.open();
        let gone = directory.changes_since(renamed[1].sequence, 100).await.unwrap();
        assert!(gone.len() == 2 && gone.iter().all(|it| it.deleted), "{gone:?}");
    }
}

#[tokio::test]
async fn send_intervals_delays_and_hosts_have_bounds() {
    for backend in backends() {
        let directory = backend.open();
        let (id, here) = site(&directory, "t", 10).await;
        let mut body = directory.tenant(id).unwrap().body.clone();
        body.settings.silent_factor = 0;
        let update = directory.update(id.0, None, DocumentBody::Tenant(body.clone())).await;
        assert!(update.unwrap_err().to_string().contains("silent_factor"));
        body.settings.silent_factor = 3;
        body.settings.system_alarms.silent.delay_s = 30 * 24 * 3_600 + 1;
        let update = directory.update(id.0, None, DocumentBody::Tenant(body)).await;
        assert!(update.unwrap_err().to_string().contains("system_alarms.silent.delay_s"));
        for wrong in [
            NewRouter { cloud_host: Some(String::new()), ..router(here, "r") },
            NewRouter { send_interval_s: Some(u32::MAX), ..router(here, "r") },
        ] {
            let error = directory.create_routers(vec![wrong]).await.unwrap_err();
            assert!(matches!(error, DirectoryError::Invalid { .. }), "{error}");
        }
        let kept = NewRouter {
            cloud_host: Some("cloud.example".to_owned()),
            send_interval_s: Some(5),
            ..router(here, "r")
        };
        let made = RouterId(directory.create_routers(vec![kept]).await.unwrap()[0].id);
        directory.close().await;
        let router = backend.open().router(made).unwrap();
        assert_eq!(router.cloud_host.as_deref(), Some("cloud.example"));
        assert_eq!(router.send_interval_s, Some(5));
    }
}
