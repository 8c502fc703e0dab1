//! One deed on all alarms that a query is about. Each alarm gets a command, a
//! transition and an event of its own; the commands of a partition travel in as
//! few journal records as their size allows.

use std::collections::{BTreeMap, HashSet};

use schema::{
    AlarmAction, AlarmId, Author, Command, CommandBody, PartitionId, Position, TenantId,
    encode_commands,
};
use store::alarms::{AlarmPlace, AlarmQuery, EventQuery};
use tokio::time::Instant;

use super::{AlarmCommands, CommandError, EFFECT_TIMEOUT, deed};
use crate::clock::now;

/// The most alarms that one call acts on.
pub const MAX_ACTED_ALARMS: usize = 10_000;

/// Commands of one record, at most: the other rows of the partition wait while
/// they are applied.
const MAX_RECORD_COMMANDS: usize = 1_000;

/// Bytes of comments in one record, about.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Bytes of a command without its comment, about.
const COMMAND_BYTES: usize = 320;

/// Events of a page, when what was done is counted.
const COUNT_PAGE: usize = 1_000;

/// What came of a deed on many alarms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManyOutcome {
    /// Alarms that the query was about and for which there was something to do,
    /// up to [`MAX_ACTED_ALARMS`].
    pub matched: usize,
    /// That the deed has changed.
    pub done: usize,
    /// For which there was nothing to do any more when it came.
    pub already: usize,
    /// For which the command is not durable, or has not taken effect in time.
    pub failed: usize,
    /// Why the first of those failed.
    pub reason: Option<String>,
    /// The last one that was acted on, where there were more than the call may
    /// act on: with it as the query's `after` the next call goes on.
    pub next: Option<AlarmPlace>,
}

impl AlarmCommands {
    /// Does something to all alarms that the query is about at this moment and
    /// for which there is something to do, behind its `after`; returns once it is
    /// done.
    ///
    /// # Errors
    /// The store can't say which alarms there are. What fails later stands in
    /// the outcome, because the rest is done.
    pub async fn act_on_many(
        &self,
        query: AlarmQuery,
        action: AlarmAction,
        author: impl Into<Author>,
    ) -> Result<ManyOutcome, CommandError> {
        let author = author.into();
        let tenant = query.tenant;
        let Some(query) = not_yet(query, &action) else { return Ok(ManyOutcome::default()) };
        let mut targets = self.store.alarm_targets(query, MAX_ACTED_ALARMS + 1).await?;
        let more_remain = targets.len() > MAX_ACTED_ALARMS;
        targets.truncate(MAX_ACTED_ALARMS);
        let last = targets.last().filter(|_| more_remain);
        let next = last.map(|it| AlarmPlace { sequence: it.sequence, severity: it.severity });
        let mut outcome = ManyOutcome { matched: targets.len(), next, ..ManyOutcome::default() };
        let at = now();
        let mut by_partition: BTreeMap<PartitionId, Vec<Command>> = BTreeMap::new();
        for target in targets {
            let partition = self.partition_of(target.tenant, target.location);
            let command = deed(target, action.clone(), &author, at);
            by_partition.entry(partition).or_default().push(command);
        }
        let before = *self.store.latest_event().borrow();
        let mut failed = |count: usize, error: CommandError| {
            outcome.failed += count;
            outcome.reason.get_or_insert(error.to_string());
        };
        let mut appended = Vec::new();
        for (partition, commands) in by_partition {
            match self.append_all(partition, &commands, &action).await {
                Ok(Some(last)) => appended.push((partition, last, ids(&commands))),
                Ok(None) => {}
                Err(error) => failed(commands.len(), error),
            }
        }
        let deadline = Instant::now() + EFFECT_TIMEOUT;
        let mut sent = HashSet::new();
        for (partition, last, ids) in appended {
            match self.wait_until(partition, last, deadline).await {
                Ok(()) => sent.extend(ids),
                Err(error) => failed(ids.len(), error),
            }
        }
        outcome.done = self.count_done(tenant, before, &sent, &action, &author).await?;
        outcome.already += sent.len() - outcome.done;
        Ok(outcome)
    }

    /// Appends commands in their order; the position of the last record.
    async fn append_all(
        &self,
        partition: PartitionId,
        commands: &[Command],
        action: &AlarmAction,
    ) -> Result<Option<Position>, CommandError> {
        let each = match action {
            AlarmAction::Comment { text } => COMMAND_BYTES + text.len(),
            _ => COMMAND_BYTES,
        };
        let size = (MAX_RECORD_BYTES / each).clamp(1, MAX_RECORD_COMMANDS);
        let mut pending = Vec::new();
        for part in commands.chunks(size) {
            pending.push(self.journal.submit(partition, encode_commands(part)).await?);
        }
        let mut last = None;
        for pending in pending {
            last = Some(pending.await?);
        }
        Ok(last)
    }

    /// How many of the alarms have an event of the deed since.
    async fn count_done(
        &self,
        tenant: Option<TenantId>,
        before: u64,
        sent: &HashSet<AlarmId>,
        action: &AlarmAction,
        author: &Author,
    ) -> Result<usize, CommandError> {
        let mut done = HashSet::new();
        let mut after = before;
        while !sent.is_empty() {
            let query = EventQuery {
                tenant,
                kinds: vec![kind_of_event(action).to_owned()],
                actor: Some(author.by.to_string()),
                after: Some(after),
                oldest_first: true,
                limit: COUNT_PAGE,
                ..EventQuery::default()
            };
            let page = self.store.events(query).await?;
            done.extend(page.iter().filter_map(|event| event.alarm).filter(|id| sent.contains(id)));
            match page.last() {
                Some(last) if page.len() == COUNT_PAGE => after = last.sequence,
                _ => break,
            }
        }
        Ok(done.len())
    }
}

/// Those of the query's alarms for which there is something to do; none can be
/// where it asks for others. So whoever calls again comes to what is left, and
/// not to what is done.
fn not_yet(mut query: AlarmQuery, action: &AlarmAction) -> Option<AlarmQuery> {
    let (asked, needed) = match action {
        AlarmAction::Acknowledge => (&mut query.acknowledged, false),
        AlarmAction::Unacknowledge => (&mut query.acknowledged, true),
        AlarmAction::Clear | AlarmAction::Shelve { .. } => (&mut query.active, true),
        AlarmAction::Unshelve => (&mut query.shelved, true),
        AlarmAction::Comment { .. } | AlarmAction::Assign { .. } => return Some(query),
    };
    (*asked.get_or_insert(needed) == needed).then_some(query)
}

fn ids(commands: &[Command]) -> Vec<AlarmId> {
    let id = |command: &Command| match &command.body {
        CommandBody::Alarm { alarm, .. } => Some(*alarm),
        _ => None,
    };
    commands.iter().filter_map(id).collect()
}

fn kind_of_event(action: &AlarmAction) -> &'static str {
    match action {
        AlarmAction::Acknowledge => "alarm_acknowledged",
        AlarmAction::Unacknowledge => "alarm_unacknowledged",
        AlarmAction::Clear => "alarm_cleared",
        AlarmAction::Shelve { .. } => "alarm_shelved",
        AlarmAction::Unshelve => "alarm_unshelved",
        AlarmAction::Comment { .. } => "alarm_commented",
        AlarmAction::Assign { .. } => "alarm_assigned",
    }
}

#[cfg(test)]
mod tests {
    use schema::TimestampMs;
    use store::alarms::AlarmStatus;

    use super::super::already;
    use super::*;

    #[test]
    fn of_many_those_are_looked_up_that_one_by_one_would_not_be_refused() {
        let actions = [
            AlarmAction::Acknowledge,
            AlarmAction::Unacknowledge,
            AlarmAction::Clear,
            AlarmAction::Shelve { until: TimestampMs(5) },
            AlarmAction::Unshelve,
            AlarmAction::Comment { text: "seen".to_owned() },
            AlarmAction::Assign { to: None },
        ];
        for action in actions {
            for bits in 0..8 {
                let [active, acknowledged, shelved] = [0, 1, 2].map(|bit| bits >> bit & 1 == 1);
                let query = AlarmQuery {
                    active: Some(active),
                    acknowledged: Some(acknowledged),
                    shelved: Some(shelved),
                    ..AlarmQuery::default()
                };
                let status = AlarmStatus { active, acknowledged };
                let is_done = already(status, shelved, &action).is_some();
                assert_eq!(not_yet(query, &action).is_none(), is_done, "{action:?} {bits:b}");
            }
        }
    }
}
