//! The notifier put together: its tasks, and what people ask of it by hand.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use schema::{Channel, Language, MessageId, Recipient, TemplateKind, TenantId, TimestampMs};
use store::alarms::{AlarmStoreError, Handed, MessageRow, MessageState, NewMessage, Report};
use store::{AlarmStore, Directory};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::channel::{Content, Outcome};
use crate::compose::Composer;
use crate::delivery::{Deliverer, hand_over};
use crate::links::LinkKey;
use crate::message::{self, MessageFacts, RenderError};
use crate::metrics::Metrics;
use crate::planner::Planner;
use crate::providers::{Providers, Unseal};
use crate::trouble::{Alarming, TroubleWatch, Troubles};
use crate::whom::now;

/// The pause before what was left on its way is looked for again.
const RECOVER_PACE: Duration = Duration::from_secs(1);

/// How often what waits is counted.
const COUNT_PACE: Duration = Duration::from_secs(5);

/// How often what is too old is forgotten.
const FORGET_PACE: Duration = Duration::from_secs(600);

/// Messages and notices that are forgotten in one transaction.
const FORGOTTEN_AT_ONCE: usize = 1_000;

const DAY_MS: i64 = 24 * 3_600_000;

/// What the notifier stands on.
#[derive(Debug)]
pub struct NotifierParts {
    pub directory: Directory,
    pub store: AlarmStore,
    pub providers: Providers,
    pub unseal: Unseal,
    pub alarming: Alarming,
    pub links: LinkKey,
    /// Where people reach this installation; without it messages bear no links.
    pub public_url: Option<String>,
    /// Days that the delivery log is kept.
    pub log_days: u32,
}

/// A message by which somebody tries whether an address is reached.
#[derive(Clone, Debug)]
pub struct TestMessage {
    pub tenant: TenantId,
    pub recipient: Recipient,
    pub channel: Channel,
    pub address: String,
    pub language: Language,
    pub time_zone: String,
    /// Who asks for it.
    pub by: String,
}

/// The notifier: what people ask of it by hand, at once, and the work of telling
/// them, which one node does at a time.
#[derive(Debug)]
pub struct Notifier {
    store: AlarmStore,
    directory: Directory,
    providers: Arc<Providers>,
    composer: Arc<Composer>,
    unseal: Unseal,
    alarming: Alarming,
    log_days: u32,
    metrics: Metrics,
}

impl Notifier {
    /// Puts it together; nobody is told of anything before [`Notifier::work`].
    ///
    /// # Errors
    /// A metric of the same name is registered already.
    pub fn new(parts: NotifierParts, registry: &Registry) -> Result<Self, prometheus::Error> {
        let NotifierParts { directory, store, providers, unseal, alarming, log_days, .. } = parts;
        let composer = Composer {
            directory: directory.clone(),
            public_url: parts.public_url.map(|url| url.trim_end_matches('/').to_owned()),
            links: parts.links,
        };
        Ok(Self {
            store,
            directory,
            providers: Arc::new(providers),
            composer: Arc::new(composer),
            unseal,
            alarming,
            log_days,
            metrics: Metrics::register(registry)?,
        })
    }

    /// Sees to what a former process left on its way, and tells people until
    /// `ending` turns true: then what is with a provider is waited for, and what
    /// is queued stays.
    pub async fn work(&self, mut ending: watch::Receiver<bool>) {
        while let Err(error) = self.recover().await {
            tracing::warn!(%error, "what a former process left on its way is seen to again");
            pause(RECOVER_PACE, &mut ending).await;
            if *ending.borrow() {
                return;
            }
        }
        let mut tasks = self.begin(&ending);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the notifier failed");
            }
        }
    }

    async fn recover(&self) -> Result<(), AlarmStoreError> {
        let interrupted = self.store.recover_messages(now()).await?;
        self.metrics.interrupted.with_label_values(&["again"]).inc_by(interrupted.again);
        self.metrics.interrupted.with_label_values(&["unknown"]).inc_by(interrupted.unknown);
        if interrupted.again + interrupted.unknown > 0 {
            let (again, unknown) = (interrupted.again, interrupted.unknown);
            tracing::warn!(again, unknown, "messages were on their way when the process ended");
        }
        Ok(())
    }

    fn begin(&self, ending: &watch::Receiver<bool>) -> JoinSet<()> {
        let (directory, store, metrics) = (&self.directory, &self.store, &self.metrics);
        let troubles = Troubles::default();
        let mut tasks = JoinSet::new();
        let planner = Planner {
            directory: directory.clone(),
            store: store.clone(),
            composer: self.composer.clone(),
            metrics: metrics.clone(),
        };
        tasks.spawn(planner.run(ending.clone()));
        for channel in Channel::ALL {
            let deliverer = Deliverer {
                channel,
                store: store.clone(),
                directory: directory.clone(),
                providers: self.providers.clone(),
                unseal: self.unseal.clone(),
                troubles: troubles.clone(),
                metrics: metrics.clone(),
            };
            tasks.spawn(deliverer.run(ending.clone()));
        }
        let watch = TroubleWatch {
            troubles,
            directory: directory.clone(),
            store: store.clone(),
            alarming: self.alarming.clone(),
        };
        tasks.spawn(watch.run(ending.clone()));
        tasks.spawn(count(store.clone(), metrics.clone(), ending.clone()));
        tasks.spawn(forget(store.clone(), self.log_days, ending.clone()));
        tasks
    }

    /// Whether the channel is configured.
    #[must_use]
    pub fn is_there(&self, channel: Channel) -> bool {
        self.providers.is_there(channel)
    }

    /// Hands a test message over at once and says what the provider answered. It
    /// stands in the delivery log as every other.
    ///
    /// # Errors
    /// The database refuses, or Baken's own template is defective.
    pub async fn test(&self, test: TestMessage) -> Result<(MessageRow, Outcome), TestError> {
        let at = now();
        let tenant = self.composer.tenant_name(test.tenant);
        let id = random_id()?;
        let facts = MessageFacts::test(&tenant, &test.address, test.language, &test.time_zone, at);
        let facts = MessageFacts { id, ..facts };
        let own = match test.channel {
            Channel::Webhook => None,
            channel => {
                self.directory.template_of(test.tenant, channel, test.language, TemplateKind::Test)
            }
        };
        let own = own.as_ref().map(|template| &template.body);
        let content: Content = message::render(test.channel, &facts, own)?.content;
        let message = NewMessage {
            id,
            tenant: test.tenant,
            recipient: test.recipient,
            channel: test.channel,
            address: test.address,
            kind: TemplateKind::Test.as_str(),
            severity: None,
            content: serde_json::to_string(&content).expect("content has text keys only"),
            notices: Vec::new(),
            copy_of: None,
        };
        self.store.add_message_on_its_way(message, at, test.by).await?;
        let Some((row, _)) = self.store.message(id).await? else {
            return Err(TestError::Store(AlarmStoreError::Closed));
        };
        let outcome = hand_over(&self.providers, &self.directory, &self.unseal, &row).await;
        let (state, name, answer, reference) = match outcome.clone() {
            Outcome::Sent { answer, reference } => (MessageState::Sent, "sent", answer, reference),
            Outcome::Refused { answer } => (MessageState::Failed, "refused", answer, None),
            // A test is tried once.
            Outcome::Later { answer, .. } => (MessageState::Failed, "later", answer, None),
            Outcome::Unknown { answer } => (MessageState::Unknown, "unknown", answer, None),
        };
        self.metrics.handed(row.channel, name);
        let at = now();
        let handed = Handed { id, at, state, next_at: at, outcome: name, answer, reference };
        self.store.handed(vec![handed]).await?;
        Ok((row, outcome))
    }

    /// Queues a copy of a message, because somebody asks for it. The copy has an
    /// id of its own, so that a receiver doesn't take it for a repetition.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn send_again(
        &self,
        message: &MessageRow,
        by: String,
    ) -> Result<MessageId, TestError> {
        let id = random_id()?;
        let kind = TemplateKind::ALL.into_iter().find(|kind| kind.as_str() == message.kind);
        let copy = NewMessage {
            id,
            tenant: message.tenant,
            recipient: message.recipient.clone(),
            channel: message.channel,
            address: message.address.clone(),
            kind: kind.map_or("digest", TemplateKind::as_str),
            severity: message.severity,
            content: with_id(&message.content, id),
            notices: Vec::new(),
            copy_of: Some(message.id),
        };
        self.store.add_message(copy, now(), by).await?;
        Ok(id)
    }

    /// Notes what a provider said later; false where there is no such message.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn report(&self, report: Report) -> Result<bool, AlarmStoreError> {
        let state = report.state;
        let is_known = self.store.report(report).await?;
        let outcome = if is_known { state.as_str() } else { "no_such_message" };
        self.metrics.reports.with_label_values(&[outcome]).inc();
        Ok(is_known)
    }

    /// What takes and checks an SMS provider's delivery reports.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.providers
    }
}

/// Why a message that somebody asked for was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error(transparent)]
    Store(#[from] AlarmStoreError),
    #[error("the message cannot be written: {0}")]
    Render(#[from] RenderError),
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// The same content, with the new id where a webhook's body bears one.
fn with_id(content: &str, id: MessageId) -> String {
    let Ok(mut parsed) = serde_json::from_str::<Content>(content) else {
        return content.to_owned();
    };
    if let Some(data) = &mut parsed.data {
        data["id"] = id.to_string().into();
    }
    serde_json::to_string(&parsed).expect("content has text keys only")
}

fn random_id() -> Result<MessageId, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(MessageId(u128::from_be_bytes(bytes)))
}

async fn count(store: AlarmStore, metrics: Metrics, mut stopping: watch::Receiver<bool>) {
    while !*stopping.borrow() {
        match store.waiting().await {
            Ok(waiting) => metrics.waiting(&waiting, now().0),
            Err(AlarmStoreError::Closed) => return,
            Err(error) => tracing::error!(%error, "what waits to be told can't be counted"),
        }
        pause(COUNT_PACE, &mut stopping).await;
    }
}

async fn forget(store: AlarmStore, log_days: u32, mut stopping: watch::Receiver<bool>) {
    while !*stopping.borrow() {
        let before = TimestampMs(now().0.saturating_sub(i64::from(log_days) * DAY_MS));
        match store.forget_messages(before, FORGOTTEN_AT_ONCE).await {
            Ok(forgotten) if forgotten >= FORGOTTEN_AT_ONCE as u64 => continue,
            Ok(_) => {}
            Err(AlarmStoreError::Closed) => return,
            Err(error) => tracing::error!(%error, "the delivery log can't be shortened"),
        }
        pause(FORGET_PACE, &mut stopping).await;
    }
}

async fn pause(pace: Duration, stopping: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(pace) => {}
        // Whoever sends may be gone, which is the end as well.
        _ = stopping.changed() => {}
    }
}
