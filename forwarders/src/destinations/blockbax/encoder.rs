//! Values to the body of a request:
//! `{"series":[{"ingestionId":"…","measurements":[{"date":…,"number":"…"}]}]}`.

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::{Fault, Item, Template, read_item, typed};
use super::config::ItemSettings;
use super::{FRACTION_DIGITS, WHOLE_DIGITS};
use crate::outgoing::Outgoing;
use crate::value::{DataType, Datum, decimal};

#[derive(Debug, Default, Serialize)]
pub(super) struct Body {
    pub series: Vec<Series>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Series {
    pub ingestion_id: String,
    measurements: Vec<Measurement>,
    /// Places of its values in the batch.
    #[serde(skip)]
    pub values: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct Measurement {
    date: i64,
    #[serde(flatten)]
    value: MeasurementValue,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum MeasurementValue {
    Number(String),
    Text(String),
    Location(Location),
}

/// Degrees, and metres above the sea where they are known.
#[derive(Debug, Serialize)]
pub(super) struct Location {
    lat: Box<RawValue>,
    lon: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alt: Option<Box<RawValue>>,
}

/// Writes bodies for a forwarder's items.
#[derive(Debug)]
pub struct Encoder {
    items: Vec<Template>,
}

impl Encoder {
    pub(super) fn new(items: &[Item]) -> Result<Self, Fault> {
        let mut templates = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if typed(index, item)? == DataType::Boolean {
                let message = "Blockbax has no booleans: use number (0 and 1) or text.";
                return Err(Fault::new(format!("items[{index}].data_type"), message));
            }
            let ItemSettings { ingestion_id } = read_item(index, item)?;
            let path = format!("items[{index}].settings.ingestion_id");
            templates.push(Template::parse(&path, &ingestion_id)?);
        }
        Ok(Self { items: templates })
    }

    /// Series in the order in which they first come, each with its values in
    /// their order.
    pub(super) fn body(&self, batch: &[Outgoing]) -> Body {
        let mut series: Vec<Series> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for (index, value) in batch.iter().enumerate() {
            let template = value.item.map_or(usize::MAX, |item| item as usize);
            let Some(template) = self.items.get(template) else {
                unreachable!("this platform sends selected items only")
            };
            let id = template.fill(value, str::to_owned);
            let place = *places.entry(id.clone()).or_insert_with(|| {
                series.push(Series { ingestion_id: id, measurements: vec![], values: vec![] });
                series.len() - 1
            });
            let of = &mut series[place];
            of.measurements.push(Measurement { date: value.at_ms, value: measured(&value.datum) });
            of.values.push(index);
        }
        Body { series }
    }
}

fn measured(datum: &Datum) -> MeasurementValue {
    match datum {
        Datum::Number(number) => {
            let text = decimal(*number, WHOLE_DIGITS, FRACTION_DIGITS);
            MeasurementValue::Number(text.unwrap_or_else(|| number.to_string()))
        }
        Datum::Integer(integer) => MeasurementValue::Number(integer.to_string()),
        Datum::Boolean(boolean) => MeasurementValue::Number(u8::from(*boolean).to_string()),
        Datum::Text(text) => MeasurementValue::Text(text.to_string()),
        Datum::Json(json) => match location(json) {
            Some(location) => MeasurementValue::Location(location),
            None => MeasurementValue::Text(json.to_string()),
        },
    }
}

/// An object with `lat` and `lon`, and `alt` if there is one; the numbers as
/// they were written.
pub(super) fn location(json: &str) -> Option<Location> {
    let fields: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(json).ok()?;
    let number = |name: &str| {
        let raw = fields.get(name)?;
        serde_json::from_str::<f64>(raw.get()).ok().map(|_| raw.clone())
    };
    Some(Location { lat: number("lat")?, lon: number("lon")?, alt: number("alt") })
}
