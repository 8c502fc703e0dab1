//! Rows of a partition on their way into the table.

use std::sync::Arc;

use hashbrown::HashMap;
use schema::{DeviceId, RecordRows, TenantId, Value};

/// A series by its place in the partition's table of them.
type Place = u32;

/// The series that a partition has met, with their ids in the database.
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    places: HashMap<(u64, u32), Place, foldhash::fast::RandomState>,
    keys: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
pub(super) struct Series {
    pub tenant: TenantId,
    pub device: DeviceId,
    pub key: Arc<str>,
    /// None until the database has given it one.
    pub id: Option<i64>,
}

impl SeriesTable {
    pub fn get(&self, place: Place) -> &Series {
        &self.series[place as usize]
    }

    pub fn set_id(&mut self, place: Place, id: i64) {
        self.series[place as usize].id = Some(id);
    }

    fn key(&mut self, name: &str) -> u32 {
        if let Some(known) = self.keys.get(name) {
            return *known;
        }
        let number = u32::try_from(self.keys.len()).expect("fewer keys than memory has bytes");
        self.keys.insert(name.into(), number);
        number
    }

    fn place(&mut self, device: u64, key: u32, of: impl FnOnce() -> Series) -> Place {
        *self.places.entry((device, key)).or_insert_with(|| {
            self.series.push(of());
            u32::try_from(self.series.len() - 1).expect("a partition has fewer series than 2^32")
        })
    }
}

/// A value; texts stand in [`Gathered::texts`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Held {
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Text(usize, u32),
    Json(usize, u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub series: Place,
    pub at: i64,
    pub value: Held,
}

#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub rows: Vec<Row>,
    texts: String,
}

impl Gathered {
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    pub fn bytes(&self) -> usize {
        self.texts.len()
    }

    pub fn text(&self, from: usize, bytes: u32) -> &str {
        &self.texts[from..from + bytes as usize]
    }

    /// Takes the rows of a record in.
    pub fn take(&mut self, table: &mut SeriesTable, rows: &RecordRows) {
        let keys: Vec<u32> =
            (0..rows.key_count()).map(|index| table.key(rows.key_name(index))).collect();
        let (devices, key_indexes, times) =
            (rows.devices(), rows.key_indexes(), rows.observed_at_ms());
        self.rows.reserve(rows.len());
        for row in 0..rows.len() {
            let Some(value) = rows.value(row) else { continue };
            let key = keys[usize::from(key_indexes[row])];
            let series = table.place(devices[row], key, || {
                let origin = rows.origin(row);
                let (tenant, device) = (origin.tenant, origin.device);
                Series { tenant, device, key: rows.key(row).into(), id: None }
            });
            let value = match value {
                Value::Number(number) => Held::Number(number),
                Value::Integer(integer) => Held::Integer(integer),
                Value::Boolean(boolean) => Held::Boolean(boolean),
                Value::Text(text) => {
                    let (from, bytes) = self.keep(text);
                    Held::Text(from, bytes)
                }
                Value::Json(json) => {
                    let (from, bytes) = self.keep(json);
                    Held::Json(from, bytes)
                }
            };
            self.rows.push(Row { series, at: times[row], value });
        }
    }

    fn keep(&mut self, text: &str) -> (usize, u32) {
        let from = self.texts.len();
        self.texts.push_str(text);
        (from, u32::try_from(text.len()).expect("a text is shorter than a journal record"))
    }
}
