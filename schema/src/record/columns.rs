//! The columns of a record: six that each has, and one for each kind of value
//! that occurs in it.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::ValueKind;

/// The kinds of values in the order of their columns.
pub(super) const KINDS: [ValueKind; 5] =
    [ValueKind::Number, ValueKind::Integer, ValueKind::Boolean, ValueKind::Text, ValueKind::Json];

/// How many columns stand before those of values.
pub(super) const FIXED: usize = 6;

/// A set of kinds of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u8);

static SCHEMAS: LazyLock<[SchemaRef; 1 << KINDS.len()]> = LazyLock::new(|| {
    std::array::from_fn(|mask| Kinds(u8::try_from(mask).expect("five bits")).make_schema())
});

impl Kinds {
    pub(super) fn insert(&mut self, kind: ValueKind) {
        self.0 |= 1 << (kind as u8 - 1);
    }

    pub(super) fn contains(self, kind: ValueKind) -> bool {
        self.0 & (1 << (kind as u8 - 1)) != 0
    }

    /// The schema of records with values of these kinds.
    pub(super) fn schema(self) -> &'static SchemaRef {
        &SCHEMAS[usize::from(self.0)]
    }

    /// The kinds that the names of a schema's columns say.
    pub(super) fn of(schema: &Schema) -> Self {
        let mut kinds = Self::default();
        for kind in KINDS {
            if schema.fields().iter().skip(FIXED).any(|field| field.name() == name(kind)) {
                kinds.insert(kind);
            }
        }
        kinds
    }

    /// The place of a kind's column.
    pub(super) fn column(self, kind: ValueKind) -> Option<usize> {
        let before = KINDS.iter().take_while(|other| **other != kind);
        let before = before.filter(|other| self.contains(**other)).count();
        self.contains(kind).then_some(FIXED + before)
    }

    fn make_schema(self) -> SchemaRef {
        let timestamp = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let key = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
        let mut fields = vec![
            Field::new("tenant", DataType::UInt64, false),
            Field::new("router", DataType::UInt64, false),
            Field::new("device", DataType::UInt64, false),
            Field::new("key", key, false),
            Field::new("observed_at", timestamp(), false),
            Field::new("received_at", timestamp(), false),
        ];
        for kind in KINDS.into_iter().filter(|kind| self.contains(*kind)) {
            let data_type = match kind {
                ValueKind::Number => DataType::Float64,
                ValueKind::Integer => DataType::Int64,
                ValueKind::Boolean => DataType::Boolean,
                ValueKind::Text | ValueKind::Json => DataType::Utf8,
            };
            fields.push(Field::new(name(kind), data_type, true));
        }
        Arc::new(Schema::new(fields))
    }
}

fn name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Number => "number",
        ValueKind::Integer => "integer",
        ValueKind::Boolean => "boolean",
        ValueKind::Text => "text",
        ValueKind::Json => "json",
    }
}
