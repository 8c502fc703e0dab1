//! What a bulk scan is asked for and gives: the readings of many series over a
//! span of time, in order of time and device, for what evaluates stored history
//! again.

use std::ops::ControlFlow;
use std::sync::Arc;

use schema::{DeviceId, TimestampMs, Value};

use super::HistoryError;
use super::embedded::EmbeddedView;
use super::postgres::PostgresView;

/// The most series of one scan, because at least a page of each may be in
/// memory: with pages of 4,096 rows that is 768 MiB at worst.
pub const MAX_SCAN_SERIES: usize = 8_192;

/// Bytes of rows that a slice of a scan holds, about, beside a page a series.
pub const DEFAULT_SCAN_BYTES: usize = 16 << 20;

/// A device of a scan, with the keys that are wanted of it.
#[derive(Clone, Debug)]
pub struct ScanDevice<K> {
    pub device: DeviceId,
    /// Each with the caller's own word for it, which its values then bear.
    /// Shared, because devices of a kind have the same keys.
    pub keys: Arc<[(Arc<str>, K)]>,
}

/// Which readings a view is of.
#[derive(Clone, Debug)]
pub struct ScanQuery<K> {
    pub devices: Vec<ScanDevice<K>>,
    /// Inclusive.
    pub from: TimestampMs,
    /// Exclusive.
    pub to: TimestampMs,
}

/// What one device observed at one time.
#[derive(Clone, Copy, Debug)]
pub struct ScanGroup<'a, K> {
    /// The device's place in [`ScanQuery::devices`].
    pub device: usize,
    pub at: TimestampMs,
    /// In the order of [`ScanDevice::keys`].
    pub values: &'a [(K, Value<'a>)],
}

/// Some series of the history, to be scanned. It may hold files that are merged
/// away meanwhile, so drop it when done.
#[derive(Debug)]
pub enum HistoryView<K> {
    /// As all of it was when the view was made.
    Embedded(EmbeddedView<K>),
    /// As it is when a scan of it begins.
    Postgres(PostgresView<K>),
}

impl<K: Copy> HistoryView<K> {
    /// The devices as they were asked for.
    #[must_use]
    pub fn devices(&self) -> &[ScanDevice<K>] {
        match self {
            Self::Embedded(view) => view.devices(),
            Self::Postgres(view) => view.devices(),
        }
    }

    /// How many of the keys asked for the device has ever sent.
    #[must_use]
    pub fn series_of(&self, device: usize) -> usize {
        match self {
            Self::Embedded(view) => view.series_of(device),
            Self::Postgres(view) => view.series_of(device),
        }
    }

    /// Gives the readings of some of the devices, named by their places, to
    /// `visit`: in order of time, and of one time in the order of `devices`. It
    /// ends early where `visit` breaks. A reading that was sent again comes
    /// once, with its last value. Blocks, for as long as it takes: not to be
    /// called on a runtime's thread.
    ///
    /// `slice_bytes` is about what it holds in memory, beside a page of each
    /// series; [`DEFAULT_SCAN_BYTES`] is a good number.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file; what came before it was
    /// given out. [`HistoryError::ScanSeries`] if they have more series than
    /// [`MAX_SCAN_SERIES`]. [`HistoryError::Postgres`] if it is away.
    pub fn scan(
        &self,
        devices: &[usize],
        slice_bytes: usize,
        visit: impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        match self {
            Self::Embedded(view) => view.scan(devices, slice_bytes, visit),
            Self::Postgres(view) => view.scan(devices, slice_bytes, visit),
        }
    }
}
