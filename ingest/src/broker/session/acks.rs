//! Which PUBACKs are owed, in the order of the publishes.
//!
//! All publishes of one socket read are a group; a group is answered once its
//! submissions are durable, and never before the group in front of it. A
//! refused publish waits in its group like any other, so that the order holds.

use std::collections::VecDeque;

use super::super::encode::puback;
use super::super::frame::Version;

/// Entries that an idle session keeps room for.
const KEPT_ACKS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Ack {
    packet_id: u16,
    reason: u8,
    /// The next of [`Acks::words`] is its own.
    has_words: bool,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    acks: u32,
    rows: u32,
    /// Waits for the journal.
    is_submitted: bool,
}

#[derive(Debug, Default)]
pub(super) struct Acks {
    acks: VecDeque<Ack>,
    /// Reason Strings of refused publishes.
    words: VecDeque<Box<str>>,
    groups: VecDeque<Group>,
    /// Acks at the back that belong to no group yet.
    open: u32,
    rows: usize,
    /// Groups that have been answered since the session began.
    answered: u64,
}

impl Acks {
    /// A publish is owed a PUBACK.
    #[inline]
    pub(super) fn add(&mut self, packet_id: u16, reason: u8) {
        self.acks.push_back(Ack { packet_id, reason, has_words: false });
        self.open += 1;
    }

    /// A refused publish is owed a PUBACK that says why.
    pub(super) fn add_refused(&mut self, packet_id: u16, reason: u8, words: Option<Box<str>>) {
        self.acks.push_back(Ack { packet_id, reason, has_words: words.is_some() });
        self.words.extend(words);
        self.open += 1;
    }

    /// Ends the group of one socket read. Returns how many PUBACKs could be
    /// written at once, as nothing of it or before it waits.
    pub(super) fn close_group(
        &mut self,
        rows: usize,
        is_submitted: bool,
        version: Version,
        out: &mut Vec<u8>,
    ) {
        let acks = std::mem::take(&mut self.open);
        if acks == 0 && !is_submitted {
            return;
        }
        self.rows += rows;
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.groups.push_back(Group { acks, rows, is_submitted });
        self.answer_what_waits_for_nothing(version, out);
    }

    /// The submissions of the front group are durable.
    pub(super) fn completed(&mut self, version: Version, out: &mut Vec<u8>) {
        debug_assert!(self.groups.front().is_some_and(|group| group.is_submitted));
        self.answer_front(version, out);
        self.answer_what_waits_for_nothing(version, out);
    }

    fn answer_what_waits_for_nothing(&mut self, version: Version, out: &mut Vec<u8>) {
        while self.groups.front().is_some_and(|group| !group.is_submitted) {
            self.answer_front(version, out);
        }
    }

    fn answer_front(&mut self, version: Version, out: &mut Vec<u8>) {
        let Some(group) = self.groups.pop_front() else { return };
        self.answered += 1;
        self.rows -= group.rows as usize;
        for ack in self.acks.drain(..group.acks as usize) {
            let words = if ack.has_words { self.words.pop_front() } else { None };
            puback(out, version, ack.packet_id, ack.reason, words.as_deref());
        }
        if self.acks.is_empty() && self.acks.capacity() > KEPT_ACKS {
            self.acks = VecDeque::new();
        }
        if self.words.is_empty() && self.words.capacity() > 0 {
            self.words = VecDeque::new();
        }
    }

    /// Publishes that are owed a PUBACK.
    #[inline]
    pub(super) fn publishes(&self) -> usize {
        self.acks.len()
    }

    /// Rows on their way into the journal.
    #[inline]
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Socket reads on their way into the journal.
    #[inline]
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The number that [`Acks::answered`] reaches once all so far, and the
    /// group that is open, are answered.
    pub(super) fn fence(&self) -> u64 {
        self.answered + self.groups.len() as u64
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(out: &mut Vec<u8>) -> Vec<u8> {
        std::mem::take(out).chunks(4).map(|packet| packet[3]).collect()
    }

    #[test]
    fn answers_come_in_the_order_of_the_publishes() {
        let (mut acks, mut out) = (Acks::default(), Vec::new());
        acks.add(1, 0);
        acks.add(2, 0);
        acks.close_group(2, true, Version::V3, &mut out);
        acks.add(3, 0x99);
        acks.close_group(0, false, Version::V3, &mut out);
        acks.add(4, 0);
        acks.close_group(1, true, Version::V3, &mut out);
        assert!(out.is_empty(), "nothing is durable yet");
        assert_eq!((acks.publishes(), acks.rows(), acks.groups()), (4, 3, 3));
        acks.completed(Version::V3, &mut out);
        assert_eq!(ids(&mut out), [1, 2, 3], "what was refused goes along");
        acks.completed(Version::V3, &mut out);
        assert_eq!(ids(&mut out), [4]);
        assert_eq!((acks.publishes(), acks.rows(), acks.groups()), (0, 0, 0));
    }

    #[test]
    fn what_waits_for_nothing_is_answered_at_once() {
        let (mut acks, mut out) = (Acks::default(), Vec::new());
        acks.add(7, 0);
        acks.close_group(0, false, Version::V3, &mut out);
        assert_eq!(ids(&mut out), [7]);
    }
}
