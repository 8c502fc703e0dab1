//! Keys that come of the installation's secret, one for each purpose, so that
//! what is signed for one means nothing for another.

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

use super::{SECRET_BYTES, Secret};

/// As many bytes as the secret has.
struct Key;

impl KeyType for Key {
    fn len(&self) -> usize {
        SECRET_BYTES
    }
}

impl Secret {
    /// The key for a purpose: HKDF-SHA-256 of the secret without salt, with the
    /// info `baken/{purpose}/1`. Stable: what is out there was signed with it.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; SECRET_BYTES] {
        let info = format!("baken/{purpose}/1");
        let derived = Salt::new(HKDF_SHA256, &[]).extract(&self.0);
        let mut key = [0; SECRET_BYTES];
        derived
            .expand(&[info.as_bytes()], Key)
            .and_then(|key_material| key_material.fill(&mut key))
            .expect("HKDF-SHA-256 gives 32 bytes and more");
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_purposes_differ_and_stay_as_they_are() {
        let secret = Secret::from_hex(&"0b".repeat(32)).unwrap();
        assert_ne!(secret.derive("links"), secret.derive("sms callbacks"));
        // Made by Python's `hmac` from RFC 5869.
        assert_eq!(hex::encode(secret.derive("links")), GOLDEN);
    }

    const GOLDEN: &str = "8ce657638abe10174d378e1df34e1330d340c5d7687cd25b48938cb947bf9fa0";
}
