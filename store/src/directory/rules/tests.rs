//! Requests that share a transaction see each other, whatever the timing.

use schema::{
    Channel, ChannelLimits, Language, MessageTemplate, Moment, OfflineProfile, Scope, Severity,
    Subscription, TemplateKind, TenantSettings, TimestampMs,
};

use super::super::index::Index;
use super::super::limits::{MAX_OFFLINE_PROFILES, MAX_SUBSCRIPTIONS, MAX_USERS};
use super::*;

fn tenant(name: &str, max_devices: u32) -> DocumentBody {
    let settings = TenantSettings { max_devices, ..TenantSettings::default() };
    DocumentBody::Tenant(Tenant { name: name.to_owned(), settings })
}

/// Runs requests in one draft and shows what became of each.
fn together(index: &Index, requests: Vec<Request>) -> (Vec<&'static str>, usize) {
    let mut ids = 100..10_000;
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

fn person(name: &str) -> User {
    User {
        tenant: TenantId(1),
        name: name.to_owned(),
        email: Some("a@b.nl".to_owned()),
        phone: None,
        webhook: None,
        language: Language::En,
        time_zone: "UTC".to_owned(),
        quiet_hours: Vec::new(),
        limits: ChannelLimits::default(),
        enabled: true,
    }
}

fn subscription(user: u64, scope: Scope) -> Request {
    Request::Create(DocumentBody::Subscription(Subscription {
        tenant: TenantId(1),
        user: UserId(user),
        scope,
        channels: vec![Channel::Email],
        rules: Vec::new(),
        severity_from: Severity::Minor,
        on: vec![Moment::Raised],
        unacknowledged_for_s: 0,
        repeat_s: 0,
        enabled: true,
    }))
}

fn offline_profile(name: &str, users: &[u64]) -> Request {
    Request::Create(DocumentBody::OfflineProfile(OfflineProfile {
        tenant: TenantId(1),
        name: name.to_owned(),
        scope: Scope::default(),
        after_s: 600,
        repeat_s: 0,
        users: users.iter().map(|id| UserId(*id)).collect(),
        channels: vec![Channel::Email],
        emails: Vec::new(),
        phones: Vec::new(),
        language: Language::En,
        time_zone: "UTC".to_owned(),
        when_back: true,
        enabled: true,
    }))
}

/// The site with user 5.
fn site_with_user() -> Index {
    let mut index = site();
    let body = DocumentBody::User(person("eva"));
    index.insert(Document { id: 5, version: 1, changed_at: TimestampMs(1), body });
    index
}

#[test]
fn a_tenant_has_only_so_many_of_each_kind() {
    let user = |n: u32| Request::Create(DocumentBody::User(person(&format!("u{n}"))));
    let template = |kind| {
        Request::Create(DocumentBody::MessageTemplate(MessageTemplate {
            tenant: TenantId(1),
            channel: Channel::Sms,
            language: Language::En,
            kind,
            subject: None,
            text: "t".to_owned(),
            html: None,
        }))
    };
    let whole = || Scope::default();
    // There is a user already; one that goes makes room for another.
    let users = (0..MAX_USERS).map(user).chain([delete(5), user(MAX_USERS), user(0)]);
    let (outcomes, _) = together(&site_with_user(), users.collect());
    let (full, last) = outcomes.split_at(MAX_USERS as usize - 1);
    assert!(full.iter().all(|outcome| *outcome == "done"));
    assert_eq!(last, ["too_many", "done", "done", "too_many"]);

    let many = (0..=MAX_SUBSCRIPTIONS).map(|_| subscription(5, whole()));
    let (outcomes, writes) = together(&site_with_user(), many.collect());
    assert_eq!((outcomes.last(), writes), (Some(&"too_many"), MAX_SUBSCRIPTIONS as usize));

    let many = (0..=MAX_OFFLINE_PROFILES).map(|n| offline_profile(&n.to_string(), &[5]));
    let (outcomes, writes) = together(&site_with_user(), many.collect());
    assert_eq!((outcomes.last(), writes), (Some(&"too_many"), MAX_OFFLINE_PROFILES as usize));

    // Of templates there are fewer kinds than a tenant may have.
    let all = TemplateKind::ALL.map(template).into_iter().chain([template(TemplateKind::Test)]);
    let (outcomes, _) = together(&site(), all.collect());
    assert_eq!(outcomes[7..], ["done", "template_taken"]);
}

#[test]
fn who_is_told_follows_what_goes_within_the_transaction() {
    let mut index = site_with_user();
    for id in [4, 3] {
        index.remove(id);
    }
    let here = || Scope { locations: vec![LocationId(2)], groups: Vec::new() };
    // Staged beside the index, so that both are searched.
    let requests = vec![
        subscription(5, here()),
        subscription(5, Scope::default()),
        offline_profile("p", &[5]),
        delete(5),
        delete(102),
        delete(2),
        subscription(5, here()),
        delete(100),
        delete(5),
        delete(101),
        delete(1),
    ];
    let (outcomes, _) = together(&index, requests);
    assert_eq!(
        outcomes,
        [
            "done",
            "done",
            "done",
            "last_recipient",
            "done",
            "done",
            "invalid",
            "not_found",
            "done",
            "not_found",
            "done",
        ]
    );
}
