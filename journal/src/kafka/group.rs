//! A consumer group that decides which process works on which partitions.
//!
//! Its members fetch nothing and commit nothing: what Kafka is asked for is only
//! who is there and who has what. Assignment is cooperative and sticky, so that
//! when a process joins or leaves only the partitions that move are interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus::Registry;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, TopicPartitionList};
use schema::PartitionId;
use tokio::sync::mpsc;

use super::shared::Shared;
use super::topic;
use crate::OpenError;
use crate::assignment::{Assignment, AssignmentChange, Release};

/// How long the thread waits for news before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// How long what is revoked may be worked on before another gets it anyway.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

/// Changes that wait to be taken; past it the group's thread waits.
const CHANGES: usize = 16;

type Client = BaseConsumer<Group>;

/// This process's place in a group; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    is_leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Membership {
    /// Leaves, and returns when the group knows.
    pub async fn leave(mut self) {
        self.is_leaving.store(true, Ordering::Release);
        let thread = self.thread.take();
        let left = tokio::task::spawn_blocking(move || thread.map(JoinHandle::join)).await;
        if !matches!(left, Ok(None | Some(Ok(())))) {
            tracing::error!("a consumer group could not be left in order");
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.is_leaving.store(true, Ordering::Release);
    }
}

struct Group {
    name: String,
    changes: mpsc::Sender<AssignmentChange>,
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(group = self.name, %error, reason, "a consumer group is out of reach");
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, client: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) if client.assignment_lost() => {
                let partitions = partitions(list);
                tracing::warn!(group = self.name, ?partitions, "partitions are lost to others");
                self.tell(AssignmentChange::Lost(partitions));
            }
            Rebalance::Revoke(list) => {
                let (kept, released) = std::sync::mpsc::sync_channel(1);
                let partitions = partitions(list);
                tracing::info!(group = self.name, ?partitions, "partitions go to others");
                self.tell(AssignmentChange::Revoked(partitions, Release::new(kept)));
                // Disconnected is what is waited for: nothing is ever sent.
                if released.recv_timeout(RELEASE_PATIENCE)
                    == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    tracing::warn!(group = self.name, "revoked partitions are still worked on");
                }
            }
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => {
                tracing::warn!(group = self.name, %error, "a consumer group failed to rebalance");
            }
        }
    }

    fn post_rebalance(&self, client: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        // Readers have clients of their own.
        if let Err(error) = client.pause(list) {
            tracing::warn!(group = self.name, %error, "what a group fetches is thrown away");
        }
        let partitions = partitions(list);
        if !partitions.is_empty() {
            tracing::info!(group = self.name, ?partitions, "partitions are ours");
            self.tell(AssignmentChange::Assigned(partitions));
        }
    }
}

impl Group {
    fn tell(&self, change: AssignmentChange) {
        // Nobody listens once the assignment is being left.
        let _ = self.changes.blocking_send(change);
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<PartitionId> {
    let elements = list.elements();
    let numbers =
        elements.iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition);
    numbers.filter_map(|number| u16::try_from(number).ok()).map(PartitionId).collect()
}

/// Joins the group of a role.
pub(super) fn join(
    shared: &Arc<Shared>,
    role: &str,
    registry: &Registry,
) -> Result<Assignment, OpenError> {
    let options = &shared.options;
    let name = format!("{}-{role}", options.topic);
    let (changes, receiver) = mpsc::channel(CHANGES);
    let mut config = options.client();
    config.set("group.id", &name);
    config.set("partition.assignment.strategy", "cooperative-sticky");
    config.set("session.timeout.ms", options.session_timeout_ms.to_string());
    config.set("heartbeat.interval.ms", (options.session_timeout_ms / 4).max(1).to_string());
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "latest");
    // What is fetched before a new partition is paused is thrown away.
    config.set("queued.min.messages", "1");
    let failed = |error: KafkaError| topic::brokers(&error);
    let client: Client =
        config.create_with_context(Group { name: name.clone(), changes }).map_err(failed)?;
    client.subscribe(&[&options.topic]).map_err(failed)?;
    let is_leaving = Arc::new(AtomicBool::new(false));
    let (leaving, of_journal) = (is_leaving.clone(), shared.clone());
    let thread = std::thread::Builder::new()
        .name("journal-group".into())
        .spawn(move || take_part(&client, &leaving, &of_journal))
        .map_err(|error| OpenError::Brokers(error.to_string()))?;
    let membership = Membership { is_leaving, thread: Some(thread) };
    Ok(Assignment::new(receiver, Some(membership), role, registry)?)
}

/// Takes part until it is to leave; the client leaves when it is dropped behind.
fn take_part(client: &Client, is_leaving: &AtomicBool, shared: &Shared) {
    while !is_leaving.load(Ordering::Acquire) && !shared.is_closed() {
        match client.poll(POLL) {
            None | Some(Ok(_)) => {}
            Some(Err(error)) => tracing::debug!(%error, "a consumer group waits"),
        }
    }
}
