//! Messages that do not arrive become system alarms of their tenants: one while
//! a provider takes nothing, and one for each recipient who can't be reached.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schema::{Channel, ProfileId, Recipient, Severity, TenantId, TimestampMs};
use sha2::{Digest, Sha256};
use store::alarms::{AlarmQuery, AlarmStoreError, MessageRow};
use store::{AlarmStore, Directory};
use tokio::sync::watch;

use crate::whom::now;

/// What the keys of these alarms' rules begin with. Part of stored data.
pub const UNDELIVERABLE: &str = "notification_undeliverable";

/// The longest key of a rule of a system alarm, in bytes.
const MAX_KEY_BYTES: usize = 128;

/// How often the alarms are settled.
const PACE: Duration = Duration::from_secs(1);

/// How often an alarm that goes on is told again, so that its numbers stay true
/// and one that somebody has cleared comes back.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// Alarms of a page when those that are active are read.
const PAGE: usize = 1_000;

/// Tenants whose messages wait, of one channel.
const MAX_TENANTS: usize = 10_000;

/// A system alarm to be raised, or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemAlarmChange {
    pub tenant: TenantId,
    pub key: String,
    pub active: bool,
    pub severity: Severity,
    pub description: String,
}

type Done = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

type Tell = dyn Fn(SystemAlarmChange) -> Done + Send + Sync;

/// The way to the alarms, by the journal; the server knows it.
#[derive(Clone)]
pub struct Alarming(Arc<Tell>);

impl Alarming {
    /// The future ends when the change is durable, or says why it is not.
    pub fn new<F>(tell: impl Fn(SystemAlarmChange) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move |change| Box::pin(tell(change))))
    }
}

impl std::fmt::Debug for Alarming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alarming")
    }
}

/// A message that will not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    tenant: TenantId,
    channel: Channel,
    recipient: Recipient,
    answer: String,
}

impl Refusal {
    pub fn of(message: &MessageRow, answer: &str) -> Self {
        Self {
            tenant: message.tenant,
            channel: message.channel,
            recipient: message.recipient.clone(),
            answer: answer.to_owned(),
        }
    }
}

type Key = (TenantId, String);

/// The alarms that are active, with when they were last told of.
type Active = BTreeMap<Key, Instant>;

#[derive(Debug, Default)]
struct State {
    /// Since when each channel's provider takes nothing, and its last answer.
    down: BTreeMap<Channel, (TimestampMs, String)>,
    /// What is to be told of recipients: a description, or that it is over.
    recipients: BTreeMap<Key, Option<String>>,
}

/// What the hand-overs say; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles {
    state: Arc<Mutex<State>>,
}

impl Troubles {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn provider_down(&self, channel: Channel, answer: &str, at: TimestampMs) {
        let mut state = self.state();
        let entry = state.down.entry(channel).or_insert_with(|| (at, String::new()));
        answer.clone_into(&mut entry.1);
    }

    pub fn provider_up(&self, channel: Channel) {
        self.state().down.remove(&channel);
    }

    pub fn not_configured(&self, channel: Channel) {
        self.provider_down(channel, "it is not configured", now());
    }

    pub fn refused(&self, refusals: Vec<Refusal>) {
        let mut state = self.state();
        for refusal in refusals {
            let key = (refusal.tenant, recipient_key(refusal.channel, &refusal.recipient));
            let description = format!(
                "A notification by {} to {} cannot be delivered: {}",
                refusal.channel, refusal.recipient, refusal.answer
            );
            state.recipients.insert(key, Some(description));
        }
    }

    pub fn delivered(&self, messages: &[MessageRow]) {
        let mut state = self.state();
        for message in messages {
            let key = (message.tenant, recipient_key(message.channel, &message.recipient));
            state.recipients.insert(key, None);
        }
    }
}

fn provider_key(channel: Channel) -> String {
    format!("{UNDELIVERABLE}/{channel}")
}

fn recipient_key(channel: Channel, recipient: &Recipient) -> String {
    let key = format!("{UNDELIVERABLE}/{channel}/{recipient}");
    if key.len() <= MAX_KEY_BYTES {
        return key;
    }
    format!("{UNDELIVERABLE}/{channel}/{}", hex::encode(&Sha256::digest(&key)[..16]))
}

/// The task that raises and ends the alarms.
#[derive(Debug)]
pub(crate) struct TroubleWatch {
    pub troubles: Troubles,
    pub directory: Directory,
    pub store: AlarmStore,
    pub alarming: Alarming,
}

impl TroubleWatch {
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut active: Option<Active> = None;
        while !*stopping.borrow() {
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                // The sender lives as long as the notifier.
                _ = stopping.changed() => continue,
            }
            let known = match active.take() {
                Some(known) => Ok(known),
                None => self.active().await,
            };
            match known {
                Ok(mut known) => {
                    if let Err(error) = self.settle(&mut known).await {
                        tracing::error!(error, "alarms about messages wait");
                    }
                    active = Some(known);
                }
                Err(AlarmStoreError::Closed) => return,
                Err(error) => tracing::error!(%error, "alarms about messages can't be read"),
            }
        }
    }

    /// Those that a former process raised.
    async fn active(&self) -> Result<Active, AlarmStoreError> {
        let mut query = AlarmQuery {
            profile: Some(ProfileId::SYSTEM),
            active: Some(true),
            limit: PAGE,
            ..AlarmQuery::default()
        };
        let mut active = Active::new();
        loop {
            let page = self.store.alarms(query.clone()).await?;
            for alarm in &page {
                if alarm.rule.key.split('/').next() == Some(UNDELIVERABLE) {
                    let key = (alarm.tenant, alarm.rule.key.to_string());
                    active.insert(key, Instant::now());
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => query.after = Some(last.place()),
                _ => return Ok(active),
            }
        }
    }

    /// Raises what is to be raised and ends what is over.
    async fn settle(&self, active: &mut Active) -> Result<(), String> {
        let recipients: Vec<(Key, Option<String>)> =
            self.troubles.state().recipients.clone().into_iter().collect();
        for (key, description) in recipients {
            self.tell(&key, description.clone(), active).await?;
            let mut state = self.troubles.state();
            // Unless something newer was said in the meantime.
            if state.recipients.get(&key) == Some(&description) {
                state.recipients.remove(&key);
            }
        }
        let down = self.troubles.state().down.clone();
        let over: Vec<Key> = active
            .keys()
            .filter(|(_, key)| {
                let is_up = |channel: &Channel| !down.contains_key(channel);
                Channel::ALL.iter().filter(|it| is_up(it)).any(|it| *key == provider_key(*it))
            })
            .cloned()
            .collect();
        for key in over {
            self.tell(&key, None, active).await?;
        }
        for (key, description) in self.down(down).await.map_err(|error| error.to_string())? {
            if active.get(&key).is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
                self.tell(&key, Some(description), active).await?;
            }
        }
        Ok(())
    }

    /// The tenants whose messages a provider that is down keeps waiting for
    /// longer than their settings allow.
    async fn down(
        &self,
        down: BTreeMap<Channel, (TimestampMs, String)>,
    ) -> Result<Vec<(Key, String)>, AlarmStoreError> {
        let at = now();
        let mut wanted = Vec::new();
        for (channel, (since, answer)) in down {
            for (tenant, count) in self.store.tenants_waiting(channel, at, MAX_TENANTS).await? {
                let Some(found) = self.directory.tenant(tenant) else { continue };
                let delay_s = found.settings.system_alarms.undeliverable.delay_s;
                if at.0.saturating_sub(since.0) < i64::from(delay_s) * 1_000 {
                    continue;
                }
                let description = format!(
                    "Notifications by {channel} cannot be delivered; {count} wait: {answer}"
                );
                wanted.push(((tenant, provider_key(channel)), description));
            }
        }
        Ok(wanted)
    }

    /// Raises the alarm with a description, or ends it without one.
    async fn tell(
        &self,
        key: &Key,
        description: Option<String>,
        active: &mut Active,
    ) -> Result<(), String> {
        let tenant = self.directory.tenant(key.0);
        let Some(setting) = tenant.map(|it| it.settings.system_alarms.undeliverable) else {
            active.remove(key);
            return Ok(());
        };
        let raises = description.is_some() && setting.enabled;
        if !raises && !active.contains_key(key) {
            return Ok(());
        }
        let change = SystemAlarmChange {
            tenant: key.0,
            key: key.1.clone(),
            active: raises,
            severity: setting.severity,
            description: description.unwrap_or_default(),
        };
        (self.alarming.0)(change).await?;
        if raises {
            active.insert(key.clone(), Instant::now());
        } else {
            active.remove(key);
        }
        Ok(())
    }
}
