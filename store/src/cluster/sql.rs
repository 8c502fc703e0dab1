//! The statements of the nodes' tables. Many sessions go into one statement as a
//! JSON text, so that a storm of reconnects costs a few round trips.

use schema::{RouterId, TimestampMs};
use serde::Serialize;

use super::{CHANNEL, ClusterNode, EndedSession, HeldSession, NewSession, NodeId};
use crate::sql::{Row, Session, SqlError, Transaction, params};

pub(super) const MIGRATIONS: &[&str] =
    &[include_str!("../../../schema/migrations/postgres/cluster/0001-sessions.sql")];

/// Changes that are read at once.
pub(super) const MAX_HEARD: usize = 10_000;

/// The lock under which sessions change, so that revisions are committed in
/// order. The number is the text `sessions` in ASCII.
const LOCK: i64 = 0x73_65_73_73_69_6f_6e_73;

/// The server's clock.
const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

const COLUMNS: &str = "s.router, s.client_id, s.node, s.number, s.connected_at, s.said_at, \
                       s.silent_since, s.shown, s.revision";

fn held(row: &Row<'_>) -> Result<HeldSession, SqlError> {
    Ok(HeldSession {
        router: RouterId(row.get(0)?),
        client_id: row.text(1)?.into(),
        node: row.get::<Option<u64>>(2)?.map(NodeId),
        number: row.get(3)?,
        connected_at: TimestampMs(row.get(4)?),
        said_at: TimestampMs(row.get(5)?),
        silent_since: row.get::<Option<i64>>(6)?.map(TimestampMs),
        shown: row.text(7)?.into(),
        revision: row.get(8)?,
    })
}

pub(super) fn enter(
    session: &mut Session,
    name: &str,
    takes_routers: bool,
) -> Result<NodeId, SqlError> {
    session.ready()?;
    session.query_row(
        &format!(
            "INSERT INTO nodes (name, takes_routers, heard_at) \
             VALUES (?1, ?2, {NOW}) RETURNING node"
        ),
        params![name, takes_routers],
        |row| Ok(NodeId(row.get(0)?)),
    )
}

/// Whether the node is known, and who else is.
pub(super) fn beat(
    session: &mut Session,
    node: NodeId,
) -> Result<(bool, Vec<ClusterNode>), SqlError> {
    session.ready()?;
    let beat = format!("UPDATE nodes SET heard_at = {NOW} WHERE node = ?1");
    let is_known = session.execute(&beat, [node.0])? > 0;
    let nodes = session
        .prepare_cached("SELECT node, name, takes_routers, heard_at FROM nodes ORDER BY node")?
        .query_map([], |row| {
            Ok(ClusterNode {
                id: NodeId(row.get(0)?),
                name: row.get(1)?,
                takes_routers: row.get(2)?,
                heard_at: TimestampMs(row.get(3)?),
            })
        })?;
    Ok((is_known, nodes))
}

/// Changes behind a revision, and the node's letters.
pub(super) fn hear(
    session: &mut Session,
    node: Option<NodeId>,
    after: u64,
) -> Result<(Vec<HeldSession>, Vec<String>), SqlError> {
    session.ready()?;
    let changed = format!(
        "SELECT {COLUMNS} FROM sessions s WHERE s.revision > ?1 ORDER BY s.revision LIMIT ?2"
    );
    let sessions = session.prepare_cached(&changed)?.query_map(params![after, MAX_HEARD], held)?;
    let Some(node) = node else { return Ok((sessions, Vec::new())) };
    let mut letters = session
        .prepare_cached("DELETE FROM letters WHERE node = ?1 RETURNING letter, body")?
        .query_map([node.0], |row| Ok((row.get::<u64>(0)?, row.get::<String>(1)?)))?;
    letters.sort_by_key(|(letter, _)| *letter);
    Ok((sessions, letters.into_iter().map(|(_, body)| body).collect()))
}

pub(super) fn say(
    session: &mut Session,
    node: NodeId,
    new: &[NewSession],
    ended: &[EndedSession],
) -> Result<Vec<HeldSession>, SqlError> {
    let transaction = session.transaction()?;
    transaction.lock(LOCK)?;
    if !ended.is_empty() {
        end(&transaction, node, ended)?;
    }
    if !new.is_empty() {
        transaction.execute(
            "INSERT INTO sessions (router, client_id, node, number, connected_at, said_at, shown, \
                                   revision) \
             SELECT router, client_id, ?2, number, connected_at, \
                    greatest(connected_at, 1 + coalesce((SELECT max(said_at) FROM sessions o \
                                                         WHERE o.router = n.router), 0)), \
                    shown, nextval('session_revision') \
             FROM json_to_recordset(CAST(CAST(?1 AS TEXT) AS JSON)) \
                  AS n(router BIGINT, client_id TEXT, number BIGINT, connected_at BIGINT, \
                       shown TEXT, is_fresh BOOLEAN) \
             WHERE is_fresh OR NOT EXISTS (SELECT 1 FROM sessions o WHERE o.router = n.router \
                     AND o.client_id = n.client_id AND o.node IS NOT NULL AND o.node <> ?2) \
             ON CONFLICT (router, client_id) DO UPDATE \
             SET node = excluded.node, number = excluded.number, \
                 connected_at = excluded.connected_at, said_at = excluded.said_at, \
                 is_told = TRUE, silent_since = NULL, shown = excluded.shown, revision = excluded.revision",
            params![json(new), node.0],
        )?;
    }
    let routers = new.iter().map(|it| it.router).chain(ended.iter().map(|it| it.router));
    let sessions = of(&transaction, routers)?;
    transaction.notify(CHANNEL)?;
    transaction.commit()?;
    Ok(sessions)
}

fn end(
    transaction: &Transaction<'_>,
    node: NodeId,
    ended: &[EndedSession],
) -> Result<(), SqlError> {
    let ended = json(ended);
    transaction.execute(
        "UPDATE sessions s \
         SET node = NULL, is_told = FALSE, silent_since = NULL, said_at = greatest(s.said_at + 1, e.said_at), \
             revision = nextval('session_revision') \
         FROM json_to_recordset(CAST(CAST(?1 AS TEXT) AS JSON)) \
              AS e(router BIGINT, client_id TEXT, number BIGINT, said_at BIGINT) \
         WHERE s.router = e.router AND s.client_id = e.client_id AND s.node = ?2 \
               AND s.number = e.number",
        params![ended, node.0],
    )?;
    // Of sessions that have ended the last one is enough.
    transaction.execute(
        "DELETE FROM sessions s USING sessions newer, \
              json_to_recordset(CAST(CAST(?1 AS TEXT) AS JSON)) AS e(router BIGINT) \
         WHERE s.router = e.router AND newer.router = s.router AND s.node IS NULL \
               AND newer.node IS NULL AND s.revision < newer.revision",
        [&ended],
    )?;
    Ok(())
}

fn of(
    transaction: &Transaction<'_>,
    routers: impl Iterator<Item = RouterId>,
) -> Result<Vec<HeldSession>, SqlError> {
    let select = format!(
        "SELECT {COLUMNS} FROM sessions s WHERE s.router IN (SELECT a.router \
         FROM json_to_recordset(CAST(CAST(?1 AS TEXT) AS JSON)) AS a(router BIGINT))"
    );
    transaction.prepare_cached(&select)?.query_map([asked(routers)], held)
}

pub(super) fn note_silence(
    session: &mut Session,
    node: NodeId,
    routers: &[(RouterId, Option<TimestampMs>)],
) -> Result<(), SqlError> {
    #[derive(Serialize)]
    struct Silence {
        router: RouterId,
        since: Option<i64>,
    }
    let silences: Vec<Silence> = routers
        .iter()
        .map(|(router, since)| Silence { router: *router, since: since.map(|it| it.0) })
        .collect();
    let transaction = session.transaction()?;
    transaction.lock(LOCK)?;
    transaction.execute(
        "UPDATE sessions s SET silent_since = n.since, revision = nextval('session_revision') \
         FROM json_to_recordset(CAST(CAST(?1 AS TEXT) AS JSON)) AS n(router BIGINT, since BIGINT) \
         WHERE s.router = n.router AND s.node = ?2",
        params![json(&silences), node.0],
    )?;
    transaction.notify(CHANNEL)?;
    transaction.commit()
}

/// Sessions that have ended before a time, of which nobody has said so.
pub(super) fn untold(
    session: &mut Session,
    before: TimestampMs,
) -> Result<Vec<HeldSession>, SqlError> {
    session.ready()?;
    let select = format!(
        "SELECT {COLUMNS} FROM sessions s \
         WHERE s.node IS NULL AND NOT s.is_told AND s.said_at < ?1 LIMIT ?2"
    );
    session.prepare_cached(&select)?.query_map(params![before.0, MAX_HEARD], held)
}

pub(super) fn told(session: &mut Session, routers: &[RouterId]) -> Result<(), SqlError> {
    session.ready()?;
    session.execute(
        "UPDATE sessions s SET is_told = TRUE \
         WHERE s.node IS NULL AND NOT s.is_told AND s.router IN (SELECT a.router \
         FROM json_to_recordset(CAST(CAST(?1 AS TEXT) AS JSON)) AS a(router BIGINT))",
        [asked(routers.iter().copied())],
    )?;
    Ok(())
}

pub(super) fn bury(
    session: &mut Session,
    dead: NodeId,
    at: TimestampMs,
) -> Result<Vec<HeldSession>, SqlError> {
    let transaction = session.transaction()?;
    transaction.lock(LOCK)?;
    let bury = format!(
        "UPDATE sessions s SET node = NULL, is_told = FALSE, silent_since = NULL, \
                said_at = greatest(s.said_at + 1, ?2), revision = nextval('session_revision') \
         WHERE s.node = ?1 RETURNING {COLUMNS}"
    );
    let sessions = transaction.prepare_cached(&bury)?.query_map(params![dead.0, at.0], held)?;
    transaction.notify(CHANNEL)?;
    transaction.commit()?;
    Ok(sessions)
}

pub(super) fn forget(session: &mut Session, node: NodeId) -> Result<(), SqlError> {
    let transaction = session.transaction()?;
    transaction.execute(
        "DELETE FROM nodes n WHERE n.node = ?1 \
         AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.node = n.node)",
        [node.0],
    )?;
    // Also of those who wrote to it when it was forgotten already.
    transaction.execute(
        "DELETE FROM letters l WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.node = l.node)",
        [],
    )?;
    transaction.commit()
}

pub(super) fn write(session: &mut Session, to: &[NodeId], body: &str) -> Result<(), SqlError> {
    let transaction = session.transaction()?;
    for node in to {
        let insert = "INSERT INTO letters (node, body) VALUES (?1, ?2)";
        transaction.execute(insert, params![node.0, body])?;
    }
    transaction.notify(CHANNEL)?;
    transaction.commit()
}

/// Routers as rows of a JSON text.
fn asked(routers: impl Iterator<Item = RouterId>) -> String {
    #[derive(Serialize)]
    struct Asked {
        router: RouterId,
    }
    json(&routers.map(|router| Asked { router }).collect::<Vec<_>>())
}

fn json<T: Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("numbers and texts are JSON")
}
