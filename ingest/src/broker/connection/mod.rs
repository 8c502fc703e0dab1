//! One connection with a session: what moves between its socket, its session,
//! the journal and the rest of the node.
//!
//! The way of a reading passes here twice: bytes go from the socket into the
//! session and rows from there into a partition's queue; when they are durable,
//! the session's PUBACKs go back, with one write for a whole socket read. It
//! reads on while earlier submissions are in flight, up to the session's
//! bounds; past them the socket is not read, and nothing is dropped.

mod jobs;
mod run;
mod socket;
mod work;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

pub(crate) use socket::{Socket, with_scratch};

use self::jobs::Job;
use self::socket::{READ_BYTES, SMALL_PARTIAL_BYTES, Scratch};
use super::node::{Node, monotonic_us};
use super::registry::{Handle, Reply};
use super::session::{End, Now, Output, Session};
use crate::batch::{Completion, Rows};

/// Memory of an output buffer that is kept while nothing waits in it.
const KEPT_OUTPUT_BYTES: usize = 1_024;

/// The submissions of one socket read: of telemetry and of attributes.
#[derive(Default)]
struct Group {
    completions: [Option<Completion>; 2],
    /// Of each, the rows that nobody would send again.
    qos_0_rows: [u32; 2],
}

/// The rows of one socket read, to be submitted.
struct Batch {
    telemetry: Rows,
    attributes: Rows,
    qos_0_rows: [u32; 2],
}

impl Batch {
    fn take(out: &mut Output) -> Self {
        Self {
            telemetry: std::mem::take(&mut out.telemetry),
            attributes: std::mem::take(&mut out.attributes),
            qos_0_rows: std::mem::take(&mut out.qos_0_rows),
        }
    }
}

pub(crate) struct Connection {
    node: Arc<Node>,
    handle: Arc<Handle>,
    socket: Socket,
    session: Session,
    /// Input that was not taken: the beginning of a packet, or packets that
    /// are to be offered again.
    partial: Vec<u8>,
    /// The session stopped at a bound and `partial` holds whole packets.
    is_blocked: bool,
    /// Output that the socket has not taken, from `written` on.
    pending: Vec<u8>,
    written: usize,
    stalled_since_us: Option<u64>,
    in_flight: VecDeque<Group>,
    jobs: Vec<Job>,
    calls: Vec<(u64, Reply)>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Set once, when what was taken before is still to be submitted.
    ending: Option<End>,
    /// Of the node, when the session was last brought up to date.
    epochs: (u64, u64),
}

/// What the connection waits for next.
enum Step {
    /// To be submitted before more is read.
    Submit(Batch),
    End(End),
}

/// Whether the socket may be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Read,
    /// A submission waits for room in its queue.
    Hold,
}

impl Connection {
    pub(crate) fn new(
        node: Arc<Node>,
        handle: Arc<Handle>,
        socket: Socket,
        session: Session,
        partial: Vec<u8>,
    ) -> Self {
        Self {
            epochs: node.epochs(),
            node,
            handle,
            socket,
            session,
            is_blocked: !partial.is_empty(),
            partial,
            pending: Vec::new(),
            written: 0,
            stalled_since_us: None,
            in_flight: VecDeque::new(),
            jobs: Vec::new(),
            calls: Vec::new(),
            sleep: None,
            ending: None,
        }
    }

    /// Does all that can be done without waiting.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        input: Input,
        scratch: &mut Scratch,
    ) -> Poll<Step> {
        if let Some(end) = self.ending {
            return Poll::Ready(Step::End(end));
        }
        loop {
            self.take_messages(context, &mut scratch.out);
            self.take_completions(context, &mut scratch.out);
            self.take_jobs(context, &mut scratch.out);
            self.act(&mut scratch.out);
            if let Some(step) = self.settle(context, &mut scratch.out) {
                return Poll::Ready(step);
            }
            if !self.jobs.is_empty() && self.take_jobs(context, &mut scratch.out) {
                // Started just now and done already.
                continue;
            }
            if input == Input::Hold || !self.offer(context, scratch) {
                return self.poll_deadline(context, input);
            }
            self.act(&mut scratch.out);
            if let Some(step) = self.settle(context, &mut scratch.out) {
                return Poll::Ready(step);
            }
        }
    }

    /// Writes what the session said, and returns what has to be done first.
    fn settle(&mut self, context: &mut Context<'_>, out: &mut Output) -> Option<Step> {
        if out.counts.is_any {
            self.node.metrics.add(&out.counts);
            out.counts = Default::default();
        }
        if let Err(end) = self.write(context, out) {
            out.end.get_or_insert(end);
        }
        if let Some(end) = out.end.take() {
            self.ending.get_or_insert(end);
        }
        if out.is_submitted {
            out.is_submitted = false;
            return Some(Step::Submit(Batch::take(out)));
        }
        self.ending.map(Step::End)
    }

    /// Offers input to the session: what it left, or else what the socket has.
    /// False if there is nothing to offer.
    fn offer(&mut self, context: &mut Context<'_>, scratch: &mut Scratch) -> bool {
        let now = Node::now();
        let is_full =
            self.pending.len() - self.written > self.node.options.session.max_output_bytes;
        if is_full || !self.session.may_take(now.us) {
            return false;
        }
        self.refresh();
        if self.is_blocked {
            self.is_blocked = false;
            let partial = std::mem::take(&mut self.partial);
            let consumed = self.session.receive(&partial, now, &mut scratch.out);
            self.keep(partial, consumed);
            self.note_read(&scratch.out, now);
            return true;
        }
        match self.read(context, scratch) {
            Poll::Pending => false,
            Poll::Ready(Err(end)) => {
                scratch.out.end = Some(end);
                true
            }
            Poll::Ready(Ok(bytes)) => {
                self.node.metrics.bytes_in.inc_by(bytes as u64);
                self.handle.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                self.note_read(&scratch.out, now);
                true
            }
        }
    }

    fn note_read(&mut self, out: &Output, now: Now) {
        if out.counts.is_any {
            let refused: u32 = out.counts.refused.iter().sum();
            let publishes = out.counts.taken.iter().sum::<u32>() + refused;
            self.handle.publishes.fetch_add(u64::from(publishes), Ordering::Relaxed);
            if out.counts.readings > 0 {
                self.handle.telemetry_at.store(now.wall.0, Ordering::Relaxed);
            }
            if refused > 0 {
                self.node.ledger.refused(self.router(), &out.counts, now.wall);
            }
        }
        if !self.session.may_take(now.us) {
            self.is_blocked = !self.partial.is_empty();
            self.node.metrics.paused.inc();
        }
    }

    /// Reads the socket once and offers all to the session.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<Result<usize, End>> {
        let Scratch { read, out } = scratch;
        let kept = if self.partial.len() <= SMALL_PARTIAL_BYTES { self.partial.len() } else { 0 };
        let space = &mut read[kept..kept + READ_BYTES];
        let bytes = match ready!(self.socket.poll_take(context, space)) {
            Ok(0) | Err(_) => return Poll::Ready(Err(End::Socket)),
            Ok(bytes) => bytes,
        };
        let now = Node::now();
        if kept < self.partial.len() {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(&read[..bytes]);
            let consumed = self.session.receive(&partial, now, out);
            self.keep(partial, consumed);
        } else {
            read[..kept].copy_from_slice(&self.partial);
            let input = &read[..kept + bytes];
            let consumed = self.session.receive(input, now, out);
            let left = &input[consumed..];
            if left.is_empty() {
                self.partial = Vec::new();
            } else {
                self.partial.clear();
                self.partial.extend_from_slice(left);
            }
        }
        Poll::Ready(Ok(bytes))
    }

    fn keep(&mut self, mut partial: Vec<u8>, consumed: usize) {
        if consumed == partial.len() {
            partial = Vec::new();
        } else {
            partial.drain(..consumed);
        }
        self.partial = partial;
    }

    /// Brings the session up to date with the directory, if that has changed.
    fn refresh(&mut self) {
        let epochs = self.node.epochs();
        if epochs == self.epochs {
            return;
        }
        if epochs.0 != self.epochs.0
            && let Some(tenancy) = self.node.tenancy(self.session.identity().tenant)
        {
            self.session.set_tenancy(tenancy);
        }
        if epochs.1 != self.epochs.1 {
            let directory = &self.node.directory;
            self.session.retain_devices(|name, device| {
                directory.device(device).is_some_and(|device| device.name == name)
            });
        }
        self.epochs = epochs;
    }

    /// Writes the output, or as much as the socket takes.
    fn write(&mut self, context: &mut Context<'_>, out: &mut Output) -> Result<(), End> {
        if self.pending.is_empty() && !out.bytes.is_empty() {
            let written = self.write_some(context, &out.bytes)?;
            self.pending.extend_from_slice(&out.bytes[written..]);
        } else {
            self.pending.extend_from_slice(&out.bytes);
            if self.pending.len() > self.written {
                let pending = std::mem::take(&mut self.pending);
                let written = self.write_some(context, &pending[self.written..]);
                self.pending = pending;
                self.written += written?;
            }
        }
        out.bytes.clear();
        if self.pending.len() == self.written {
            self.written = 0;
            self.pending.clear();
            if self.pending.capacity() > KEPT_OUTPUT_BYTES {
                self.pending = Vec::new();
            }
            self.stalled_since_us = None;
        } else if self.written > self.pending.len() / 2 {
            self.pending.drain(..self.written);
            self.written = 0;
        }
        match self.socket.poll_send(context) {
            Poll::Ready(Err(_)) => Err(End::Socket),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    fn write_some(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Result<usize, End> {
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.poll_put(context, &bytes[written..]) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::Socket),
                Poll::Ready(Ok(count)) => {
                    self.node.metrics.bytes_out.inc_by(count as u64);
                    self.stalled_since_us = None;
                    written += count;
                }
                Poll::Pending => {
                    self.stalled_since_us.get_or_insert_with(monotonic_us);
                    break;
                }
            }
        }
        Ok(written)
    }

    /// Keep alive, the end of a pause, and a client that takes nothing.
    fn poll_deadline(&mut self, context: &mut Context<'_>, input: Input) -> Poll<Step> {
        loop {
            let now_us = monotonic_us();
            let is_read = input == Input::Read && self.session.may_take(now_us);
            if let Some(end) = self.session.timeout(now_us, is_read) {
                return Poll::Ready(Step::End(end));
            }
            let stall_us = self.node.options.session.write_stall_ms * 1_000;
            let stall = self.stalled_since_us.map(|since_us| since_us + stall_us);
            if stall.is_some_and(|stall_us| stall_us <= now_us) {
                return Poll::Ready(Step::End(End::WriteStall));
            }
            let session = self.session.deadline_us(now_us);
            let Some(deadline_us) = session.into_iter().chain(stall).min() else {
                self.sleep = None;
                return Poll::Pending;
            };
            let wait = Duration::from_micros(deadline_us.saturating_sub(now_us));
            let deadline = Instant::now() + wait;
            let sleep =
                self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            // A deadline that has moved on is looked at when the former one
            // fires: a message must not cost a move in the timer wheel.
            if sleep.deadline() > deadline + Duration::from_millis(1) {
                sleep.as_mut().reset(deadline);
            }
            ready!(sleep.as_mut().poll(context));
            self.sleep = None;
            if !self.session.may_take(now_us) && self.session.may_take(monotonic_us()) {
                // A pause is over; the caller offers input again.
                context.waker().wake_by_ref();
            }
        }
    }
}
