//! A connection from its first packet after CONNECT to its end.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use schema::RecordKind;
use tokio::io::AsyncWrite as _;

use super::super::frame;
use super::super::metering::GivenUp;
use super::super::session::End;
use super::{Batch, Connection, Group, Input, Node, Scratch, Step, with_scratch};
use crate::batch::{Completion, Rows, Submission, SubmitError};

/// How long the last bytes to a client may take.
const GOODBYE: Duration = Duration::from_secs(1);

impl Connection {
    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self: Box<Self>) -> End {
        let end = loop {
            match self.step(Input::Read).await {
                Step::Submit(batch) => {
                    if let Err(end) = self.submit(batch, Input::Read).await {
                        break end;
                    }
                }
                Step::End(end) => break end,
            }
        };
        // Boxed, so that a connection that goes on does not carry its end along.
        Box::pin(self.finish(end)).await;
        end
    }

    async fn step(&mut self, input: Input) -> Step {
        poll_fn(|context| with_scratch(|scratch| self.poll(context, input, scratch))).await
    }

    /// Puts the rows of one socket read into the partition's queue. While that
    /// has no room, PUBACKs and messages go on and the socket is not read.
    async fn submit(&mut self, batch: Batch, input: Input) -> Result<(), End> {
        let Batch { telemetry, attributes, qos_0_rows } = batch;
        let kinds = [(RecordKind::Readings, telemetry), (RecordKind::ClientAttributes, attributes)];
        let mut group = Group { qos_0_rows, ..Group::default() };
        let mut ended = None;
        for (index, (kind, rows)) in kinds.into_iter().enumerate() {
            if rows.is_empty() {
                continue;
            }
            match self.submit_one(kind, rows, input, &mut ended).await {
                Ok(completion) => group.completions[index] = Some(completion),
                Err(_closed) => {
                    let lost = qos_0_rows[index..].iter().sum();
                    let why = if ended.is_some() { GivenUp::NoRoom } else { GivenUp::Failed };
                    self.node.metrics.give_up(why, lost);
                    return Err(ended.unwrap_or(End::JournalFailed));
                }
            }
        }
        self.in_flight.push_back(group);
        self.node.metrics.in_flight.inc();
        ended.map_or(Ok(()), Err)
    }

    async fn submit_one(
        &mut self,
        kind: RecordKind,
        rows: Rows,
        input: Input,
        ended: &mut Option<End>,
    ) -> Result<Completion, SubmitError> {
        let identity = self.session.identity();
        let submission = Submission {
            tenant: identity.tenant,
            router: identity.router,
            received_at: Node::now().wall,
            kind,
            rows,
        };
        let submitter = self.node.submitter.clone();
        let mut submit = pin!(submitter.submit(identity.partition, submission));
        let patience = Duration::from_millis(self.node.options.listener.shutdown_timeout_ms);
        let end = poll_fn(|context| {
            if let Poll::Ready(result) = submit.as_mut().poll(context) {
                return Poll::Ready(Ok(result));
            }
            if input == Input::Hold {
                return Poll::Pending;
            }
            with_scratch(|scratch| self.poll(context, Input::Hold, scratch)).map(Err)
        });
        match end.await {
            Ok(result) => result,
            Err(step) => {
                // The connection is over, but what it sent at QoS 0 is nowhere
                // else; it gets a last chance.
                *ended = Some(match step {
                    Step::End(end) => end,
                    Step::Submit(_) => unreachable!("nothing is read while a submission waits"),
                });
                let last = tokio::time::timeout(patience, submit).await;
                last.unwrap_or(Err(SubmitError::Closed))
            }
        }
    }

    async fn finish(&mut self, end: End) {
        self.handle.mailbox.close();
        self.node.registry.remove(&self.handle);
        self.node.ledger.disconnected(self.router(), Node::now().wall, end);
        self.calls.clear();
        if matches!(end, End::Shutdown | End::Moved) {
            self.drain().await;
        }
        self.publish_will(end).await;
        self.node.metrics.ended(end);
        tracing::debug!(router = %self.router(), cause = end.as_str(), "session ended");
        self.session.goodbye(end, &mut self.pending);
        // A client that is gone or takes nothing does not hold this up.
        let _ = tokio::time::timeout(GOODBYE, poll_fn(|context| self.poll_goodbye(context))).await;
        self.count_given_up(end).await;
    }

    /// Counts what nobody will send again: submissions that have failed, and
    /// publishes that were read and not looked at. What is still on its way into
    /// the journal is not given up.
    async fn count_given_up(&mut self, end: End) {
        // When one has failed the others are about to.
        let is_failing = end == End::JournalFailed;
        let patience_ms = self.node.options.listener.shutdown_timeout_ms;
        let patience = Duration::from_millis(if is_failing { patience_ms } else { 0 });
        let settled = poll_fn(|context| self.poll_in_flight(context));
        let _ = tokio::time::timeout(patience, settled).await;
        let in_flight = i64::try_from(self.in_flight.len()).unwrap_or(0);
        self.node.metrics.in_flight.sub(in_flight);
        let mut rest = &self.partial[..];
        let max_bytes = self.node.rules.max_packet_bytes;
        while let Ok(Some(frame)) = frame::next_frame(rest, max_bytes) {
            if frame.is_qos_0_publish() {
                self.node.metrics.unread_publishes.inc();
            }
            rest = &rest[frame.size..];
        }
    }

    /// Waits for what is on its way into the journal, so that its PUBACKs
    /// still go out.
    async fn drain(&mut self) {
        let patience = Duration::from_millis(self.node.options.listener.shutdown_timeout_ms);
        let drained = poll_fn(|context| {
            with_scratch(|scratch| {
                self.take_completions(context, &mut scratch.out);
                self.pending.append(&mut scratch.out.bytes);
            });
            if self.in_flight.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        // What is not durable by then is not acknowledged.
        let _ = tokio::time::timeout(patience, drained).await;
    }

    async fn publish_will(&mut self, end: End) {
        let mut is_retried = false;
        loop {
            let (is_waiting, batch) = with_scratch(|scratch| {
                let Scratch { out, .. } = scratch;
                let is_waiting = self.session.publish_will(end, Node::now(), out);
                self.act(out);
                if out.counts.is_any {
                    self.node.metrics.add(&out.counts);
                }
                (is_waiting, Batch::take(out))
            });
            if !batch.telemetry.is_empty() || !batch.attributes.is_empty() {
                let patience =
                    Duration::from_millis(self.node.options.listener.shutdown_timeout_ms);
                let rows = batch.qos_0_rows.iter().sum();
                let submit = self.submit(batch, Input::Hold);
                // Nobody is left to be told if it fails; it is counted.
                if tokio::time::timeout(patience, submit).await.is_err() {
                    self.node.metrics.give_up(GivenUp::NoRoom, rows);
                }
            }
            if !is_waiting || is_retried {
                return;
            }
            is_retried = true;
            self.finish_jobs().await;
        }
    }

    async fn finish_jobs(&mut self) {
        let patience = Duration::from_millis(self.node.options.listener.shutdown_timeout_ms);
        let done = poll_fn(|context| {
            with_scratch(|scratch| self.take_jobs(context, &mut scratch.out));
            if self.jobs.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout(patience, done).await;
    }

    fn poll_goodbye(&mut self, context: &mut std::task::Context<'_>) -> Poll<()> {
        while self.written < self.pending.len() {
            let pending = std::mem::take(&mut self.pending);
            let written = self.socket.poll_put(context, &pending[self.written..]);
            self.pending = pending;
            match written {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(count)) => self.written += count,
            }
        }
        match self.socket.poll_send(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Pin::new(&mut self.socket).poll_shutdown(context).map(|_| ()),
        }
    }
}
