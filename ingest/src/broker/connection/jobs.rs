//! What a connection has done elsewhere while it goes on: devices found or
//! created, attributes read and noted as delivered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use schema::{DeviceId, Position, RouterId};
use store::attributes::PendingShared;
use store::{DirectoryError, Scope};

use super::super::node::Node;
use super::super::session::{
    Answer, Delivered, Identity, Question, Values, Wanted, device_refusal,
};
use crate::decode::Rejection;

pub(super) type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of a job.
pub(super) enum Done {
    Resolved(Vec<(String, Result<DeviceId, Rejection>)>),
    /// The directory could not be written: nothing may be acknowledged.
    Unresolved,
    Answer(Option<Answer>),
    Undelivered(Vec<(DeviceId, PendingShared)>),
    Nothing,
}

pub(super) fn resolve(node: Arc<Node>, router: RouterId, wanted: Vec<Wanted>) -> Job {
    Box::pin(async move {
        let mut answers = Vec::with_capacity(wanted.len());
        for Wanted { name, device_type } in wanted {
            let made = node.directory.ensure_device(router, &name, device_type.as_deref()).await;
            match made {
                Ok(device) => answers.push((name, Ok(device))),
                Err(error @ (DirectoryError::Backend(_) | DirectoryError::Closed)) => {
                    tracing::error!(%error, device = name, "cannot create a device");
                    return Done::Unresolved;
                }
                Err(error) => answers.push((name, Err(device_refusal(&error)))),
            }
        }
        Done::Resolved(answers)
    })
}

pub(super) fn ask(node: Arc<Node>, identity: Identity, question: Question) -> Job {
    // What the session has published is durable by now, so it is below this.
    let position = node.durable(identity.partition);
    Box::pin(async move {
        let Question { device, scopes, reply, after_attributes } = question;
        if after_attributes && !node.applied(identity.partition, position).await {
            tracing::warn!(%device, "attributes are answered before all are applied");
        }
        let (Some(client), Some(shared)) = (
            values(&node, device, Scope::Client, scopes.client).await,
            values(&node, device, Scope::Shared, scopes.shared).await,
        ) else {
            return Done::Answer(None);
        };
        Done::Answer(Some(Answer { reply, client, shared }))
    })
}

/// None if the store could not be read.
async fn values(
    node: &Node,
    device: DeviceId,
    scope: Scope,
    keys: Option<Option<Vec<String>>>,
) -> Option<Values> {
    let Some(keys) = keys else { return Some(Vec::new()) };
    match node.attributes.get(device, scope, keys).await {
        Ok(found) => Some(found.into_iter().map(|found| (found.key, found.value)).collect()),
        Err(error) => {
            tracing::error!(%error, %device, "cannot read attributes");
            None
        }
    }
}

/// What the devices have missed. With a position, as soon as there is anything,
/// and at the latest when all before it has been applied.
pub(super) fn undelivered(
    node: Arc<Node>,
    identity: Identity,
    devices: Vec<DeviceId>,
    position: Option<Position>,
) -> Job {
    Box::pin(async move {
        let read = || async {
            node.attributes.undelivered_of(devices.clone()).await.unwrap_or_else(|error| {
                tracing::error!(%error, "cannot read undelivered attributes");
                Vec::new()
            })
        };
        let first = read().await;
        let Some(position) = position.filter(|_| first.is_empty()) else {
            return Done::Undelivered(first);
        };
        node.applied(identity.partition, position).await;
        Done::Undelivered(read().await)
    })
}

pub(super) fn mark_delivered(node: Arc<Node>, delivered: Vec<Delivered>) -> Job {
    Box::pin(async move {
        for Delivered { device, upto } in delivered {
            if let Err(error) = node.attributes.mark_delivered(device, upto).await {
                tracing::warn!(%error, %device, "attributes will be delivered once more");
            }
        }
        Done::Nothing
    })
}
