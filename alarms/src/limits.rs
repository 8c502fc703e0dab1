//! Tells a tenant's partitions of one another's alarms where a rule comes near
//! its `max_active`, and the tenant that the limit is reached.
//!
//! It stands beside a partition's worker, behind its commits. What it tells goes
//! through the journal, so that the engines refuse the same in a replay; what it
//! knows itself may be lost, because all that it tells is absolute and is told
//! again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use alarm_core::{Engine, LIMIT_ALARM_VALUE, LimitStanding, limit_alarm_key, limit_alarm_text};
use journal::{AppendError, Journal};
use schema::{
    Command, CommandBody, Originator, PartitionId, RuleId, Severity, TenantId, Transition,
    TransitionKind, encode_commands, home_partition_of, partition_of,
};
use store::AlarmStore;
use store::alarms::AlarmStoreError;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use crate::clock::now;

/// A rule's alarms are counted at most so often.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// While a rule refuses, and while it is said that one does, it is looked so
/// often whether there is room.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// A partition that goes on refusing says so again after this time.
const SAY_INTERVAL: Duration = Duration::from_secs(5);

/// How long a look may take before the partition goes on without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a look came to nothing; it is made again.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] AlarmStoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// A rule that is near its limit.
#[derive(Debug)]
struct Near {
    due: Instant,
    /// What each partition was told last.
    told: BTreeMap<PartitionId, u32>,
    /// When it was last said that alarms are refused here.
    said: Option<Instant>,
}

/// What one partition sees to.
#[derive(Debug)]
pub(crate) struct TenantLimits {
    journal: Journal,
    store: AlarmStore,
    near: HashMap<RuleId, Near>,
    /// When the alarms about limits are looked at whose home this is.
    alarms_due: Instant,
}

impl TenantLimits {
    pub fn new(journal: Journal, store: AlarmStore) -> Self {
        Self { journal, store, near: HashMap::new(), alarms_due: Instant::now() }
    }

    /// The rules that an engine that was taken over counts.
    pub fn begin(&mut self, engine: &mut Engine) {
        engine.take_refused();
        for rule in engine.counted_rules() {
            self.see(engine, &rule);
        }
    }

    /// Notes the rules whose alarms have become more or fewer, and those that
    /// have begun to refuse.
    pub fn note(&mut self, engine: &mut Engine, transitions: &[Transition]) {
        for transition in transitions {
            let counts =
                matches!(transition.kind, TransitionKind::Raised | TransitionKind::Cleared { .. });
            let of_device = matches!(transition.originator, Originator::Device(_));
            if counts && of_device {
                self.see(engine, &transition.rule);
            }
        }
        for rule in engine.take_refused() {
            self.see(engine, &rule);
        }
    }

    fn see(&mut self, engine: &Engine, rule: &RuleId) {
        if let Some(near) = self.near.get_mut(rule) {
            near.due = near.due.min(Instant::now() + COUNT_INTERVAL);
            return;
        }
        let standing = engine.limit_standing(rule);
        if standing.is_some_and(|standing| is_near(&standing, self.journal.partitions())) {
            let near = Near { due: Instant::now(), told: BTreeMap::new(), said: None };
            self.near.insert(rule.clone(), near);
        }
    }

    /// When there is something to look at.
    pub fn due(&self) -> Instant {
        self.near.values().map(|near| near.due).fold(self.alarms_due, Instant::min)
    }

    /// Looks at what is due. What fails is tried again at its next turn.
    pub fn look<'a>(&'a mut self, engine: &Engine) -> impl Future<Output = ()> + Send + use<'a> {
        let now = Instant::now();
        let due = self.near.iter().filter(|(_, near)| near.due <= now);
        let due: Vec<RuleId> = due.map(|(rule, _)| rule.clone()).collect();
        let of = |rule: RuleId| {
            let near = self.near.remove(&rule)?;
            Some((engine.limit_standing(&rule)?, rule, near))
        };
        let rules: Vec<_> = due.into_iter().filter_map(of).collect();
        let mut alarms = Vec::new();
        if self.alarms_due <= now {
            self.alarms_due = now + ROOM_INTERVAL;
            alarms.extend(engine.limit_alarms().into_iter().map(|(tenant, rule)| {
                let most = engine.limit_standing(&rule).map(|standing| standing.most);
                (tenant, rule, most)
            }));
        }
        async move {
            for (standing, rule, near) in rules {
                self.look_at(standing, rule, near).await;
            }
            for (tenant, rule, most) in alarms {
                let ended = self.end_alarm(tenant, &rule, most);
                told(&rule, tokio::time::timeout(PATIENCE, ended).await);
            }
        }
    }

    async fn look_at(&mut self, standing: LimitStanding, rule: RuleId, mut near: Near) {
        let telling = self.tell(&rule, standing, &mut near);
        told(&rule, tokio::time::timeout(PATIENCE, telling).await);
        let pause = if standing.refusing { ROOM_INTERVAL } else { COUNT_INTERVAL };
        near.due = Instant::now() + pause;
        // One that is near no more is counted once behind its last change.
        if is_near(&standing, self.journal.partitions()) {
            self.near.insert(rule, near);
        }
    }

    /// Tells the partitions what the others have, and the tenant of a refusal.
    async fn tell(
        &self,
        rule: &RuleId,
        standing: LimitStanding,
        near: &mut Near,
    ) -> Result<(), LookError> {
        let counts = self.count(standing.tenant, rule).await?;
        let all: u32 = counts.values().sum();
        for partition in (0..self.journal.partitions()).map(PartitionId) {
            let elsewhere = all - counts.get(&partition).copied().unwrap_or(0);
            if near.told.get(&partition) == Some(&elsewhere) {
                continue;
            }
            let body = CommandBody::ActiveElsewhere { rule: rule.clone(), active: elsewhere };
            self.submit(partition, standing.tenant, body).await?;
            near.told.insert(partition, elsewhere);
        }
        if !standing.refusing {
            near.said = None;
        } else if all >= standing.most && near.said.is_none_or(|at| at.elapsed() >= SAY_INTERVAL) {
            self.say(standing.tenant, rule, standing.most, true).await?;
            near.said = Some(Instant::now());
        }
        Ok(())
    }

    /// Ends the alarm about a rule's limit where there is room again, or the rule
    /// is gone.
    async fn end_alarm(
        &self,
        tenant: TenantId,
        rule: &RuleId,
        most: Option<u32>,
    ) -> Result<(), LookError> {
        let all: u32 = self.count(tenant, rule).await?.values().sum();
        match most {
            Some(most) if all >= most => Ok(()),
            most => self.say(tenant, rule, most.unwrap_or_default(), false).await,
        }
    }

    /// The tenant's active alarms of a rule, by partition; those without any are
    /// left out.
    async fn count(
        &self,
        tenant: TenantId,
        rule: &RuleId,
    ) -> Result<BTreeMap<PartitionId, u32>, LookError> {
        let mut counts = BTreeMap::new();
        for (location, active) in self.store.active_of_rule(tenant, rule.clone()).await? {
            let partition = partition_of(tenant, location, self.journal.partitions());
            *counts.entry(partition).or_default() += active;
        }
        Ok(counts)
    }

    async fn say(
        &self,
        tenant: TenantId,
        rule: &RuleId,
        most: u32,
        active: bool,
    ) -> Result<(), LookError> {
        let body = CommandBody::TenantAlarm {
            key: limit_alarm_key(rule).into(),
            active,
            severity: Severity::Major,
            description: if active { limit_alarm_text(rule, most) } else { String::new() },
            values: vec![(LIMIT_ALARM_VALUE.into(), most.into())],
        };
        self.submit(home_partition_of(tenant, self.journal.partitions()), tenant, body).await
    }

    /// Returns once it has its place in the journal, not once it is durable: what
    /// a crash loses is told again.
    async fn submit(
        &self,
        partition: PartitionId,
        tenant: TenantId,
        body: CommandBody,
    ) -> Result<(), LookError> {
        let command = Command { at: now(), tenant, body };
        let record = encode_commands(std::slice::from_ref(&command));
        drop(self.journal.submit(partition, record).await?);
        Ok(())
    }
}

/// Says that a look came to nothing, if it did.
fn told(rule: &RuleId, looked: Result<Result<(), LookError>, Elapsed>) {
    let rule = &rule.key;
    match looked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, %rule, "a limit of alarms is looked at again"),
        Err(_) => {
            tracing::warn!(%rule, "a look at a limit of alarms took too long and is made again")
        }
    }
}

/// Whether a rule is so near its limit that its partitions must hear of one
/// another. With fewer than half an even share each, all have at most half of it.
fn is_near(standing: &LimitStanding, partitions: u16) -> bool {
    let LimitStanding { active, elsewhere, most, refusing, .. } = *standing;
    let known = u64::from(active) + u64::from(elsewhere);
    let most = u64::from(most);
    refusing || 2 * known >= most || (2 * u64::from(partitions) * u64::from(active) >= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_near_with_half_of_its_share_or_half_of_all() {
        let near = |active, elsewhere, refusing| {
            let standing =
                LimitStanding { tenant: TenantId(1), active, elsewhere, most: 800, refusing };
            is_near(&standing, 4)
        };
        assert!(!near(99, 0, false) && near(100, 0, false));
        assert!(!near(99, 300, false) && near(99, 301, false));
        assert!(near(0, 0, true));
    }
}
