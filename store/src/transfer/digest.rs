//! A number for what a table or a series holds, whatever the order of its rows.

use sha2::{Digest as _, Sha256};

use crate::sql::Value;

/// Rows counted, and their hashes added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub rows: u64,
    sum: u128,
}

impl Digest {
    pub fn row(&mut self, values: &[Value<'_>]) {
        let mut hash = Sha256::new();
        for value in values {
            match value {
                Value::Null => hash.update([0]),
                Value::Integer(value) => part(&mut hash, 1, &value.to_be_bytes()),
                Value::Real(value) => part(&mut hash, 2, &value.to_be_bytes()),
                Value::Text(value) => part(&mut hash, 3, value.as_bytes()),
                Value::Blob(value) => part(&mut hash, 4, value),
            }
        }
        self.add(hash);
    }

    pub fn reading(&mut self, at: i64, value: schema::Value<'_>) {
        // Readings are many, so they get a cheaper hash than rows do.
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        let mut hash = foldhash::quality::FixedState::default().build_hasher();
        at.hash(&mut hash);
        match value {
            schema::Value::Number(value) => (1u8, value.to_bits()).hash(&mut hash),
            schema::Value::Integer(value) => (2u8, value).hash(&mut hash),
            schema::Value::Boolean(value) => (3u8, value).hash(&mut hash),
            schema::Value::Text(value) => (4u8, value).hash(&mut hash),
            schema::Value::Json(value) => (5u8, value).hash(&mut hash),
        }
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from(hash.finish()));
    }

    fn add(&mut self, hash: Sha256) {
        let bytes = hash.finalize();
        let first = bytes.first_chunk::<16>().expect("SHA-256 has 32 bytes");
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(*first));
    }
}

fn part(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}
