//! Decides on what is due, one recipient and channel after another, and writes
//! the messages that come of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use schema::{Moment, Purpose, TimestampMs};
use store::alarms::{AlarmStoreError, Decisions, DueNotice, DueRecipient, NewMessage, NewNotice};
use store::{AlarmStore, Directory};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::compose::Composer;
use crate::decision::{CAP_WINDOW_MS, Candidate, Decision, TellReason, Whom, decide};
use crate::metrics::Metrics;
use crate::whom::{Reader, Source, candidate, moment, now};

/// Recipients that are looked at in one round.
const MAX_RECIPIENTS: usize = 256;

/// Of those, how many at once.
const MAX_AT_ONCE: usize = 8;

/// Notices of one recipient that are decided in one transaction; what is past
/// them is decided in the next.
const MAX_NOTICES: usize = 10_000;

/// The longest pause without a look at what is due: a clock that was set back
/// must not silence anybody.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The pause before a round that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The task that decides.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    pub directory: Directory,
    pub store: AlarmStore,
    pub composer: Arc<Composer>,
    pub metrics: Metrics,
}

/// What one recipient's notices come to.
struct Planned<'a> {
    decisions: Decisions,
    /// What is told together.
    together: Vec<(&'a DueNotice, TellReason)>,
    /// What is a message of its own each.
    alone: Vec<(&'a DueNotice, TellReason)>,
}

impl Planner {
    /// Decides until it is told to stop.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        let mut changed = self.store.notices_changed();
        while !*stopping.borrow() {
            changed.mark_unchanged();
            let pause = match self.round().await {
                Ok(0) => self.pause().await,
                Ok(_) => continue,
                Err(AlarmStoreError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "what is due to be told waits");
                    RETRY_PAUSE
                }
            };
            tokio::select! {
                told = changed.changed() => if told.is_err() { return },
                () = tokio::time::sleep(pause) => {}
                // The sender lives as long as the notifier.
                _ = stopping.changed() => {}
            }
        }
    }

    async fn pause(&self) -> Duration {
        match self.store.next_due().await {
            Ok(Some(due)) => {
                let ms = u64::try_from(due.0.saturating_sub(now().0)).unwrap_or(0);
                Duration::from_millis(ms).clamp(Duration::from_millis(1), MAX_PAUSE)
            }
            Ok(None) => MAX_PAUSE,
            Err(_) => RETRY_PAUSE,
        }
    }

    /// Decides on what is due now; how many recipients that were.
    async fn round(&self) -> Result<usize, AlarmStoreError> {
        let due = self.store.due_recipients(now(), MAX_RECIPIENTS).await?;
        let count = due.len();
        let mut waiting = due.into_iter();
        let mut running: JoinSet<Result<(), AlarmStoreError>> = JoinSet::new();
        loop {
            while running.len() < MAX_AT_ONCE
                && let Some(whom) = waiting.next()
            {
                let planner = self.clone();
                running.spawn(async move { planner.one(&whom).await });
            }
            match running.join_next().await {
                None => return Ok(count),
                Some(Ok(done)) => done?,
                Some(Err(error)) => {
                    // A defect; the recipient is tried again in the next round.
                    tracing::error!(%error, "deciding on a recipient's notices failed");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn one(&self, due: &DueRecipient) -> Result<(), AlarmStoreError> {
        let at = now();
        let notices = self.store.due_notices(due, at, MAX_NOTICES).await?;
        let Some(first) = notices.first() else { return Ok(()) };
        let mut sources: HashMap<u64, Source> = HashMap::new();
        for notice in &notices {
            sources
                .entry(notice.source)
                .or_insert_with(|| Source::of(&self.directory, notice.source));
        }
        let reader = Reader::of(&self.directory, due, &sources[&first.source]);
        let since = TimestampMs(at.0.saturating_sub(CAP_WINDOW_MS));
        let lately = self.store.told_lately(due.tenant, &due.recipient, due.channel, since).await?;
        let candidates: Vec<Candidate> =
            notices.iter().map(|notice| candidate(notice, &sources[&notice.source])).collect();
        let decided = decide(at, &reader.whom, &lately, &candidates);
        let mut planned = self.sort(&notices, &candidates, &decided, &reader.whom, at);
        let messages = self.compose(due, &reader, &mut planned, at);
        let Planned { mut decisions, together, alone } = planned;
        decisions.messages = messages;
        for (notice, _) in together.iter().chain(&alone) {
            decisions.later.extend(reminder(due, notice, &sources[&notice.source], at));
        }
        self.store.decide(decisions).await
    }

    fn sort<'a>(
        &self,
        notices: &'a [DueNotice],
        candidates: &[Candidate],
        decided: &[Decision],
        whom: &Whom,
        at: TimestampMs,
    ) -> Planned<'a> {
        let decisions = Decisions { at, ..Decisions::default() };
        let (together, alone) = (Vec::new(), Vec::new());
        let mut planned = Planned { decisions, together, alone };
        for ((notice, candidate), decision) in notices.iter().zip(candidates).zip(decided) {
            match *decision {
                Decision::Hold(until, reason) => {
                    self.metrics.decided("held", reason.as_str());
                    planned.decisions.held.push((notice.sequence, until, reason.as_str()));
                }
                Decision::Drop(reason) => {
                    self.metrics.decided("dropped", reason.as_str());
                    planned.decisions.dropped.push((notice.sequence, reason.as_str()));
                }
                Decision::Tell(reason) => {
                    self.metrics.decided("told", reason.as_str());
                    let told = match candidate.shares_message(whom) {
                        true => &mut planned.together,
                        false => &mut planned.alone,
                    };
                    told.push((notice, reason));
                }
            }
        }
        planned
    }

    fn compose(
        &self,
        due: &DueRecipient,
        reader: &Reader,
        planned: &mut Planned<'_>,
        at: TimestampMs,
    ) -> Vec<NewMessage> {
        let mut messages = Vec::new();
        let together = std::slice::from_ref(&planned.together).iter().map(Vec::as_slice);
        let all = together.chain(planned.alone.chunks(1)).filter(|told| !told.is_empty());
        for told in all {
            match self.composer.compose(due, reader, told, at) {
                Ok(composed) => {
                    if let Some(error) = composed.own_failed {
                        self.metrics.template_failed.inc();
                        let tenant = due.tenant;
                        tracing::warn!(%tenant, %error, "a tenant's template failed; Baken's own was taken");
                    }
                    messages.push(composed.message);
                }
                Err(error) => {
                    // Only a defect of Baken's own templates comes here. It is
                    // told loudly, and again once they are mended.
                    tracing::error!(%error, tenant = %due.tenant, "a message cannot be written");
                    let until = TimestampMs(at.0.saturating_add(UNWRITABLE_PAUSE_MS));
                    let held = told.iter().map(|(it, _)| (it.sequence, until, "unwritable"));
                    planned.decisions.held.extend(held);
                }
            }
        }
        messages
    }
}

/// The pause before a message that could not be written is tried again.
const UNWRITABLE_PAUSE_MS: i64 = 60_000;

/// The next reminder behind what is told now, where one was asked for.
fn reminder(
    due: &DueRecipient,
    notice: &DueNotice,
    source: &Source,
    at: TimestampMs,
) -> Option<NewNotice> {
    let is_bad_news = matches!(moment(notice), Moment::Raised | Moment::SeverityChanged);
    let is_open = notice.state.active && !notice.state.acknowledged;
    if source.repeat_ms == 0 || !is_bad_news || !is_open {
        return None;
    }
    let number = match notice.purpose {
        Purpose::Reminder(number) => number.saturating_add(1),
        Purpose::Told | Purpose::Escalated => 1,
    };
    Some(NewNotice {
        tenant: due.tenant,
        transition: notice.transition,
        alarm: notice.alarm,
        recipient: due.recipient.clone(),
        channel: due.channel,
        purpose: Purpose::Reminder(number),
        source: notice.source,
        made_at: at,
        delay_ms: source.repeat_ms,
        due_at: TimestampMs(at.0.saturating_add(source.repeat_ms)),
    })
}
