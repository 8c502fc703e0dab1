//! The event of a document's change: before and after, without its secrets.

use std::borrow::Cow;

use schema::{
    Author, DeviceId, Document, DocumentBody, DocumentKind, ForwarderScope, LocationId,
    MessageTemplate, TransitionId, User,
};
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
    if old.is_some_and(|old| has_other_secret(old, body)) {
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
        DocumentKind::MessageTemplate => "template",
        other => other.as_str(),
    }
}

/// What people know it by.
fn name(body: &DocumentBody) -> Cow<'_, str> {
    match body {
        DocumentBody::Tenant(tenant) => tenant.name.as_str().into(),
        DocumentBody::Location(location) => location.name.as_str().into(),
        DocumentBody::Router(router) => router.name.as_str().into(),
        DocumentBody::Device(device) => device.name.as_str().into(),
        DocumentBody::ApiToken(token) => token.name.as_str().into(),
        DocumentBody::User(user) => user.name.as_str().into(),
        DocumentBody::Subscription(it) => format!("of user {}", it.user).into(),
        DocumentBody::OfflineProfile(profile) => profile.name.as_str().into(),
        DocumentBody::MessageTemplate(template) => {
            let MessageTemplate { channel, language, kind, .. } = template;
            format!("{channel}, {}, {}", language.as_str(), kind.as_str()).into()
        }
        DocumentBody::Forwarder(forwarder) => forwarder.name.as_str().into(),
    }
}

/// Whether what [`shown`] leaves out is another now.
fn has_other_secret(old: &DocumentBody, new: &DocumentBody) -> bool {
    let signed = |user: &User| user.webhook.as_ref().map(|webhook| webhook.secret.clone());
    match (old, new) {
        (DocumentBody::Router(old), DocumentBody::Router(new)) => {
            old.credentials != new.credentials
        }
        (DocumentBody::User(old), DocumentBody::User(new)) => signed(old) != signed(new),
        (DocumentBody::ApiToken(old), DocumentBody::ApiToken(new)) => old.hash != new.hash,
        (DocumentBody::Forwarder(old), DocumentBody::Forwarder(new)) => old.secrets != new.secrets,
        _ => false,
    }
}

fn location(document: &Document) -> Option<LocationId> {
    match &document.body {
        DocumentBody::Location(_) => Some(LocationId(document.id)),
        DocumentBody::Router(router) => Some(router.location),
        DocumentBody::Device(device) => Some(device.location),
        DocumentBody::Forwarder(forwarder) => match forwarder.scope {
            ForwarderScope::Location(location) => Some(location),
            ForwarderScope::Tenant | ForwarderScope::LocationGroup(_) => None,
        },
        DocumentBody::Tenant(_)
        | DocumentBody::ApiToken(_)
        | DocumentBody::User(_)
        | DocumentBody::Subscription(_)
        | DocumentBody::OfflineProfile(_)
        | DocumentBody::MessageTemplate(_) => None,
    }
}

/// A body as anybody may see it: of credentials the type only, of a token no
/// hash, of a webhook no secret, of a forwarder's secrets their names.
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
            without(&mut shown, "hash");
            shown
        }
        DocumentBody::User(user) => {
            let mut shown = json(user);
            if let Some(webhook) = shown.get_mut("webhook") {
                without(webhook, "secret");
            }
            shown
        }
        DocumentBody::Subscription(subscription) => json(subscription),
        DocumentBody::OfflineProfile(profile) => json(profile),
        DocumentBody::MessageTemplate(template) => json(template),
        DocumentBody::Forwarder(forwarder) => {
            let mut shown = json(forwarder);
            shown["secrets"] = forwarder.secrets.keys().map(String::as_str).collect();
            shown
        }
    }
}

fn without(value: &mut Value, field: &str) {
    if let Value::Object(fields) = value {
        fields.remove(field);
    }
}
