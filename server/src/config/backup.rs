//! The settings of backups.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Backups of the node's folder while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackupConfig {
    /// The folder in which `baken backup`, or the HTTP API, lets the running node
    /// put its backups, each in a folder of its own. Empty lets it put them
    /// nowhere. On another disk than `server.data_dir`, or copied to another
    /// machine: a backup beside what it is of is lost with it.
    #[schema(value_type = String, format = "empty, or folder")]
    pub folder: PathBuf,
    /// How quickly files are copied at most, so that the journal's disk has time
    /// for what routers send; 0 sets no bound.
    #[schema(minimum = 0, maximum = 2_000_000_000)]
    pub rate_bytes_per_s: u64,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self { folder: PathBuf::new(), rate_bytes_per_s: 64 << 20 }
    }
}
