//! Messages on their way to people, and what their providers said of them.
//!
//! A message is marked as on its way, durably, before its channel gets it, so
//! that a process which ends in between leaves a trace. What was written once is
//! handed over the same however often.

use schema::{Channel, MessageId, Recipient, Severity, TenantId, TimestampMs};

use super::bounds::{number, severity, unreadable};
use super::notices::{channel, recipient};
use super::writer::Request;
use super::{AlarmStore, AlarmStoreError};
use crate::sql::{Optional as _, Row, Session, SqlError, params};

/// Where a message stands. The numbers and names are part of stored formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageState {
    /// Waits to be handed over.
    Queued = 0,
    /// With its channel just now.
    OnItsWay = 1,
    /// The provider has taken it.
    Sent = 2,
    /// The provider says that it has arrived.
    Delivered = 3,
    /// It will not arrive.
    Failed = 4,
    /// Nobody knows.
    Unknown = 5,
}

impl MessageState {
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::OnItsWay, Self::Sent, Self::Delivered, Self::Failed, Self::Unknown];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::OnItsWay => "on_its_way",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a later word of the provider may still change it to `other`.
    /// Reports come in any order: what has arrived has arrived.
    #[must_use]
    fn yields_to(self, other: Self) -> bool {
        match self {
            // Handed over before a process ended, and taken as it turns out.
            Self::Queued => matches!(other, Self::Sent | Self::Delivered),
            Self::OnItsWay | Self::Sent | Self::Unknown => true,
            Self::Failed => other == Self::Delivered,
            Self::Delivered => false,
        }
    }
}

/// A message to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    pub id: MessageId,
    pub tenant: TenantId,
    pub recipient: Recipient,
    pub channel: Channel,
    pub address: String,
    /// A stable name.
    pub kind: &'static str,
    pub severity: Option<Severity>,
    /// JSON text.
    pub content: String,
    /// What it tells, with the reasons, by the sequences of the notices.
    pub notices: Vec<(u64, &'static str)>,
    /// The message that it repeats.
    pub copy_of: Option<MessageId>,
}

/// A message as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    pub sequence: u64,
    pub id: MessageId,
    pub tenant: TenantId,
    pub recipient: Recipient,
    pub channel: Channel,
    pub address: String,
    pub kind: String,
    pub severity: Option<Severity>,
    /// How many notices it tells.
    pub notices: u64,
    /// JSON text.
    pub content: String,
    pub made_at: TimestampMs,
    pub state: MessageState,
    pub next_at: TimestampMs,
    pub attempts: u32,
    /// How often a process ended while it was on its way.
    pub interrupted: u32,
    pub changed_at: TimestampMs,
    pub answer: String,
    pub reference: Option<String>,
    pub copy_of: Option<MessageId>,
}

/// What came of a hand-over, or what the provider said later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    pub id: MessageId,
    pub at: TimestampMs,
    pub state: MessageState,
    /// When it is handed over again, where the state is queued.
    pub next_at: TimestampMs,
    /// A stable name for the log.
    pub outcome: &'static str,
    pub answer: String,
    pub reference: Option<String>,
}

/// A provider's later word on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub message: ReportedMessage,
    pub at: TimestampMs,
    pub state: MessageState,
    pub answer: String,
}

/// How a provider names a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportedMessage {
    Id(MessageId),
    Reference(Channel, String),
}

/// What a former process left on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupted {
    /// Handed over again, under the same id.
    pub again: u64,
    /// Of which nobody knows whether they were sent.
    pub unknown: u64,
}

/// What somebody was told lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldLately {
    pub at: TimestampMs,
    pub severity: Option<Severity>,
}

impl AlarmStore {
    /// What one recipient was told by one channel after `since`, the oldest
    /// first. Test messages do not count.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn told_lately(
        &self,
        tenant: TenantId,
        recipient: &Recipient,
        channel: Channel,
        since: TimestampMs,
    ) -> Result<Vec<ToldLately>, AlarmStoreError> {
        let recipient = recipient.to_string();
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT made_at, severity FROM messages INDEXED BY messages_recipient
                 WHERE tenant = ?1 AND recipient = ?2 AND channel = ?3 AND made_at > ?4
                    AND notices > 0
                 ORDER BY made_at",
            )?;
            let values = params![tenant.0, recipient, channel as u8, since.0];
            let found = statement.query_map(values, |row| {
                Ok(ToldLately { at: TimestampMs(row.get(0)?), severity: severity(row, 1)? })
            })?;
            Ok(found)
        })
        .await
    }

    /// Takes messages that are to be handed over; they are on their way then,
    /// durably.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn take_messages(
        &self,
        channel: Channel,
        now: TimestampMs,
        limit: usize,
    ) -> Result<Vec<MessageRow>, AlarmStoreError> {
        let request = |answer| Request::TakeMessages { channel, now, limit, answer };
        self.shared.writer.ask(request).await
    }

    /// When the next message of a channel is to be handed over, if any waits.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn next_hand_over(
        &self,
        channel: Channel,
    ) -> Result<Option<TimestampMs>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT min(next_at) FROM messages INDEXED BY messages_queued
                 WHERE state = 0 AND channel = ?1",
            )?;
            let next: Option<i64> = statement.query_row([channel as u8], |row| row.get(0))?;
            Ok(next.map(TimestampMs))
        })
        .await
    }

    /// Writes what came of hand-overs.
    ///
    /// # Errors
    /// The database refuses; then none is written.
    pub async fn handed(&self, handed: Vec<Handed>) -> Result<(), AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Handed(handed, answer)).await
    }

    /// Writes what a provider said later; whether there is such a message.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn report(&self, report: Report) -> Result<bool, AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Report(Box::new(report), answer)).await
    }

    /// Sees to what a former process left on its way: e-mail and webhooks are
    /// handed over again, an SMS is unknown.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn recover_messages(&self, at: TimestampMs) -> Result<Interrupted, AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::RecoverMessages(at, answer)).await
    }

    /// Queues a message that somebody sends by hand. `by` stands in its log.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn add_message(
        &self,
        message: NewMessage,
        at: TimestampMs,
        by: String,
    ) -> Result<(), AlarmStoreError> {
        self.add(message, at, by, false).await
    }

    /// Adds a message that its writer hands over right away, and nobody else.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn add_message_on_its_way(
        &self,
        message: NewMessage,
        at: TimestampMs,
        by: String,
    ) -> Result<(), AlarmStoreError> {
        self.add(message, at, by, true).await
    }

    async fn add(
        &self,
        message: NewMessage,
        at: TimestampMs,
        by: String,
        on_its_way: bool,
    ) -> Result<(), AlarmStoreError> {
        let message = Box::new(message);
        let request = |answer| Request::AddMessage { message, at, by, on_its_way, answer };
        self.shared.writer.ask(request).await
    }
}

/// The columns of [`row`].
pub(super) const COLUMNS: &str = "sequence, id, tenant, recipient, channel, address, kind, \
    severity, notices, content, made_at, state, next_at, attempts, interrupted, changed_at, \
    answer, reference, copy_of";

pub(super) fn row(row: &Row<'_>) -> Result<MessageRow, SqlError> {
    Ok(MessageRow {
        sequence: row.get(0)?,
        id: MessageId(u128::from_be_bytes(row.get(1)?)),
        tenant: TenantId(row.get(2)?),
        recipient: recipient(row, 3)?,
        channel: channel(row, 4)?,
        address: row.get(5)?,
        kind: row.get(6)?,
        severity: severity(row, 7)?,
        notices: row.get(8)?,
        content: row.get(9)?,
        made_at: TimestampMs(row.get(10)?),
        state: state(row, 11)?,
        next_at: TimestampMs(row.get(12)?),
        attempts: row.get(13)?,
        interrupted: row.get(14)?,
        changed_at: TimestampMs(row.get(15)?),
        answer: row.get(16)?,
        reference: row.get(17)?,
        copy_of: row.get::<Option<[u8; 16]>>(18)?.map(|id| MessageId(u128::from_be_bytes(id))),
    })
}

pub(super) fn state(row: &Row<'_>, column: usize) -> Result<MessageState, SqlError> {
    let stored: u8 = row.get(column)?;
    let known = MessageState::ALL.into_iter().find(|state| *state as u8 == stored);
    known.ok_or_else(|| unreadable(column, "an unknown state of a message"))
}

pub(super) fn insert(
    sql: &Session,
    message: &NewMessage,
    at: TimestampMs,
) -> Result<(), AlarmStoreError> {
    sql.prepare_cached(
        "INSERT INTO messages (id, tenant, recipient, channel, address, kind, severity, notices,
            content, made_at, state, next_at, attempts, interrupted, changed_at, answer, copy_of)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?10, 0, 0, ?10, '', ?11)",
    )?
    .execute(params![
        message.id.0.to_be_bytes(),
        message.tenant.0,
        message.recipient.to_string(),
        message.channel as u8,
        message.address,
        message.kind,
        message.severity.map(|severity| severity as u8),
        number(message.notices.len() as u64),
        message.content,
        at.0,
        message.copy_of.map(|id| id.0.to_be_bytes()),
    ])?;
    Ok(())
}

pub(super) fn add(
    sql: &Session,
    message: &NewMessage,
    at: TimestampMs,
    by: &str,
    on_its_way: bool,
) -> Result<(), AlarmStoreError> {
    insert(sql, message, at)?;
    if on_its_way {
        sql.prepare_cached("UPDATE messages SET state = 1, attempts = 1 WHERE id = ?1")?
            .execute([message.id.0.to_be_bytes()])?;
    }
    log(sql, message.id, at, "sent_by_hand", "", Some(by))
}

pub(super) fn take(
    sql: &Session,
    channel: Channel,
    now: TimestampMs,
    limit: usize,
) -> Result<Vec<MessageRow>, AlarmStoreError> {
    let statement = format!(
        "UPDATE messages SET state = 1, attempts = attempts + 1, changed_at = ?2
         WHERE sequence IN (
            SELECT sequence FROM messages INDEXED BY messages_queued
            WHERE state = 0 AND channel = ?1 AND next_at <= ?2 ORDER BY next_at, sequence LIMIT ?3)
         RETURNING {COLUMNS}"
    );
    let mut statement = sql.prepare_cached(&statement)?;
    let mut taken = statement.query_map(params![channel as u8, now.0, limit], row)?;
    taken.sort_by_key(|message| (message.next_at, message.sequence));
    Ok(taken)
}

pub(super) fn handed(sql: &Session, handed: &[Handed]) -> Result<(), AlarmStoreError> {
    for one in handed {
        let changed = sql
            .prepare_cached(
                "UPDATE messages SET state = ?2, next_at = ?3, changed_at = ?4, answer = ?5,
                    reference = coalesce(?6, reference)
                 WHERE id = ?1 AND state = 1",
            )?
            .execute(params![
                one.id.0.to_be_bytes(),
                one.state as u8,
                one.next_at.0,
                one.at.0,
                one.answer,
                one.reference,
            ])?;
        if changed == 0 {
            // A report of the provider was quicker than its answer; it knows more.
            sql.prepare_cached(
                "UPDATE messages SET reference = coalesce(?2, reference) WHERE id = ?1",
            )?
            .execute(params![one.id.0.to_be_bytes(), one.reference])?;
        }
        log(sql, one.id, one.at, one.outcome, &one.answer, None)?;
    }
    Ok(())
}

pub(super) fn report(sql: &Session, report: &Report) -> Result<bool, AlarmStoreError> {
    let found = |row: &Row<'_>| Ok((row.get::<[u8; 16]>(0)?, state(row, 1)?));
    let known = match &report.message {
        ReportedMessage::Id(id) => sql
            .prepare_cached("SELECT id, state FROM messages WHERE id = ?1")?
            .query_row([id.0.to_be_bytes()], found)
            .optional()?,
        ReportedMessage::Reference(channel, reference) => sql
            .prepare_cached(
                "SELECT id, state FROM messages INDEXED BY messages_reference
                 WHERE channel = ?1 AND reference = ?2",
            )?
            .query_row(params![*channel as u8, reference], found)
            .optional()?,
    };
    let Some((id, before)) = known else { return Ok(false) };
    if before.yields_to(report.state) {
        sql.prepare_cached(
            "UPDATE messages SET state = ?2, changed_at = ?3, answer = ?4 WHERE id = ?1",
        )?
        .execute(params![id, report.state as u8, report.at.0, report.answer])?;
    }
    let id = MessageId(u128::from_be_bytes(id));
    log(sql, id, report.at, report.state.as_str(), &report.answer, None)?;
    Ok(true)
}

pub(super) fn recover(sql: &Session, at: TimestampMs) -> Result<Interrupted, AlarmStoreError> {
    const WHY: &str = "the process ended while the message was on its way";
    let mut statement = sql.prepare_cached(
        "UPDATE messages SET state = CASE WHEN channel = ?1 THEN CAST(?2 AS BIGINT) ELSE CAST(?3 AS BIGINT) END,
            next_at = ?4, changed_at = ?4,
            interrupted = interrupted + 1, answer = ?5
         WHERE state = 1 RETURNING id, channel",
    )?;
    let (unknown, queued) = (MessageState::Unknown, MessageState::Queued);
    let values = params![Channel::Sms as u8, unknown as u8, queued as u8, at.0, WHY];
    let found =
        statement.query_map(values, |row| Ok((row.get::<[u8; 16]>(0)?, channel(row, 1)?)))?;
    let mut interrupted = Interrupted::default();
    for (id, channel) in found {
        let outcome = match channel {
            Channel::Sms => {
                interrupted.unknown += 1;
                "unknown"
            }
            Channel::Email | Channel::Webhook => {
                interrupted.again += 1;
                "interrupted"
            }
        };
        log(sql, MessageId(u128::from_be_bytes(id)), at, outcome, WHY, None)?;
    }
    Ok(interrupted)
}

fn log(
    sql: &Session,
    id: MessageId,
    at: TimestampMs,
    outcome: &str,
    answer: &str,
    actor: Option<&str>,
) -> Result<(), AlarmStoreError> {
    sql.prepare_cached(
        "INSERT INTO message_log (message, at, outcome, answer, actor)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![id.0.to_be_bytes(), at.0, outcome, answer, actor])?;
    Ok(())
}
