//! What every backend of the directory must do, seen through its face. Each
//! case runs over an opened directory and looks again after opening anew.

mod followers;

use std::collections::HashSet;
use std::time::Duration;

use prometheus::Registry;
use schema::{
    ApiToken, Credentials, Device, DeviceId, Document, DocumentBody, DocumentKind, Location,
    LocationId, Router, RouterId, Tenant, TenantId, TenantSettings,
};
use store::directory::{CHANGE_FEED_CAPACITY, MAX_PAGE};
use store::{Directory, DirectoryError, GroupQuery, ListQuery, NewRouter, PostgresOptions};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::place::Place;

/// A backend that can be opened again and again.
pub struct Backend(Place);

impl Backend {
    pub fn open(&self) -> Directory {
        let registry = Registry::new();
        let postgres = |url: &str| {
            Directory::open_postgres(&PostgresOptions::parse(url).unwrap(), &registry).unwrap()
        };
        self.0.open(|dir| Directory::open_embedded(dir, &registry).unwrap(), postgres)
    }
}

pub fn backends() -> Vec<Backend> {
    vec![Backend(Place::folder()), Backend(Place::postgres())]
}

pub fn tenant(name: &str, max_devices: u32) -> DocumentBody {
    let settings = TenantSettings { max_devices, ..TenantSettings::default() };
    DocumentBody::Tenant(Tenant { name: name.to_owned(), settings })
}

pub fn location(tenant: TenantId, name: &str) -> DocumentBody {
    let time_zone = "Europe/Amsterdam".to_owned();
    DocumentBody::Location(Location {
        tenant,
        name: name.to_owned(),
        time_zone,
        groups: Vec::new(),
    })
}

fn router(location: LocationId, name: &str) -> NewRouter {
    let credentials = Credentials::AccessToken { hash: format!("hash-{location}-{name}") };
    NewRouter {
        location,
        name: name.to_owned(),
        credentials,
        enabled: true,
        cloud_host: None,
        send_interval_s: None,
    }
}

pub async fn made(directory: &Directory, body: DocumentBody) -> u64 {
    directory.create(body).await.unwrap().id
}

async fn made_router(directory: &Directory, location: LocationId, name: &str) -> RouterId {
    let made = directory.create_routers(vec![router(location, name)]).await.unwrap();
    RouterId(made[0].id)
}

pub async fn site(directory: &Directory, name: &str, max_devices: u32) -> (TenantId, LocationId) {
    let id = TenantId(made(directory, tenant(name, max_devices)).await);
    (id, LocationId(made(directory, location(id, "site")).await))
}

#[tokio::test]
async fn what_was_made_is_found_by_all_its_ways_before_and_after_opening_anew() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, location) = site(&directory, "north", 10).await;
        let id = made_router(&directory, location, "gateway").await;
        let device = directory.ensure_device(id, "press 1", Some("press")).await.unwrap();
        let token = ApiToken {
            tenant: Some(tenant),
            name: "reader".to_owned(),
            hash: "abc".to_owned(),
            read_only: true,
        };
        let token_id = made(&directory, DocumentBody::ApiToken(token.clone())).await;
        let look = |directory: &Directory| {
            let router = directory.router(id).unwrap();
            assert_eq!((router.tenant, router.location), (tenant, location));
            assert_eq!(directory.device(router.device).unwrap().name, "gateway");
            assert!(!directory.device(router.device).unwrap().behind_router);
            let key = router.credentials.lookup_key();
            assert_eq!(directory.router_by_lookup_key(&key).unwrap().id, id.0);
            assert_eq!(directory.router_by_lookup_key("token:other"), None);
            let found = directory.device_by_name(tenant, "press 1").unwrap();
            assert_eq!(DeviceId(found.id), device);
            let expected = Device {
                tenant,
                location,
                router: id,
                name: "press 1".to_owned(),
                device_type: Some("press".to_owned()),
                behind_router: true,
            };
            assert_eq!(found.body, expected);
            assert_eq!(directory.api_token_by_hash("abc").unwrap().body, token);
            assert_eq!(directory.api_token_by_hash("abd"), None);
            assert_eq!(directory.tenant(tenant).unwrap().settings.max_devices, 10);
            assert_eq!(directory.location(location).unwrap().time_zone, "Europe/Amsterdam");
            assert_eq!(directory.device_count(tenant), 1);
            let all = directory.devices(&ListQuery { tenant: Some(tenant), ..Default::default() });
            assert_eq!(all.items.len(), 2);
        };
        look(&directory);
        directory.close().await;
        let again = backend.open();
        look(&again);
        let next = made_router(&again, location, "gateway 2").await;
        assert!(next.0 > token_id, "an id is never given out twice");
    }
}

#[tokio::test]
async fn versions_rise_and_a_stale_one_is_refused() {
    for backend in backends() {
        let directory = backend.open();
        let first = directory.create(tenant("a", 1)).await.unwrap();
        assert_eq!(first.version, 1);
        let second = directory.update(first.id, Some(1), tenant("b", 1)).await.unwrap();
        assert_eq!(second.version, 2);
        let stale = directory.update(first.id, Some(1), tenant("c", 1)).await.unwrap_err();
        let DirectoryError::VersionConflict { expected: 1, found: 2, .. } = stale else {
            panic!("{stale}")
        };
        let stale = directory.delete(first.id, Some(1)).await.unwrap_err();
        assert!(matches!(stale, DirectoryError::VersionConflict { .. }), "{stale}");
        assert_eq!(directory.update(first.id, None, tenant("d", 1)).await.unwrap().version, 3);
        directory.close().await;
        let again = backend.open();
        let found = again.tenant(TenantId(first.id)).unwrap();
        assert_eq!((found.version, found.name.as_str()), (3, "d"));
        again.delete(first.id, Some(3)).await.unwrap();
        again.create(tenant("d", 1)).await.unwrap();
        again.close().await;
        assert_eq!(backend.open().tenant(TenantId(first.id)), None);
    }
}

#[tokio::test]
async fn names_and_credentials_belong_to_one_and_are_free_again_once_let_go() {
    for backend in backends() {
        let directory = backend.open();
        let (one, here) = site(&directory, "one", 10).await;
        let (_, there) = site(&directory, "two", 10).await;
        let taken = |error: DirectoryError, wanted: DocumentKind| {
            assert!(
                matches!(&error, DirectoryError::NameTaken { kind, .. } if *kind == wanted),
                "{error}"
            );
        };
        let create = async |body| directory.create(body).await.unwrap_err();
        taken(create(tenant("two", 1)).await, DocumentKind::Tenant);
        taken(create(location(one, "site")).await, DocumentKind::Location);
        let id = made_router(&directory, here, "r").await;
        let mut same_name = router(here, "r");
        same_name.credentials = Credentials::CommonName { common_name: "cn".to_owned() };
        let refused = directory.create_routers(vec![same_name.clone()]).await.unwrap_err();
        taken(refused, DocumentKind::Device);

        let mut elsewhere = router(there, "r");
        made_router(&directory, there, "other").await;
        elsewhere.credentials = router(here, "r").credentials;
        let refused = directory.create_routers(vec![elsewhere.clone()]).await.unwrap_err();
        assert!(matches!(refused, DirectoryError::CredentialsInUse), "{refused}");
        assert_eq!(refused.to_string(), "`credentials` are already in use");

        directory.delete(id.0, None).await.unwrap();
        directory.create_routers(vec![elsewhere]).await.unwrap();
        directory.create_routers(vec![same_name]).await.unwrap();
    }
}

#[tokio::test]
async fn many_routers_are_made_together_or_not_at_all() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, location) = site(&directory, "t", 10).await;
        let query = ListQuery { tenant: Some(tenant), ..ListQuery::default() };
        let mut wanted: Vec<NewRouter> =
            (0..500).map(|n| router(location, &format!("r{n:03}"))).collect();
        wanted.push(router(location, "r250"));
        let refused = directory.create_routers(wanted.clone()).await.unwrap_err();
        let DirectoryError::Item { index: 500, source } = &refused else { panic!("{refused}") };
        assert!(matches!(**source, DirectoryError::NameTaken { .. }), "{source}");
        assert_eq!(directory.routers(&query).items.len(), 0);
        assert_eq!(directory.devices(&query).items.len(), 0);

        wanted.pop();
        let made = directory.create_routers(wanted).await.unwrap();
        assert_eq!(made.len(), 500);
        for (n, Document { id, body, .. }) in made.iter().enumerate() {
            let DocumentBody::Router(router) = body else { panic!("{body:?}") };
            assert_eq!(router.name, format!("r{n:03}"));
            let own = directory.device(router.device).unwrap();
            assert_eq!((own.router, &own.name), (RouterId(*id), &router.name));
        }
        directory.close().await;
        assert_eq!(backend.open().routers(&query).items.len(), 500);
    }
}

#[tokio::test]
async fn what_never_changes_is_refused_by_its_name() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, here) = site(&directory, "t", 10).await;
        let there = LocationId(made(&directory, location(tenant, "there")).await);
        let id = made_router(&directory, here, "r").await;
        let body = directory.router(id).unwrap().body.clone();
        let moved = Router { location: there, ..body.clone() };
        let error = directory.update(id.0, None, DocumentBody::Router(moved)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`location` is {there}: it is {here} and never changes")
        );
        let device = directory.ensure_device(id, "d", None).await.unwrap();
        let other = made_router(&directory, here, "other").await;
        let rerouted = Device { router: other, ..directory.device(device).unwrap().body.clone() };
        let error =
            directory.update(device.0, None, DocumentBody::Device(rerouted)).await.unwrap_err();
        assert!(matches!(error, DirectoryError::Invalid { field: "router", .. }), "{error}");

        let own = directory.device(body.device).unwrap();
        let renamed = Device { name: "x".to_owned(), ..own.body.clone() };
        let error =
            directory.update(own.id, None, DocumentBody::Device(renamed)).await.unwrap_err();
        assert!(matches!(error, DirectoryError::Invalid { field: "name", .. }), "{error}");
        let error = directory.delete(own.id, None).await.unwrap_err();
        assert!(matches!(error, DirectoryError::Invalid { field: "id", .. }), "{error}");

        let renamed = Router { name: "renamed".to_owned(), ..body };
        directory.update(id.0, None, DocumentBody::Router(renamed)).await.unwrap();
        assert_eq!(directory.device(DeviceId(own.id)).unwrap().name, "renamed");
        assert_eq!(directory.device_by_name(tenant, "r"), None);

        let kind = directory.update(id.0, None, self::tenant("t2", 1)).await.unwrap_err();
        assert!(matches!(kind, DirectoryError::NotFound { .. }), "{kind}");
    }
}

#[tokio::test]
async fn a_name_that_may_not_be_is_refused_with_what_may() {
    for backend in backends() {
        let directory = backend.open();
        let (_, location) = site(&directory, "t", 10).await;
        let id = made_router(&directory, location, "r").await;
        for name in ["", "a\nb", "\u{7f}", "\u{85}", &"é".repeat(128)] {
            let error = directory.ensure_device(id, name, None).await.unwrap_err();
            assert!(matches!(error, DirectoryError::Invalid { field: "name", .. }), "{error}");
            assert!(error.to_string().ends_with("1 to 255 bytes without control characters"));
            assert!(error.to_string().len() < 400);
        }
        directory.ensure_device(id, &"é".repeat(127), None).await.unwrap();
        let mut upper = router(location, "upper");
        upper.credentials = Credentials::Fingerprint { sha256: "AB".repeat(32) };
        let error = directory.create_routers(vec![upper]).await.unwrap_err();
        let DirectoryError::Invalid { field: "credentials.sha256", .. } = error else {
            panic!("{error}")
        };
    }
}

#[tokio::test]
async fn deleting_takes_what_belongs_to_it_and_refuses_what_stands_on_its_own() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, location) = site(&directory, "t", 10).await;
        let id = made_router(&directory, location, "r").await;
        let own = directory.router(id).unwrap().device;
        let behind = directory.ensure_device(id, "d", None).await.unwrap();
        let token = ApiToken {
            tenant: Some(tenant),
            name: "k".to_owned(),
            hash: "h".to_owned(),
            read_only: false,
        };
        made(&directory, DocumentBody::ApiToken(token)).await;
        for (parent, child) in
            [(tenant.0, DocumentKind::Location), (location.0, DocumentKind::Router)]
        {
            let error = directory.delete(parent, None).await.unwrap_err();
            assert!(
                matches!(error, DirectoryError::HasChildren { child: c, .. } if c == child),
                "{error}"
            );
        }
        let mut feed = directory.subscribe();
        directory.delete(id.0, None).await.unwrap();
        let mut gone = HashSet::new();
        for _ in 0..3 {
            let change = feed.try_recv().unwrap();
            assert!(change.deleted);
            gone.insert((change.kind, change.id));
        }
        let expected = [
            (DocumentKind::Router, id.0),
            (DocumentKind::Device, own.0),
            (DocumentKind::Device, behind.0),
        ];
        assert_eq!(gone, HashSet::from(expected));
        directory.delete(location.0, None).await.unwrap();
        directory.delete(tenant.0, None).await.unwrap();
        assert_eq!(directory.api_token_by_hash("h"), None);
        let error = directory.delete(tenant.0, None).await.unwrap_err();
        assert!(matches!(error, DirectoryError::NotFound { .. }), "{error}");
        directory.close().await;
        let again = backend.open();
        assert_eq!((again.device(behind), again.router(id)), (None, None));
        assert_eq!(again.tenants(&ListQuery::default()).items.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_at_once_make_no_more_devices_than_the_quota() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, location) = site(&directory, "t", 20).await;
        let id = made_router(&directory, location, "r").await;
        let calls: Vec<_> = (0..50)
            .map(|n| {
                let directory = directory.clone();
                tokio::spawn(
                    async move { directory.ensure_device(id, &format!("d{n}"), None).await },
                )
            })
            .collect();
        let (mut made, mut refused) = (HashSet::new(), 0);
        for call in calls {
            match call.await.unwrap() {
                Ok(device) => assert!(made.insert(device)),
                Err(DirectoryError::DeviceQuota { tenant: of, limit: 20 }) if of == tenant => {
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((made.len(), refused), (20, 30));
        assert_eq!(directory.device_count(tenant), 20);
        let gone = *made.iter().next().unwrap();
        directory.delete(gone.0, None).await.unwrap();
        directory.ensure_device(id, "one more", None).await.unwrap();
        directory.close().await;
        assert_eq!(backend.open().device_count(tenant), 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_at_once_for_one_name_make_one_device() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, location) = site(&directory, "t", 20).await;
        let first = made_router(&directory, location, "r1").await;
        let second = made_router(&directory, location, "r2").await;
        let calls: Vec<_> = (0..50)
            .map(|n| {
                let directory = directory.clone();
                let router = if n % 2 == 0 { first } else { second };
                tokio::spawn(async move { directory.ensure_device(router, "d", None).await })
            })
            .collect();
        let mut made = HashSet::new();
        for call in calls {
            made.insert(call.await.unwrap().unwrap());
        }
        assert_eq!(made.len(), 1);
        assert_eq!(directory.device_count(tenant), 1);
    }
}

#[tokio::test]
async fn a_device_stays_at_its_location() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, here) = site(&directory, "t", 20).await;
        let there = LocationId(made(&directory, location(tenant, "there")).await);
        let near = made_router(&directory, here, "near").await;
        let far = made_router(&directory, there, "far").await;
        directory.ensure_device(near, "d", None).await.unwrap();
        let error = directory.ensure_device(far, "d", None).await.unwrap_err();
        assert!(
            matches!(error, DirectoryError::DeviceElsewhere { location, .. } if location == here),
            "{error}"
        );
        let own = directory.ensure_device(near, "near", None).await.unwrap();
        assert_eq!(own, directory.router(near).unwrap().device);
        let nobody = directory.ensure_device(RouterId(9_999), "d", None).await.unwrap_err();
        assert!(matches!(nobody, DirectoryError::NotFound { .. }), "{nobody}");
        let (_, other) = site(&directory, "other tenant", 20).await;
        let stranger = made_router(&directory, other, "near").await;
        directory.ensure_device(stranger, "d", None).await.unwrap();
    }
}

#[tokio::test]
async fn lists_are_paged_in_order_and_filtered() {
    for backend in backends() {
        let directory = backend.open();
        let (one, here) = site(&directory, "one", 10_000).await;
        let (two, there) = site(&directory, "two", 10_000).await;
        let routers = |location, from: usize| {
            (from..from + 1_000).map(move |n| router(location, &format!("{}-{n}", n % 10)))
        };
        directory.create_routers(routers(here, 0).collect()).await.unwrap();
        directory.create_routers(routers(there, 0).collect()).await.unwrap();
        directory.create_routers(routers(here, 1_000).collect()).await.unwrap();
        let read = |query: ListQuery| {
            let (mut ids, mut query) = (Vec::new(), query);
            loop {
                let page = directory.routers(&query);
                assert!(page.items.len() <= query.limit.min(MAX_PAGE));
                ids.extend(page.items.iter().map(|entry| entry.id));
                match page.next {
                    Some(next) => query.after = Some(next),
                    None => return ids,
                }
            }
        };
        let base = ListQuery { limit: 333, ..ListQuery::default() };
        let all = read(base.clone());
        assert_eq!(all.len(), 3_000);
        assert!(all.is_sorted());
        assert_eq!(read(ListQuery { tenant: Some(one), ..base.clone() }).len(), 2_000);
        assert_eq!(read(ListQuery { location: Some(there), ..base.clone() }).len(), 1_000);
        let none = ListQuery { tenant: Some(two), location: Some(here), ..base.clone() };
        assert_eq!(read(none).len(), 0);
        let named = ListQuery { tenant: Some(one), name: Some("7-".to_owned()), ..base };
        assert_eq!(read(named).len(), 200);
    }
}

#[tokio::test]
async fn locations_are_found_by_their_groups_before_and_after_opening_anew() {
    for backend in backends() {
        let directory = backend.open();
        let grouped = |tenant, name: &str, groups: &[&str]| {
            let DocumentBody::Location(mut body) = location(tenant, name) else { unreachable!() };
            body.groups = groups.iter().map(|group| (*group).to_owned()).collect();
            DocumentBody::Location(body)
        };
        let one = TenantId(made(&directory, tenant("one", 1)).await);
        let two = TenantId(made(&directory, tenant("two", 1)).await);
        let a = made(&directory, grouped(one, "a", &["Coast", "Cold"])).await;
        let b = made(&directory, grouped(one, "b", &["Coast"])).await;
        let c = made(&directory, grouped(two, "c", &["Coast"])).await;
        let d = made(&directory, grouped(one, "d", &[])).await;
        directory.update(b, None, grouped(one, "b", &["Cold", "Inland"])).await.unwrap();
        directory.update(d, None, grouped(one, "d", &["Coast"])).await.unwrap();
        directory.delete(d, None).await.unwrap();
        let look = |directory: &Directory| {
            let found = |tenant, group: &str| {
                let group = Some(group.to_owned());
                let mut query = ListQuery { tenant, group, limit: 1, ..ListQuery::default() };
                let mut ids = Vec::new();
                loop {
                    let page = directory.locations(&query);
                    ids.extend(page.items.iter().map(|entry| entry.id));
                    query.after = page.next;
                    if query.after.is_none() {
                        return ids;
                    }
                }
            };
            assert_eq!(found(Some(one), "Coast"), [a]);
            assert_eq!(found(Some(one), "Cold"), [a, b]);
            assert_eq!(found(Some(two), "Coast"), [c]);
            assert_eq!(found(Some(two), "Cold"), [0; 0]);
            assert_eq!(found(None, "Coast"), [a, c]);
            assert_eq!(found(None, "coast"), [0; 0]);
            let query = GroupQuery { tenant: Some(one), limit: 10, ..GroupQuery::default() };
            let groups = directory.location_groups(&query);
            let groups: Vec<(&str, usize)> =
                groups.iter().map(|group| (group.name.as_str(), group.locations)).collect();
            assert_eq!(groups, [("Coast", 1), ("Cold", 2), ("Inland", 1)]);
        };
        look(&directory);
        let many: Vec<String> = (0..33).map(|n| format!("g{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let too_long = "x".repeat(65);
        for groups in [&many[..], &["a", "b", "a"], &[""], &[" a"], &["a\tb"], &[too_long.as_str()]]
        {
            let error = directory.create(grouped(one, "e", groups)).await.unwrap_err();
            assert!(matches!(error, DirectoryError::Invalid { field: "groups", .. }), "{error}");
            let error = directory.update(a, None, grouped(one, "a", groups)).await.unwrap_err();
            assert!(matches!(error, DirectoryError::Invalid { field: "groups", .. }), "{error}");
        }
        let full = made(&directory, grouped(one, "e", &many[..32])).await;
        directory.delete(full, None).await.unwrap();
        directory.close().await;
        drop(directory);
        look(&backend.open());
    }
}

#[tokio::test]
async fn a_revoked_router_reaches_who_listens_and_who_lags_is_told() {
    for backend in backends() {
        let directory = backend.open();
        let (_, location) = site(&directory, "t", 1_000_000).await;
        let id = made_router(&directory, location, "r").await;
        let mut feed = directory.subscribe();
        let enabled = directory.router(id).unwrap();
        let body = Router { enabled: false, ..enabled.body.clone() };
        directory.update(id.0, None, DocumentBody::Router(body)).await.unwrap();
        let change =
            tokio::time::timeout(Duration::from_secs(30), feed.recv()).await.unwrap().unwrap();
        assert_eq!((change.kind, change.id, change.version), (DocumentKind::Router, id.0, 2));
        assert!(!change.deleted && !directory.router(id).unwrap().enabled);
        assert_eq!(feed.try_recv(), Err(TryRecvError::Empty));

        for batch in 0..=CHANGE_FEED_CAPACITY / 2_000 {
            let routers = (0..1_000).map(|n| router(location, &format!("{batch}-{n}")));
            directory.create_routers(routers.collect()).await.unwrap();
        }
        assert!(matches!(feed.recv().await, Err(RecvError::Lagged(_))));
        let mut last = feed.recv().await.unwrap().sequence;
        while let Ok(change) = feed.try_recv() {
            assert_eq!(change.sequence, last + 1);
            last = change.sequence;
        }
    }
}

#[tokio::test]
async fn after_closing_writes_are_refused_and_reads_go_on() {
    for backend in backends() {
        let directory = backend.open();
        let (tenant, location) = site(&directory, "t", 5).await;
        directory.close().await;
        directory.close().await;
        let error = directory.create_routers(vec![router(location, "r")]).await.unwrap_err();
        assert!(matches!(error, DirectoryError::Closed), "{error}");
        assert_eq!(directory.tenant(tenant).unwrap().name, "t");
    }
}
