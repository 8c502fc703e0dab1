//! What the session wants done.

use schema::DeviceId;

use super::super::rejections::Rejection;
use super::super::topics::UP_KINDS;
use super::downlink::Delivered;
use super::requests::Question;
use crate::batch::Rows;
use crate::decode::Reason;

/// What one call of the session brought. Kept and reused by the connection's
/// thread, so that an idle connection holds none.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// For the client, in order.
    pub bytes: Vec<u8>,
    /// To be submitted, as one group.
    pub telemetry: Rows,
    /// To be submitted in the same group.
    pub attributes: Rows,
    /// The group has rows; [`super::Session::completed`] is owed for it.
    pub is_submitted: bool,
    /// Of telemetry and of attributes, the rows that came at QoS 0: nobody
    /// sends them again if they can't be submitted.
    pub qos_0_rows: [u32; 2],
    pub actions: Vec<Action>,
    /// The connection is over; what stands above is done first.
    pub end: Option<End>,
    pub counts: Counts,
}

/// What only the connection can do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Find or create these devices, then [`super::Session::resolved`].
    Resolve(Vec<Wanted>),
    /// Read stored attributes, then [`super::Session::answer`].
    Ask(Question),
    /// A call was answered, with JSON text.
    CallAnswered { call: u64, answer: Box<str> },
    /// Bring the shared attributes that changed while the device was away.
    FetchUndelivered { device: DeviceId },
    /// The device has them now.
    Delivered(Delivered),
    /// For the operator to see.
    Reject(Rejection),
}

/// A device that a gateway named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub name: String,
    pub device_type: Option<String>,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// The client said goodbye.
    Client,
    /// The client said goodbye and wants its will published.
    ClientWithWill,
    /// The client closed the socket, or the network did.
    Socket,
    KeepAlive,
    /// No MQTT, or not by its grammar.
    Malformed,
    /// MQTT, but not what may be sent now.
    ProtocolError,
    TopicAlias,
    QosNotSupported,
    TooLarge,
    /// A malformed payload of a tenant that wants it so.
    MalformedPayload,
    /// The client does not take what is sent to it.
    WriteStall,
    JournalFailed,
    TakenOver,
    /// The router was disabled, changed its credentials, or was deleted.
    Revoked,
    Shutdown,
    /// The node is about to stop, and another one takes routers.
    Moved,
}

impl End {
    pub(crate) const ALL: [Self; 16] = [
        Self::Client,
        Self::ClientWithWill,
        Self::Socket,
        Self::KeepAlive,
        Self::Malformed,
        Self::ProtocolError,
        Self::TopicAlias,
        Self::QosNotSupported,
        Self::TooLarge,
        Self::MalformedPayload,
        Self::WriteStall,
        Self::JournalFailed,
        Self::TakenOver,
        Self::Revoked,
        Self::Shutdown,
        Self::Moved,
    ];

    /// The stable name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::ClientWithWill => "client_with_will",
            Self::Socket => "socket",
            Self::KeepAlive => "keep_alive",
            Self::Malformed => "malformed",
            Self::ProtocolError => "protocol_error",
            Self::TopicAlias => "topic_alias",
            Self::QosNotSupported => "qos_not_supported",
            Self::TooLarge => "too_large",
            Self::MalformedPayload => "malformed_payload",
            Self::WriteStall => "write_stall",
            Self::JournalFailed => "journal_failed",
            Self::TakenOver => "taken_over",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
            Self::Moved => "moved",
        }
    }

    /// All but the client's own goodbye.
    pub(crate) fn publishes_will(self) -> bool {
        !matches!(self, Self::Client)
    }
}

/// Why a publish was refused, as a metric counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// By its payload.
    Payload(Reason),
    /// A topic outside the contract.
    TopicNotAllowed,
    /// Over the rate of the session or the tenant.
    Rate,
}

impl Refusal {
    /// How many there are.
    pub(crate) const COUNT: usize = Reason::ALL.len() + 2;

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Payload(reason) => {
                Reason::ALL.iter().position(|&known| known == reason).unwrap_or(0)
            }
            Self::TopicNotAllowed => Reason::ALL.len(),
            Self::Rate => Reason::ALL.len() + 1,
        }
    }

    /// The stable names, by index.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Reason::ALL.iter().map(|reason| reason.as_str()).chain(["topic_not_allowed", "rate"])
    }
}

/// Numbers for the metrics, added up over one socket read so that a message
/// does not pay for atomics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Publishes taken, by topic kind.
    pub taken: [u32; UP_KINDS.len()],
    /// Publishes and parts of them that were refused, by reason.
    pub refused: [u32; Refusal::COUNT],
    pub readings: u32,
    pub attributes: u32,
    pub downlink: u32,
    /// How far the last time that was refused is ahead of the server's clock.
    pub clock_offset_ms: Option<i64>,
    /// Set when any of the above is.
    pub is_any: bool,
}

impl Counts {
    /// Keeps how wrong the router's clock seems, where that is why.
    pub(super) fn note_clock(&mut self, rejection: &crate::decode::Rejection) {
        self.clock_offset_ms = rejection.clock_offset_ms.or(self.clock_offset_ms);
    }
}

impl Output {
    /// Empty again, with its memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.telemetry.clear();
        self.attributes.clear();
        self.is_submitted = false;
        self.qos_0_rows = [0, 0];
        self.actions.clear();
        self.end = None;
        if self.counts.is_any {
            self.counts = Counts::default();
        }
    }
}
