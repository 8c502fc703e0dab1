//! Where the directory's documents are kept. A backend opens, loads all,
//! reserves ids, commits, and closes; it knows no rule but the versions and
//! claims that it is told to hold.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use schema::{Document, DocumentBody, DocumentKind, TimestampMs};
use serde::Serialize;

use super::index::Index;
use super::{Change, OpenError};
use crate::audit::NewEvent;
use crate::sql::{Database, PostgresOptions, Session, SqlError, params};

const MIGRATIONS: &[&str] = &[
    include_str!("../../../schema/migrations/embedded/directory/0001-documents.sql"),
    include_str!("../../../schema/migrations/embedded/directory/0002-outbox.sql"),
];

const POSTGRES_MIGRATIONS: &[&str] =
    &[include_str!("../../../schema/migrations/postgres/directory/0001-documents.sql")];

/// Held by a transaction that changes documents, so that changes are seen in the
/// order of their sequences. The number is the text `baken-di` in ASCII.
const CHANGE_LOCK: i64 = 0x62_61_6b_65_6e_2d_64_69;

/// Where nodes tell one another of changes.
pub(super) const CHANNEL: &str = "baken_directory";

/// One document to be written.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// With the version that it is to have.
    pub document: Document,
    pub deleted: bool,
    /// What the document takes for itself, and what it lets go.
    pub taken: Vec<String>,
    pub released: Vec<String>,
    /// Written with it.
    pub event: Option<NewEvent>,
}

/// Where a commit has led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    /// The first change has this sequence, each further one the next.
    From(u64),
    /// Another node has changed something since; nothing was written.
    Behind,
}

/// A change as another node made it.
#[derive(Debug)]
pub(super) struct Foreign {
    pub change: Change,
    /// None of a deleted one.
    pub document: Option<Document>,
}

#[derive(Debug)]
pub(super) struct Backend {
    session: Session,
    /// The sequence of the latest change that is known here.
    sequence: u64,
}

/// The file's tables.
pub(super) fn embedded(dir: &Path) -> Arc<Database> {
    Database::file(dir.join(super::FILE), MIGRATIONS)
}

/// The tables in PostgreSQL, which several nodes share.
pub(crate) fn postgres(options: &PostgresOptions) -> Arc<Database> {
    Database::schema(options, "baken_directory", POSTGRES_MIGRATIONS)
}

impl Backend {
    pub fn open(database: &Arc<Database>) -> Result<(Self, Index), OpenError> {
        let session = database.open()?;
        let (sequence, index) = load(&session)?;
        Ok((Self { session, sequence }, index))
    }

    /// Whether other nodes may change documents.
    pub fn is_shared(&self) -> bool {
        self.session.is_postgres()
    }

    /// Ids that nobody else has had or will have.
    pub fn reserve_ids(&mut self, count: u64) -> Result<Range<u64>, SqlError> {
        self.session.ready()?;
        let statement = "UPDATE next_id SET id = id + ?1 RETURNING id";
        let end: u64 = self.session.query_row(statement, [count], |row| row.get(0))?;
        Ok(end - count..end)
    }

    /// Writes all or none, durably.
    pub fn commit(&mut self, writes: &[Write]) -> Result<Committed, SqlError> {
        let first = self.sequence + 1;
        let transaction = self.session.transaction()?;
        transaction.lock(CHANGE_LOCK)?;
        if latest(&transaction)? != self.sequence {
            return Ok(Committed::Behind);
        }
        for (sequence, write) in (first..).zip(writes) {
            put(&transaction, write, sequence)?;
        }
        transaction.notify(CHANNEL)?;
        transaction.commit()?;
        self.sequence += writes.len() as u64;
        Ok(Committed::From(first))
    }

    /// What other nodes have changed since, the latest change of each document.
    /// From then on it is known here.
    pub fn catch_up(&mut self) -> Result<Vec<Foreign>, OpenError> {
        self.session.ready()?;
        let changes = foreign(&self.session, self.sequence)?;
        if let Some(last) = changes.last() {
            self.sequence = last.change.sequence;
        }
        Ok(changes)
    }

    /// The oldest events that are not carried yet, with their places.
    pub fn outbox(&mut self, limit: usize) -> Result<Vec<(u64, NewEvent)>, SqlError> {
        self.session.ready()?;
        outbox(&self.session, limit)
    }

    /// Takes the events up to this place out.
    pub fn carried(&mut self, last: u64) -> Result<(), SqlError> {
        self.session.ready()?;
        self.session.execute("DELETE FROM outbox WHERE sequence <= ?1", [last])?;
        Ok(())
    }

    pub fn close(self) -> Result<(), SqlError> {
        self.session.close()
    }
}

fn latest(sql: &Session) -> Result<u64, SqlError> {
    let statement = "SELECT coalesce(max(sequence), 0) FROM documents";
    sql.query_row(statement, [], |row| row.get(0))
}

fn foreign(sql: &Session, after: u64) -> Result<Vec<Foreign>, OpenError> {
    let mut statement = sql.prepare_cached(
        "SELECT id, kind, version, changed_at, body, sequence FROM documents
         WHERE sequence > ?1 ORDER BY sequence",
    )?;
    let mut rows = statement.query([after])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, version) = (row.get(0)?, row.get(2)?);
        let kind = known_kind(row.text(1)?, id)?;
        let body: Option<String> = row.get(4)?;
        let document = match &body {
            None => None,
            Some(text) => Some(Document {
                id,
                version,
                changed_at: TimestampMs(row.get(3)?),
                body: read_body(kind, id, text)?,
            }),
        };
        let deleted = document.is_none();
        let change = Change { sequence: row.get(5)?, id, kind, version, deleted };
        found.push(Foreign { change, document });
    }
    Ok(found)
}

fn known_kind(kind: &str, id: u64) -> Result<DocumentKind, OpenError> {
    DocumentKind::from_name(kind)
        .ok_or_else(|| OpenError::UnknownKind { id, kind: kind.to_owned() })
}

/// The latest change of each document behind `after`, in order.
pub(super) fn changes_since(
    sql: &Session,
    after: u64,
    limit: usize,
) -> Result<Vec<Change>, SqlError> {
    let mut statement = sql.prepare_cached(
        "SELECT sequence, id, kind, version, body IS NULL FROM documents
         WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after, limit], |row| {
        // One that a later version of Baken has put there is none of ours.
        let kind = DocumentKind::from_name(row.text(2)?);
        let change = |kind| -> Result<Change, SqlError> {
            Ok(Change {
                sequence: row.get(0)?,
                id: row.get(1)?,
                kind,
                version: row.get(3)?,
                deleted: row.get(4)?,
            })
        };
        kind.map(change).transpose()
    })?;
    Ok(rows.into_iter().flatten().collect())
}

fn put(sql: &Session, write: &Write, sequence: u64) -> Result<(), SqlError> {
    let Document { id, version, changed_at, body } = &write.document;
    let text = (!write.deleted).then(|| body_text(body));
    let written = if *version == 1 {
        sql.execute(
            "INSERT INTO documents (id, kind, tenant, version, changed_at, sequence, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id,
                body.kind().as_str(),
                body.tenant().map(|tenant| tenant.0),
                version,
                changed_at.0,
                sequence,
                text
            ],
        )?
    } else {
        sql.execute(
            "UPDATE documents SET version = ?2, changed_at = ?3, sequence = ?4, body = ?5
             WHERE id = ?1 AND version = ?2 - 1 AND body IS NOT NULL",
            params![id, version, changed_at.0, sequence, text],
        )?
    };
    if written != 1 {
        return Err(SqlError::ChangedRows(written));
    }
    if let Some(event) = &write.event {
        let text = serde_json::to_string(event).expect("an event has text keys only");
        sql.execute("INSERT INTO outbox (event) VALUES (?1)", [text])?;
    }
    for claim in &write.released {
        sql.execute("DELETE FROM claims WHERE claim = ?1", [claim])?;
    }
    for claim in &write.taken {
        let statement = "INSERT INTO claims (claim, document) VALUES (?1, ?2)";
        sql.execute(statement, params![claim, id])?;
    }
    Ok(())
}

fn outbox(sql: &Session, limit: usize) -> Result<Vec<(u64, NewEvent)>, SqlError> {
    let mut statement =
        sql.prepare_cached("SELECT sequence, event FROM outbox ORDER BY sequence LIMIT ?1")?;
    statement.query_map([limit], |row| {
        let event = serde_json::from_str(row.text(1)?)
            .map_err(|error| SqlError::Unreadable { column: 1, reason: error.to_string() })?;
        Ok((row.get(0)?, event))
    })
}

/// The body without its kind, which stands in a column beside it.
fn body_text(body: &DocumentBody) -> String {
    fn text(body: &impl Serialize) -> String {
        serde_json::to_string(body).expect("a document has text keys only and writes to memory")
    }
    match body {
        DocumentBody::Tenant(tenant) => text(tenant),
        DocumentBody::Location(location) => text(location),
        DocumentBody::Router(router) => text(router),
        DocumentBody::Device(device) => text(device),
        DocumentBody::ApiToken(token) => text(token),
        DocumentBody::User(user) => text(user),
        DocumentBody::Subscription(subscription) => text(subscription),
        DocumentBody::OfflineProfile(profile) => text(profile),
        DocumentBody::MessageTemplate(template) => text(template),
        DocumentBody::Forwarder(forwarder) => text(forwarder),
    }
}

fn read_body(kind: DocumentKind, id: u64, text: &str) -> Result<DocumentBody, OpenError> {
    let body = match kind {
        DocumentKind::Tenant => serde_json::from_str(text).map(DocumentBody::Tenant),
        DocumentKind::Location => serde_json::from_str(text).map(DocumentBody::Location),
        DocumentKind::Router => serde_json::from_str(text).map(DocumentBody::Router),
        DocumentKind::Device => serde_json::from_str(text).map(DocumentBody::Device),
        DocumentKind::ApiToken => serde_json::from_str(text).map(DocumentBody::ApiToken),
        DocumentKind::User => serde_json::from_str(text).map(DocumentBody::User),
        DocumentKind::Subscription => serde_json::from_str(text).map(DocumentBody::Subscription),
        DocumentKind::OfflineProfile => {
            serde_json::from_str(text).map(DocumentBody::OfflineProfile)
        }
        DocumentKind::MessageTemplate => {
            serde_json::from_str(text).map(DocumentBody::MessageTemplate)
        }
        DocumentKind::Forwarder => serde_json::from_str(text).map(DocumentBody::Forwarder),
    };
    body.map_err(|source| OpenError::Document { id, source })
}

fn load(sql: &Session) -> Result<(u64, Index), OpenError> {
    let mut index = Index::default();
    // Documents and sequence are of one moment.
    let moment = sql.moment()?;
    let sequence = latest(&moment)?;
    let mut statement = moment.prepare_cached(
        "SELECT id, kind, version, changed_at, body FROM documents
         WHERE body IS NOT NULL ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let body = read_body(known_kind(row.text(1)?, id)?, id, row.text(4)?)?;
        let (version, changed_at) = (row.get(2)?, TimestampMs(row.get(3)?));
        index.insert(Document { id, version, changed_at, body });
    }
    Ok((sequence, index))
}

#[cfg(test)]
mod tests {
    use schema::{Tenant, TenantSettings};

    use super::*;

    fn write(id: u64, version: u64, name: &str, claim: &str) -> Write {
        let settings = TenantSettings::default();
        let body = DocumentBody::Tenant(Tenant { name: name.to_owned(), settings });
        let document = Document { id, version, changed_at: TimestampMs(1), body };
        let taken = (!claim.is_empty()).then(|| claim.to_owned()).into_iter().collect();
        Write { document, deleted: false, taken, released: Vec::new(), event: None }
    }

    #[test]
    fn a_stale_version_or_a_taken_claim_is_refused_with_all_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut backend, _) = Backend::open(&embedded(dir.path())).unwrap();
        assert_eq!(backend.commit(&[write(1, 1, "a", "x")]).unwrap(), Committed::From(1));
        for bad in [
            write(1, 1, "again", ""),
            write(1, 3, "skips one", ""),
            write(7, 2, "is not there", ""),
            write(2, 1, "b", "x"),
        ] {
            let good = write(3, 1, "c", "");
            assert!(backend.commit(&[good, bad.clone()]).is_err(), "{bad:?}");
        }
        assert_eq!(backend.commit(&[write(1, 2, "b", "")]).unwrap(), Committed::From(2));
        backend.close().unwrap();
        let (_, index) = Backend::open(&embedded(dir.path())).unwrap();
        assert_eq!(index.tenants.len(), 1);
        assert_eq!((index.tenants[&1].version, index.tenants[&1].name.as_str()), (2, "b"));
    }

    #[test]
    fn reserved_ids_are_never_reserved_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut backend, _) = Backend::open(&embedded(dir.path())).unwrap();
        assert_eq!(backend.reserve_ids(10).unwrap(), 1..11);
        drop(backend);
        let (mut backend, _) = Backend::open(&embedded(dir.path())).unwrap();
        assert_eq!(backend.reserve_ids(1).unwrap(), 11..12);
    }

    #[test]
    fn a_document_that_cannot_be_read_stops_the_opening() {
        let dir = tempfile::tempdir().unwrap();
        let (mut backend, _) = Backend::open(&embedded(dir.path())).unwrap();
        backend.commit(&[write(1, 1, "a", "x"), write(2, 1, "b", "y")]).unwrap();
        backend.close().unwrap();
        for (column, value) in [("body", "{"), ("kind", "spaceship")] {
            let file = rusqlite::Connection::open(dir.path().join("directory.db")).unwrap();
            let sql = format!("UPDATE documents SET {column} = ?1 WHERE id = 2");
            file.execute(&sql, [value]).unwrap();
            drop(file);
            let error = Backend::open(&embedded(dir.path())).unwrap_err();
            assert!(error.to_string().starts_with("document 2 "), "{error}");
        }
    }
}
