//! The series of a partition's writer: their numbers in the database, and how
//! far each has come.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as MapEntry;
use schema::{DeviceId, TenantId};
use tokio_postgres::Client;

use super::link::Statements;
use super::values::Stored;
use crate::history::HistoryError;

/// Series that are looked up, or made, by one statement.
const NAMES_AT_ONCE: usize = 10_000;

const FIND: &str = "SELECT n.place, s.id
     FROM unnest($1::bigint[], $2::text[], $3::boolean[]) WITH ORDINALITY
          AS n (device, key, escaped, place)
     JOIN series s ON s.device = n.device AND s.key = n.key AND s.escaped = n.escaped";
const MAKE: &str = "INSERT INTO series (tenant, device, key, escaped)
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[])
     ON CONFLICT DO NOTHING";

/// The place of a series in its partition's memory.
pub(super) type Slot = u32;

/// What a writer knows of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Its number in the database; 0 until it was asked for.
    pub id: i64,
    /// The newest time that is committed, as far as this process has seen. A
    /// row behind it may be there already.
    pub newest: i64,
    device: u64,
    key: u32,
    tenant: u64,
}

#[derive(Debug, Default)]
pub(super) struct Series {
    names: Vec<Arc<str>>,
    keys: HashMap<Arc<str>, u32>,
    slots: HashMap<(u64, u32), Slot>,
    known: Vec<Known>,
}

/// A series that the database is to be asked for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub slot: Slot,
    tenant: u64,
    device: u64,
    key: Arc<str>,
}

impl Series {
    pub fn key(&mut self, name: &str) -> u32 {
        if let Some(key) = self.keys.get(name) {
            return *key;
        }
        let key =
            u32::try_from(self.names.len()).expect("keys are bounded by their tenants' quota");
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.keys.insert(name, key);
        key
    }

    /// `None` if there is no number left.
    #[inline]
    pub fn slot(
        &mut self,
        device: DeviceId,
        key: u32,
        tenant: impl FnOnce() -> TenantId,
    ) -> Option<Slot> {
        match self.slots.entry((device.0, key)) {
            MapEntry::Occupied(entry) => Some(*entry.get()),
            MapEntry::Vacant(entry) => {
                let slot = u32::try_from(self.known.len()).ok()?;
                let (device, tenant) = (device.0, tenant().0);
                self.known.push(Known { id: 0, newest: i64::MIN, device, key, tenant });
                Some(*entry.insert(slot))
            }
        }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn known(&self, slot: Slot) -> &Known {
        &self.known[slot as usize]
    }

    pub fn known_mut(&mut self, slot: Slot) -> &mut Known {
        &mut self.known[slot as usize]
    }

    pub fn wanted(&self, slot: Slot) -> Wanted {
        let known = self.known(slot);
        let key = self.names[known.key as usize].clone();
        Wanted { slot, tenant: known.tenant, device: known.device, key }
    }
}

/// The numbers of series in the database, in their order; those that are not
/// there are made.
pub(super) async fn resolve(
    client: &Client,
    statements: &mut Statements,
    wanted: &[Wanted],
) -> Result<Vec<i64>, HistoryError> {
    let mut ids = Vec::with_capacity(wanted.len());
    for part in wanted.chunks(NAMES_AT_ONCE) {
        let mut found = vec![0; part.len()];
        find(client, statements, part, &mut found).await?;
        if found.contains(&0) {
            make(client, statements, part, &found).await?;
            find(client, statements, part, &mut found).await?;
        }
        if found.contains(&0) {
            return Err(HistoryError::Contents("a series that was just made is gone".to_owned()));
        }
        ids.extend(found);
    }
    Ok(ids)
}

async fn find(
    client: &Client,
    statements: &mut Statements,
    wanted: &[Wanted],
    found: &mut [i64],
) -> Result<(), HistoryError> {
    let devices: Vec<i64> = wanted.iter().map(|one| one.device.cast_signed()).collect();
    let keys: Vec<Stored<'_>> = wanted.iter().map(|one| Stored::text(&one.key)).collect();
    let names: Vec<&str> = keys.iter().map(|key| &*key.text).collect();
    let escaped: Vec<bool> = keys.iter().map(|key| key.escaped).collect();
    let find = statements.get(client, FIND).await?;
    for row in client.query(&find, &[&devices, &names, &escaped]).await? {
        let place: i64 = row.try_get(0)?;
        let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
        if let Some(found) = found.get_mut(place) {
            *found = row.try_get(1)?;
        }
    }
    Ok(())
}

async fn make(
    client: &Client,
    statements: &mut Statements,
    wanted: &[Wanted],
    found: &[i64],
) -> Result<(), HistoryError> {
    let missing = wanted.iter().zip(found).filter(|(_, id)| **id == 0);
    let mut missing: Vec<&Wanted> = missing.map(|(one, _)| one).collect();
    // In one order, so that two who make the same ones don't wait in a circle.
    missing.sort_by(|a, b| (a.device, &a.key).cmp(&(b.device, &b.key)));
    let tenants: Vec<i64> = missing.iter().map(|one| one.tenant.cast_signed()).collect();
    let devices: Vec<i64> = missing.iter().map(|one| one.device.cast_signed()).collect();
    let keys: Vec<Stored<'_>> = missing.iter().map(|one| Stored::text(&one.key)).collect();
    let names: Vec<&str> = keys.iter().map(|key| &*key.text).collect();
    let escaped: Vec<bool> = keys.iter().map(|key| key.escaped).collect();
    let make = statements.get(client, MAKE).await?;
    client.execute(&make, &[&tenants, &devices, &names, &escaped]).await?;
    Ok(())
}
