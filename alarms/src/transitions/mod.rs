//! Transitions published in a topic for others to consume.
//!
//! The store says what is to be published: each durable transition, in the order
//! of its sequence. For the partitions that are this node's, one task reads what is
//! behind their places, brings it into the topic, and notes in the store how far it
//! has come. What the topic ends with goes before what is noted, so that what was
//! published right before a crash is not published again. A broker that is away
//! makes transitions wait; evaluation goes on.
//!
//! It knows neither what a transition looks like to others nor how a topic is made.

mod handle;
mod lanes;
mod metrics;
mod opening;
mod publisher;

use std::sync::Arc;

use journal::Outlet;
use store::alarms::EventRow;

pub(crate) use handle::PublisherHandle;
pub(crate) use publisher::Publisher;

/// What others read of a transition.
pub type RenderTransition = Arc<dyn Fn(&EventRow) -> Vec<u8> + Send + Sync>;

/// The version of what others read, in each record's header `baken-schema` and in
/// its value. It grows when a field goes or means something else.
pub const TRANSITION_SCHEMA: u8 = 1;

/// The headers of a record, texts all of them. They are part of what others read.
const HEADER_ID: &str = "baken-id";
const HEADER_TENANT: &str = "baken-tenant";
const HEADER_SEQUENCE: &str = "baken-sequence";
const HEADER_SCHEMA: &str = "baken-schema";

/// Where transitions are published, and how they look there.
#[derive(Clone)]
pub struct Publishing {
    pub outlet: Outlet,
    pub render: RenderTransition,
}

impl std::fmt::Debug for Publishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publishing").field("outlet", &self.outlet).finish_non_exhaustive()
    }
}
