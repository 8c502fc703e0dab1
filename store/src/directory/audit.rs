//! The event of a document's change: before and after, without its secrets.

use schema::{Author, DeviceId, Document, DocumentBody, DocumentKind, LocationId, TransitionId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::audit::NewEvent;

/// The event of `document` as it is now; `old` is its body before. None for a
/// router's own device, which is a part of its router and changes with it.
pub(super) fn event(
    old: Option<&DocumentBody>,
    document: &Document,
    deleted: bool,
    author: &Author,
) -> Option<NewEvent> {
    let body = &document.body;
    if matches!(body, DocumentBody::Device(device) if !device.behind_router) {
        return None;
    }
    let before = old.map(shown);
    let after = (!deleted).then(|| shown(body));
    let done = match (old, deleted) {
        (None, _) => "created",
        (Some(_), false) => "changed",
        (Some(_), true) => "deleted",
    };
    let mut told = json!({
        "name": name(body), "version": document.version, "before": before, "after": after,
    });
    if before == after && old != Some(body) {
        told["secret_changed"] = true.into();
    }
    let tenant = match body {
        DocumentBody::Tenant(_) => Some(schema::TenantId(document.id)),
        _ => body.tenant(),
    };
    let event = NewEvent {
        // Ids of documents begin at 1, so that these are never ids of profiles'
        // events, whose upper half is zero.
        id: TransitionId(u128::from(document.id) << 64 | u128::from(document.version)),
        tenant,
        at: document.changed_at,
        kind: format!("{}_{done}", noun(body.kind())),
        location: location(document),
        device: matches!(body, DocumentBody::Device(_)).then_some(DeviceId(document.id)),
        document: Some(document.id),
        actor: None,
        provenance: schema::Provenance::default(),
        body: told,
    };
    Some(event.with_author(author))
}

fn noun(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::ApiToken => "token",
        other => other.as_str(),
    }
}

fn name(body: &DocumentBody) -> &str {
    match body {
        DocumentBody::Tenant(tenant) => &tenant.name,
        DocumentBody::Location(location) => &location.name,
        DocumentBody::Router(router) => &router.name,
        DocumentBody::Device(device) => &device.name,
        DocumentBody::ApiToken(token) => &token.name,
    }
}

fn location(document: &Document) -> Option<LocationId> {
    match &document.body {
        DocumentBody::Location(_) => Some(LocationId(document.id)),
        DocumentBody::Router(router) => Some(router.location),
        DocumentBody::Device(device) => Some(device.location),
        DocumentBody::Tenant(_) | DocumentBody::ApiToken(_) => None,
    }
}

/// A body as anybody may see it: of credentials the type only, of a token no
/// hash.
fn shown(body: &DocumentBody) -> Value {
    fn json(body: &impl Serialize) -> Value {
        serde_json::to_value(body).expect("a document has text keys only")
    }
    match body {
        DocumentBody::Tenant(tenant) => json(tenant),
        DocumentBody::Location(location) => json(location),
        DocumentBody::Device(device) => json(device),
        DocumentBody::Router(router) => {
            let mut shown = json(router);
            shown["credentials"] = json!({ "type": shown["credentials"]["type"] });
            shown
        }
        DocumentBody::ApiToken(token) => {
            let mut shown = json(token);
            if let Value::Object(fields) = &mut shown {
                fields.remove("hash");
            }
            shown
        }
    }
}
