//! Identities and positions. All are assigned by the directory or the journal
//! and are stable for ever: they stand in journal records and history files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// A customer whose data nobody else sees.
    TenantId,
    u64
);
id!(
    /// A place where routers and machines stand; the unit of partitioning.
    LocationId,
    u64
);
id!(
    /// An industrial router: what holds credentials and connects by MQTT.
    RouterId,
    u64
);
id!(
    /// What a reading is of: a router itself or a machine behind it.
    DeviceId,
    u64
);
id!(
    /// A person or a tool that is told of alarms.
    UserId,
    u64
);
id!(
    /// One of the journal's partitions, counted from 0.
    PartitionId,
    u16
);
id!(
    /// The ordinal of a record in its partition, counted from 0 without gaps.
    Position,
    u64
);
id!(
    /// Milliseconds since 1970-01-01T00:00:00Z; negative before it.
    TimestampMs,
    i64
);

impl Position {
    /// The position behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
