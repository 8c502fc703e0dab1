//! A bulk scan: the readings of many series over a span of time, in order of
//! time and device, for what evaluates stored history again.
//!
//! A [`EmbeddedView`] fixes what is seen: the files and the rows in memory of one
//! moment, whatever is written, merged or flushed meanwhile. A scan of some of
//! its devices goes through time in slices that fit a number of bytes, reads
//! each page of a file about once and only the columns that the series have,
//! and gives the values that one device observed at one time as one group.
//!
//! It differs from a query in that it looks at all series of a file in the
//! file's own order; a query looks at one series and stops early.

mod merge;
mod slices;

use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashMap;

use super::files::FileList;
use super::memtable::Slice;
use super::{
    EmbeddedHistory, HistoryError, MAX_SCAN_SERIES, ScanDevice, ScanGroup, ScanQuery, SeriesId,
    Shared,
};

/// The history of some series as it was at one moment. It holds files that are
/// merged away meanwhile, so drop it when done.
#[derive(Debug)]
pub struct EmbeddedView<K> {
    devices: Vec<ScanDevice<K>>,
    seen: Seen,
}

/// What a view sees, whatever its keys are called.
#[derive(Debug)]
struct Seen {
    shared: Arc<Shared>,
    /// The series of each device.
    series: Vec<Vec<ViewSeries>>,
    /// The files of each partition.
    files: Vec<FileList>,
    to: i64,
}

/// One series in one partition.
#[derive(Clone, Debug)]
struct ViewSeries {
    /// The key's place in its device's keys.
    key: u32,
    partition: u32,
    id: SeriesId,
    /// Where it begins: what has expired is not seen.
    from: i64,
    /// Older first; all newer than the files.
    memory: Vec<Slice>,
}

impl EmbeddedHistory {
    /// Fixes what scans of these devices see.
    ///
    /// # Errors
    /// [`HistoryError::Closed`].
    pub async fn view<K: Send + Sync + 'static>(
        &self,
        query: ScanQuery<K>,
    ) -> Result<EmbeddedView<K>, HistoryError> {
        let history = self.clone();
        // It does no IO but holds each partition's lock for as long as it takes
        // to look the series up: away from the runtime's threads.
        self.block(move |_| Ok(history.view_now(query))).await
    }

    fn view_now<K>(&self, query: ScanQuery<K>) -> EmbeddedView<K> {
        let ScanQuery { devices, from, to } = query;
        let mut series: Vec<Vec<ViewSeries>> = vec![Vec::new(); devices.len()];
        let mut files = Vec::new();
        for (partition, number) in self.shared.partitions.iter().zip(0u32..) {
            let mut found: HashMap<u32, (usize, u32)> = HashMap::new();
            let state = partition.state();
            for (place, wanted) in devices.iter().enumerate() {
                for (key, (name, _)) in (0u32..).zip(wanted.keys.iter()) {
                    if let Some(id) = state.catalog.find(wanted.device, name) {
                        found.insert(id.0, (place, key));
                    }
                }
            }
            let memory = state.memory_of(&found, from.0, to.0);
            files.push(state.files.clone());
            let tenants = found.keys().map(|id| state.catalog.series(SeriesId(*id)).tenant);
            let tenants: Vec<_> = tenants.collect();
            drop(state);
            let mut memory = memory;
            for ((id, (place, key)), tenant) in found.into_iter().zip(tenants) {
                series[place].push(ViewSeries {
                    key,
                    partition: number,
                    id: SeriesId(id),
                    from: from.0.max(self.shared.cutoff(tenant)),
                    memory: memory.remove(&id).unwrap_or_default(),
                });
            }
        }
        for of_device in &mut series {
            of_device.sort_by_key(|series| (series.key, series.partition));
        }
        let seen = Seen { shared: self.shared.clone(), series, files, to: to.0 };
        EmbeddedView { devices, seen }
    }
}

impl<K: Copy> EmbeddedView<K> {
    /// The devices as they were asked for.
    #[must_use]
    pub fn devices(&self) -> &[ScanDevice<K>] {
        &self.devices
    }

    /// How many of the keys asked for the device has ever sent.
    #[must_use]
    pub fn series_of(&self, device: usize) -> usize {
        self.seen.series[device].len()
    }

    /// Gives the readings of some of the devices, named by their places, to
    /// `visit`: in order of time, and of one time in the order of `devices`. It
    /// ends early where `visit` breaks. A reading that was sent again comes
    /// once, with its last value. Blocks, for as long as it takes.
    ///
    /// `slice_bytes` is about what it holds in memory, beside a page of each
    /// series; [`DEFAULT_SCAN_BYTES`] is a good number.
    ///
    /// # Errors
    /// [`HistoryError::Corrupt`] names a damaged file; what came before it was
    /// given out. [`HistoryError::ScanSeries`] if they have more series than
    /// [`MAX_SCAN_SERIES`].
    pub fn scan(
        &self,
        devices: &[usize],
        slice_bytes: usize,
        mut visit: impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        let count: usize = devices.iter().map(|device| self.seen.series[*device].len()).sum();
        if count > MAX_SCAN_SERIES {
            return Err(HistoryError::ScanSeries { asked: count, limit: MAX_SCAN_SERIES });
        }
        let mut slices = slices::Slices::new(&self.seen, devices, slice_bytes);
        while let Some(slice) = slices.next()? {
            if merge::groups(&slice, &self.devices, devices, &mut visit).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}
