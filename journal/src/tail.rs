//! The last entries of a partition in memory, so that a reader that keeps up
//! never reads a file.

use std::collections::VecDeque;

use crate::Entry;

/// A dense run of entries that ends where the partition is durable.
#[derive(Debug)]
pub(crate) struct Tail {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit_bytes: usize,
}

impl Tail {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit_bytes }
    }

    /// Adds entries that follow the last one, and drops the oldest over the limit.
    pub(crate) fn extend(&mut self, entries: impl Iterator<Item = Entry>) {
        for entry in entries {
            self.bytes += entry.memory_bytes();
            self.entries.push_back(entry);
        }
        while self.bytes > self.limit_bytes {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.memory_bytes();
        }
    }

    /// The position of the oldest entry, if there is one.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.position.0)
    }

    /// Forgets all, since what comes next does not follow.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Copies up to `limit` entries from `position` on; none if it is not here.
    pub(crate) fn copy(&self, position: u64, limit: usize, into: &mut VecDeque<Entry>) {
        let Some(oldest) = self.entries.front() else { return };
        let Some(skip) = position.checked_sub(oldest.position.0) else { return };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        if skip < self.entries.len() {
            let end = self.entries.len().min(skip.saturating_add(limit));
            into.extend(self.entries.range(skip..end).cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use schema::{Position, RecordKind, TimestampMs};

    use super::*;

    fn entry(position: u64) -> Entry {
        Entry {
            position: Position(position),
            kind: RecordKind::Readings,
            version: 1,
            rows: 1,
            appended_at: TimestampMs(0),
            payload: Bytes::from(vec![0; 200 - size_of::<Entry>()]),
            decoded: None,
        }
    }

    fn copied(tail: &Tail, position: u64, limit: usize) -> Vec<u64> {
        let mut into = VecDeque::new();
        tail.copy(position, limit, &mut into);
        into.iter().map(|entry| entry.position.0).collect()
    }

    #[test]
    fn keeps_the_last_within_its_bytes() {
        let mut tail = Tail::new(1_000);
        assert_eq!(copied(&tail, 0, 9), [0; 0]);
        tail.extend((0..8).map(entry));
        assert_eq!(copied(&tail, 2, 9), [0; 0], "200 bytes each, so three are gone");
        assert_eq!(copied(&tail, 3, 9), [3, 4, 5, 6, 7]);
        assert_eq!(copied(&tail, 5, 2), [5, 6]);
        assert_eq!(copied(&tail, 8, 9), [0; 0]);
    }
}
