//! The delivery log: what people can ask about notices and messages.

use schema::{
    AlarmId, Channel, MessageId, NoticeId, Purpose, Recipient, TenantId, TimestampMs, TransitionId,
};

use super::bounds::{Bounds, number, rows, unreadable};
use super::messages::{self, MessageRow, MessageState};
use super::notices::{channel, purpose, recipient};
use super::writer::Request;
use super::{AlarmStore, AlarmStoreError, MAX_PAGE};
use crate::sql::{Optional as _, Row, Session, SqlError, params};

/// Which messages are asked for, the last written first; what is `None` sets no
/// bound.
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    pub tenant: Option<TenantId>,
    pub recipient: Option<Recipient>,
    pub channel: Option<Channel>,
    pub state: Option<MessageState>,
    /// Those that tell of this alarm.
    pub alarm: Option<AlarmId>,
    /// Written at or after.
    pub from: Option<TimestampMs>,
    /// Written before.
    pub to: Option<TimestampMs>,
    /// The last sequence of the page before.
    pub after: Option<u64>,
    pub limit: usize,
}

/// A line of a message's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageLogEntry {
    pub at: TimestampMs,
    pub outcome: String,
    pub answer: String,
    /// Who did it, where a person did.
    pub actor: Option<String>,
}

/// Where a notice stands. The numbers are part of a stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NoticeState {
    Waits = 0,
    Told = 1,
    Dropped = 2,
}

impl NoticeState {
    pub const ALL: [Self; 3] = [Self::Waits, Self::Told, Self::Dropped];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Told => "told",
            Self::Dropped => "dropped",
        }
    }
}

/// Which notices are asked for, the last written first; what is `None` sets no
/// bound.
#[derive(Clone, Debug, Default)]
pub struct NoticeQuery {
    pub tenant: Option<TenantId>,
    pub alarm: Option<AlarmId>,
    pub message: Option<MessageId>,
    pub recipient: Option<Recipient>,
    pub channel: Option<Channel>,
    pub state: Option<NoticeState>,
    /// The last sequence of the page before.
    pub after: Option<u64>,
    pub limit: usize,
}

/// A notice as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRow {
    pub sequence: u64,
    pub id: NoticeId,
    pub tenant: TenantId,
    pub transition: TransitionId,
    pub alarm: AlarmId,
    pub recipient: Recipient,
    pub channel: Channel,
    pub purpose: Purpose,
    pub source: u64,
    pub made_at: TimestampMs,
    pub due_at: TimestampMs,
    pub state: NoticeState,
    pub reason: String,
    pub decided_at: Option<TimestampMs>,
    pub message: Option<MessageId>,
}

/// How many notices of a tenant stand so, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeTotal {
    pub channel: Channel,
    pub state: NoticeState,
    pub reason: String,
    pub count: u64,
}

/// What waits in one channel, over all tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub channel: Channel,
    /// Notices that are not decided on.
    pub notices: u64,
    /// Messages that are not taken by a provider yet.
    pub messages: u64,
    /// When the oldest of those messages was written.
    pub oldest: Option<TimestampMs>,
}

const NOTICE_COLUMNS: &str = "sequence, id, tenant, transition, alarm, recipient, channel, \
    purpose, source, made_at, due_at, state, reason, decided_at, message";

impl AlarmStore {
    /// A page of messages.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn messages(&self, query: MessageQuery) -> Result<Vec<MessageRow>, AlarmStoreError> {
        self.read(move |sql| {
            let mut bounds = Bounds::default();
            bounds.add("tenant = ?", query.tenant.map(|id| number(id.0)));
            bounds.add("recipient = ?", query.recipient.map(|it| it.to_string()));
            bounds.add("channel = ?", query.channel.map(|channel| i64::from(channel as u8)));
            bounds.add("state = ?", query.state.map(|state| i64::from(state as u8)));
            bounds.add(
                "id IN (SELECT message FROM notices WHERE alarm = ?)",
                query.alarm.map(|id| id.0.to_be_bytes().to_vec()),
            );
            bounds.add("made_at >= ?", query.from.map(|at| at.0));
            bounds.add("made_at < ?", query.to.map(|at| at.0));
            bounds.add("sequence < ?", query.after.map(number));
            let statement = format!(
                "SELECT {} FROM messages WHERE {} ORDER BY sequence DESC LIMIT {}",
                messages::COLUMNS,
                bounds.clause(),
                query.limit.clamp(1, MAX_PAGE),
            );
            rows(sql, &statement, bounds.values(), messages::row)
        })
        .await
    }

    /// One message with its log, the oldest line first.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn message(
        &self,
        id: MessageId,
    ) -> Result<Option<(MessageRow, Vec<MessageLogEntry>)>, AlarmStoreError> {
        self.read(move |sql| {
            let statement = format!("SELECT {} FROM messages WHERE id = ?1", messages::COLUMNS);
            let bytes = id.0.to_be_bytes();
            let found =
                sql.prepare_cached(&statement)?.query_row([bytes], messages::row).optional()?;
            let Some(message) = found else { return Ok(None) };
            let mut statement = sql.prepare_cached(
                "SELECT at, outcome, answer, actor FROM message_log WHERE message = ?1
                 ORDER BY sequence",
            )?;
            let log = statement.query_map([bytes], |row| {
                Ok(MessageLogEntry {
                    at: TimestampMs(row.get(0)?),
                    outcome: row.get(1)?,
                    answer: row.get(2)?,
                    actor: row.get(3)?,
                })
            })?;
            Ok(Some((message, log)))
        })
        .await
    }

    /// A page of notices.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn notices(&self, query: NoticeQuery) -> Result<Vec<NoticeRow>, AlarmStoreError> {
        self.read(move |sql| {
            let mut bounds = Bounds::default();
            bounds.add("tenant = ?", query.tenant.map(|id| number(id.0)));
            bounds.add("alarm = ?", query.alarm.map(|id| id.0.to_be_bytes().to_vec()));
            bounds.add("message = ?", query.message.map(|id| id.0.to_be_bytes().to_vec()));
            bounds.add("recipient = ?", query.recipient.map(|it| it.to_string()));
            bounds.add("channel = ?", query.channel.map(|channel| i64::from(channel as u8)));
            bounds.add("state = ?", query.state.map(|state| i64::from(state as u8)));
            bounds.add("sequence < ?", query.after.map(number));
            let statement = format!(
                "SELECT {NOTICE_COLUMNS} FROM notices WHERE {} ORDER BY sequence DESC LIMIT {}",
                bounds.clause(),
                query.limit.clamp(1, MAX_PAGE),
            );
            rows(sql, &statement, bounds.values(), notice)
        })
        .await
    }

    /// What became of a tenant's notices that were made in a stretch of time.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn notice_totals(
        &self,
        tenant: TenantId,
        from: TimestampMs,
        to: TimestampMs,
    ) -> Result<Vec<NoticeTotal>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT channel, state, reason, count(*) FROM notices
                 WHERE tenant = ?1 AND made_at >= ?2 AND made_at < ?3
                 GROUP BY channel, state, reason ORDER BY channel, state, reason",
            )?;
            let found = statement.query_map(params![tenant.0, from.0, to.0], |row| {
                Ok(NoticeTotal {
                    channel: channel(row, 0)?,
                    state: notice_state(row, 1)?,
                    reason: row.get(2)?,
                    count: row.get(3)?,
                })
            })?;
            Ok(found)
        })
        .await
    }

    /// What waits, by channel.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn waiting(&self) -> Result<Vec<Waiting>, AlarmStoreError> {
        self.read(|sql| Channel::ALL.into_iter().map(|channel| waiting(sql, channel)).collect())
            .await
    }

    /// The tenants whose messages wait in a channel since before `since`, at
    /// most `limit`.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn tenants_waiting(
        &self,
        channel: Channel,
        since: TimestampMs,
        limit: usize,
    ) -> Result<Vec<(TenantId, u64)>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT tenant, count(*) FROM messages INDEXED BY messages_queued
                 WHERE state = 0 AND channel = ?1 AND made_at < ?2 GROUP BY tenant LIMIT ?3",
            )?;
            let values = params![channel as u8, since.0, limit];
            let found =
                statement.query_map(values, |row| Ok((TenantId(row.get(0)?), row.get(1)?)))?;
            Ok(found)
        })
        .await
    }

    /// Forgets notices and messages that were decided, and taken or given up,
    /// before a time; at most `limit` messages and notices in one transaction.
    /// How many there were: fewer than `limit` says that none is left.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn forget_messages(
        &self,
        before: TimestampMs,
        limit: usize,
    ) -> Result<u64, AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Forget(before, limit, answer)).await
    }

    /// Changes when messages are queued or handed over. The number means nothing.
    #[must_use]
    pub fn messages_changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.writer.messages_changed()
    }
}

fn notice(row: &Row<'_>) -> Result<NoticeRow, SqlError> {
    Ok(NoticeRow {
        sequence: row.get(0)?,
        id: NoticeId(u128::from_be_bytes(row.get(1)?)),
        tenant: TenantId(row.get(2)?),
        transition: TransitionId(u128::from_be_bytes(row.get(3)?)),
        alarm: AlarmId(u128::from_be_bytes(row.get(4)?)),
        recipient: recipient(row, 5)?,
        channel: channel(row, 6)?,
        purpose: purpose(row, 7)?,
        source: row.get(8)?,
        made_at: TimestampMs(row.get(9)?),
        due_at: TimestampMs(row.get(10)?),
        state: notice_state(row, 11)?,
        reason: row.get(12)?,
        decided_at: row.get::<Option<i64>>(13)?.map(TimestampMs),
        message: row.get::<Option<[u8; 16]>>(14)?.map(|id| MessageId(u128::from_be_bytes(id))),
    })
}

fn notice_state(row: &Row<'_>, column: usize) -> Result<NoticeState, SqlError> {
    let stored: u8 = row.get(column)?;
    let known = NoticeState::ALL.into_iter().find(|state| *state as u8 == stored);
    known.ok_or_else(|| unreadable(column, "an unknown state of a notice"))
}

fn waiting(sql: &Session, channel: Channel) -> Result<Waiting, AlarmStoreError> {
    let notices = sql
        .prepare_cached("SELECT count(*) FROM notices WHERE state = 0 AND channel = ?1")?
        .query_row([channel as u8], |row| row.get(0))?;
    let (messages, oldest): (u64, Option<i64>) = sql
        .prepare_cached(
            // One partial index each.
            "SELECT CAST(sum(n) AS BIGINT), min(oldest) FROM (
                SELECT count(*) AS n, min(made_at) AS oldest FROM messages
                    WHERE state = 0 AND channel = ?1
                UNION ALL
                SELECT count(*), min(made_at) FROM messages WHERE state = 1 AND channel = ?1)
             AS waiting",
        )?
        .query_row([channel as u8], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Waiting { channel, notices, messages, oldest: oldest.map(TimestampMs) })
}

pub(super) fn forget(
    sql: &Session,
    before: TimestampMs,
    limit: usize,
) -> Result<u64, AlarmStoreError> {
    let old = "SELECT id FROM messages WHERE made_at < ?1 AND state NOT IN (0, 1)
        ORDER BY sequence LIMIT ?2";
    sql.prepare_cached(&format!("DELETE FROM message_log WHERE message IN ({old})"))?
        .execute(params![before.0, limit])?;
    let messages = sql
        .prepare_cached(&format!("DELETE FROM messages WHERE id IN ({old})"))?
        .execute(params![before.0, limit])?;
    let notices = sql
        .prepare_cached(
            "DELETE FROM notices WHERE sequence IN (SELECT sequence FROM notices
                WHERE made_at < ?1 AND state <> 0 ORDER BY sequence LIMIT ?2)",
        )?
        .execute(params![before.0, limit])?;
    Ok(messages.max(notices) as u64)
}
