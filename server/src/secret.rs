//! The installation's secret, the tokens that are found by it and the secrets
//! that are sealed under it.
//!
//! Tokens are never stored: a token's keyed hash (HMAC-SHA-256 under the
//! secret) is, so that a stolen directory opens nothing. What has to be read back,
//! such as the key that signs a webhook, is sealed instead.

mod derived;
mod file;
mod sealing;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

pub(crate) use file::{first_line, optional_line};
pub use sealing::{UnsealError, webhook_context};

/// Length of the installation's secret.
pub const SECRET_BYTES: usize = 32;

/// Random bytes in a generated token; too many to guess.
const TOKEN_BYTES: usize = 24;

/// The installation's secret. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// A new secret from the operating system.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The secret from its hexadecimal text; none if it is no such text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES];
        hex::decode_to_slice(text.trim(), &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The text that [`Secret::from_hex`] reads.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The bytes, for those who need a key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// What a token is found by: HMAC-SHA-256 under the secret, in lower-case
    /// hexadecimal.
    #[must_use]
    pub fn token_hash(&self, token: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(token.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A new token from the operating system's randomness, safe in a URL, a header,
/// an MQTT user name and a command line, where one that begins with a hyphen
/// would be taken for an option.
pub fn generate_token() -> Result<String, getrandom::Error> {
    let mut bytes = [0; TOKEN_BYTES];
    loop {
        getrandom::fill(&mut bytes)?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        if !token.starts_with('-') {
            return Ok(token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_looks_like_an_option() {
        // One in 64 would.
        assert!((0..4_096).all(|_| !generate_token().unwrap().starts_with('-')));
    }

    #[test]
    fn a_token_hash_is_stable_and_the_secret_stays_hidden() {
        let secret = Secret::from_hex(&"0b".repeat(32)).unwrap();
        assert_eq!(
            secret.token_hash("Hi There"),
            "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7"
        );
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        assert_eq!(Secret::from_hex(&secret.to_hex()), Some(secret));
        assert_eq!(Secret::from_hex("0b"), None);
    }

    #[test]
    fn tokens_differ() {
        let (a, b) = (generate_token().unwrap(), generate_token().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
    }
}
