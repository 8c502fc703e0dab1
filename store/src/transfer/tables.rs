//! The tables that are copied, in the order in which they refer to one another.

/// One table of one part of the store.
#[derive(Debug)]
pub(super) struct Table {
    /// The part's file in the folder.
    pub file: &'static str,
    /// The part's schema in PostgreSQL.
    pub schema: &'static str,
    pub name: &'static str,
    /// Columns that order its rows without a doubt.
    pub order: &'static str,
    /// The column of which no value is ever given out again.
    pub counted: Option<&'static str>,
    /// Columns that hold positions of the journal, and what stands there at the
    /// beginning of a new one.
    pub begins: &'static [(&'static str, &'static str)],
    /// PostgreSQL's migration has put rows there that are replaced.
    pub seeded: bool,
}

const PLAIN: Table =
    Table { file: "", schema: "", name: "", order: "", counted: None, begins: &[], seeded: false };

const DIRECTORY: Table = Table { file: "directory.db", schema: "baken_directory", ..PLAIN };
const ATTRIBUTES: Table = Table { file: "attributes.db", schema: "baken_attributes", ..PLAIN };
const ALARMS: Table = Table { file: "alarms.db", schema: "baken_alarms", ..PLAIN };
const FORWARDERS: Table = Table { file: "forwarders.db", schema: "baken_forwarders", ..PLAIN };

pub(super) const TABLES: &[Table] = &[
    Table { name: "documents", order: "id", ..DIRECTORY },
    Table { name: "claims", order: "claim", ..DIRECTORY },
    Table { name: "next_id", order: "id", seeded: true, ..DIRECTORY },
    Table { name: "outbox", order: "sequence", counted: Some("sequence"), ..DIRECTORY },
    Table { name: "attributes", order: "device, scope, key", ..ATTRIBUTES },
    Table { name: "positions", order: "partition", begins: &[("next", "0")], ..ATTRIBUTES },
    Table { name: "undelivered", order: "device, key", ..ATTRIBUTES },
    Table { name: "partitions", order: "partition", begins: &[("position", "0")], ..ALARMS },
    Table { name: "snapshots", order: "partition", begins: &[("position", "0")], ..ALARMS },
    Table { name: "ticks", order: "sequence", counted: Some("sequence"), ..ALARMS },
    Table { name: "met_devices", order: "partition, device, position", ..ALARMS },
    Table { name: "alarms", order: "sequence", counted: Some("sequence"), ..ALARMS },
    Table { name: "events", order: "sequence", counted: Some("sequence"), ..ALARMS },
    Table { name: "profiles", order: "id", counted: Some("id"), ..ALARMS },
    Table { name: "profile_versions", order: "profile, version", ..ALARMS },
    Table { name: "deliveries", order: "sequence", counted: Some("sequence"), ..ALARMS },
    Table { name: "followers", order: "name", ..ALARMS },
    Table { name: "notices", order: "sequence", counted: Some("sequence"), ..ALARMS },
    Table { name: "messages", order: "sequence", counted: Some("sequence"), ..ALARMS },
    Table { name: "message_log", order: "sequence", counted: Some("sequence"), ..ALARMS },
    Table { name: "used_links", order: "id", ..ALARMS },
    Table { name: "published", order: "topic, partition", ..ALARMS },
    Table {
        name: "lanes",
        order: "forwarder, partition",
        // One that is at rest has no position, and begins at the journal's end.
        begins: &[("position", "CASE WHEN position IS NULL THEN NULL ELSE 0 END"), ("row", "0")],
        ..FORWARDERS
    },
    Table { name: "devices", order: "forwarder, partition, device", ..FORWARDERS },
    Table { name: "dead_letters", order: "sequence", counted: Some("sequence"), ..FORWARDERS },
    Table { name: "dead_letter_fates", order: "forwarder", ..FORWARDERS },
];

impl Table {
    /// What people call it: its part and its name.
    pub fn title(&self) -> String {
        let part = self.schema.trim_start_matches("baken_");
        format!("{part}.{}", self.name)
    }

    /// Its name in PostgreSQL.
    pub fn in_postgres(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// What is read of a column in the folder.
    pub fn expression<'a>(&self, column: &'a str, is_new_journal: bool) -> &'a str
    where
        'static: 'a,
    {
        let begins = self.begins.iter().find(|(name, _)| is_new_journal && *name == column);
        begins.map_or(column, |(_, begin)| *begin)
    }
}
