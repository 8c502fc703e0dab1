//! Where the directory's documents are kept. A backend opens, loads all,
//! reserves ids, commits, and closes; it knows no rule but the versions and
//! claims that it is told to hold.

use std::ops::Range;
use std::path::Path;

use rusqlite::{Connection, params};
use schema::{Document, DocumentBody, DocumentKind, TimestampMs};
use serde::Serialize;

use super::index::Index;
use super::{Change, OpenError};
use crate::audit::NewEvent;
use crate::sql::{SqlError, sqlite};

const MIGRATIONS: [&str; 2] = [
    include_str!("../../../schema/migrations/embedded/directory/0001-documents.sql"),
    include_str!("../../../schema/migrations/embedded/directory/0002-outbox.sql"),
];

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

#[derive(Debug)]
pub(super) enum Backend {
    Embedded(EmbeddedBackend),
}

#[derive(Debug)]
pub(super) struct EmbeddedBackend {
    connection: Connection,
    /// The sequence of the latest change.
    sequence: u64,
}

impl Backend {
    pub fn open_embedded(dir: &Path) -> Result<(Self, Index), OpenError> {
        let connection = sqlite::open(&dir.join(super::FILE), &MIGRATIONS)?;
        let (sequence, index) = load(&connection)?;
        Ok((Self::Embedded(EmbeddedBackend { connection, sequence }), index))
    }

    /// Ids that nobody else has had or will have.
    pub fn reserve_ids(&mut self, count: u64) -> Result<Range<u64>, SqlError> {
        match self {
            Self::Embedded(backend) => backend.reserve_ids(count),
        }
    }

    /// Writes all or none, durably. Answers with the first change's sequence;
    /// each further change has the next.
    pub fn commit(&mut self, writes: &[Write]) -> Result<u64, SqlError> {
        match self {
            Self::Embedded(backend) => backend.commit(writes),
        }
    }

    /// The oldest events that are not carried yet, with their places.
    pub fn outbox(&self, limit: usize) -> Result<Vec<(u64, NewEvent)>, SqlError> {
        match self {
            Self::Embedded(backend) => outbox(&backend.connection, limit),
        }
    }

    /// Takes the events up to this place out.
    pub fn carried(&mut self, last: u64) -> Result<(), SqlError> {
        match self {
            Self::Embedded(backend) => {
                let statement = "DELETE FROM outbox WHERE sequence <= ?1";
                backend.connection.prepare_cached(statement)?.execute([last.cast_signed()])?;
                Ok(())
            }
        }
    }

    pub fn close(self) -> Result<(), SqlError> {
        match self {
            Self::Embedded(backend) => {
                backend.connection.close().map_err(|(_, error)| SqlError::Statement(error))
            }
        }
    }
}

impl EmbeddedBackend {
    fn reserve_ids(&mut self, count: u64) -> Result<Range<u64>, SqlError> {
        let end: i64 = self.connection.query_row(
            "UPDATE next_id SET id = id + ?1 RETURNING id",
            [count.cast_signed()],
            |row| row.get(0),
        )?;
        let end = end.cast_unsigned();
        Ok(end - count..end)
    }

    fn commit(&mut self, writes: &[Write]) -> Result<u64, SqlError> {
        let first = self.sequence + 1;
        let transaction = self.connection.transaction()?;
        for (sequence, write) in (first..).zip(writes) {
            put(&transaction, write, sequence)?;
        }
        transaction.commit()?;
        self.sequence += writes.len() as u64;
        Ok(first)
    }
}

/// The latest change of each document behind `after`, in order.
pub(super) fn changes_since(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<Change>, SqlError> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, id, kind, version, body IS NULL FROM documents
         WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after.cast_signed(), limit], |row| {
        let kind: String = row.get(2)?;
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let change = |kind| -> rusqlite::Result<Change> {
            Ok(Change {
                sequence: number(0)?,
                id: number(1)?,
                kind,
                version: number(3)?,
                deleted: row.get(4)?,
            })
        };
        // All were read at opening, so that the kind is a known one.
        DocumentKind::ALL.into_iter().find(|known| known.as_str() == kind).map(change).transpose()
    })?;
    let changes: Vec<Option<Change>> = rows.collect::<Result<_, _>>()?;
    Ok(changes.into_iter().flatten().collect())
}

fn put(connection: &Connection, write: &Write, sequence: u64) -> Result<(), SqlError> {
    let document = &write.document;
    let (id, version) = (document.id.cast_signed(), document.version.cast_signed());
    let body = (!write.deleted).then(|| body_text(&document.body));
    let at = document.changed_at.0;
    let written = if version == 1 {
        connection
            .prepare_cached(
                "INSERT INTO documents (id, kind, tenant, version, changed_at, sequence, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                id,
                document.body.kind().as_str(),
                document.body.tenant().map(|tenant| tenant.0.cast_signed()),
                version,
                at,
                sequence.cast_signed(),
                body
            ])?
    } else {
        connection
            .prepare_cached(
                "UPDATE documents SET version = ?2, changed_at = ?3, sequence = ?4, body = ?5
                 WHERE id = ?1 AND version = ?2 - 1 AND body IS NOT NULL",
            )?
            .execute(params![id, version, at, sequence.cast_signed(), body])?
    };
    if written != 1 {
        return Err(rusqlite::Error::StatementChangedRows(written).into());
    }
    if let Some(event) = &write.event {
        let text = serde_json::to_string(event).expect("an event has text keys only");
        connection.prepare_cached("INSERT INTO outbox (event) VALUES (?1)")?.execute([text])?;
    }
    for claim in &write.released {
        connection.prepare_cached("DELETE FROM claims WHERE claim = ?1")?.execute([claim])?;
    }
    for claim in &write.taken {
        connection
            .prepare_cached("INSERT INTO claims (claim, document) VALUES (?1, ?2)")?
            .execute(params![claim, id])?;
    }
    Ok(())
}

fn outbox(connection: &Connection, limit: usize) -> Result<Vec<(u64, NewEvent)>, SqlError> {
    let mut statement = connection
        .prepare_cached("SELECT sequence, event FROM outbox ORDER BY sequence LIMIT ?1")?;
    let rows = statement.query_map([limit], |row| {
        let text = row.get_ref(1)?.as_str()?;
        let event = serde_json::from_str(text).map_err(|error| {
            let kind = rusqlite::types::Type::Text;
            rusqlite::Error::FromSqlConversionFailure(1, kind, Box::new(error))
        })?;
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), event))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
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

fn read_body(kind: &str, id: u64, text: &str) -> Result<DocumentBody, OpenError> {
    let Some(kind) = DocumentKind::ALL.into_iter().find(|known| known.as_str() == kind) else {
        return Err(OpenError::UnknownKind { id, kind: kind.to_owned() });
    };
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

fn load(connection: &Connection) -> Result<(u64, Index), OpenError> {
    let mut index = Index::default();
    let sequence: i64 = connection
        .query_row("SELECT coalesce(max(sequence), 0) FROM documents", [], |row| row.get(0))
        .map_err(SqlError::from)?;
    let mut statement = connection
        .prepare(
            "SELECT id, kind, version, changed_at, body FROM documents
             WHERE body IS NOT NULL ORDER BY id",
        )
        .map_err(SqlError::from)?;
    let mut rows = statement.query([]).map_err(SqlError::from)?;
    while let Some(row) = rows.next().map_err(SqlError::from)? {
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let number = |column| row.get::<_, i64>(column).map_err(SqlError::from);
        let id = number(0)?.cast_unsigned();
        let kind = text(1).map_err(SqlError::from)?;
        let body = read_body(kind, id, text(4).map_err(SqlError::from)?)?;
        index.insert(Document {
            id,
            version: number(2)?.cast_unsigned(),
            changed_at: TimestampMs(number(3)?),
            body,
        });
    }
    Ok((sequence.cast_unsigned(), index))
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
        let (mut backend, _) = Backend::open_embedded(dir.path()).unwrap();
        assert_eq!(backend.commit(&[write(1, 1, "a", "x")]).unwrap(), 1);
        for bad in [
            write(1, 1, "again", ""),
            write(1, 3, "skips one", ""),
            write(7, 2, "is not there", ""),
            write(2, 1, "b", "x"),
        ] {
            let good = write(3, 1, "c", "");
            assert!(backend.commit(&[good, bad.clone()]).is_err(), "{bad:?}");
        }
        assert_eq!(backend.commit(&[write(1, 2, "b", "")]).unwrap(), 2);
        backend.close().unwrap();
        let (_, index) = Backend::open_embedded(dir.path()).unwrap();
        assert_eq!(index.tenants.len(), 1);
        assert_eq!((index.tenants[&1].version, index.tenants[&1].name.as_str()), (2, "b"));
    }

    #[test]
    fn reserved_ids_are_never_reserved_again() {
        let dir = tempfile::tempdir().unwrap();
        let (mut backend, _) = Backend::open_embedded(dir.path()).unwrap();
        assert_eq!(backend.reserve_ids(10).unwrap(), 1..11);
        drop(backend);
        let (mut backend, _) = Backend::open_embedded(dir.path()).unwrap();
        assert_eq!(backend.reserve_ids(1).unwrap(), 11..12);
    }

    #[test]
    fn a_document_that_cannot_be_read_stops_the_opening() {
        let dir = tempfile::tempdir().unwrap();
        let (mut backend, _) = Backend::open_embedded(dir.path()).unwrap();
        backend.commit(&[write(1, 1, "a", "x"), write(2, 1, "b", "y")]).unwrap();
        backend.close().unwrap();
        for (column, value) in [("body", "{"), ("kind", "spaceship")] {
            let file = Connection::open(dir.path().join("directory.db")).unwrap();
            let sql = format!("UPDATE documents SET {column} = ?1 WHERE id = 2");
            file.execute(&sql, [value]).unwrap();
            drop(file);
            let error = Backend::open_embedded(dir.path()).unwrap_err();
            assert!(error.to_string().starts_with("document 2 "), "{error}");
        }
    }
}
