//! The catalog's file: every series with its newest value, a row each in order
//! of series numbers, in the columns of a history file. It is written anew at
//! each flush and named in the same transaction, so that a start reads as many
//! rows as there are series and no history.

use std::path::Path;
use std::sync::Arc;

use arrow_array::Array;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int64Type, TimestampMillisecondType, UInt32Type, UInt64Type,
};
use schema::{DeviceId, TenantId, Value};

use super::HistoryError;
use super::catalog::{Catalog, Names, SeriesId};
use super::file::{FileReader, FileWriter, WriterOptions, column, corrupt};
use super::manifest::CatalogRecord;
use super::rows::Rows;

/// Writes the catalog; durable on return but for its name in the folder.
pub(super) fn write(
    path: &Path,
    file: u64,
    names: Arc<Names>,
    latest: &Rows,
    options: &WriterOptions,
) -> Result<CatalogRecord, HistoryError> {
    let mut writer = FileWriter::create(path, names, options)?;
    for (id, row) in (0..).zip(&latest.rows) {
        writer.push(SeriesId(id), latest, std::slice::from_ref(row))?;
    }
    let summary = writer.finish()?;
    Ok(CatalogRecord { file, bytes: summary.bytes, contents: summary.contents })
}

/// Reads the catalog back.
pub(super) fn read(path: &Path, record: &CatalogRecord) -> Result<Catalog, HistoryError> {
    let reader = FileReader::open(path, record.bytes, &record.contents)?;
    let mut catalog = Catalog::default();
    for batch in reader.batches()? {
        let batch = batch.map_err(|error| corrupt(path, &error.to_string()))?;
        add(&mut catalog, &batch, path)?;
    }
    if catalog.len() != record.contents.series.len() {
        return Err(corrupt(path, "it has another number of series than the manifest says"));
    }
    Ok(catalog)
}

fn add(catalog: &mut Catalog, batch: &RecordBatch, path: &Path) -> Result<(), HistoryError> {
    let tenants = batch.column(column::TENANT).as_primitive::<UInt64Type>();
    let devices = batch.column(column::DEVICE).as_primitive::<UInt64Type>();
    let keys = batch.column(column::KEY).as_dictionary::<UInt32Type>();
    let names = keys.values().as_string::<i32>();
    let times = batch.column(column::OBSERVED_AT).as_primitive::<TimestampMillisecondType>();
    for row in 0..batch.num_rows() {
        let value = value(batch, row).ok_or_else(|| corrupt(path, "a series has no value"))?;
        let key = catalog.key(names.value(keys.keys().value(row) as usize));
        let tenant = TenantId(tenants.value(row));
        let id = catalog
            .resolve(DeviceId(devices.value(row)), key, || tenant)
            .map_err(|_| corrupt(path, "it has more series than a 32-bit number counts"))?;
        catalog.observe(id, times.value(row), value);
    }
    Ok(())
}

fn value(batch: &RecordBatch, row: usize) -> Option<Value<'_>> {
    let numbers = batch.column(column::NUMBER).as_primitive::<Float64Type>();
    let integers = batch.column(column::INTEGER).as_primitive::<Int64Type>();
    let booleans = batch.column(column::BOOLEAN).as_boolean();
    let texts = batch.column(column::TEXT).as_string::<i32>();
    let jsons = batch.column(column::JSON).as_string::<i32>();
    if numbers.is_valid(row) {
        Some(Value::Number(numbers.value(row)))
    } else if integers.is_valid(row) {
        Some(Value::Integer(integers.value(row)))
    } else if booleans.is_valid(row) {
        Some(Value::Boolean(booleans.value(row)))
    } else if texts.is_valid(row) {
        Some(Value::Text(texts.value(row)))
    } else if jsons.is_valid(row) {
        Some(Value::Json(jsons.value(row)))
    } else {
        None
    }
}
