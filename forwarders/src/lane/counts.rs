//! Accounting that adds up: each reading that is selected ends in one place.

use serde::{Deserialize, Serialize};

use super::SuppressReason;
use crate::value::Unfit;

/// Why a selected reading is neither sent nor suppressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// It is not of the type that the item asks for and does not become it.
    WrongType,
    NotFinite,
    /// Not newer than the newest of its series, on a platform that takes no
    /// such readings.
    OutOfOrder,
    /// Over what the platform takes as one value.
    TooLarge,
}

/// All of them, in the order of their numbers.
pub const DROP_REASONS: [DropReason; 4] =
    [DropReason::WrongType, DropReason::NotFinite, DropReason::OutOfOrder, DropReason::TooLarge];

impl DropReason {
    /// The stable name in metrics, answers and storage.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongType => "wrong_type",
            Self::NotFinite => "not_finite",
            Self::OutOfOrder => "out_of_order",
            Self::TooLarge => "too_large",
        }
    }
}

impl From<Unfit> for DropReason {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::WrongType => Self::WrongType,
            Unfit::NotFinite => Self::NotFinite,
        }
    }
}

/// What was decided of a few readings without anything being sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    same: u32,
    within_tolerance: u32,
    dropped: [u32; DROP_REASONS.len()],
}

impl Delta {
    pub(super) fn suppress(&mut self, reason: SuppressReason) {
        match reason {
            SuppressReason::Same => self.same += 1,
            SuppressReason::WithinTolerance => self.within_tolerance += 1,
        }
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }
}

/// What became of the readings of one forwarder. Without anything outstanding
/// `selected` is the sum of all others. Stored as JSON; the names are stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub selected: u64,
    /// Acknowledged by the platform.
    pub sent: u64,
    /// Suppressed: the value that was sent last.
    pub same: u64,
    /// Suppressed: too near to the value that was sent last.
    pub within_tolerance: u64,
    /// Refused by the platform and kept.
    pub dead_letters: u64,
    pub wrong_type: u64,
    pub not_finite: u64,
    pub out_of_order: u64,
    pub too_large: u64,
}

impl Counts {
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        match reason {
            DropReason::WrongType => self.wrong_type,
            DropReason::NotFinite => self.not_finite,
            DropReason::OutOfOrder => self.out_of_order,
            DropReason::TooLarge => self.too_large,
        }
    }

    /// All that is neither queued nor in flight.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let dropped: u64 = DROP_REASONS.iter().map(|reason| self.dropped(*reason)).sum();
        self.sent + self.same + self.within_tolerance + self.dead_letters + dropped
    }

    pub fn add(&mut self, other: &Self) {
        self.selected += other.selected;
        self.sent += other.sent;
        self.same += other.same;
        self.within_tolerance += other.within_tolerance;
        self.dead_letters += other.dead_letters;
        self.wrong_type += other.wrong_type;
        self.not_finite += other.not_finite;
        self.out_of_order += other.out_of_order;
        self.too_large += other.too_large;
    }

    pub(super) fn add_delta(&mut self, delta: &Delta) {
        let of = |reason: DropReason| u64::from(delta.dropped[reason as usize]);
        let dropped: u64 = DROP_REASONS.into_iter().map(of).sum();
        self.selected += u64::from(delta.same) + u64::from(delta.within_tolerance) + dropped;
        self.same += u64::from(delta.same);
        self.within_tolerance += u64::from(delta.within_tolerance);
        self.wrong_type += of(DropReason::WrongType);
        self.not_finite += of(DropReason::NotFinite);
        self.out_of_order += of(DropReason::OutOfOrder);
        self.too_large += of(DropReason::TooLarge);
    }
}
