//! Documents by id, as far as the token's tenant goes: what is out of sight is
//! answered as what is not there.

use std::sync::Arc;

use schema::{
    ApiToken, Device, DeviceId, Forwarder, Location, LocationId, MessageTemplate, OfflineProfile,
    Router, RouterId, Subscription, Tenant, TenantId, User, UserId,
};
use store::{Directory, Entry};

use super::auth::Access;
use super::problem::{ApiResult, Problem};

type Found<T> = ApiResult<Arc<Entry<T>>>;

pub fn tenant(directory: &Directory, access: &Access, id: TenantId) -> Found<Tenant> {
    let found = directory.tenant(id).filter(|_| access.sees(id));
    found.ok_or_else(|| Problem::not_found("tenant", id))
}

pub fn location(directory: &Directory, access: &Access, id: LocationId) -> Found<Location> {
    let found = directory.location(id).filter(|entry| access.sees(entry.tenant));
    found.ok_or_else(|| Problem::not_found("location", id))
}

pub fn router(directory: &Directory, access: &Access, id: RouterId) -> Found<Router> {
    let found = directory.router(id).filter(|entry| access.sees(entry.tenant));
    found.ok_or_else(|| Problem::not_found("router", id))
}

pub fn device(directory: &Directory, access: &Access, id: DeviceId) -> Found<Device> {
    let found = directory.device(id).filter(|entry| access.sees(entry.tenant));
    found.ok_or_else(|| Problem::not_found("device", id))
}

pub fn forwarder(directory: &Directory, access: &Access, id: u64) -> Found<Forwarder> {
    let found = directory.forwarder(id).filter(|entry| access.sees(entry.tenant));
    found.ok_or_else(|| Problem::not_found("forwarder", id))
}

/// A token of the whole installation is in sight of such tokens only.
pub fn token(directory: &Directory, access: &Access, id: u64) -> Found<ApiToken> {
    let seen = |entry: &Arc<Entry<ApiToken>>| match entry.tenant {
        Some(tenant) => access.sees(tenant),
        None => access.tenant().is_none(),
    };
    directory.api_token(id).filter(seen).ok_or_else(|| Problem::not_found("token", id))
}

pub fn user(directory: &Directory, access: &Access, id: UserId) -> Found<User> {
    let found = directory.user(id).filter(|entry| access.sees(entry.tenant));
    found.ok_or_else(|| Problem::not_found("user", id))
}

pub fn subscription(directory: &Directory, access: &Access, id: u64) -> Found<Subscription> {
    let found = directory.subscription(id).filter(|entry| access.sees(entry.tenant));
    found.ok_or_else(|| Problem::not_found("subscription", id))
}

pub fn offline_profile(directory: &Directory, access: &Access, id: u64) -> Found<OfflineProfile> {
    let found = directory.offline_profile(id).filter(|entry| access.sees(entry.tenant));
    found.ok_or_else(|| Problem::not_found("offline profile", id))
}

pub fn message_template(directory: &Directory, access: &Access, id: u64) -> Found<MessageTemplate> {
    let found = directory.message_template(id).filter(|entry| access.sees(entry.tenant));
    found.ok_or_else(|| Problem::not_found("message template", id))
}
