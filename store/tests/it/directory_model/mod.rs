//! The directory against a naïve model of it: a list of documents that is
//! searched from end to end. Steps are drawn at random and opening anew is one
//! of them; after each the two must give the same answers.

mod naive;
mod told;

use prometheus::Registry;
use proptest::prelude::*;
use schema::{
    Credentials, DeviceId, DocumentBody, Location, LocationId, Router, RouterId, Tenant, TenantId,
    TenantSettings,
};
use store::{Directory, DirectoryError, ListQuery, NewRouter, PostgresOptions};

use naive::Model;

use super::place::Place;

const MAX_DEVICES: u32 = 3;

/// A step; the numbers pick among what there is, modulo how many.
#[derive(Clone, Debug)]
enum Step {
    Tenant {
        name: u8,
    },
    Location {
        tenant: u8,
        name: u8,
    },
    Router {
        location: u8,
        name: u8,
        credentials: u8,
    },
    Routers {
        location: u8,
        names: Vec<u8>,
    },
    Ensure {
        router: u8,
        name: u8,
    },
    Rename {
        id: u8,
        name: u8,
        version: Option<u8>,
    },
    Credentials {
        router: u8,
        credentials: u8,
        enabled: bool,
    },
    Delete {
        id: u8,
    },
    Told(told::Step),
    /// Several at once, so that they share a transaction.
    Together {
        router: u8,
        names: Vec<u8>,
    },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..6u8;
    prop_oneof![
        1 => name.clone().prop_map(|name| Step::Tenant { name }),
        2 => (any::<u8>(), name.clone()).prop_map(|(tenant, name)| Step::Location { tenant, name }),
        4 => (any::<u8>(), name.clone(), 0..8u8).prop_map(|(location, name, credentials)| {
            Step::Router { location, name, credentials }
        }),
        1 => (any::<u8>(), prop::collection::vec(0..12u8, 2..5))
            .prop_map(|(location, names)| Step::Routers { location, names }),
        5 => (any::<u8>(), 0..9u8).prop_map(|(router, name)| Step::Ensure { router, name }),
        3 => (any::<u8>(), name, prop::option::of(1..4u8))
            .prop_map(|(id, name, version)| Step::Rename { id, name, version }),
        2 => (any::<u8>(), 0..8u8, any::<bool>()).prop_map(|(router, credentials, enabled)| {
            Step::Credentials { router, credentials, enabled }
        }),
        2 => any::<u8>().prop_map(|id| Step::Delete { id }),
        2 => (any::<u8>(), prop::collection::vec(0..9u8, 2..6))
            .prop_map(|(router, names)| Step::Together { router, names }),
        6 => told::step().prop_map(Step::Told),
        1 => Just(Step::Reopen),
    ]
}

fn credentials(n: u8) -> Credentials {
    match n % 3 {
        0 => Credentials::AccessToken { hash: format!("h{n}") },
        1 => Credentials::Password {
            user: format!("u{n}"),
            client_id: None,
            password_hash: "$argon2id$".to_owned(),
        },
        _ => Credentials::CommonName { common_name: format!("c{n}") },
    }
}

fn pick(ids: &[u64], n: u8) -> Option<u64> {
    (!ids.is_empty()).then(|| ids[usize::from(n) % ids.len()])
}

struct Run {
    place: Place,
    directory: Directory,
    model: Model,
}

fn open(place: &Place) -> Directory {
    let registry = Registry::new();
    let postgres = |url: &str| {
        Directory::open_postgres(&PostgresOptions::parse(url).unwrap(), &registry).unwrap()
    };
    place.open(|dir| Directory::open_embedded(dir, &registry).unwrap(), postgres)
}

/// Applies the steps and looks after each.
fn go(place: Place, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = open(&place);
        let mut run = Run { place, directory, model: Model::default() };
        for step in steps {
            run.apply(step).await;
            run.compare();
        }
        run.apply(Step::Reopen).await;
        run.compare();
    });
}

impl Run {
    async fn apply(&mut self, step: Step) {
        match step {
            Step::Tenant { name } => self.tenant(format!("n{name}")).await,
            Step::Location { tenant, name } => self.location(tenant, format!("n{name}")).await,
            Step::Router { location, name, credentials: c } => {
                self.routers(location, vec![(format!("n{name}"), credentials(c))]).await;
            }
            Step::Routers { location, names } => {
                let new = names.iter().map(|n| (format!("n{n}"), credentials(n + 30))).collect();
                self.routers(location, new).await;
            }
            Step::Ensure { router, name } => self.ensure(router, vec![name]).await,
            Step::Together { router, names } => self.ensure(router, names).await,
            Step::Rename { id, name, version } => {
                self.rename(id, format!("n{name}"), version.map(u64::from)).await;
            }
            Step::Credentials { router, credentials: c, enabled } => {
                self.credentials(router, credentials(c), enabled).await;
            }
            Step::Delete { id } => self.delete(id).await,
            Step::Told(step) => self.apply_told(step).await,
            Step::Reopen => {
                self.directory.close().await;
                self.directory = open(&self.place);
            }
        }
    }

    async fn tenant(&mut self, name: String) {
        let taken =
            self.model.documents.values().any(
                |(_, body)| matches!(body, DocumentBody::Tenant(tenant) if tenant.name == name),
            );
        let settings = TenantSettings { max_devices: MAX_DEVICES, ..TenantSettings::default() };
        let body = DocumentBody::Tenant(Tenant { name, settings });
        let refusal = taken.then_some("name_taken");
        let made = self.directory.create(body.clone()).await;
        if let Some(made) = agree(made, refusal) {
            self.model.documents.insert(made.id, (1, body));
        }
    }

    async fn location(&mut self, tenant: u8, name: String) {
        let Some(tenant) = pick(&self.model.tenants(), tenant).map(TenantId) else { return };
        let taken = self.model.documents.values().any(|(_, body)| {
            matches!(body, DocumentBody::Location(l) if l.tenant == tenant && l.name == name)
        });
        let body = DocumentBody::Location(Location {
            tenant,
            name,
            time_zone: "UTC".to_owned(),
            groups: Vec::new(),
        });
        let refusal = taken.then_some("name_taken");
        let made = self.directory.create(body.clone()).await;
        if let Some(made) = agree(made, refusal) {
            self.model.documents.insert(made.id, (1, body));
        }
    }

    async fn routers(&mut self, location: u8, new: Vec<(String, Credentials)>) {
        let Some(location) = pick(&self.model.locations(), location).map(LocationId) else {
            return;
        };
        let new: Vec<NewRouter> = new
            .into_iter()
            .map(|(name, credentials)| NewRouter {
                location,
                name,
                credentials,
                enabled: true,
                cloud_host: None,
                send_interval_s: None,
            })
            .collect();
        let mut after = self.model.clone();
        let mut refusal = None;
        for (n, router) in new.iter().enumerate() {
            refusal = after.refusal(router);
            if refusal.is_some() {
                break;
            }
            // Ids that the directory has not given out: only names count here.
            let id = u64::MAX - 2 * n as u64;
            after.take_router(id, id - 1, router);
        }
        let made = self.directory.create_routers(new.clone()).await;
        if let Some(made) = agree(made, refusal) {
            for (router, made) in new.iter().zip(made) {
                let DocumentBody::Router(body) = made.body else { unreachable!() };
                self.model.take_router(made.id, body.device.0, router);
            }
        }
    }

    /// The names at once; the writer may take them in any grouping, but in
    /// this order.
    async fn ensure(&mut self, router: u8, names: Vec<u8>) {
        let Some(router) = pick(&self.model.routers(), router) else { return };
        let names: Vec<String> = names.iter().map(|n| format!("n{n}")).collect();
        let mut calls = tokio::task::JoinSet::new();
        for (n, name) in names.iter().cloned().enumerate() {
            let directory = self.directory.clone();
            calls.spawn(async move {
                (n, directory.ensure_device(RouterId(router), &name, None).await)
            });
        }
        let mut outcomes = calls.join_all().await;
        outcomes.sort_by_key(|(n, _)| *n);
        for (n, outcome) in outcomes {
            let refusal = self.model.refuses_device(router, &names[n]);
            if let Some(device) = agree(outcome, refusal) {
                self.model.take_device(router, &names[n], device);
            }
        }
    }

    async fn rename(&mut self, id: u8, name: String, expected: Option<u64>) {
        let ids: Vec<u64> = self.model.documents.keys().copied().collect();
        let Some(id) = pick(&ids, id) else { return };
        let (version, mut body) = self.model.documents[&id].clone();
        let others = |wanted: &dyn Fn(&DocumentBody) -> bool| {
            self.model.documents.iter().any(|(&other, (_, body))| other != id && wanted(body))
        };
        let mut own = None;
        let mut refusal = match &mut body {
            DocumentBody::Tenant(tenant) => {
                tenant.name.clone_from(&name);
                others(&|body| matches!(body, DocumentBody::Tenant(t) if t.name == name))
                    .then_some("name_taken")
            }
            DocumentBody::Location(location) => {
                location.name.clone_from(&name);
                let tenant = location.tenant;
                others(&|body| {
                    matches!(body, DocumentBody::Location(l) if l.tenant == tenant && l.name == name)
                })
                .then_some("name_taken")
            }
            DocumentBody::Router(router) => {
                let same = router.name == name;
                router.name.clone_from(&name);
                own = (!same).then_some(router.device.0);
                (!same && self.model.device_named(router.tenant, &name).is_some())
                    .then_some("name_taken")
            }
            DocumentBody::Device(device) => {
                let same = device.name == name;
                device.name.clone_from(&name);
                if !device.behind_router && !same {
                    Some("invalid")
                } else {
                    let holder = self.model.device_named(device.tenant, &name);
                    holder.is_some_and(|(other, _)| other != id).then_some("name_taken")
                }
            }
            DocumentBody::ApiToken(_) | DocumentBody::Forwarder(_) => {
                unreachable!("none are made here")
            }
            other => self.model.told_renamed(id, other, &name),
        };
        if expected.is_some_and(|expected| expected != version) {
            refusal = Some("version_conflict");
        }
        let made = self.directory.update(id, expected, body.clone()).await;
        if let Some(made) = agree(made, refusal) {
            assert_eq!(made.version, version + 1);
            self.model.documents.insert(id, (version + 1, body));
            if let Some(own) = own {
                let (version, body) = self.model.documents.get_mut(&own).unwrap();
                *version += 1;
                let DocumentBody::Device(device) = body else { unreachable!() };
                device.name = name;
            }
        }
    }

    async fn credentials(&mut self, router: u8, credentials: Credentials, enabled: bool) {
        let Some(id) = pick(&self.model.routers(), router) else { return };
        let holder = self.model.router_with(&credentials);
        let refusal = holder.is_some_and(|other| other != id).then_some("credentials_in_use");
        let version = self.model.documents[&id].0;
        let body = Router { credentials, enabled, ..self.model.router(id).clone() };
        let body = DocumentBody::Router(body);
        let made = self.directory.update(id, Some(version), body.clone()).await;
        if agree(made, refusal).is_some() {
            self.model.documents.insert(id, (version + 1, body));
        }
    }

    async fn delete(&mut self, id: u8) {
        let ids: Vec<u64> = self.model.documents.keys().copied().collect();
        let Some(id) = pick(&ids, id) else { return };
        let (version, body) = self.model.documents[&id].clone();
        let below = self.model.ids(|body| Model::belongs_to(body, id));
        let refusal = match &body {
            DocumentBody::Tenant(_) if self.model.has_locations(id) => Some("has_children"),
            DocumentBody::Location(_) if !below.is_empty() => Some("has_children"),
            DocumentBody::Device(device) if !device.behind_router => Some("invalid"),
            DocumentBody::User(_) if self.model.is_last_recipient(id) => Some("last_recipient"),
            _ => None,
        };
        if agree(self.directory.delete(id, Some(version)).await, refusal).is_some() {
            self.model.documents.remove(&id);
            for id in below {
                self.model.documents.remove(&id);
            }
            self.model.leave(id);
        }
    }

    fn compare(&self) {
        let mut count = 0;
        for (&id, (version, body)) in &self.model.documents {
            let found = match body {
                DocumentBody::Tenant(_) => self
                    .directory
                    .tenant(TenantId(id))
                    .map(|e| (e.version, DocumentBody::Tenant(e.body.clone()))),
                DocumentBody::Location(_) => self
                    .directory
                    .location(LocationId(id))
                    .map(|e| (e.version, DocumentBody::Location(e.body.clone()))),
                DocumentBody::Router(router) => {
                    let key = router.credentials.lookup_key();
                    let holder = self.directory.router_by_lookup_key(&key);
                    assert_eq!(holder.map(|entry| entry.id), Some(id));
                    self.directory
                        .router(RouterId(id))
                        .map(|e| (e.version, DocumentBody::Router(e.body.clone())))
                }
                DocumentBody::Device(device) => {
                    let holder = self.directory.device_by_name(device.tenant, &device.name);
                    assert_eq!(holder.map(|entry| entry.id), Some(id));
                    self.directory
                        .device(DeviceId(id))
                        .map(|e| (e.version, DocumentBody::Device(e.body.clone())))
                }
                DocumentBody::ApiToken(_) | DocumentBody::Forwarder(_) => {
                    unreachable!("none are made here")
                }
                told => self.found_told(id, told),
            };
            assert_eq!(found.as_ref(), Some(&(*version, body.clone())));
            count += 1;
        }
        let query = ListQuery::default();
        let ids = |wanted: Vec<u64>, found: Vec<u64>| assert_eq!(found, wanted);
        let d = &self.directory;
        ids(self.model.tenants(), d.tenants(&query).items.iter().map(|e| e.id).collect());
        ids(self.model.locations(), d.locations(&query).items.iter().map(|e| e.id).collect());
        ids(self.model.routers(), d.routers(&query).items.iter().map(|e| e.id).collect());
        let listed = d.tenants(&query).items.len()
            + d.locations(&query).items.len()
            + d.routers(&query).items.len()
            + d.devices(&query).items.len()
            + self.compare_told();
        assert_eq!(listed, count);
        for n in 0..9u8 {
            for n in [n, n + 30] {
                let found = d.router_by_lookup_key(&credentials(n).lookup_key());
                let expected = self.model.router_with(&credentials(n));
                assert_eq!(found.map(|entry| entry.id), expected);
            }
        }
        self.compare_children();
    }

    fn compare_children(&self) {
        let d = &self.directory;
        for tenant in self.model.tenants().into_iter().map(TenantId) {
            assert_eq!(d.device_count(tenant) as usize, self.model.behind(tenant));
        }
        for (&parent, (_, body)) in &self.model.documents {
            let mut query = ListQuery::default();
            match body {
                DocumentBody::Tenant(_) => query.tenant = Some(TenantId(parent)),
                DocumentBody::Location(_) => query.location = Some(LocationId(parent)),
                DocumentBody::Router(_) => query.router = Some(RouterId(parent)),
                _ => continue,
            }
            let found: Vec<u64> = d.devices(&query).items.iter().map(|e| e.id).collect();
            let expected = self.model.ids(|body| {
                matches!(body, DocumentBody::Device(_)) && Model::belongs_to(body, parent)
            });
            assert_eq!(found, expected);
        }
    }
}

/// Both refuse for the same reason, or both agree.
fn agree<T>(outcome: Result<T, DirectoryError>, refusal: Option<&'static str>) -> Option<T> {
    match outcome {
        Ok(made) => {
            assert_eq!(refusal, None, "the model refuses");
            Some(made)
        }
        Err(error) => {
            assert_eq!(Some(error.reason()), refusal, "{error}");
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn does_as_the_naive_model_does(steps in prop::collection::vec(step(), 1..80)) {
        go(Place::folder(), steps);
    }
}

proptest! {
    // Each in a database of its own.
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn does_as_the_naive_model_does_in_postgres(steps in prop::collection::vec(step(), 1..80)) {
        go(Place::postgres(), steps);
    }
}
