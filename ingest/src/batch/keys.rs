//! Keys as small numbers: a process-wide table and a cache per connection.
//!
//! A router sends its keys in the same order again and again, so a connection's
//! cache compares a key with the one that followed the last time, and hashes it
//! only if it is another. Only the first use of a key on a connection goes to
//! the shared table and takes its lock. The table only grows, and the tenants' quotas bound it.

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hashbrown::{HashMap, HashSet, HashTable};
use schema::TenantId;

/// A key's number, valid while the process lives; never stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

impl KeyId {
    /// The number as an index: the table gives them out from 0 without gaps.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The tenant uses as many distinct keys as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tenant already uses {max_keys} distinct keys, the most that its settings allow")]
pub struct KeyQuota {
    pub max_keys: u32,
}

/// All keys that the process has met; a cheap handle.
///
/// A tenant's quota counts the distinct keys that were met since the process
/// started: it guards memory and dictionaries against keys made up at random,
/// and is no lasting inventory.
#[derive(Clone, Debug, Default)]
pub struct KeyTable {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    names: RwLock<Names>,
    tenants: Mutex<HashMap<TenantId, Arc<TenantKeys>>>,
}

#[derive(Debug, Default)]
struct Names {
    ids: HashMap<Arc<str>, KeyId>,
    by_id: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct TenantKeys {
    used: RwLock<HashSet<KeyId>>,
}

impl KeyTable {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cache for one connection of `tenant`, of at most `max_cached`
    /// keys. It takes no memory before its first key.
    #[must_use]
    pub fn cache(&self, tenant: TenantId, max_cached: usize) -> KeyCache {
        let mut tenants = self.shared.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = Arc::clone(tenants.entry(tenant).or_default());
        KeyCache {
            table: self.clone(),
            tenant,
            max_cached,
            hasher: foldhash::quality::RandomState::default(),
            entries: Vec::new(),
            by_name: HashTable::new(),
            object: 0,
            first: 0,
            last: None,
            expected: 0,
        }
    }

    /// The number of a key of the platform itself, which no tenant's quota counts.
    #[must_use]
    pub fn reserve(&self, name: &str) -> KeyId {
        self.intern(name).0
    }

    /// How many distinct keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.names.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends to `names` the keys behind the last that it holds, so that a
    /// batcher looks keys up without a lock.
    pub(crate) fn extend_names(&self, names: &mut Vec<Arc<str>>) {
        let shared = self.shared.names.read().unwrap_or_else(PoisonError::into_inner);
        names.extend_from_slice(&shared.by_id[names.len()..]);
    }

    fn intern(&self, name: &str) -> (KeyId, Arc<str>) {
        let names = self.shared.names.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, &id)) = names.ids.get_key_value(name) {
            return (id, Arc::clone(name));
        }
        drop(names);
        let mut names = self.shared.names.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, &id)) = names.ids.get_key_value(name) {
            return (id, Arc::clone(name));
        }
        let id = KeyId(u32::try_from(names.by_id.len()).expect("quotas keep keys far below 2^32"));
        let name: Arc<str> = name.into();
        names.by_id.push(Arc::clone(&name));
        names.ids.insert(Arc::clone(&name), id);
        (id, name)
    }

    fn known(&self, name: &str) -> Option<(KeyId, Arc<str>)> {
        let names = self.shared.names.read().unwrap_or_else(PoisonError::into_inner);
        names.ids.get_key_value(name).map(|(name, &id)| (id, Arc::clone(name)))
    }
}

/// One connection's keys.
#[derive(Debug)]
pub struct KeyCache {
    table: KeyTable,
    tenant: Arc<TenantKeys>,
    max_cached: usize,
    hasher: foldhash::quality::RandomState,
    entries: Vec<Entry>,
    /// Places in `entries`.
    by_name: HashTable<u32>,
    /// Counts the objects decoded, so that a key's repetition is seen.
    object: u64,
    /// The place of the key that the last object began with.
    first: u32,
    /// The place of the key before, in this object.
    last: Option<u32>,
    /// The place where the next key probably is.
    expected: u32,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    id: KeyId,
    /// Whether the name stands in JSON as it is, and always means a key.
    is_plain: bool,
    /// The row that the key stood in, in the object `object`.
    row: u32,
    object: u64,
    /// The place of the key that came next the last time.
    follower: u32,
}

/// Names that mean something else than a key at the head of a telemetry object.
pub(crate) const NAMES_WITH_A_MEANING: [&str; 3] = ["ts", "values", "metadata"];

/// A key found, and the row of an earlier use in the same object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub id: KeyId,
    pub earlier_row: Option<usize>,
}

impl KeyCache {
    /// The number of `name`.
    ///
    /// # Errors
    /// [`KeyQuota`] when it would be one key more than the tenant may use.
    pub fn resolve(&mut self, name: &str, max_keys: u32) -> Result<KeyId, KeyQuota> {
        self.resolve_in_object(name, max_keys, 0).map(|found| found.id)
    }

    /// The name behind a number, for a report.
    pub(crate) fn name(&self, id: KeyId) -> Arc<str> {
        let names = self.table.shared.names.read().unwrap_or_else(PoisonError::into_inner);
        names.by_id.get(id.index()).map_or_else(|| "".into(), Arc::clone)
    }

    /// From here on the keys of another object are resolved.
    pub(crate) fn begin_object(&mut self) {
        self.object += 1;
        if self.entries.len() > self.max_cached {
            self.entries.clear();
            self.by_name.clear();
        }
        (self.last, self.expected) = (None, self.first);
    }

    /// The number of `name`, which stands in row `row` unless an earlier row of
    /// this object bears it already.
    pub(crate) fn resolve_in_object(
        &mut self,
        name: &str,
        max_keys: u32,
        row: usize,
    ) -> Result<Found, KeyQuota> {
        let row = u32::try_from(row).expect("rows of one socket read are below 2^32");
        let place = match self.entries.get(self.expected as usize) {
            Some(entry) if *entry.name == *name => self.expected,
            _ => self.look_up(name, max_keys)?,
        };
        Ok(self.take(place, row))
    }

    /// The length of the expected key's name, if the JSON text `rest`, which
    /// begins behind an opening quote, is that name and the closing quote.
    pub(crate) fn expected_len(&self, rest: &[u8]) -> Option<usize> {
        let entry = self.entries.get(self.expected as usize).filter(|entry| entry.is_plain)?;
        let name = entry.name.as_bytes();
        (rest.get(name.len()) == Some(&b'"') && rest[..name.len()] == *name).then_some(name.len())
    }

    /// The expected key, as [`KeyCache::resolve_in_object`].
    ///
    /// # Panics
    /// If [`KeyCache::expected_len`] does not give its length just before.
    pub(crate) fn take_expected(&mut self, row: usize) -> Found {
        let row = u32::try_from(row).expect("rows of one socket read are below 2^32");
        self.take(self.expected, row)
    }

    fn take(&mut self, place: u32, row: u32) -> Found {
        let entry = &mut self.entries[place as usize];
        (self.last, self.expected) = (Some(place), entry.follower);
        let earlier_row = (entry.object == self.object).then_some(entry.row as usize);
        if earlier_row.is_none() {
            (entry.object, entry.row) = (self.object, row);
        }
        Found { id: entry.id, earlier_row }
    }

    /// The place of a key that is not the expected one, from now on expected here.
    fn look_up(&mut self, name: &str, max_keys: u32) -> Result<u32, KeyQuota> {
        let hash = self.hasher.hash_one(name);
        let is_name = |&place: &u32| *self.entries[place as usize].name == *name;
        let place = match self.by_name.find(hash, is_name) {
            Some(&place) => place,
            None => {
                let (id, name) = self.allow(name, max_keys)?;
                let place = u32::try_from(self.entries.len()).expect("bounded far below 2^32");
                let follower = place + 1;
                let is_escaped = name.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
                let is_plain = !is_escaped && !NAMES_WITH_A_MEANING.contains(&&*name);
                let object = u64::MAX;
                self.entries.push(Entry { name, id, is_plain, row: 0, object, follower });
                let (entries, hasher) = (&self.entries, &self.hasher);
                let rehash = |&place: &u32| hasher.hash_one(&*entries[place as usize].name);
                self.by_name.insert_unique(hash, place, rehash);
                place
            }
        };
        match self.last {
            Some(last) => self.entries[last as usize].follower = place,
            None => self.first = place,
        }
        Ok(place)
    }

    fn allow(&self, name: &str, max_keys: u32) -> Result<(KeyId, Arc<str>), KeyQuota> {
        if let Some((id, name)) = self.table.known(name) {
            let used = self.tenant.used.read().unwrap_or_else(PoisonError::into_inner);
            if used.contains(&id) {
                return Ok((id, name));
            }
        }
        let mut used = self.tenant.used.write().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= max_keys as usize {
            return match self.table.known(name) {
                Some((id, name)) if used.contains(&id) => Ok((id, name)),
                _ => Err(KeyQuota { max_keys }),
            };
        }
        let (id, name) = self.table.intern(name);
        used.insert(id);
        Ok((id, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_number_on_all_connections() {
        let table = KeyTable::new();
        let mut one = table.cache(TenantId(1), 10);
        let mut other = table.cache(TenantId(2), 10);
        let id = one.resolve("temperature", 10).unwrap();
        assert_eq!(other.resolve("temperature", 10), Ok(id));
        assert_ne!(other.resolve("pressure", 10), Ok(id));
        assert_eq!(one.resolve("temperature", 10), Ok(id));
        let mut names = Vec::new();
        table.extend_names(&mut names);
        assert_eq!(
            names.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["temperature", "pressure"]
        );
    }

    #[test]
    fn a_quota_stops_new_keys_of_its_tenant_only() {
        let table = KeyTable::new();
        let mut one = table.cache(TenantId(1), 10);
        one.resolve("a", 2).unwrap();
        one.resolve("b", 2).unwrap();
        assert_eq!(one.resolve("c", 2), Err(KeyQuota { max_keys: 2 }));
        let mut again = table.cache(TenantId(1), 10);
        assert!(again.resolve("b", 2).is_ok(), "a key in use stays usable");
        assert!(again.resolve("c", 2).is_err());
        assert_eq!(table.len(), 2, "a refused key takes no memory");
        assert!(table.cache(TenantId(2), 10).resolve("c", 2).is_ok());
        assert!(again.resolve("c", 3).is_ok(), "a raised quota counts at once");
    }

    #[test]
    fn a_cache_stays_bounded() {
        let table = KeyTable::new();
        let mut cache = table.cache(TenantId(1), 4);
        for number in 0..100 {
            cache.begin_object();
            cache.resolve(&format!("k{number}"), 1_000).unwrap();
            assert!(cache.entries.len() <= 5);
        }
    }

    #[test]
    fn keys_in_any_order_and_form_are_told_apart() {
        let table = KeyTable::new();
        let mut cache = table.cache(TenantId(1), 5);
        let mut names = Vec::new();
        for objects in
            [["a", "b", "c"], ["a", "c", "b"], ["c", "c", "a"], ["d", "a", "b"], ["e", "f", "g"]]
        {
            for _ in 0..3 {
                cache.begin_object();
                for name in objects {
                    let id = cache.resolve_in_object(name, 100, 0).unwrap().id;
                    table.extend_names(&mut names);
                    assert_eq!(&*names[id.index()], name, "in {objects:?}");
                }
            }
        }
    }

    #[test]
    fn a_repeated_key_is_seen_within_its_object_only() {
        let mut cache = KeyTable::new().cache(TenantId(1), 4);
        cache.begin_object();
        assert_eq!(cache.resolve_in_object("a", 9, 3).unwrap().earlier_row, None);
        assert_eq!(cache.resolve_in_object("a", 9, 4).unwrap().earlier_row, Some(3));
        cache.begin_object();
        assert_eq!(cache.resolve_in_object("a", 9, 5).unwrap().earlier_row, None);
    }
}
