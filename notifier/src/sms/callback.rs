//! The addresses to which providers report, and how it is known that a report
//! comes from somebody to whom we gave the address.
//!
//! Not every provider signs what it reports. So the address itself bears a
//! signature of ours, without which nobody can report on a message. It names the
//! provider and the message; a provider that takes only one address for all
//! messages gets one that names the provider alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use schema::MessageId;
use sha2::Sha256;

use super::{CallbackRequest, value};

/// Of the 32 bytes of HMAC-SHA-256; 16 can't be guessed and keep addresses short.
const SIGNATURE_BYTES: usize = 16;

/// Keeps these signatures apart from others under the same key. It is stable:
/// addresses that providers have were signed with it.
const PURPOSE: &str = "baken sms callback 1";

/// Signs the addresses of callbacks. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct CallbackKey(Vec<u8>);

impl CallbackKey {
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(key.to_vec())
    }

    fn mac(&self, provider: &str, message: Option<MessageId>) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key");
        let message = message.map(|id| id.to_string()).unwrap_or_default();
        mac.update(format!("{PURPOSE}\n{provider}\n{message}").as_bytes());
        mac
    }
}

impl std::fmt::Debug for CallbackKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackKey(hidden)")
    }
}

/// Where a provider reports on a message, or on all where `message` is none:
/// `{public_url}/callbacks/sms/{provider}/{message}?signature=…`.
#[must_use]
pub fn callback_url(
    key: &CallbackKey,
    public_url: &str,
    provider: &str,
    message: Option<MessageId>,
) -> String {
    let mac = key.mac(provider, message).finalize().into_bytes();
    let signature = URL_SAFE_NO_PAD.encode(&mac[..SIGNATURE_BYTES]);
    let base = public_url.trim_end_matches('/');
    let message = message.map(|id| format!("/{id}")).unwrap_or_default();
    format!("{base}/callbacks/sms/{provider}{message}?signature={signature}")
}

/// Whether we have signed this address of the provider, compared in constant time.
#[must_use]
pub fn verify(
    key: &CallbackKey,
    provider: &str,
    message: Option<MessageId>,
    signature: &str,
) -> bool {
    let Ok(given) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    // Of a shorter one, `verify_truncated_left` would compare only what is there.
    given.len() == SIGNATURE_BYTES
        && key.mac(provider, message).verify_truncated_left(&given).is_ok()
}

/// Whether the request came to an address that we have signed.
pub(super) fn is_signed(key: &CallbackKey, provider: &str, request: &CallbackRequest) -> bool {
    let query = request.query();
    value(&query, "signature").is_some_and(|given| verify(key, provider, request.message, given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_signed_for_one_provider_and_one_message() {
        let key = CallbackKey::new(b"key");
        let id = Some(MessageId(0xAB));
        let url = callback_url(&key, "https://baken.example.nl/", "cm", id);
        let (base, signature) = url.split_once("?signature=").unwrap();
        let path = "https://baken.example.nl/callbacks/sms/cm/000000000000000000000000000000ab";
        assert_eq!((base, signature.len()), (path, 22));
        assert!(verify(&key, "cm", id, signature));
        assert!(!verify(&key, "twilio", id, signature));
        assert!(!verify(&key, "cm", Some(MessageId(0xAC)), signature));
        assert!(!verify(&key, "cm", None, signature));
        assert!(!verify(&CallbackKey::new(b"other"), "cm", id, signature));
        for wrong in ["", "A", &signature[..20], &format!("{signature}AA"), "*not base64*"] {
            assert!(!verify(&key, "cm", id, wrong), "{wrong}");
        }
        assert_eq!(format!("{key:?}"), "CallbackKey(hidden)");
    }

    #[test]
    fn an_address_of_all_messages_names_none() {
        let key = CallbackKey::new(b"key");
        let url = callback_url(&key, "https://b.nl/baken", "cm", None);
        let (base, signature) = url.split_once("?signature=").unwrap();
        assert_eq!(base, "https://b.nl/baken/callbacks/sms/cm");
        assert!(verify(&key, "cm", None, signature));
    }
}
