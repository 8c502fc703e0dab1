//! The journal record: a batch of rows in Arrow's IPC stream format.
//!
//! A record is a whole Arrow IPC stream (schema, one dictionary, one record
//! batch, end marker), so that any Arrow reader can read it with no code of ours.
//! Where it is large its buffers are compressed by LZ4. The kind and
//! [`RECORD_VERSION`] travel beside it in the journal's own header.
//!
//! | column | type | null |
//! | --- | --- | --- |
//! | tenant, router, device | UInt64 | no |
//! | key | Dictionary(UInt16, Utf8) | no |
//! | observed_at, received_at | Timestamp(ms, UTC) | no |
//! | number | Float64 | unless the value is one |
//! | integer | Int64 | unless the value is one |
//! | boolean | Boolean | unless the value is one |
//! | text, json | Utf8 | unless the value is one |
//!
//! A reading has exactly one value. An attribute with none was deleted. A column
//! of values that no row has is left out; in version 1 it stood there as nulls.

mod builder;
mod columns;
mod commands;
mod decode;

pub use builder::{LocalKey, RecordBuilder, RowLimit};
pub use commands::{decode_commands, encode_commands};
pub use decode::{DecodeError, RecordRows};

use std::sync::Arc;

use bytes::Bytes;

use crate::{DeviceId, RouterId, TenantId};

/// The version of the columns above; stands in the journal beside each record.
pub const RECORD_VERSION: u8 = 2;

/// The most rows of one record, so that a 16-bit dictionary index always fits.
pub const MAX_RECORD_ROWS: usize = 65_536;

/// What a record's rows are. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Telemetry.
    Readings = 1,
    /// Attributes that the device set (ThingsBoard's client scope).
    ClientAttributes = 2,
    /// Attributes that the platform set (ThingsBoard's shared scope).
    SharedAttributes = 3,
    /// What people do and what changes which alarms are raised. The columns are
    /// `at`, `tenant`, `kind` and `body`; only the alarm workers read them.
    Commands = 4,
}

impl RecordKind {
    /// The kind of a stored number; `None` if a later version wrote it.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Readings),
            2 => Some(Self::ClientAttributes),
            3 => Some(Self::SharedAttributes),
            4 => Some(Self::Commands),
            _ => None,
        }
    }
}

/// One encoded record, ready for the journal.
#[derive(Clone, Debug)]
pub struct Record {
    pub kind: RecordKind,
    /// How many rows `payload` holds.
    pub rows: u32,
    /// An Arrow IPC stream.
    pub payload: Bytes,
    /// What `payload` decodes to, where the program that made it has it at hand.
    /// Readers that follow closely are spared decompressing it.
    pub decoded: Option<Arc<RecordRows>>,
}

impl Record {
    /// What it takes of memory, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.payload.len() + self.decoded.as_ref().map_or(0, |rows| rows.memory_bytes())
    }
}

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub tenant: TenantId,
    /// The router that delivered it.
    pub router: RouterId,
    /// The device that it is of: the router's own, or one behind it.
    pub device: DeviceId,
}

#[cfg(test)]
mod tests;
