//! Requests that share a transaction see each other, whatever the timing.

use schema::{TenantSettings, TimestampMs};

use super::super::index::Index;
use super::*;

fn tenant(name: &str, max_devices: u32) -> DocumentBody {
    let settings = TenantSettings { max_devices, ..TenantSettings::default() };
    DocumentBody::Tenant(Tenant { name: name.to_owned(), settings })
}

/// Runs requests in one draft and shows what became of each.
fn together(index: &Index, requests: Vec<Request>) -> (Vec<&'static str>, usize) {
    let mut ids = 100..200;
    let mut draft = Draft::new(index, &mut ids, TimestampMs(5));
    let outcomes = requests
        .into_iter()
        .map(|request| match apply(&mut draft, request) {
            Ok(_) => "done",
            Err(error) => error.reason(),
        })
        .collect();
    (outcomes, draft.into_writes().len())
}

fn delete(id: u64) -> Request {
    Request::Delete { id, expected_version: None }
}

fn ensure(name: &str) -> Request {
    Request::EnsureDevice { router: RouterId(3), name: name.to_owned(), device_type: None }
}

/// Tenant 1, location 2, router 3 with its own device 4.
fn site() -> Index {
    let mut index = Index::default();
    let mut put = |id, body| {
        index.insert(Document { id, version: 1, changed_at: TimestampMs(1), body });
    };
    let (tenant, location, router) = (TenantId(1), LocationId(2), RouterId(3));
    put(1, self::tenant("t", 1));
    let time_zone = "UTC".to_owned();
    put(
        2,
        DocumentBody::Location(Location {
            tenant,
            name: "l".to_owned(),
            time_zone,
            groups: Vec::new(),
        }),
    );
    let name = "r".to_owned();
    let credentials = Credentials::AccessToken { hash: "h".to_owned() };
    let device = DeviceId(4);
    let enabled = true;
    let body = Router {
        tenant,
        location,
        name: name.clone(),
        device,
        credentials,
        enabled,
        cloud_host: None,
        send_interval_s: None,
    };
    put(3, DocumentBody::Router(body));
    let own = Device { tenant, location, router, name, device_type: None, behind_router: false };
    put(4, DocumentBody::Device(own));
    index
}

fn new_router(name: &str) -> Request {
    let credentials = Credentials::AccessToken { hash: "h".to_owned() };
    let name = name.to_owned();
    Request::CreateRouters(vec![NewRouter {
        location: LocationId(2),
        name,
        credentials,
        enabled: true,
        cloud_host: None,
        send_interval_s: None,
    }])
}

#[test]
fn a_name_and_credentials_let_go_are_free_within_the_transaction() {
    let requests = vec![new_router("x"), delete(3), new_router("r"), new_router("y")];
    let (outcomes, writes) = together(&site(), requests);
    let in_use = "credentials_in_use";
    assert_eq!(outcomes, [in_use, "done", "done", in_use]);
    assert_eq!(writes, 4, "a router and its device, twice");
    let rename = Request::Update { id: 1, expected_version: None, body: tenant("u", 1) };
    let create = |name| Request::Create(tenant(name, 1));
    let (outcomes, _) = together(&site(), vec![create("t"), rename, create("t"), create("u")]);
    assert_eq!(outcomes, ["name_taken", "done", "done", "name_taken"]);
}

#[test]
fn a_parent_deleted_within_the_transaction_takes_no_more_children() {
    let requests = vec![delete(2), delete(3), delete(2), new_router("x"), ensure("d"), delete(1)];
    let (outcomes, _) = together(&site(), requests);
    assert_eq!(outcomes, ["has_children", "done", "done", "not_found", "not_found", "done"]);
}

#[test]
fn a_child_made_within_the_transaction_keeps_its_parent() {
    let mut index = site();
    for id in [4, 3] {
        index.remove(id);
    }
    let requests = vec![new_router("x"), delete(2), delete(1)];
    let (outcomes, _) = together(&index, requests);
    assert_eq!(outcomes, ["done", "has_children", "has_children"]);
}

#[test]
fn what_is_refused_leaves_the_quota_and_the_names_as_they_were() {
    let too_many = |names: [&str; 2]| {
        let router = |name: &str, hash: &str| NewRouter {
            location: LocationId(2),
            name: name.to_owned(),
            credentials: Credentials::AccessToken { hash: hash.to_owned() },
            enabled: true,
            cloud_host: None,
            send_interval_s: None,
        };
        Request::CreateRouters(vec![router(names[0], "h1"), router(names[1], "h1")])
    };
    let requests = vec![too_many(["a", "b"]), ensure("a"), ensure("b"), too_many(["c", "a"])];
    let (outcomes, writes) = together(&site(), requests);
    assert_eq!(outcomes, ["credentials_in_use", "done", "device_quota", "name_taken"]);
    assert_eq!(writes, 1);
}
