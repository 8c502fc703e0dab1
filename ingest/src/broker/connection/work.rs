//! What comes to a connection from the journal, the store and the rest of the
//! node, and what its session wants of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use schema::RouterId;

use super::super::metering::GivenUp;
use super::super::registry::Message;
use super::super::session::{Action, Call, Delivered, End, Output, PushRefused};
use super::jobs::{self, Done};
use super::{Connection, Group, Node};
use crate::batch::Completion;

impl Connection {
    pub(super) fn take_messages(&mut self, context: &Context<'_>, out: &mut Output) {
        while out.end.is_none() {
            let Poll::Ready(message) = self.handle.mailbox.poll_take(context) else { return };
            match message {
                Message::End(end) => out.end = Some(end),
                Message::SharedChanged(device) => {
                    let identity = self.session.identity();
                    let position = self.node.durable(identity.partition);
                    let node = Arc::clone(&self.node);
                    self.jobs.push(jobs::undelivered(node, identity, vec![device], Some(position)));
                }
                Message::Call(call, reply) => {
                    let is_full = self.pending.len() > self.node.options.session.max_output_bytes;
                    let number = call.call;
                    match self.push_call(call, is_full, out) {
                        Ok(()) => self.calls.push((number, reply)),
                        Err(refused) => {
                            self.node.metrics.call("refused");
                            // The caller may have stopped waiting.
                            let _ = reply.send(Err(refused));
                        }
                    }
                }
            }
        }
    }

    fn push_call(
        &mut self,
        call: Call,
        is_full: bool,
        out: &mut Output,
    ) -> Result<(), PushRefused> {
        // Those whose callers no longer wait make room.
        self.calls.retain(|(_, reply)| !reply.is_closed());
        if is_full {
            return Err(PushRefused::Full);
        }
        self.session.push_call(call, Node::now().us, out)
    }

    /// Answers the groups that are durable. In order: a later one is not
    /// looked at before those in front of it.
    pub(super) fn take_completions(&mut self, context: &mut Context<'_>, out: &mut Output) {
        while let Some(group) = self.in_flight.front_mut() {
            match poll_group(group, context) {
                Poll::Pending => return,
                Poll::Ready(is_durable) => {
                    let lost = group.open_qos_0_rows();
                    self.in_flight.pop_front();
                    self.node.metrics.in_flight.dec();
                    if !is_durable {
                        // No PUBACK: the publisher keeps it and sends it again,
                        // unless it was sent at QoS 0.
                        self.node.metrics.give_up(GivenUp::Failed, lost);
                        out.end.get_or_insert(End::JournalFailed);
                        return;
                    }
                    self.session.completed(out);
                }
            }
        }
    }

    /// Counts the groups that fail, of a connection that has ended.
    pub(super) fn poll_in_flight(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(group) = self.in_flight.front_mut() {
            if !ready!(poll_group(group, context)) {
                self.node.metrics.give_up(GivenUp::Failed, group.open_qos_0_rows());
            }
            self.in_flight.pop_front();
            self.node.metrics.in_flight.dec();
        }
        Poll::Ready(())
    }

    /// True if any job was done.
    pub(super) fn take_jobs(&mut self, context: &mut Context<'_>, out: &mut Output) -> bool {
        let mut index = 0;
        let mut is_any = false;
        while index < self.jobs.len() {
            match self.jobs[index].as_mut().poll(context) {
                Poll::Pending => index += 1,
                Poll::Ready(done) => {
                    drop(self.jobs.swap_remove(index));
                    is_any = true;
                    self.job_done(done, out);
                }
            }
        }
        if self.jobs.is_empty() && self.jobs.capacity() > 0 {
            self.jobs = Vec::new();
        }
        is_any
    }

    fn job_done(&mut self, done: Done, out: &mut Output) {
        match done {
            Done::Nothing => {}
            Done::Resolved(answers) => self.session.resolved(answers, out),
            Done::Unresolved => {
                out.end.get_or_insert(End::JournalFailed);
            }
            Done::Answer(answer) => self.session.answer(answer, out),
            Done::Undelivered(devices) => {
                for (device, pending) in devices {
                    let delivered = Some(Delivered { device, upto: pending.upto });
                    // What is refused stays undelivered in the store.
                    let _ = self.session.push_shared(device, &pending.changes, delivered, out);
                }
            }
        }
    }

    /// Does what the session asked for.
    pub(super) fn act(&mut self, out: &mut Output) {
        if out.actions.is_empty() {
            return;
        }
        let identity = self.session.identity();
        let (mut missed, mut delivered) = (Vec::new(), Vec::new());
        for action in out.actions.drain(..) {
            let node = || Arc::clone(&self.node);
            match action {
                Action::Resolve(wanted) => {
                    self.jobs.push(jobs::resolve(node(), identity.router, wanted));
                }
                Action::Ask(question) => self.jobs.push(jobs::ask(node(), identity, question)),
                Action::FetchUndelivered { device } => missed.push(device),
                Action::Delivered(one) => delivered.push(one),
                Action::Reject(rejection) => self.node.rejections.add(identity.tenant, rejection),
                Action::CallAnswered { call, answer } => {
                    let place = self.calls.iter().position(|(number, _)| *number == call);
                    if let Some(place) = place {
                        self.node.metrics.call("answered");
                        // The caller may have stopped waiting.
                        let _ = self.calls.swap_remove(place).1.send(Ok(answer));
                    }
                }
            }
        }
        if !missed.is_empty() {
            let node = Arc::clone(&self.node);
            self.jobs.push(jobs::undelivered(node, identity, missed, None));
        }
        if !delivered.is_empty() {
            self.jobs.push(jobs::mark_delivered(Arc::clone(&self.node), delivered));
        }
    }

    pub(super) fn router(&self) -> RouterId {
        self.session.identity().router
    }
}

impl Group {
    /// Rows at QoS 0 of the submissions that are not known to be durable.
    fn open_qos_0_rows(&self) -> u32 {
        let slots = self.completions.iter().zip(self.qos_0_rows);
        slots.filter(|(slot, _)| slot.is_some()).map(|(_, rows)| rows).sum()
    }
}

/// Whether the whole group is durable, once that is known.
fn poll_group(group: &mut Group, context: &mut Context<'_>) -> Poll<bool> {
    for slot in &mut group.completions {
        let Some(completion) = slot else { continue };
        match Pin::<&mut Completion>::new(completion).poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => *slot = None,
            Poll::Ready(Err(_closed)) => return Poll::Ready(false),
        }
    }
    Poll::Ready(true)
}
