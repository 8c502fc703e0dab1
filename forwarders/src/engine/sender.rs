//! One forwarder's sender: takes what its lanes have queued, hands it to the
//! destination a batch at a time, and tells the lanes what became of it, in
//! their order. It waits, splits and gives up as the platform's answers say;
//! however long it waits, nobody else does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::account::Account;
use super::delivery::Delivery;
use super::messages::{Message, Resolution, Resolved};
use super::status::{State, Status};
use crate::destinations::{BatchLimits, Destination, Failure, Sent};
use crate::limits::{MAX_RETRY_MS, MIN_RETRY_MS, SEND_TIMEOUT_MS};
use crate::metrics::SenderMetrics;
use crate::outgoing::{KeptValue, Outgoing};
use crate::pace::{Backoff, Gate};
use crate::time::{now_ms, random};

/// Dead letters that a person sends again.
#[derive(Debug)]
pub(super) struct Resend {
    pub values: Vec<Outgoing>,
    /// For each value, what became of it.
    pub answer: oneshot::Sender<Vec<Result<(), String>>>,
}

/// Where a sender gets its work from and reports to.
#[derive(Debug)]
pub(super) struct Ends {
    pub queue: mpsc::Receiver<Queued>,
    pub resends: mpsc::Receiver<Resend>,
    /// By partition.
    pub partitions: Vec<mpsc::Sender<Message>>,
    /// Raised when a person lets it go on.
    pub resumed: watch::Receiver<u64>,
    pub stopping: watch::Receiver<bool>,
}

/// Values of one lane, oldest first.
#[derive(Debug)]
pub(super) struct Queued {
    pub values: Vec<Outgoing>,
}

pub(super) struct Sender {
    pub forwarder: u64,
    pub epoch: u64,
    pub destination: Box<dyn Destination>,
    pub batch: BatchLimits,
    pub account: Arc<Account>,
    pub status: Arc<Status>,
    pub metrics: SenderMetrics,
    pub ends: Ends,
    pub backoff: Backoff,
}

/// The node stops, or the forwarder is changed.
struct Stopped;

impl Sender {
    pub async fn run(mut self) {
        let mut stopping = self.ends.stopping.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => {}
            Err(Stopped) = self.work() => {}
        }
        let close = self.destination.close();
        // A platform that does not answer is not waited for.
        let _ = timeout(Duration::from_secs(2), close).await;
        self.status.set_in_flight(0);
    }

    async fn work(&mut self) -> Result<(), Stopped> {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                tokio::select! {
                    biased;
                    Some(resend) = self.ends.resends.recv() => {
                        self.resend(resend).await?;
                        continue;
                    }
                    queued = self.ends.queue.recv() => {
                        waiting.extend(queued.ok_or(Stopped)?.values);
                    }
                }
                self.gather(&mut waiting).await;
            }
            let batch = self.take_batch(&mut waiting);
            self.status.set_in_flight(batch.len());
            let outcomes = self.deliver(&batch, true).await?;
            self.report(&batch, outcomes).await?;
            self.status.set_in_flight(0);
            while waiting.len() < self.batch.values
                && let Ok(queued) = self.ends.queue.try_recv()
            {
                waiting.extend(queued.values);
            }
        }
    }

    /// Waits a moment for more, so that a request carries many values.
    async fn gather(&mut self, waiting: &mut VecDeque<Outgoing>) {
        // One that is behind has much at once, and would only wait.
        if waiting.len() >= self.batch.values / 4 {
            return;
        }
        let until = Instant::now() + Duration::from_millis(self.batch.linger_ms);
        while waiting.len() < self.batch.values {
            tokio::select! {
                biased;
                queued = self.ends.queue.recv() => match queued {
                    Some(queued) => waiting.extend(queued.values),
                    None => return,
                },
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }

    fn take_batch(&self, waiting: &mut VecDeque<Outgoing>) -> Vec<Outgoing> {
        let count = batch_of(waiting, self.batch);
        waiting.drain(..count).collect()
    }

    /// What became of each value of a batch; returns when that is known of all.
    /// `patient` waits however long it takes; otherwise what fails is an answer.
    async fn deliver(
        &mut self,
        batch: &[Outgoing],
        patient: bool,
    ) -> Result<Vec<Result<(), String>>, Stopped> {
        let mut delivery = Delivery::new(batch.len());
        while let Some(range) = delivery.next() {
            if patient {
                self.wait_for_gate().await;
            }
            let started = Instant::now();
            let limit = Duration::from_millis(SEND_TIMEOUT_MS);
            let sent = timeout(limit, self.destination.send(&batch[range])).await;
            let sent = sent.unwrap_or_else(|_| Sent::failed(Failure::timed_out()));
            self.metrics.seconds.observe(started.elapsed().as_secs_f64());
            self.metrics.attempts.inc();
            let failure = sent.failure.clone();
            let step = delivery.note(sent);
            match (step, failure) {
                (_, None) => self.succeeded(),
                (None, Some(_)) => self.account.succeeded(),
                (Some(_), Some(failure)) if !patient => delivery.give_up(&failure.message),
                (Some(wait), Some(failure)) => self.rest(wait, &failure).await?,
            }
        }
        Ok(delivery.outcomes())
    }

    fn succeeded(&mut self) {
        self.backoff.succeeded();
        self.account.succeeded();
        self.status.sent_now();
        self.status.set(State::Connected, None);
    }

    /// Waits as long as a failure of this kind asks for.
    async fn rest(
        &mut self,
        wait: super::delivery::Wait,
        failure: &Failure,
    ) -> Result<(), Stopped> {
        use super::delivery::Wait;
        self.metrics.failures.inc();
        let state = match wait {
            Wait::Person => {
                tracing::warn!(
                    forwarder = self.forwarder,
                    reason = failure.message,
                    "a forwarder is paused until somebody has seen to it; its data is kept"
                );
                self.status.set(State::Paused, Some(&failure.message));
                self.ends.resumed.mark_unchanged();
                let resumed = self.ends.resumed.changed().await;
                self.status.set(State::Connecting, None);
                return resumed.map_err(|_| Stopped);
            }
            Wait::Throttle => State::Throttled,
            Wait::Displaced => State::Failing,
            Wait::Retry => {
                self.account.failed();
                State::Failing
            }
        };
        if self.backoff.failures() == 0 {
            let (forwarder, reason) = (self.forwarder, &failure.message);
            tracing::warn!(forwarder, reason, "a forwarder's platform fails; it is tried again");
        }
        self.status.set(state, Some(&failure.message));
        let bounds = (Duration::from_millis(MIN_RETRY_MS), Duration::from_millis(MAX_RETRY_MS));
        let pause = self.backoff.failed(random(), failure.retry_after, bounds);
        // A person who resumes it does not want to wait for the pause's end.
        tokio::select! {
            () = sleep(pause) => Ok(()),
            resumed = self.ends.resumed.changed() => resumed.map_err(|_| Stopped),
        }
    }

    /// Waits while the account is left alone.
    async fn wait_for_gate(&mut self) {
        while let Gate::Wait(pause) = self.account.gate() {
            sleep(pause).await;
        }
    }

    /// Tells each partition of its values, in their order.
    async fn report(
        &mut self,
        batch: &[Outgoing],
        outcomes: Vec<Result<(), String>>,
    ) -> Result<(), Stopped> {
        let mut values = batch.iter().zip(outcomes).peekable();
        while let Some((first, _)) = values.peek() {
            let partition = first.id.partition;
            let mut resolutions: Vec<Resolution> = Vec::new();
            while let Some((value, outcome)) =
                values.next_if(|(value, _)| value.id.partition == partition)
            {
                match (outcome, resolutions.last_mut()) {
                    (Ok(()), Some(Resolution::Sent(run))) => *run += 1,
                    (Ok(()), _) => resolutions.push(Resolution::Sent(1)),
                    (Err(reason), _) => resolutions.push(Resolution::dead(value, reason, now_ms())),
                }
            }
            let resolved = Resolved { forwarder: self.forwarder, epoch: self.epoch, resolutions };
            let inbox = &self.ends.partitions[usize::from(partition.0)];
            inbox.send(Message::Resolved(resolved)).await.map_err(|_| Stopped)?;
        }
        Ok(())
    }

    async fn resend(&mut self, resend: Resend) -> Result<(), Stopped> {
        let mut outcomes = Vec::with_capacity(resend.values.len());
        for batch in resend.values.chunks(self.batch.values) {
            outcomes.extend(self.deliver(batch, false).await?);
        }
        // Whoever asked may have gone away; then they stay as they are.
        let _ = resend.answer.send(outcomes);
        Ok(())
    }
}

/// How many of the values make the next batch: as many as its limits allow, and
/// none of a message of which the rest would go with the next.
fn batch_of(waiting: &VecDeque<Outgoing>, limits: BatchLimits) -> usize {
    let (mut bytes, mut count) = (0, 0);
    for value in waiting.iter().take(limits.values) {
        bytes += value.wire_bytes();
        if count > 0 && bytes > limits.bytes {
            break;
        }
        count += 1;
    }
    let is_amid = |place: usize| {
        let (before, here) = (&waiting[place - 1], waiting.get(place));
        here.is_some_and(|here| {
            (before.source.device, before.at_ms) == (here.source.device, here.at_ms)
        })
    };
    // One that is larger than a batch is cut all the same.
    let whole = (1..=count).rev().find(|place| !is_amid(*place));
    whole.unwrap_or(count)
}

impl Resolution {
    fn dead(value: &Outgoing, reason: String, at_ms: i64) -> Self {
        let kept = KeptValue::of(value);
        let value = serde_json::to_string(&kept).expect("a kept value has text keys only");
        Self::Dead(Box::new(store::forwarders::NewDeadLetter {
            at: schema::TimestampMs(at_ms),
            reason,
            value,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of messages of so many each.
    fn waiting(messages: &[usize]) -> VecDeque<Outgoing> {
        let messages = (0..).zip(messages);
        let of = |(at_ms, values): (i64, &usize)| {
            (0..*values).map(move |_| Outgoing { at_ms, ..Outgoing::for_test_of_connection() })
        };
        messages.flat_map(of).collect()
    }

    #[test]
    fn a_batch_ends_between_messages_unless_one_is_larger_than_it() {
        let limits = |values, bytes| BatchLimits { values, bytes, linger_ms: 0 };
        let (one, all) = (Outgoing::for_test_of_connection().wire_bytes(), usize::MAX);
        for (messages, values, bytes, expected) in [
            (&[10, 10, 10][..], 25, all, 20),
            (&[10, 10], 25, all, 20),
            (&[10, 10], 20, all, 20),
            (&[10, 10], 19, all, 10),
            (&[30, 10], 25, all, 25),
            (&[1, 30], 25, all, 1),
            (&[3, 3, 3], 9, 7 * one, 6),
            (&[1], 9, 1, 1),
            (&[], 9, all, 0),
        ] {
            assert_eq!(
                batch_of(&waiting(messages), limits(values, bytes)),
                expected,
                "{messages:?}"
            );
        }
    }
}
