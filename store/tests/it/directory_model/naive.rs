//! The naïve directory: a list that is searched from end to end.

use std::collections::BTreeMap;

use schema::{Credentials, Device, DeviceId, DocumentBody, Router, RouterId, TenantId};
use store::NewRouter;

use super::MAX_DEVICES;

/// All live documents with their versions.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub documents: BTreeMap<u64, (u64, DocumentBody)>,
}

impl Model {
    pub fn tenants(&self) -> Vec<u64> {
        self.ids(|body| matches!(body, DocumentBody::Tenant(_)))
    }

    pub fn locations(&self) -> Vec<u64> {
        self.ids(|body| matches!(body, DocumentBody::Location(_)))
    }

    pub fn routers(&self) -> Vec<u64> {
        self.ids(|body| matches!(body, DocumentBody::Router(_)))
    }

    pub fn ids(&self, wanted: impl Fn(&DocumentBody) -> bool) -> Vec<u64> {
        self.documents.iter().filter(|(_, (_, body))| wanted(body)).map(|(&id, _)| id).collect()
    }

    pub fn router(&self, id: u64) -> &Router {
        let DocumentBody::Router(router) = &self.documents[&id].1 else { unreachable!() };
        router
    }

    pub fn device_named(&self, tenant: TenantId, name: &str) -> Option<(u64, &Device)> {
        self.documents.iter().find_map(|(&id, (_, body))| match body {
            DocumentBody::Device(device) if device.tenant == tenant && device.name == name => {
                Some((id, device))
            }
            _ => None,
        })
    }

    pub fn behind(&self, tenant: TenantId) -> usize {
        self.ids(
            |body| matches!(body, DocumentBody::Device(d) if d.tenant == tenant && d.behind_router),
        )
        .len()
    }

    pub fn router_with(&self, credentials: &Credentials) -> Option<u64> {
        self.ids(|body| matches!(body, DocumentBody::Router(r) if &r.credentials == credentials))
            .first()
            .copied()
    }

    /// Whether a new router would be taken, as a reason's name.
    pub fn refusal(&self, new: &NewRouter) -> Option<&'static str> {
        let DocumentBody::Location(location) = &self.documents[&new.location.0].1 else {
            unreachable!()
        };
        if self.device_named(location.tenant, &new.name).is_some() {
            return Some("name_taken");
        }
        self.router_with(&new.credentials).map(|_| "credentials_in_use")
    }

    pub fn refuses_device(&self, id: u64, name: &str) -> Option<&'static str> {
        let router = self.router(id);
        match self.device_named(router.tenant, name) {
            Some((_, device)) if device.location == router.location => None,
            Some(_) => Some("device_elsewhere"),
            None if self.behind(router.tenant) >= MAX_DEVICES as usize => Some("device_quota"),
            None => None,
        }
    }

    pub fn take_device(&mut self, router: u64, name: &str, made: DeviceId) {
        let Router { tenant, location, .. } = *self.router(router);
        if let Some((known, _)) = self.device_named(tenant, name) {
            assert_eq!(made.0, known);
            return;
        }
        let (router, name) = (RouterId(router), name.to_owned());
        let device =
            Device { tenant, location, router, name, device_type: None, behind_router: true };
        assert!(self.documents.insert(made.0, (1, DocumentBody::Device(device))).is_none());
    }

    pub fn belongs_to(body: &DocumentBody, parent: u64) -> bool {
        match body {
            DocumentBody::Tenant(_) | DocumentBody::ApiToken(_) | DocumentBody::Forwarder(_) => {
                false
            }
            DocumentBody::Location(location) => location.tenant.0 == parent,
            DocumentBody::Router(router) => {
                router.tenant.0 == parent || router.location.0 == parent
            }
            DocumentBody::Device(device) => {
                [device.tenant.0, device.location.0, device.router.0].contains(&parent)
            }
            DocumentBody::User(user) => user.tenant.0 == parent,
            DocumentBody::Subscription(it) => [it.tenant.0, it.user.0].contains(&parent),
            DocumentBody::OfflineProfile(profile) => profile.tenant.0 == parent,
            DocumentBody::MessageTemplate(template) => template.tenant.0 == parent,
        }
    }
}

impl Model {
    pub fn take_router(&mut self, id: u64, device: u64, new: &NewRouter) {
        let DocumentBody::Location(place) = &self.documents[&new.location.0].1 else {
            unreachable!()
        };
        let (tenant, location, name) = (place.tenant, new.location, new.name.clone());
        let own = Device {
            tenant,
            location,
            router: RouterId(id),
            name: name.clone(),
            device_type: None,
            behind_router: false,
        };
        let credentials = new.credentials.clone();
        let device_id = DeviceId(device);
        let router = Router {
            tenant,
            location,
            name,
            device: device_id,
            credentials,
            enabled: true,
            cloud_host: None,
            send_interval_s: None,
        };
        assert!(self.documents.insert(id, (1, DocumentBody::Router(router))).is_none());
        assert!(self.documents.insert(device, (1, DocumentBody::Device(own))).is_none());
    }
}
