//! What is deleted: whole sealed segments, oldest first, when all take too much
//! room or a segment's last record is too old, and never one that a named
//! reader still needs.

use std::fs;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use schema::{PartitionId, Position};

use super::segment::Segment;
use super::shared::{Shared, now};
use super::sidecar::sidecar_path;
use crate::status::HeldBack;

/// Deletes what may go. Only the writer calls it, so segments come and go in
/// one thread.
pub(super) fn retain(shared: &Shared) {
    let segments = shared.segments.read().unwrap_or_else(PoisonError::into_inner).clone();
    let mut total: u64 = segments.iter().map(|segment| segment.disk_bytes()).sum();
    let oldest_kept_at = now().0.saturating_sub_unsigned(shared.options.retention_ms);
    let mut held_back: Option<HeldBack> = None;
    // The last segment is never deleted: it says where the positions go on.
    for pair in segments.windows(2) {
        let [segment, behind] = pair else { break };
        let expired = total > shared.options.retention_bytes
            || segment.last_appended_at.load(Ordering::Relaxed) < oldest_kept_at;
        if !expired {
            break;
        }
        let bytes = segment.disk_bytes();
        total -= bytes;
        if let Some(held) = &mut held_back {
            held.bytes += bytes;
        } else if let Some(held) = holder(shared, &behind.firsts, bytes) {
            held_back = Some(held);
        } else if let Err(error) = delete(shared, segment, behind) {
            tracing::error!(%error, segment = %segment.path.display(), "cannot delete a segment");
            break;
        }
    }
    report(shared, held_back);
}

/// The reader that needs the most of a segment that ends at `ends`, if any does.
fn holder(shared: &Shared, ends: &[u64], bytes: u64) -> Option<HeldBack> {
    let holds = shared.holds.lock().unwrap_or_else(PoisonError::into_inner);
    let needs = holds.iter().flat_map(|hold| {
        let needed = hold.needed.iter().enumerate();
        needed.filter_map(|(index, needed)| needed.map(|needed| (hold.name, index, needed)))
    });
    needs
        .filter(|&(_, index, needed)| needed < ends[index])
        .max_by_key(|&(_, index, needed)| ends[index] - needed)
        .map(|(reader, index, needed)| HeldBack {
            reader,
            partition: PartitionId(u16::try_from(index).expect("counted by u16")),
            needed: Position(needed),
            bytes,
        })
}

fn delete(shared: &Shared, segment: &Arc<Segment>, behind: &Segment) -> io::Result<()> {
    // Positions first, so that a reader that finds the file gone finds why.
    for (partition, &oldest) in shared.partitions.iter().zip(&behind.firsts) {
        partition.oldest.store(oldest, Ordering::Release);
    }
    let mut segments = shared.segments.write().unwrap_or_else(PoisonError::into_inner);
    segments.retain(|other| other.sequence != segment.sequence);
    drop(segments);
    shared.metrics.deleted_segments.inc();
    tracing::info!(segment = %segment.path.display(), "deleted a segment that is no longer kept");
    fs::remove_file(&segment.path)?;
    match fs::remove_file(sidecar_path(&segment.path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Each by itself, so that after a power cut no later one is gone before it.
    shared.options.disk.sync_dir(shared.dir())
}

fn report(shared: &Shared, held_back: Option<HeldBack>) {
    let mut reported = shared.held_back.lock().unwrap_or_else(PoisonError::into_inner);
    if let (Some(held), None) = (&held_back, &*reported) {
        tracing::warn!(
            reader = held.reader,
            partition = held.partition.0,
            needed = held.needed.0,
            bytes = held.bytes,
            "the journal keeps more than its retention because a reader is behind"
        );
    }
    *reported = held_back;
}
