//! Opening a folder: what its segments hold and where to go on. Costs a small
//! read for each sealed segment and a whole read of the last one.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use schema::{PartitionId, Position};

use super::folder::{Meta, io_error};
use super::frame::{Place, align};
use super::options::EmbeddedOptions;
use super::scan::{holds_proven_frames, scan};
use super::segment::{Segment, SegmentHeader, segment_path};
use super::sidecar::{self, Damage, Sealed, SidecarHead};
use crate::OpenError;
use crate::error::{Corruption, DamageReason};

/// The segment that is written, and where.
#[derive(Debug)]
pub(super) struct Active {
    pub segment: Arc<Segment>,
    pub file: File,
    /// The end of the last durable group, where the next one begins.
    pub end: u64,
    /// The ordinal of the next frame.
    pub ordinal: u32,
    /// The last frame.
    pub previous: Option<Place>,
    /// Whether a mark stands at `end`.
    pub marked: bool,
}

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Recovered {
    /// In order; the last one is the active one, if there is one.
    pub segments: Vec<Arc<Segment>>,
    pub active: Option<Active>,
    pub next_sequence: u64,
    /// Per partition, the position of its next record.
    pub next: Vec<u64>,
    /// Per partition, its first damage.
    pub stops: Vec<Option<Corruption>>,
    pub torn_bytes: u64,
    pub rebuilt_sidecars: u64,
}

pub(super) fn recover(
    options: &EmbeddedOptions,
    meta: Meta,
    sequences: &[u64],
) -> Result<Recovered, OpenError> {
    let partitions = usize::from(meta.partitions);
    let mut recovered = Recovered {
        segments: Vec::with_capacity(sequences.len()),
        active: None,
        next_sequence: sequences.last().map_or(1, |last| last + 1),
        next: vec![0; partitions],
        stops: vec![None; partitions],
        torn_bytes: 0,
        rebuilt_sidecars: 0,
    };
    let headers = read_headers(options, meta, sequences, &mut recovered)?;
    for (index, header) in headers.iter().enumerate() {
        let ends = headers.get(index + 1).map(|next| &*next.firsts);
        recovered.check_joint(options, index, header);
        let head = sidecar::read_head(
            &segment_path(&options.dir, header.sequence),
            meta.folder_id,
            header.sequence,
        )
        .map_err(io_error("read", &segment_path(&options.dir, header.sequence)))?;
        match head.filter(|head| agrees(head, header, ends)) {
            Some(head) => recovered.take_sealed(options, header, &head),
            None if ends.is_some() => recovered.rebuild(options, header, ends)?,
            None => recovered.take_last(options, header)?,
        }
    }
    Ok(recovered)
}

/// Reads the headers of all segments. A last segment that was never begun in
/// earnest is removed.
fn read_headers(
    options: &EmbeddedOptions,
    meta: Meta,
    sequences: &[u64],
    recovered: &mut Recovered,
) -> Result<Vec<SegmentHeader>, OpenError> {
    let mut headers = Vec::with_capacity(sequences.len());
    for (index, &sequence) in sequences.iter().enumerate() {
        let path = segment_path(&options.dir, sequence);
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let header =
            SegmentHeader::read(&file, meta.partitions).map_err(io_error("read", &path))?;
        let header = header
            .filter(|header| header.folder_id == meta.folder_id && header.sequence == sequence);
        if let Some(header) = header {
            headers.push(header);
            continue;
        }
        let expected = SegmentHeader {
            folder_id: meta.folder_id,
            sequence,
            created_at: 0,
            firsts: vec![0; usize::from(meta.partitions)].into(),
        };
        let is_last = index + 1 == sequences.len();
        if !is_last || holds_proven_frames(&file, &expected).map_err(io_error("read", &path))? {
            let reason = "neither copy of its header matches its checksum".into();
            return Err(OpenError::Damaged { path, reason });
        }
        recovered.torn_bytes += file.metadata().map_err(io_error("read", &path))?.len();
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
        options.disk.sync_dir(&options.dir).map_err(io_error("sync", &options.dir))?;
    }
    Ok(headers)
}

/// Whether a sidecar can be of the segment as its neighbour says it ended.
fn agrees(head: &SidecarHead, header: &SegmentHeader, ends: Option<&[u64]>) -> bool {
    head.ranges.len() == header.firsts.len()
        && head.ranges.iter().zip(&header.firsts).all(|(range, &first)| range.first == first)
        && ends
            .is_none_or(|ends| head.ranges.iter().zip(ends).all(|(range, &end)| range.end() == end))
}

impl Recovered {
    /// Between two segments no position may be missing: somebody removed one.
    fn check_joint(&mut self, options: &EmbeddedOptions, index: usize, header: &SegmentHeader) {
        for (partition, (next, &first)) in self.next.iter_mut().zip(&header.firsts).enumerate() {
            if index > 0 && first != *next {
                let stop = corruption(
                    &segment_path(&options.dir, header.sequence),
                    Damage {
                        partition: u16::try_from(partition).expect("counted by u16"),
                        position: *next,
                        offset: 0,
                        reason: DamageReason::Missing,
                    },
                );
                self.stops[partition].get_or_insert(stop);
            }
            *next = first;
        }
    }

    fn take_sealed(
        &mut self,
        options: &EmbeddedOptions,
        header: &SegmentHeader,
        head: &SidecarHead,
    ) {
        let segment = Segment::new(&options.dir, header);
        segment.bytes.store(head.data_end, Ordering::Relaxed);
        segment.last_appended_at.store(head.last_appended_at, Ordering::Relaxed);
        *segment.slots.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for (next, range) in self.next.iter_mut().zip(&head.ranges) {
            *next = range.end();
        }
        self.note(&segment, &head.damages);
        self.segments.push(Arc::new(segment));
    }

    fn rebuild(
        &mut self,
        options: &EmbeddedOptions,
        header: &SegmentHeader,
        ends: Option<&[u64]>,
    ) -> Result<(), OpenError> {
        let segment = Segment::new(&options.dir, header);
        let file = File::open(&segment.path).map_err(io_error("open", &segment.path))?;
        let scan = scan(&file, header, ends).map_err(io_error("scan", &segment.path))?;
        self.rebuilt_sidecars += 1;
        let appended_at = scan.last_appended_at.unwrap_or(header.created_at);
        segment.bytes.store(scan.data_end, Ordering::Relaxed);
        segment.last_appended_at.store(appended_at, Ordering::Relaxed);
        let written = sidecar::write(
            &segment.path,
            &Sealed {
                folder_id: header.folder_id,
                sequence: header.sequence,
                data_end: scan.data_end,
                last_appended_at: appended_at,
                firsts: &header.firsts,
                slots: &scan.slots,
                damages: &scan.damages,
            },
        );
        for (next, (slots, first)) in
            self.next.iter_mut().zip(scan.slots.iter().zip(&header.firsts))
        {
            *next = first + slots.len() as u64;
        }
        self.note(&segment, &scan.damages);
        // Without a sidecar, as on a full disk, the places stay in memory.
        *segment.slots.lock().unwrap_or_else(PoisonError::into_inner) =
            written.is_err().then_some(scan.slots);
        self.segments.push(Arc::new(segment));
        Ok(())
    }

    /// The last segment: what is torn is cut off, and what stays is synced
    /// before anyone may read it, since a killed process may not have done so.
    fn take_last(
        &mut self,
        options: &EmbeddedOptions,
        header: &SegmentHeader,
    ) -> Result<(), OpenError> {
        let segment = Segment::new(&options.dir, header);
        let path = &segment.path;
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(io_error("open", path))?;
        let scan = scan(&file, header, None).map_err(io_error("scan", path))?;
        let end = align(scan.data_end);
        if scan.torn_bytes > 0 {
            options.disk.truncate(&file, scan.cut_at).map_err(io_error("cut", path))?;
        }
        header.restore(&file).map_err(io_error("write", path))?;
        options.disk.sync(&file).map_err(io_error("sync", path))?;
        // It is written again, so a sidecar that was left over would lie.
        let _ = fs::remove_file(sidecar::sidecar_path(path));
        options.disk.sync_dir(&options.dir).map_err(io_error("sync", &options.dir))?;
        self.torn_bytes += scan.torn_bytes;
        self.note(&segment, &scan.damages);
        for (next, (slots, first)) in
            self.next.iter_mut().zip(scan.slots.iter().zip(&header.firsts))
        {
            *next = first + slots.len() as u64;
        }
        segment.bytes.store(scan.data_end, Ordering::Relaxed);
        if let Some(appended_at) = scan.last_appended_at {
            segment.last_appended_at.store(appended_at, Ordering::Relaxed);
        }
        *segment.slots.lock().unwrap_or_else(PoisonError::into_inner) = Some(scan.slots);
        let segment = Arc::new(segment);
        self.segments.push(segment.clone());
        self.active = Some(Active {
            segment,
            file,
            end,
            ordinal: scan.ordinal,
            previous: scan.previous,
            marked: scan.marked && scan.torn_bytes == 0,
        });
        Ok(())
    }

    fn note(&mut self, segment: &Segment, damages: &[Damage]) {
        for &damage in damages {
            if let Some(stop) = self.stops.get_mut(usize::from(damage.partition)) {
                stop.get_or_insert_with(|| corruption(&segment.path, damage));
            }
        }
        segment.damages.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(damages);
    }
}

pub(super) fn corruption(segment: &Path, damage: Damage) -> Corruption {
    Corruption {
        partition: PartitionId(damage.partition),
        position: Position(damage.position),
        segment: segment.to_owned(),
        offset: damage.offset,
        reason: damage.reason,
    }
}
