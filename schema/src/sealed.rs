//! A secret that has to be read back, as it lies in storage.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret under the installation's key, in text. What is not needed again is
/// kept as a hash instead; this is for what has to be shown to somebody else,
/// such as the key that signs a webhook. Only `server` seals and opens.
///
/// Its `Debug` shows nothing of it, and an answer of the API leaves it out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(hidden)")
    }
}
