//! What a change of the directory must hold to: names, credentials, who
//! belongs to whom, what never changes, and the tenants' quotas.
//!
//! Pure: a request and a draft come in, staged writes or a refusal come out.

mod deletion;
mod forwarders;
mod offline_profiles;
mod places;
mod recipients;
mod subscriptions;
mod templates;
mod tenants;
mod users;

use schema::{
    ApiToken, Author, Credentials, Device, DeviceId, Document, DocumentBody, DocumentKind,
    Location, LocationId, MAX_NAME_BYTES, MAX_SYSTEM_DELAY_S, Router, RouterId, Tenant, TenantId,
    User, UserId,
};

use self::deletion::delete;
use self::forwarders::check_forwarder;
use self::offline_profiles::check_offline_profile;
use self::places::check_location;
use self::subscriptions::check_subscription;
use self::templates::check_template;
use self::tenants::check_tenant;
use self::users::check_user;
use super::draft::Draft;
use super::index::Claim;
use super::writer::Request;
use super::{DirectoryError, MAX_ROUTERS_AT_ONCE, NewRouter};

type Outcome = Result<Vec<Document>, DirectoryError>;

/// Stages one request, whole or not at all.
pub(super) fn apply(draft: &mut Draft<'_>, request: Request) -> Outcome {
    let mark = draft.mark();
    let outcome = match request {
        Request::Create(body) => create(draft, body).map(|document| vec![document]),
        Request::Update { id, expected_version, body } => {
            update(draft, id, expected_version, body).map(|document| vec![document])
        }
        Request::Delete { id, expected_version } => {
            delete(draft, id, expected_version).map(|()| Vec::new())
        }
        Request::CreateRouters(routers) => create_routers(draft, routers),
        Request::EnsureDevice { router, name, device_type } => {
            ensure_device(draft, router, name, device_type).map(|document| vec![document])
        }
    };
    if outcome.is_err() {
        draft.roll_back(mark);
    }
    outcome
}

fn create(draft: &mut Draft<'_>, body: DocumentBody) -> Result<Document, DirectoryError> {
    match &body {
        DocumentBody::Tenant(tenant) => check_tenant(draft, tenant, None)?,
        DocumentBody::Location(location) => check_location(draft, location, None)?,
        DocumentBody::ApiToken(token) => check_token(draft, token, None)?,
        DocumentBody::Device(device) => {
            let found = router(draft, device.router)?;
            fixed("tenant", found.tenant, device.tenant)?;
            fixed("location", found.location, device.location)?;
            fixed("behind_router", true, device.behind_router)?;
            check_device_name(draft, device.tenant, &device.name, None)?;
            check_device_type(device.device_type.as_deref())?;
            check_quota(draft, device.tenant)?;
        }
        DocumentBody::Router(router) => {
            let allowed = "a router is made together with its own device".to_owned();
            return Err(DirectoryError::Invalid {
                field: "device",
                value: router.device.to_string(),
                allowed,
            });
        }
        DocumentBody::User(user) => check_user(draft, user, None)?,
        DocumentBody::Subscription(subscription) => check_subscription(draft, subscription, None)?,
        DocumentBody::OfflineProfile(profile) => check_offline_profile(draft, profile, None)?,
        DocumentBody::MessageTemplate(template) => check_template(draft, template, None)?,
        DocumentBody::Forwarder(forwarder) => check_forwarder(draft, forwarder, None)?,
    }
    let id = draft.new_id();
    Ok(draft.insert(id, body))
}

fn create_routers(draft: &mut Draft<'_>, routers: Vec<NewRouter>) -> Outcome {
    if routers.len() > MAX_ROUTERS_AT_ONCE {
        return Err(DirectoryError::Invalid {
            field: "routers",
            value: format!("a list of {}", routers.len()),
            allowed: format!("at most {MAX_ROUTERS_AT_ONCE} at once"),
        });
    }
    let many = routers.len() > 1;
    let mut made = Vec::with_capacity(routers.len());
    for (index, new) in routers.into_iter().enumerate() {
        made.push(create_router(draft, new).map_err(|source| match many {
            true => DirectoryError::Item { index, source: Box::new(source) },
            false => source,
        })?);
    }
    Ok(made)
}

fn create_router(draft: &mut Draft<'_>, new: NewRouter) -> Result<Document, DirectoryError> {
    let NewRouter { location, name, credentials, enabled, cloud_host, send_interval_s } = new;
    let tenant = self::location(draft, location)?.tenant;
    check_device_name(draft, tenant, &name, None)?;
    check_credentials(draft, &credentials, None)?;
    check_reach(cloud_host.as_deref(), send_interval_s)?;
    let (id, device) = (draft.new_id(), DeviceId(draft.new_id()));
    let own = Device {
        tenant,
        location,
        router: RouterId(id),
        name: name.clone(),
        device_type: None,
        behind_router: false,
    };
    let router = Router {
        tenant,
        location,
        name,
        device,
        credentials,
        enabled,
        cloud_host,
        send_interval_s,
    };
    let document = draft.insert(id, DocumentBody::Router(router));
    draft.insert(device.0, DocumentBody::Device(own));
    Ok(document)
}

fn ensure_device(
    draft: &mut Draft<'_>,
    id: RouterId,
    name: String,
    device_type: Option<String>,
) -> Result<Document, DirectoryError> {
    let Router { tenant, location, name: router_name, .. } = router(draft, id)?;
    if let Some((_, document)) = draft.device_by_name(tenant, &name) {
        return match &document.body {
            DocumentBody::Device(device) if device.location == location => Ok(document),
            DocumentBody::Device(device) => {
                let location = device.location;
                Err(DirectoryError::DeviceElsewhere { name, location, router: id })
            }
            _ => unreachable!("only devices hold device names"),
        };
    }
    check_name(&name)?;
    check_device_type(device_type.as_deref())?;
    check_quota(draft, tenant)?;
    let device = Device { tenant, location, router: id, name, device_type, behind_router: true };
    draft.author = Author::router(id, &router_name);
    let id = draft.new_id();
    Ok(draft.insert(id, DocumentBody::Device(device)))
}

fn update(
    draft: &mut Draft<'_>,
    id: u64,
    expected_version: Option<u64>,
    body: DocumentBody,
) -> Result<Document, DirectoryError> {
    let missing = || DirectoryError::NotFound { kind: Some(body.kind()), id };
    let old = draft.get(id).ok_or_else(missing)?;
    if old.body.kind() != body.kind() {
        return Err(missing());
    }
    check_version(&old, expected_version)?;
    match (&old.body, &body) {
        (DocumentBody::Tenant(_), DocumentBody::Tenant(new)) => {
            check_tenant(draft, new, Some(id))?;
        }
        (DocumentBody::Location(was), DocumentBody::Location(new)) => {
            fixed("tenant", was.tenant, new.tenant)?;
            check_location(draft, new, Some(id))?;
        }
        (DocumentBody::Router(was), DocumentBody::Router(new)) => {
            update_router(draft, id, was, new)?;
        }
        (DocumentBody::Device(was), DocumentBody::Device(new)) => {
            update_device(draft, id, was, new)?;
        }
        (DocumentBody::ApiToken(was), DocumentBody::ApiToken(new)) => {
            if was.tenant != new.tenant || was.hash != new.hash {
                return Err(DirectoryError::Invalid {
                    field: "tenant",
                    value: new.tenant.map_or("null".to_owned(), |tenant| tenant.to_string()),
                    allowed: "what a token opens never changes; make a new one".to_owned(),
                });
            }
            check_token(draft, new, Some(id))?;
        }
        (DocumentBody::User(was), DocumentBody::User(new)) => {
            fixed("tenant", was.tenant, new.tenant)?;
            check_user(draft, new, Some(id))?;
        }
        (DocumentBody::Subscription(was), DocumentBody::Subscription(new)) => {
            fixed("tenant", was.tenant, new.tenant)?;
            fixed("user", was.user, new.user)?;
            check_subscription(draft, new, Some(id))?;
        }
        (DocumentBody::OfflineProfile(was), DocumentBody::OfflineProfile(new)) => {
            fixed("tenant", was.tenant, new.tenant)?;
            check_offline_profile(draft, new, Some(id))?;
        }
        (DocumentBody::MessageTemplate(was), DocumentBody::MessageTemplate(new)) => {
            fixed("tenant", was.tenant, new.tenant)?;
            check_template(draft, new, Some(id))?;
        }
        (DocumentBody::Forwarder(was), DocumentBody::Forwarder(new)) => {
            fixed("tenant", was.tenant, new.tenant)?;
            check_forwarder(draft, new, Some(id))?;
        }
        _ => unreachable!("the kinds were found equal"),
    }
    Ok(draft.replace(&old, body))
}

fn update_router(
    draft: &mut Draft<'_>,
    id: u64,
    was: &Router,
    new: &Router,
) -> Result<(), DirectoryError> {
    fixed("tenant", was.tenant, new.tenant)?;
    fixed("location", was.location, new.location)?;
    fixed("device", was.device, new.device)?;
    check_credentials(draft, &new.credentials, Some(id))?;
    check_reach(new.cloud_host.as_deref(), new.send_interval_s)?;
    if was.name == new.name {
        return Ok(());
    }
    check_device_name(draft, new.tenant, &new.name, Some(was.device.0))?;
    let own = draft.get(was.device.0).expect("a router has its own device as long as it lives");
    let DocumentBody::Device(mut device) = own.body.clone() else {
        unreachable!("a router's own device is a device")
    };
    device.name.clone_from(&new.name);
    draft.replace(&own, DocumentBody::Device(device));
    Ok(())
}

fn update_device(
    draft: &Draft<'_>,
    id: u64,
    was: &Device,
    new: &Device,
) -> Result<(), DirectoryError> {
    fixed("tenant", was.tenant, new.tenant)?;
    fixed("location", was.location, new.location)?;
    fixed("router", was.router, new.router)?;
    fixed("behind_router", was.behind_router, new.behind_router)?;
    if !was.behind_router && was.name != new.name {
        return Err(DirectoryError::Invalid {
            field: "name",
            value: format!("{:?}", new.name),
            allowed: format!("the router's own device is renamed with router {}", was.router),
        });
    }
    check_device_name(draft, new.tenant, &new.name, Some(id))?;
    check_device_type(new.device_type.as_deref())
}

fn check_version(old: &Document, expected: Option<u64>) -> Result<(), DirectoryError> {
    match expected {
        Some(expected) if expected != old.version => Err(DirectoryError::VersionConflict {
            kind: old.body.kind(),
            id: old.id,
            expected,
            found: old.version,
        }),
        _ => Ok(()),
    }
}

fn check_token(draft: &Draft<'_>, new: &ApiToken, id: Option<u64>) -> Result<(), DirectoryError> {
    if let Some(found) = new.tenant {
        tenant(draft, found)?;
    }
    check_name(&new.name)?;
    check_text("hash", &new.hash)?;
    match draft.holder(&Claim::Token(&new.hash)) {
        holder if holder.is_none() || holder == id => Ok(()),
        _ => Err(DirectoryError::CredentialsInUse),
    }
}

fn check_device_name(
    draft: &Draft<'_>,
    tenant: TenantId,
    name: &str,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    check_name(name)?;
    free(draft.holder(&Claim::DeviceName(tenant, name)), id, DocumentKind::Device, name)
}

fn check_device_type(device_type: Option<&str>) -> Result<(), DirectoryError> {
    device_type.map_or(Ok(()), |text| check_text("device_type", text))
}

fn check_credentials(
    draft: &Draft<'_>,
    new: &Credentials,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    match new {
        Credentials::AccessToken { hash } => check_text("credentials.hash", hash)?,
        Credentials::Password { user, client_id, password_hash } => {
            check_text("credentials.user", user)?;
            if let Some(client_id) = client_id {
                check_text("credentials.client_id", client_id)?;
            }
            check_text("credentials.password_hash", password_hash)?;
        }
        Credentials::Fingerprint { sha256 } => check_fingerprint(sha256)?,
        Credentials::CommonName { common_name } => {
            check_text("credentials.common_name", common_name)?;
        }
    }
    match draft.holder(&Claim::Credentials(&new.lookup_key())) {
        holder if holder.is_none() || holder == id => Ok(()),
        _ => Err(DirectoryError::CredentialsInUse),
    }
}

/// Where a router is told to send, and how often.
fn check_reach(
    cloud_host: Option<&str>,
    send_interval_s: Option<u32>,
) -> Result<(), DirectoryError> {
    cloud_host.map_or(Ok(()), |host| check_text("cloud_host", host))?;
    at_most("send_interval_s", send_interval_s.unwrap_or(0), MAX_SYSTEM_DELAY_S)
}

fn at_most(field: &'static str, value: u32, most: u32) -> Result<(), DirectoryError> {
    if value <= most {
        return Ok(());
    }
    Err(DirectoryError::Invalid {
        field,
        value: value.to_string(),
        allowed: format!("0 to {most}"),
    })
}

fn check_fingerprint(sha256: &str) -> Result<(), DirectoryError> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() == 64 && sha256.bytes().all(digit) {
        return Ok(());
    }
    Err(DirectoryError::Invalid {
        field: "credentials.sha256",
        value: format!("{sha256:?}"),
        allowed: "64 lower-case hexadecimal digits".to_owned(),
    })
}

fn check_quota(draft: &Draft<'_>, id: TenantId) -> Result<(), DirectoryError> {
    let limit = tenant(draft, id)?.settings.max_devices;
    if draft.count(id, DocumentKind::Device) < limit {
        return Ok(());
    }
    Err(DirectoryError::DeviceQuota { tenant: id, limit })
}

/// Whether the tenant may have one more of a kind. `id` is that of a document that
/// it has already.
fn check_count(
    draft: &Draft<'_>,
    tenant: TenantId,
    kind: DocumentKind,
    limit: u32,
    id: Option<u64>,
) -> Result<(), DirectoryError> {
    if id.is_some() || draft.count(tenant, kind) < limit {
        return Ok(());
    }
    Err(DirectoryError::TooMany { tenant, kind, limit })
}

fn check_name(name: &str) -> Result<(), DirectoryError> {
    check_text("name", name)
}

fn check_text(field: &'static str, text: &str) -> Result<(), DirectoryError> {
    check_line(field, text, MAX_NAME_BYTES)
}

/// A text without line breaks or other control characters.
fn check_line(field: &'static str, text: &str, most: usize) -> Result<(), DirectoryError> {
    if (1..=most).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    refuse(field, quoted(text), format!("1 to {most} bytes without control characters"))
}

fn refuse(
    field: &'static str,
    value: String,
    allowed: impl Into<String>,
) -> Result<(), DirectoryError> {
    Err(DirectoryError::Invalid { field, value, allowed: allowed.into() })
}

/// A text as a refusal shows it: its beginning, and how long it is.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

fn fixed<T: Copy + PartialEq + std::fmt::Display>(
    field: &'static str,
    was: T,
    new: T,
) -> Result<(), DirectoryError> {
    if was == new {
        return Ok(());
    }
    let allowed = format!("it is {was} and never changes");
    Err(DirectoryError::Invalid { field, value: new.to_string(), allowed })
}

fn free(
    holder: Option<u64>,
    own: Option<u64>,
    kind: DocumentKind,
    name: &str,
) -> Result<(), DirectoryError> {
    if holder.is_none() || holder == own {
        return Ok(());
    }
    Err(DirectoryError::NameTaken { kind, name: name.to_owned() })
}

fn tenant(draft: &Draft<'_>, id: TenantId) -> Result<Tenant, DirectoryError> {
    match draft.get(id.0).map(|document| document.body) {
        Some(DocumentBody::Tenant(tenant)) => Ok(tenant),
        _ => Err(DirectoryError::NotFound { kind: Some(DocumentKind::Tenant), id: id.0 }),
    }
}

fn location(draft: &Draft<'_>, id: LocationId) -> Result<Location, DirectoryError> {
    match draft.get(id.0).map(|document| document.body) {
        Some(DocumentBody::Location(location)) => Ok(location),
        _ => Err(DirectoryError::NotFound { kind: Some(DocumentKind::Location), id: id.0 }),
    }
}

fn user(draft: &Draft<'_>, id: UserId) -> Result<User, DirectoryError> {
    match draft.get(id.0).map(|document| document.body) {
        Some(DocumentBody::User(user)) => Ok(user),
        _ => Err(DirectoryError::NotFound { kind: Some(DocumentKind::User), id: id.0 }),
    }
}

fn router(draft: &Draft<'_>, id: RouterId) -> Result<Router, DirectoryError> {
    match draft.get(id.0).map(|document| document.body) {
        Some(DocumentBody::Router(router)) => Ok(router),
        _ => Err(DirectoryError::NotFound { kind: Some(DocumentKind::Router), id: id.0 }),
    }
}

#[cfg(test)]
mod tests;
