//! What is said to a partition's task.

use std::sync::Arc;

use schema::DeviceId;
use store::forwarders::{NewDeadLetter, StoredLane};
use tokio::sync::{mpsc, oneshot};

use super::sender::Queued;
use super::spec::Spec;
use crate::lane::Counts;

#[derive(Debug)]
pub(super) enum Message {
    /// A forwarder is new, or changed: it goes on from where it stands.
    Put(Box<Put>),
    /// It is switched off or deleted; the answer comes when nothing more will be
    /// written of it.
    Remove {
        forwarder: u64,
        done: oneshot::Sender<()>,
    },
    Resolved(Resolved),
    /// A device was changed or deleted.
    Device {
        device: DeviceId,
        is_gone: bool,
    },
    /// A location was changed, or more than can be told.
    Places,
    /// How a forwarder, or each, stands here.
    View {
        forwarder: Option<u64>,
        answer: oneshot::Sender<Vec<LaneView>>,
    },
}

#[derive(Debug)]
pub(super) struct Put {
    pub spec: Arc<Spec>,
    pub epoch: u64,
    pub queue: mpsc::Sender<Queued>,
    /// What is stored of it, at a start.
    pub stored: Option<Stored>,
}

/// Where a lane stands, and the last values of its devices.
pub(super) type Stored = (StoredLane, Vec<(DeviceId, Vec<u8>)>);

/// What became of the oldest values of a lane.
#[derive(Debug)]
pub(super) struct Resolved {
    pub forwarder: u64,
    pub epoch: u64,
    pub resolutions: Vec<Resolution>,
}

#[derive(Debug)]
pub(super) enum Resolution {
    /// So many, one after another.
    Sent(u32),
    Dead(Box<NewDeadLetter>),
}

/// A forwarder in a partition.
#[derive(Clone, Debug)]
pub(super) struct LaneView {
    pub counts: Counts,
    pub outstanding: usize,
    /// Records of the journal that it has not dealt with.
    pub lag_records: u64,
    /// When the oldest of them was taken in.
    pub oldest_ms: Option<i64>,
    pub expired: u64,
    /// Why the partition can't be read, if so.
    pub stopped: Option<String>,
}
