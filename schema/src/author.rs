//! Who did something, for the audit history.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::RouterId;

/// Who makes a change: a person by their token, a router, or Baken itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The token's name, `router ID (NAME)`, or `baken`.
    pub by: Arc<str>,
    pub provenance: Option<Arc<Provenance>>,
}

/// By what means and from where somebody acted. Part of stored formats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The id of the API token, because names of tokens are not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// The address of the other end of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Author {
    /// What the installation does by itself.
    #[must_use]
    pub fn installation() -> Self {
        Self::from("baken")
    }

    /// What a gateway does by itself, such as naming a new device.
    #[must_use]
    pub fn router(id: RouterId, name: &str) -> Self {
        Self { by: format!("router {id} ({name})").into(), provenance: None }
    }
}

impl From<&str> for Author {
    fn from(by: &str) -> Self {
        Self { by: by.into(), provenance: None }
    }
}

impl From<&Author> for Author {
    fn from(author: &Author) -> Self {
        author.clone()
    }
}
