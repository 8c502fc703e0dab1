//! How far the directory's changes have been carried into the journal.

use super::writer::Request;
use super::{AlarmStore, AlarmStoreError};
use crate::sql::{Optional as _, Session, params};

impl AlarmStore {
    /// The directory's sequence up to which a follower has seen to all changes;
    /// 0 for one that begins.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn followed(&self, follower: &'static str) -> Result<u64, AlarmStoreError> {
        self.read(move |sql| {
            let found = sql
                .prepare_cached("SELECT sequence FROM followers WHERE name = ?1")?
                .query_row([follower], |row| row.get(0))
                .optional()?;
            Ok(found.unwrap_or(0))
        })
        .await
    }

    /// A follower has seen to all changes up to `sequence`.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn set_followed(
        &self,
        follower: &'static str,
        sequence: u64,
    ) -> Result<(), AlarmStoreError> {
        self.shared.writer.ask(|answer| Request::Followed(follower, sequence, answer)).await
    }
}

pub(super) fn set(sql: &Session, follower: &str, sequence: u64) -> Result<(), AlarmStoreError> {
    sql.prepare_cached(
        "INSERT INTO followers (name, sequence) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence
         WHERE followers.sequence < excluded.sequence",
    )?
    .execute(params![follower, sequence])?;
    Ok(())
}
