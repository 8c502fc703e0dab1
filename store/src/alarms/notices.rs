//! The outbox of notifications: what somebody is to be told, from the
//! transaction of a transition until it is decided.
//!
//! The alarm worker's commit writes notices; the notifier reads those that are
//! due for one recipient, decides on all of them, and writes what it decided in
//! one transaction. This module decides nothing.

use schema::{
    AlarmId, Channel, MessageId, NoticeId, ProfileId, Purpose, Recipient, RuleId, Severity,
    TenantId, TimestampMs, Transition, TransitionId, TransitionKind,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::bounds::{known_severity, number, severity, unreadable};
use super::messages::{self, NewMessage};
use super::writer::Request;
use super::{AlarmStore, AlarmStoreError};
use crate::sql::{Optional as _, Row, Session, SqlError, params};

/// What somebody is to be told of a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNotice {
    pub tenant: TenantId,
    pub transition: TransitionId,
    pub alarm: AlarmId,
    pub recipient: Recipient,
    pub channel: Channel,
    pub purpose: Purpose,
    /// The document of the subscription or offline profile that asks for it.
    pub source: u64,
    pub made_at: TimestampMs,
    /// How long it is to wait; 0 for what is told at once.
    pub delay_ms: i64,
    pub due_at: TimestampMs,
}

impl NewNotice {
    /// Follows from the transition, the recipient, the channel and the purpose:
    /// the first half of the SHA-256 of their stored forms.
    #[must_use]
    pub fn id(&self) -> NoticeId {
        let mut hash = Sha256::new();
        hash.update(self.transition.0.to_be_bytes());
        hash.update([self.channel as u8]);
        hash.update(self.purpose.to_string());
        hash.update([0]);
        hash.update(self.recipient.to_string());
        NoticeId(first_half(&hash.finalize()))
    }
}

/// The id of a message follows from the notices that it tells.
#[must_use]
pub fn message_id(notices: impl IntoIterator<Item = NoticeId>) -> MessageId {
    let mut hash = Sha256::new();
    for notice in notices {
        hash.update(notice.0.to_be_bytes());
    }
    MessageId(first_half(&hash.finalize()))
}

fn first_half(digest: &[u8]) -> u128 {
    let half = digest[..16].try_into().expect("SHA-256 has 32 bytes");
    u128::from_be_bytes(half)
}

/// For whom something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRecipient {
    pub tenant: TenantId,
    pub recipient: Recipient,
    pub channel: Channel,
    /// How many of their notices are due.
    pub due: u64,
}

/// A notice that is due, with its transition and its alarm as it is by now.
#[derive(Clone, Debug, PartialEq)]
pub struct DueNotice {
    pub sequence: u64,
    pub id: NoticeId,
    pub transition: TransitionId,
    pub alarm: AlarmId,
    pub purpose: Purpose,
    pub source: u64,
    pub made_at: TimestampMs,
    pub delay_ms: i64,
    /// Why it has waited until now; `new` when it was not looked at yet.
    pub reason: String,
    /// The transition's event.
    pub event: NoticeEvent,
    pub state: NoticeAlarm,
    /// Whether the recipient was told of the alarm by this channel before.
    pub told_before: bool,
}

/// The event of a notice's transition.
#[derive(Clone, Debug, PartialEq)]
pub struct NoticeEvent {
    /// Such as `alarm_raised`.
    pub kind: String,
    pub at: TimestampMs,
    pub severity: Severity,
    pub by: Option<String>,
    pub location: Option<u64>,
    pub device: Option<u64>,
    /// JSON text: description, values and what belongs to the kind.
    pub body: String,
}

/// The alarm of a notice, as it is by now.
#[derive(Clone, Debug, PartialEq)]
pub struct NoticeAlarm {
    pub rule: RuleId,
    pub severity: Severity,
    pub active: bool,
    pub acknowledged: bool,
    pub raised_at: TimestampMs,
    pub cleared_at: Option<TimestampMs>,
    pub cleared_reason: Option<String>,
    pub shelved_until: Option<TimestampMs>,
    /// The worst that it was.
    pub highest: Severity,
    pub acknowledged_by: Option<String>,
    /// It is of one of Baken's own rules.
    pub is_system: bool,
}

/// What was decided for one recipient on one channel. Sequences are those of
/// [`DueNotice`]; reasons are stable names.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    pub at: TimestampMs,
    pub held: Vec<(u64, TimestampMs, &'static str)>,
    pub dropped: Vec<(u64, &'static str)>,
    pub messages: Vec<NewMessage>,
    /// Reminders that follow from what is told.
    pub later: Vec<NewNotice>,
}

impl AlarmStore {
    /// For whom something is due, those who wait longest first.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn due_recipients(
        &self,
        now: TimestampMs,
        limit: usize,
    ) -> Result<Vec<DueRecipient>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT tenant, recipient, channel, count(*), min(due_at)
                 FROM notices INDEXED BY notices_due WHERE state = 0 AND due_at <= ?1
                 GROUP BY tenant, recipient, channel ORDER BY 5 LIMIT ?2",
            )?;
            let found = statement.query_map(params![now.0, limit], |row| {
                Ok(DueRecipient {
                    tenant: TenantId(row.get(0)?),
                    recipient: recipient(row, 1)?,
                    channel: channel(row, 2)?,
                    due: row.get(3)?,
                })
            })?;
            Ok(found)
        })
        .await
    }

    /// What is due for one recipient on one channel, the oldest first.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn due_notices(
        &self,
        whom: &DueRecipient,
        now: TimestampMs,
        limit: usize,
    ) -> Result<Vec<DueNotice>, AlarmStoreError> {
        let whom = whom.clone();
        self.read(move |sql| due(sql, &whom, now, limit)).await
    }

    /// When the next notice is due, if any waits.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn next_due(&self) -> Result<Option<TimestampMs>, AlarmStoreError> {
        self.read(|sql| {
            let mut statement = sql.prepare_cached(
                "SELECT due_at FROM notices INDEXED BY notices_due WHERE state = 0
                 ORDER BY due_at LIMIT 1",
            )?;
            let due = statement.query_row([], |row| row.get(0)).optional()?;
            Ok(due.map(TimestampMs))
        })
        .await
    }

    /// Writes decisions, all or none.
    ///
    /// # Errors
    /// The database refuses, or somebody else has decided on one of them.
    pub async fn decide(&self, decisions: Decisions) -> Result<(), AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Decide(Box::new(decisions), answer)).await
    }

    /// Changes when there are new notices. The number means nothing.
    #[must_use]
    pub fn notices_changed(&self) -> watch::Receiver<u64> {
        self.shared.writer.notices_changed()
    }

    /// Whether it is a profile of system alarms.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn is_system_profile(&self, id: ProfileId) -> Result<bool, AlarmStoreError> {
        if id == ProfileId::SYSTEM {
            return Ok(true);
        }
        self.read(move |sql| {
            let mut statement = sql.prepare_cached("SELECT system FROM profiles WHERE id = ?1")?;
            let found = statement.query_row([number(id.0)], |row| row.get(0)).optional()?;
            Ok(found.unwrap_or(false))
        })
        .await
    }

    /// Whether a link was used.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn link_used(&self, id: [u8; 16]) -> Result<bool, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement =
                sql.prepare_cached("SELECT EXISTS (SELECT 1 FROM used_links WHERE id = ?1)")?;
            Ok(statement.query_row([id], |row| row.get(0))?)
        })
        .await
    }

    /// Takes a link for used, durably; false where it was used before.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn use_link(
        &self,
        id: [u8; 16],
        at: TimestampMs,
        expires_at: TimestampMs,
    ) -> Result<bool, AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::UseLink { id, at, expires_at, answer }).await
    }
}

pub(super) fn recipient(row: &Row<'_>, column: usize) -> Result<Recipient, SqlError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| unreadable(column, "an unknown recipient"))
}

pub(super) fn channel(row: &Row<'_>, column: usize) -> Result<Channel, SqlError> {
    Channel::from_u8(row.get(column)?).ok_or_else(|| unreadable(column, "an unknown channel"))
}

pub(super) fn purpose(row: &Row<'_>, column: usize) -> Result<Purpose, SqlError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|()| unreadable(column, "an unknown purpose"))
}

fn due(
    sql: &Session,
    whom: &DueRecipient,
    now: TimestampMs,
    limit: usize,
) -> Result<Vec<DueNotice>, AlarmStoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT n.sequence, n.id, n.transition, n.alarm, n.purpose, n.source, n.made_at,
            n.delay_ms, n.reason,
            e.kind, e.at, e.severity, e.actor, e.location, e.device, e.body,
            a.profile, a.rule, a.severity, a.active, a.acknowledged, a.raised_at, a.cleared_at,
            a.cleared_reason, a.shelved_until, a.peak_severity, a.acknowledged_by,
            a.profile = 0 OR EXISTS (SELECT 1 FROM profiles s WHERE s.id = a.profile AND s.system = 1),
            EXISTS (SELECT 1 FROM notices p WHERE p.alarm = n.alarm
                AND p.recipient = n.recipient AND p.channel = n.channel AND p.state = 1)
         FROM notices n INDEXED BY notices_waiting
         JOIN events e ON e.id = n.transition JOIN alarms a ON a.id = n.alarm
         WHERE n.state = 0 AND n.tenant = ?1 AND n.recipient = ?2 AND n.channel = ?3
            AND n.due_at <= ?4
         ORDER BY n.sequence LIMIT ?5",
    )?;
    let whom_text = whom.recipient.to_string();
    let found = statement.query_map(
        params![whom.tenant.0, whom_text, whom.channel as u8, now.0, limit],
        due_notice,
    )?;
    Ok(found)
}

fn due_notice(row: &Row<'_>) -> Result<DueNotice, SqlError> {
    let rule: String = row.get(17)?;
    Ok(DueNotice {
        sequence: row.get(0)?,
        id: NoticeId(u128::from_be_bytes(row.get(1)?)),
        transition: TransitionId(u128::from_be_bytes(row.get(2)?)),
        alarm: AlarmId(u128::from_be_bytes(row.get(3)?)),
        purpose: purpose(row, 4)?,
        source: row.get(5)?,
        made_at: TimestampMs(row.get(6)?),
        delay_ms: row.get(7)?,
        reason: row.get(8)?,
        event: NoticeEvent {
            kind: row.get(9)?,
            at: TimestampMs(row.get(10)?),
            severity: severity(row, 11)?.unwrap_or(Severity::Indeterminate),
            by: row.get(12)?,
            location: row.get(13)?,
            device: row.get(14)?,
            body: row.get(15)?,
        },
        state: NoticeAlarm {
            rule: RuleId { profile: ProfileId(row.get(16)?), key: rule.into() },
            severity: known_severity(row, 18)?,
            active: row.get(19)?,
            acknowledged: row.get(20)?,
            raised_at: TimestampMs(row.get(21)?),
            cleared_at: row.get::<Option<i64>>(22)?.map(TimestampMs),
            cleared_reason: row.get(23)?,
            shelved_until: row.get::<Option<i64>>(24)?.map(TimestampMs),
            highest: known_severity(row, 25)?,
            acknowledged_by: row.get(26)?,
            is_system: row.get(27)?,
        },
        told_before: row.get(28)?,
    })
}

/// Writes notices of transitions whose events are there; of one that changed
/// nothing there is none. How many were written.
pub(super) fn insert(sql: &Session, notices: &[NewNotice]) -> Result<u64, AlarmStoreError> {
    let mut written = 0;
    for notice in notices {
        written += sql
            .prepare_cached(
                "INSERT INTO notices (id, tenant, transition, alarm, recipient, channel, purpose,
                    source, made_at, delay_ms, due_at, state, reason)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, 'new'
                 WHERE EXISTS (SELECT 1 FROM events WHERE id = ?3)
                 ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                notice.id().0.to_be_bytes(),
                notice.tenant.0,
                notice.transition.0.to_be_bytes(),
                notice.alarm.0.to_be_bytes(),
                notice.recipient.to_string(),
                notice.channel as u8,
                notice.purpose.to_string(),
                number(notice.source),
                notice.made_at.0,
                notice.delay_ms,
                notice.due_at.0,
            ])?;
    }
    Ok(written as u64)
}

/// What waits because its alarm was shelved is due when the alarm is unshelved.
/// How many that are.
pub(super) fn unshelve(sql: &Session, transitions: &[Transition]) -> Result<u64, AlarmStoreError> {
    let mut due = 0;
    for transition in transitions {
        if matches!(transition.kind, TransitionKind::Unshelved { .. }) {
            due += sql
                .prepare_cached(
                    "UPDATE notices SET due_at = CASE WHEN due_at < ?2 THEN due_at ELSE ?2 END
                     WHERE alarm = ?1 AND state = 0 AND reason = 'shelved'",
                )?
                .execute(params![transition.alarm.0.to_be_bytes(), transition.received_at.0])?;
        }
    }
    Ok(due as u64)
}

pub(super) fn decide(sql: &Session, decisions: &Decisions) -> Result<(), AlarmStoreError> {
    let at = decisions.at.0;
    for (sequence, until, reason) in &decisions.held {
        let held = sql
            .prepare_cached(
                "UPDATE notices SET due_at = ?2, reason = ?3, decided_at = ?4
                 WHERE sequence = ?1 AND state = 0",
            )?
            .execute(params![sequence, until.0, reason, at])?;
        once(held)?;
    }
    for (sequence, reason) in &decisions.dropped {
        let dropped = sql
            .prepare_cached(
                "UPDATE notices SET state = 2, reason = ?2, decided_at = ?3
                 WHERE sequence = ?1 AND state = 0",
            )?
            .execute(params![sequence, reason, at])?;
        once(dropped)?;
    }
    for message in &decisions.messages {
        messages::insert(sql, message, decisions.at)?;
        for (sequence, reason) in &message.notices {
            let told = sql
                .prepare_cached(
                    "UPDATE notices SET state = 1, reason = ?2, decided_at = ?3, message = ?4
                     WHERE sequence = ?1 AND state = 0",
                )?
                .execute(params![sequence, reason, at, message.id.0.to_be_bytes()])?;
            once(told)?;
        }
    }
    insert(sql, &decisions.later)?;
    Ok(())
}

/// A notice is decided by one notifier only.
fn once(changed: usize) -> Result<(), AlarmStoreError> {
    if changed == 1 { Ok(()) } else { Err(AlarmStoreError::DecidedElsewhere) }
}

pub(super) fn use_link(
    sql: &Session,
    id: [u8; 16],
    at: TimestampMs,
    expires_at: TimestampMs,
) -> Result<bool, AlarmStoreError> {
    // What has expired is refused by its own time.
    sql.prepare_cached("DELETE FROM used_links WHERE expires_at < ?1")?.execute([at.0])?;
    let used = sql
        .prepare_cached(
            "INSERT INTO used_links (id, used_at, expires_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![id, at.0, expires_at.0])?;
    Ok(used == 1)
}
