//! What a deletion takes along, what it takes out of others, and what it is
//! refused for.
//!
//! Nothing that is deleted makes anybody be told of more than before: a scope that
//! would come to name nothing would mean all of the tenant.

use schema::{Document, DocumentBody, DocumentKind, LocationId, Scope, UserId};

use super::super::draft::Draft;
use super::{DirectoryError, check_version, refuse};

pub(super) fn delete(
    draft: &mut Draft<'_>,
    id: u64,
    expected_version: Option<u64>,
) -> Result<(), DirectoryError> {
    let old = draft.get(id).ok_or(DirectoryError::NotFound { kind: None, id })?;
    check_version(&old, expected_version)?;
    let goes_with_it = match &old.body {
        DocumentBody::Tenant(_) => {
            refuse_children(draft, &old, DocumentKind::Location)?;
            OF_TENANT.into_iter().flat_map(|kind| draft.children(id, kind)).collect()
        }
        DocumentBody::Location(_) => {
            refuse_children(draft, &old, DocumentKind::Router)?;
            let mut goes_with_it = leave_scopes(draft, LocationId(id));
            goes_with_it.extend(draft.children(id, DocumentKind::Forwarder));
            goes_with_it
        }
        DocumentBody::Router(_) => draft.children(id, DocumentKind::Device),
        DocumentBody::Device(device) if !device.behind_router => {
            let allowed =
                format!("this is router {}'s own device, which is deleted with it", device.router);
            return refuse("id", id.to_string(), allowed);
        }
        DocumentBody::User(_) => {
            leave_offline_profiles(draft, UserId(id))?;
            draft.children(id, DocumentKind::Subscription)
        }
        DocumentBody::Device(_)
        | DocumentBody::ApiToken(_)
        | DocumentBody::Subscription(_)
        | DocumentBody::OfflineProfile(_)
        | DocumentBody::MessageTemplate(_)
        | DocumentBody::Forwarder(_) => Vec::new(),
    };
    for child in goes_with_it {
        let child = draft.get(child).expect("children are live documents");
        draft.delete(child);
    }
    draft.delete(old);
    Ok(())
}

/// What goes with its tenant; subscriptions and offline profiles before the users
/// that they name.
const OF_TENANT: [DocumentKind; 6] = [
    DocumentKind::Subscription,
    DocumentKind::OfflineProfile,
    DocumentKind::MessageTemplate,
    DocumentKind::User,
    DocumentKind::ApiToken,
    DocumentKind::Forwarder,
];

/// Takes a user out of the offline profiles that tell them. A profile that would
/// tell nobody any more is what the deletion is refused for: it would fall silent
/// without anybody having said so.
fn leave_offline_profiles(draft: &mut Draft<'_>, user: UserId) -> Result<(), DirectoryError> {
    for profile in draft.children(user.0, DocumentKind::OfflineProfile) {
        let old = draft.get(profile).expect("children are live documents");
        let DocumentBody::OfflineProfile(mut body) = old.body.clone() else {
            unreachable!("the children are of this kind")
        };
        body.users.retain(|other| *other != user);
        if body.users.is_empty() && body.emails.is_empty() && body.phones.is_empty() {
            return Err(DirectoryError::LastRecipient { user, profile });
        }
        draft.replace(&old, DocumentBody::OfflineProfile(body));
    }
    Ok(())
}

/// Takes a location out of the scopes that name it. Answers with the documents
/// whose scope named nothing else: they go with their only place.
fn leave_scopes(draft: &mut Draft<'_>, location: LocationId) -> Vec<u64> {
    let mut goes_with_it = Vec::new();
    for kind in [DocumentKind::Subscription, DocumentKind::OfflineProfile] {
        for id in draft.children(location.0, kind) {
            let old = draft.get(id).expect("children are live documents");
            let mut body = old.body.clone();
            let scope = scope(&mut body);
            scope.locations.retain(|other| *other != location);
            if scope.locations.is_empty() && scope.groups.is_empty() {
                goes_with_it.push(id);
            } else {
                draft.replace(&old, body);
            }
        }
    }
    goes_with_it
}

fn scope(body: &mut DocumentBody) -> &mut Scope {
    match body {
        DocumentBody::Subscription(subscription) => &mut subscription.scope,
        DocumentBody::OfflineProfile(profile) => &mut profile.scope,
        _ => unreachable!("the children are of the kinds that were asked for"),
    }
}

fn refuse_children(
    draft: &Draft<'_>,
    parent: &Document,
    child: DocumentKind,
) -> Result<(), DirectoryError> {
    if draft.children(parent.id, child).is_empty() {
        return Ok(());
    }
    Err(DirectoryError::HasChildren { kind: parent.body.kind(), id: parent.id, child })
}
