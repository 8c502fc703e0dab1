//! How the last values of a device are stored: a version and, in postcard's
//! format, the name of each key with what was sent last.

use serde::{Deserialize, Serialize};

use super::series::Series;
use super::{KeyId, Keys, Last};

/// Stands before the rest. Stable.
const VERSION: u8 = 1;

/// Why stored values can't be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("stored values of version {0:?} are not known to this program")]
    Version(Option<u8>),
    #[error("stored values can't be read: {0}")]
    Damaged(#[from] postcard::Error),
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(borrow)]
    key: &'a str,
    last: Last,
}

pub(super) fn encode(series: &[(KeyId, Series)], keys: &Keys) -> Vec<u8> {
    let stored: Vec<Stored<'_>> = series
        .iter()
        .filter_map(|(key, series)| {
            Some(Stored { key: keys.name(*key), last: series.acknowledged()? })
        })
        .collect();
    postcard::to_extend(&stored, vec![VERSION]).expect("a list can be written to memory")
}

pub(super) fn decode(bytes: &[u8], keys: &mut Keys) -> Result<Vec<(KeyId, Series)>, StateError> {
    let Some((&VERSION, rest)) = bytes.split_first() else {
        return Err(StateError::Version(bytes.first().copied()));
    };
    let stored: Vec<Stored<'_>> = postcard::from_bytes(rest)?;
    Ok(stored.into_iter().map(|Stored { key, last }| (keys.id(key), Series::of(last))).collect())
}
