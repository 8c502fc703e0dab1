//! The series of a partition: a dense 32-bit number for each pair of device
//! and key, and the newest value of each.
//!
//! Numbers are given out in order of first sight and never change once a flush
//! has stored them; until then a replay of the journal gives them out anew.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashMap;
use schema::{DeviceId, DeviceMap, TenantId, Value, ValueKind};

use super::rows::{Row, Rows};

type Hash = foldhash::fast::RandomState;

/// A series by its number in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeriesId(pub u32);

/// What a series is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Series {
    pub tenant: TenantId,
    pub device: DeviceId,
    /// The key's number in [`Names::keys`].
    pub key: u32,
}

/// The part of the catalog that files are written by.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub keys: Vec<Arc<str>>,
    pub series: Vec<Series>,
}

#[derive(Debug, Default)]
pub(super) struct Catalog {
    names: Names,
    key_ids: HashMap<Arc<str>, u32, Hash>,
    ids: HashMap<(u64, u32), u32, Hash>,
    /// Each device's first series with its key, found in one place. A message
    /// mostly begins with the key that the device's first one began with.
    firsts: DeviceMap<(SeriesId, FirstKey)>,
    devices: HashMap<u64, Vec<u32>, Hash>,
    /// The newest row of each series; texts of text rows lie in `latest_texts`.
    latest: Vec<Row>,
    latest_texts: HashMap<u32, Vec<u8>, Hash>,
}

/// A key's number and one, so that no key takes no bytes of its own.
#[derive(Clone, Copy, Debug)]
struct FirstKey(NonZeroU32);

impl FirstKey {
    fn new(key: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(key))
    }

    fn is(self, key: u32) -> bool {
        self.0.get() - 1 == key
    }
}

/// There are as many series as a 32-bit number counts.
#[derive(Debug)]
pub(super) struct Full;

impl Catalog {
    pub fn len(&self) -> usize {
        self.names.series.len()
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The number of a key's name.
    pub fn key(&mut self, name: &str) -> u32 {
        if let Some(id) = self.key_ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.names.keys.len()).expect("keys are fewer than series");
        let name: Arc<str> = name.into();
        self.names.keys.push(name.clone());
        self.key_ids.insert(name, id);
        id
    }

    /// The series of the next rows, as far as they are known, with their newest
    /// rows brought into the processor's cache: the fetches of many overlap.
    pub fn look_ahead(
        &self,
        next: impl Iterator<Item = (DeviceId, u32)>,
        found: &mut [Option<SeriesId>],
    ) {
        let mut last = (DeviceId(0), u32::MAX);
        found.fill(None);
        for (found, (device, key)) in found.iter_mut().zip(next) {
            // Keys of a device come in the same order with each message, so the
            // next row's series is mostly the next number.
            let guess = SeriesId(last.1.wrapping_add(1));
            *found = match last.0 == device && self.is(guess, device, key) {
                true => Some(guess),
                false => match self.firsts.get(device) {
                    Some((id, first)) if first.is(key) => Some(id),
                    _ => self.id(device, key),
                },
            };
            if let Some(id) = *found {
                last = (device, id.0);
            }
        }
        for id in found.iter().flatten() {
            black_box(self.latest[id.0 as usize].observed_at);
        }
    }

    fn id(&self, device: DeviceId, key: u32) -> Option<SeriesId> {
        self.ids.get(&(device.0, key)).map(|id| SeriesId(*id))
    }

    fn is(&self, id: SeriesId, device: DeviceId, key: u32) -> bool {
        let series = self.names.series.get(id.0 as usize);
        series.is_some_and(|series| series.device == device && series.key == key)
    }

    /// The series of a device and key, made if it is new.
    pub fn resolve(
        &mut self,
        device: DeviceId,
        key: u32,
        tenant: impl FnOnce() -> TenantId,
    ) -> Result<SeriesId, Full> {
        if let Some(id) = self.id(device, key) {
            return Ok(id);
        }
        let tenant = tenant();
        let id = u32::try_from(self.len()).ok().filter(|id| *id < u32::MAX).ok_or(Full)?;
        self.names.series.push(Series { tenant, device, key });
        self.latest.push(Row { observed_at: i64::MIN, bits: 0, kind: ValueKind::Integer });
        self.ids.insert((device.0, key), id);
        if self.firsts.get(device).is_none() {
            self.firsts.insert(device, (SeriesId(id), FirstKey::new(key)));
        }
        self.devices.entry(device.0).or_default().push(id);
        Ok(SeriesId(id))
    }

    /// Takes a value as the newest unless a newer one is known. Of equal times
    /// the one that came later stays.
    pub fn observe(&mut self, id: SeriesId, observed_at: i64, value: Value<'_>) {
        let slot = &mut self.latest[id.0 as usize];
        if observed_at < slot.observed_at {
            return;
        }
        slot.observed_at = observed_at;
        slot.kind = value.kind();
        slot.bits = match value {
            Value::Number(number) => number.to_bits(),
            Value::Integer(integer) => integer.cast_unsigned(),
            Value::Boolean(boolean) => u64::from(boolean),
            Value::Text(text) | Value::Json(text) => {
                let kept = self.latest_texts.entry(id.0).or_default();
                kept.clear();
                kept.extend_from_slice(text.as_bytes());
                text.len() as u64
            }
        };
    }

    /// The series of a device and key, if anything was written to it.
    pub fn find(&self, device: DeviceId, key: &str) -> Option<SeriesId> {
        let key = self.key_ids.get(key)?;
        self.id(device, *key)
    }

    /// All series of a device.
    pub fn of_device(&self, device: DeviceId) -> impl Iterator<Item = SeriesId> + '_ {
        self.devices.get(&device.0).into_iter().flatten().map(|id| SeriesId(*id))
    }

    pub fn series(&self, id: SeriesId) -> Series {
        self.names.series[id.0 as usize]
    }

    pub fn key_name(&self, id: SeriesId) -> &Arc<str> {
        &self.names.keys[self.series(id).key as usize]
    }

    /// Adds the newest row of a series to `out`.
    pub fn latest(&self, id: SeriesId, out: &mut Rows) {
        let row = self.latest[id.0 as usize];
        if row.is_text() {
            let text = self.latest_texts.get(&id.0).map_or(&[][..], Vec::as_slice);
            let bits = out.keep_text(text);
            out.rows.push(Row { bits, ..row });
        } else {
            out.rows.push(row);
        }
    }

    /// The newest row of every series, by number.
    pub fn all_latest(&self) -> Rows {
        let mut rows = Rows { rows: Vec::with_capacity(self.len()), texts: Vec::new() };
        for id in 0..self.len() {
            self.latest(SeriesId(u32::try_from(id).expect("series are counted by u32")), &mut rows);
        }
        rows
    }
}

impl Names {
    /// The numbers of series in order of device, then key name: the order of files.
    pub fn file_order(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let ranks = self.key_ranks();
        ids.sort_unstable_by_key(|id| {
            let series = self.series[*id as usize];
            (series.device.0, ranks[series.key as usize])
        });
        ids
    }

    /// The rank of each key among the names in order.
    fn key_ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(self.keys.len()).collect();
        order.sort_unstable_by(|a, b| self.keys[*a as usize].cmp(&self.keys[*b as usize]));
        let mut ranks = vec![0; order.len()];
        for (rank, key) in (0..).zip(order) {
            ranks[key as usize] = rank;
        }
        ranks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(catalog: &mut Catalog, device: u64, key: &str, at: i64, value: Value<'_>) {
        let key = catalog.key(key);
        let id = catalog.resolve(DeviceId(device), key, || TenantId(1)).unwrap();
        catalog.observe(id, at, value);
    }

    #[test]
    fn a_late_reading_never_replaces_a_newer_one() {
        let mut catalog = Catalog::default();
        observe(&mut catalog, 1, "t", 10, Value::Text("new"));
        observe(&mut catalog, 1, "t", 9, Value::Text("late"));
        observe(&mut catalog, 1, "u", -5, Value::Integer(1));
        observe(&mut catalog, 1, "u", -5, Value::Integer(2));
        let mut rows = Rows::default();
        catalog.of_device(DeviceId(1)).for_each(|id| catalog.latest(id, &mut rows));
        assert_eq!(rows.text(&rows.rows[0]), b"new");
        assert_eq!((rows.rows[1].observed_at, rows.rows[1].bits), (-5, 2));
    }

    #[test]
    fn looking_ahead_finds_what_is_there_and_nothing_else() {
        let mut catalog = Catalog::default();
        let (a, b) = (catalog.key("a"), catalog.key("b"));
        let mut made = HashMap::new();
        for device in [1, 2, 511, 512, 1 << 40] {
            for key in [a, b].into_iter().skip(usize::from(device == 2)) {
                let id = catalog.resolve(DeviceId(device), key, || TenantId(1)).unwrap();
                made.insert((device, key), id);
            }
        }
        let asked: Vec<(u64, u32)> = [1, 2, 3, 511, 512, 513, 1 << 40, 1]
            .into_iter()
            .flat_map(|device| [(device, a), (device, b), (device, a)])
            .collect();
        let mut found = [Some(SeriesId(7)); 64];
        catalog.look_ahead(asked.iter().map(|(device, key)| (DeviceId(*device), *key)), &mut found);
        let expected: Vec<_> = asked.iter().map(|asked| made.get(asked).copied()).collect();
        assert_eq!(found[..asked.len()], expected);
        assert!(found[asked.len()..].iter().all(Option::is_none));
    }

    #[test]
    fn files_are_in_order_of_device_then_key_name() {
        let mut catalog = Catalog::default();
        for (device, key) in [(2, "b"), (1, "z"), (2, "a"), (1, "a")] {
            observe(&mut catalog, device, key, 0, Value::Integer(0));
        }
        assert_eq!(catalog.names().file_order(vec![0, 1, 2, 3]), [3, 1, 2, 0]);
        assert_eq!(catalog.find(DeviceId(2), "z"), None);
        assert_eq!(catalog.find(DeviceId(2), "a"), Some(SeriesId(2)));
    }
}
