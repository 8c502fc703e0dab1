//! Secrets that have to be read back, encrypted for storage.
//!
//! The text is `sealed1:` and base64url without padding of a nonce (12 bytes),
//! the ciphertext and its tag (16 bytes), by ChaCha20-Poly1305. The key comes of
//! the installation's secret by HKDF-SHA-256 without salt and with [`KEY_INFO`].
//! It is no HMAC under the secret, because such are made of whatever token
//! somebody sends. The context is authenticated with the text, so that a sealed
//! text that is moved to another place opens no more. All of this is stable.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use schema::{Sealed, TenantId};

use super::Secret;

/// Tells the form from those that may come.
const PREFIX: &str = "sealed1:";

/// What tells the key from others that may come of the same secret.
const KEY_INFO: &[u8] = b"baken/sealed/1";

/// The context of the secret that signs a user's webhook; a user never changes
/// tenant. Stable.
#[must_use]
pub fn webhook_context(tenant: TenantId) -> String {
    format!("user/webhook/{tenant}")
}

/// Why a sealed secret was not opened. It tells nothing of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    #[error("the sealed secret is in a form that this program does not know")]
    UnknownForm,
    #[error(
        "the sealed secret does not open: it was sealed by another installation's secret or for \
         another place, or is damaged"
    )]
    Refused,
}

impl Secret {
    /// Encrypts `plain` for storage. `context` says where it belongs, such as
    /// [`webhook_context`]; only with the same context it opens again.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn seal(&self, context: &str, plain: &str) -> Result<Sealed, getrandom::Error> {
        // Random nonces of 96 bits repeat with a chance of 2^-32 after 2^32 secrets.
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        Ok(self.seal_with(nonce, context, plain))
    }

    fn seal_with(&self, nonce: [u8; NONCE_LEN], context: &str, plain: &str) -> Sealed {
        let mut text = plain.as_bytes().to_vec();
        let tag = self
            .sealing_key()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                &mut text,
            )
            .expect("a secret is shorter than 256 GiB");
        let bytes = [&nonce, text.as_slice(), tag.as_ref()].concat();
        Sealed(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// What [`Secret::seal`] has sealed with the same context.
    ///
    /// # Errors
    /// [`UnsealError`]; nothing of the text is given out then.
    pub fn unseal(&self, context: &str, sealed: &Sealed) -> Result<String, UnsealError> {
        let text = sealed.0.strip_prefix(PREFIX).ok_or(UnsealError::UnknownForm)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| UnsealError::UnknownForm)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(UnsealError::UnknownForm)?;
        let nonce =
            Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError::UnknownForm)?;
        let mut sealed = sealed.to_vec();
        let plain = self
            .sealing_key()
            .open_in_place(nonce, Aad::from(context), &mut sealed)
            .map_err(|_| UnsealError::Refused)?;
        // Only text is sealed, so that other bytes are none of ours.
        String::from_utf8(plain.to_vec()).map_err(|_| UnsealError::Refused)
    }

    fn sealing_key(&self) -> LessSafeKey {
        let derived = Salt::new(HKDF_SHA256, &[]).extract(&self.0);
        let key = derived
            .expand(&[KEY_INFO], &CHACHA20_POLY1305)
            .expect("HKDF-SHA-256 gives 32 bytes and more");
        LessSafeKey::new(UnboundKey::from(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: &str = "user/webhook/7";

    fn secret() -> Secret {
        Secret::from_hex(&"0b".repeat(32)).unwrap()
    }

    #[test]
    fn the_stored_form_stays_as_it_is() {
        // Made by Python's `cryptography` from the module's description.
        let golden = "sealed1:AAECAwQFBgcICQoLJNCyy5llCBQgCl0H4CQDepCPh3IImrU";
        let nonce = std::array::from_fn(|place| u8::try_from(place).unwrap());
        assert_eq!(secret().seal_with(nonce, CONTEXT, "whsec-1").0, golden);
        let sealed = Sealed(golden.to_owned());
        assert_eq!(secret().unseal(CONTEXT, &sealed).as_deref(), Ok("whsec-1"));
    }

    #[test]
    fn what_is_sealed_opens_again_and_no_two_are_alike() {
        for plain in ["", "x", "päßwörd with spaces", &"k".repeat(10_000)] {
            let one = secret().seal(CONTEXT, plain).unwrap();
            let other = secret().seal(CONTEXT, plain).unwrap();
            assert_ne!(one, other);
            assert_eq!(secret().unseal(CONTEXT, &one).as_deref(), Ok(plain));
            assert_eq!(secret().unseal(CONTEXT, &other).as_deref(), Ok(plain));
        }
    }

    #[test]
    fn a_changed_bit_another_context_or_another_secret_opens_nothing() {
        let sealed = secret().seal(CONTEXT, "whsec-1").unwrap();
        for context in ["", "user/webhook/8", "user/webhook/70", "user/webhook"] {
            assert_eq!(secret().unseal(context, &sealed), Err(UnsealError::Refused), "{context}");
        }
        let other = Secret::generate().unwrap();
        assert_eq!(other.unseal(CONTEXT, &sealed), Err(UnsealError::Refused));
        let bytes = URL_SAFE_NO_PAD.decode(&sealed.0[PREFIX.len()..]).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = Sealed(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)));
            assert_eq!(secret().unseal(CONTEXT, &changed), Err(UnsealError::Refused), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_sealed_text_is_told_apart_from_what_does_not_open() {
        let sealed = secret().seal(CONTEXT, "whsec-1").unwrap().0;
        let other_form = sealed.replace(PREFIX, "sealed2:");
        for text in ["", "whsec-1", PREFIX, "sealed1:AAAA", "sealed1:=", &other_form] {
            let opened = secret().unseal(CONTEXT, &Sealed(text.to_owned()));
            assert_eq!(opened, Err(UnsealError::UnknownForm), "{text}");
        }
        let bytes = URL_SAFE_NO_PAD.decode(&sealed[PREFIX.len()..]).unwrap();
        let cut = Sealed(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() - 3])));
        assert_eq!(secret().unseal(CONTEXT, &cut), Err(UnsealError::Refused));
        let error = secret().unseal("elsewhere", &Sealed(sealed)).unwrap_err();
        assert!(!error.to_string().contains("whsec"), "{error}");
    }
}
