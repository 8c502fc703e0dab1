//! Hands messages over, a task for each channel: takes what is queued, durably,
//! gives it to the channel, and writes what came of it.
//!
//! While a provider takes nothing at all, one message at a time tries whether
//! it does again; the others wait in the store and lose nothing.

use std::sync::Arc;
use std::time::Duration;

use schema::{Channel, Recipient, TimestampMs, UserId};
use store::alarms::{AlarmStoreError, Handed, MessageRow, MessageState};
use store::{AlarmStore, Directory};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::channel::{Content, Outcome, Outgoing, Plain};
use crate::metrics::Metrics;
use crate::providers::{Providers, Unseal};
use crate::retry::{again, pause};
use crate::trouble::{Refusal, Troubles};
use crate::whom::now;

/// The longest pause without a look at what is queued.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The pause before the store is asked again where it refused.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The longest answer of a provider that is kept, in characters.
const MAX_ANSWER_CHARS: usize = 500;

/// The task of one channel.
#[derive(Debug)]
pub(crate) struct Deliverer {
    pub channel: Channel,
    pub store: AlarmStore,
    pub directory: Directory,
    pub providers: Arc<Providers>,
    pub unseal: Unseal,
    pub troubles: Troubles,
    pub metrics: Metrics,
}

/// What came of one message.
struct Done {
    message: MessageRow,
    outcome: Outcome,
}

/// How the provider as a whole stands.
#[derive(Debug, Default)]
struct Standing {
    /// Hand-overs in a row that failed for the provider's sake.
    failures: u32,
    /// Nothing is tried before.
    closed_until: Option<Instant>,
}

impl Deliverer {
    /// Hands over until it is told to stop; what is under way then is waited for.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let limit = self.providers.at_once(self.channel);
        self.metrics.limit_hand_overs(self.channel, limit);
        let under_way = self.metrics.hand_overs(self.channel);
        let mut queued = self.store.messages_changed();
        let mut running: JoinSet<Done> = JoinSet::new();
        let mut standing = Standing::default();
        let mut wake = Instant::now();
        loop {
            let stops = *stopping.borrow();
            if stops && running.is_empty() {
                return;
            }
            if !stops && wake <= Instant::now() {
                queued.mark_unchanged();
                wake = match self.start(limit, &standing, &mut running).await {
                    Ok(next) => next,
                    Err(AlarmStoreError::Closed) => return,
                    Err(error) => {
                        tracing::error!(%error, "messages wait to be handed over");
                        Instant::now() + RETRY_PAUSE
                    }
                };
                under_way.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
            }
            tokio::select! {
                Some(done) = running.join_next() => {
                    let mut all = vec![done];
                    while let Some(done) = running.try_join_next() {
                        all.push(done);
                    }
                    let all = all.into_iter().filter_map(|done| {
                        // Only a defect of a channel; the message is taken for
                        // interrupted at the next start.
                        done.inspect_err(|error| tracing::error!(%error, "a hand-over failed")).ok()
                    });
                    self.finish(all.collect(), &mut standing).await;
                    under_way.set(i64::try_from(running.len()).unwrap_or(i64::MAX));
                    wake = Instant::now();
                }
                told = queued.changed(), if !stops && running.len() < limit => {
                    if told.is_err() {
                        return;
                    }
                    wake = Instant::now();
                }
                () = tokio::time::sleep_until(wake), if !stops => {}
                // The sender lives as long as the notifier.
                _ = stopping.changed(), if !stops => {}
            }
        }
    }

    /// Takes what may be taken now; when to look again.
    async fn start(
        &self,
        limit: usize,
        standing: &Standing,
        running: &mut JoinSet<Done>,
    ) -> Result<Instant, AlarmStoreError> {
        let later = Instant::now() + MAX_PAUSE;
        if !self.providers.is_there(self.channel) {
            self.troubles.not_configured(self.channel);
            return Ok(later);
        }
        let room = match standing.closed_until {
            Some(until) if until > Instant::now() => return Ok(until.min(later)),
            Some(_) => 1usize.saturating_sub(running.len()),
            None => limit.saturating_sub(running.len()),
        };
        if room == 0 {
            // A hand-over that ends wakes us.
            return Ok(later);
        }
        let at = now();
        let taken = self.store.take_messages(self.channel, at, room).await?;
        let is_full = taken.len() == room;
        for message in taken {
            let (providers, directory) = (self.providers.clone(), self.directory.clone());
            let unseal = self.unseal.clone();
            running.spawn(async move {
                let outcome = hand_over(&providers, &directory, &unseal, &message).await;
                Done { message, outcome }
            });
        }
        if is_full {
            return Ok(later);
        }
        let Some(next) = self.store.next_hand_over(self.channel).await? else { return Ok(later) };
        let ms = u64::try_from(next.0.saturating_sub(now().0)).unwrap_or(0);
        Ok(later.min(Instant::now() + Duration::from_millis(ms.max(1))))
    }

    async fn finish(&self, done: Vec<Done>, standing: &mut Standing) {
        let at = now();
        let mut handed = Vec::with_capacity(done.len());
        let mut refusals = Vec::new();
        let mut sound = Vec::new();
        for Done { message, outcome } in done {
            self.judge(&message, &outcome, standing, at);
            match &outcome {
                Outcome::Sent { .. } => sound.push(message.clone()),
                Outcome::Refused { answer } => {
                    refusals.push(Refusal::of(&message, answer));
                }
                Outcome::Later { .. } | Outcome::Unknown { .. } => {}
            }
            let one = self.handed(&message, outcome, at);
            if one.state == MessageState::Failed && one.outcome == "given_up" {
                refusals.push(Refusal::of(&message, &one.answer));
            }
            handed.push(one);
        }
        while let Err(error) = self.store.handed(handed.clone()).await {
            if !error.is_retryable() {
                tracing::error!(%error, "what came of messages cannot be written");
                break;
            }
            tracing::warn!(%error, "what came of messages is written again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.troubles.delivered(&sound);
        self.troubles.refused(refusals);
    }

    /// What a hand-over says of the provider as a whole.
    fn judge(
        &self,
        message: &MessageRow,
        outcome: &Outcome,
        standing: &mut Standing,
        at: TimestampMs,
    ) {
        match outcome {
            Outcome::Later { answer, after, whole_provider: true } => {
                // Those that were under way together fail together, once.
                if standing.closed_until.is_none_or(|until| until <= Instant::now()) {
                    standing.failures = standing.failures.saturating_add(1);
                    let pause = pause(standing.failures, *after, random());
                    standing.closed_until = Some(Instant::now() + pause);
                }
                self.metrics.provider_down(self.channel, true);
                self.troubles.provider_down(self.channel, answer, at);
            }
            Outcome::Unknown { .. } => {}
            Outcome::Sent { .. } | Outcome::Refused { .. } | Outcome::Later { .. } => {
                if standing.failures > 0 {
                    tracing::info!(channel = %self.channel, message = %message.id, "the provider takes messages again");
                }
                *standing = Standing::default();
                self.metrics.provider_down(self.channel, false);
                self.troubles.provider_up(self.channel);
            }
        }
    }

    fn handed(&self, message: &MessageRow, outcome: Outcome, at: TimestampMs) -> Handed {
        let (state, outcome, answer, reference, next) = match outcome {
            Outcome::Sent { answer, reference } => {
                let ms = at.0.saturating_sub(message.made_at.0).max(0);
                let seconds = Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs_f64();
                self.metrics.hand_over_seconds.observe(seconds);
                (MessageState::Sent, "sent", answer, reference, at)
            }
            Outcome::Refused { answer } => (MessageState::Failed, "refused", answer, None, at),
            Outcome::Unknown { answer } => (MessageState::Unknown, "unknown", answer, None, at),
            Outcome::Later { answer, after, whole_provider } => {
                // The pause of a provider that takes nothing holds for all.
                let pause = match whole_provider {
                    true => Duration::ZERO,
                    false => pause(message.attempts, after, random()),
                };
                match again(self.channel, message.made_at, at, pause) {
                    Some(next) => (MessageState::Queued, "later", answer, None, next),
                    None => (MessageState::Failed, "given_up", answer, None, at),
                }
            }
        };
        self.metrics.handed(self.channel, outcome);
        let answer = answer.chars().take(MAX_ANSWER_CHARS).collect();
        Handed { id: message.id, at, state, next_at: next, outcome, answer, reference }
    }
}

/// Gives one message to its channel.
pub(crate) async fn hand_over(
    providers: &Providers,
    directory: &Directory,
    unseal: &Unseal,
    message: &MessageRow,
) -> Outcome {
    let content: Content = match serde_json::from_str(&message.content) {
        Ok(content) => content,
        Err(error) => {
            return Outcome::Refused { answer: format!("the stored message is damaged: {error}") };
        }
    };
    let secret = match (message.channel, &message.recipient) {
        (Channel::Webhook, Recipient::User(user)) => {
            match webhook_secret(directory, unseal, *user) {
                Ok(secret) => Some(secret),
                Err(answer) => return Outcome::Refused { answer },
            }
        }
        (Channel::Webhook | Channel::Email | Channel::Sms, _) => None,
    };
    let outgoing = Outgoing {
        id: message.id,
        channel: message.channel,
        to: message.address.clone(),
        secret,
        content,
        maybe_repeated: message.interrupted > 0,
    };
    providers.send(&outgoing).await
}

fn webhook_secret(directory: &Directory, unseal: &Unseal, user: UserId) -> Result<Plain, String> {
    let found = directory.user(user).ok_or("the user is gone")?;
    let webhook = found.webhook.as_ref().ok_or("the user has no webhook any more")?;
    unseal.open(found.tenant, &webhook.secret)
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness pauses are the shortest; they still grow by what
    // providers ask for.
    if getrandom::fill(&mut bytes).is_err() {
        return 0;
    }
    u64::from_le_bytes(bytes)
}
