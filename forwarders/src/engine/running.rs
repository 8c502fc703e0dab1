//! A forwarder that runs, as all others see it.

use std::sync::Arc;

use schema::TenantId;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::sender::Resend;
use super::status::Status;

#[derive(Debug)]
pub(super) struct Running {
    /// The document's.
    pub version: u64,
    pub tenant: TenantId,
    pub name: String,
    pub status: Arc<Status>,
    pub resume: watch::Sender<u64>,
    pub resends: mpsc::Sender<Resend>,
    /// Ends its sender alone.
    pub stop: Option<AbortHandle>,
    /// Partitions that it has a lane in.
    pub partitions: Vec<usize>,
    /// The trouble that others were told of.
    pub told: bool,
}
