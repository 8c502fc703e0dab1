//! Links in messages that do something by themselves: acknowledge an alarm, end a
//! subscription. They reach people who are not logged in, so a link is itself the
//! proof: signed, for a limited time, and usable once.
//!
//! A token is base64url (RFC 4648, 5, without padding) of
//!
//! ```text
//! version u8 · kind u8 · body · expires i64 · recipient · signature [u8; 16]
//! body       acknowledge: alarm u128 · notice u128
//!            unsubscribe: of u8 (0 subscription, 1 offline profile) · document u64
//! recipient  0 u8 · user u64, or 1 u8 · address in UTF-8 to the end
//! ```
//!
//! with numbers in big-endian order and as signature the first 16 bytes of
//! HMAC-SHA-256 of a label and all that stands before it. The format is stable:
//! links that are in mailboxes go on working.
//!
//! Nothing here reads a clock or keeps what was used: that is the store's, by
//! [`Link::id`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use schema::{AlarmId, NoticeId, Recipient, TimestampMs, UserId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The longest token that is looked at. An acknowledge link to the longest
/// address has about 430 characters.
pub const MAX_TOKEN_BYTES: usize = 1_024;

const VERSION: u8 = 1;
const SIGNATURE_BYTES: usize = 16;
/// Keeps the signature apart from any other that is made with the same key.
const LABEL: &[u8] = b"baken link";

const ACKNOWLEDGE: u8 = 1;
const UNSUBSCRIBE: u8 = 2;
const OF_SUBSCRIPTION: u8 = 0;
const OF_OFFLINE_PROFILE: u8 = 1;
const TO_USER: u8 = 0;
const TO_ADDRESS: u8 = 1;

/// Signs the links of an installation. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct LinkKey([u8; 32]);

impl LinkKey {
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn sign(&self, signed: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(LABEL);
        mac.update(signed);
        let whole = mac.finalize().into_bytes();
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(&whole[..SIGNATURE_BYTES]);
        signature
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(hidden)")
    }
}

/// The document that asks for somebody to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Subscription(u64),
    OfflineProfile(u64),
}

/// What a link does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkAction {
    Acknowledge {
        alarm: AlarmId,
        /// By which the link was sent.
        notice: NoticeId,
    },
    Unsubscribe(Ask),
}

/// A link that is genuine and still good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub action: LinkAction,
    /// To whom it was sent, and so who acts.
    pub recipient: Recipient,
    /// The first moment at which it is no longer good.
    pub expires: TimestampMs,
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("this is no link of Baken's; perhaps a part of it is missing")]
    Malformed,
    #[error("this link was not made by this Baken")]
    Forged,
    #[error("this link is no longer good")]
    Expired,
}

/// A token by which the recipient acknowledges the alarm.
#[must_use]
pub fn acknowledge(
    key: &LinkKey,
    alarm: AlarmId,
    recipient: &Recipient,
    notice: NoticeId,
    expires: TimestampMs,
) -> String {
    let action = LinkAction::Acknowledge { alarm, notice };
    token(key, &Link { action, recipient: recipient.clone(), expires })
}

/// A token by which the recipient is no longer told by the document.
#[must_use]
pub fn unsubscribe(key: &LinkKey, recipient: &Recipient, ask: Ask, expires: TimestampMs) -> String {
    let action = LinkAction::Unsubscribe(ask);
    token(key, &Link { action, recipient: recipient.clone(), expires })
}

/// Where a token is opened, below the address at which people reach Baken.
#[must_use]
pub fn url(public_url: &str, token: &str) -> String {
    format!("{}/links/{token}", public_url.trim_end_matches('/'))
}

/// What the token says, if it is genuine and not past its time. Whether it was used
/// already is the store's to know.
pub fn open(key: &LinkKey, token: &str, now: TimestampMs) -> Result<Link, LinkError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(LinkError::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| LinkError::Malformed)?;
    let (signed, signature) =
        bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(LinkError::Malformed)?;
    // A later version may sign in another way.
    if signed.first() != Some(&VERSION) {
        return Err(LinkError::Malformed);
    }
    if !bool::from(key.sign(signed).ct_eq(signature)) {
        return Err(LinkError::Forged);
    }
    let link = Link::read(signed).ok_or(LinkError::Malformed)?;
    if now >= link.expires { Err(LinkError::Expired) } else { Ok(link) }
}

fn token(key: &LinkKey, link: &Link) -> String {
    let mut bytes = link.written();
    let signature = key.sign(&bytes);
    bytes.extend_from_slice(&signature);
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Link {
    /// Under which the store keeps that it was used. It follows from what the link
    /// says, and so is the same for ever.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        let whole = Sha256::new().chain_update(LABEL).chain_update(self.written()).finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&whole[..16]);
        id
    }

    fn written(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        match self.action {
            LinkAction::Acknowledge { alarm, notice } => {
                bytes.push(ACKNOWLEDGE);
                bytes.extend_from_slice(&alarm.0.to_be_bytes());
                bytes.extend_from_slice(&notice.0.to_be_bytes());
            }
            LinkAction::Unsubscribe(ask) => {
                let (of, document) = match ask {
                    Ask::Subscription(id) => (OF_SUBSCRIPTION, id),
                    Ask::OfflineProfile(id) => (OF_OFFLINE_PROFILE, id),
                };
                bytes.extend_from_slice(&[UNSUBSCRIBE, of]);
                bytes.extend_from_slice(&document.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&self.expires.0.to_be_bytes());
        match &self.recipient {
            Recipient::User(user) => {
                bytes.push(TO_USER);
                bytes.extend_from_slice(&user.0.to_be_bytes());
            }
            Recipient::Address(address) => {
                bytes.push(TO_ADDRESS);
                bytes.extend_from_slice(address.as_bytes());
            }
        }
        bytes
    }

    /// None where it is no link of this version.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let [_version, kind] = rest.take()?;
        let action = match kind {
            ACKNOWLEDGE => LinkAction::Acknowledge {
                alarm: AlarmId(u128::from_be_bytes(rest.take()?)),
                notice: NoticeId(u128::from_be_bytes(rest.take()?)),
            },
            UNSUBSCRIBE => {
                let [of] = rest.take()?;
                let document = u64::from_be_bytes(rest.take()?);
                LinkAction::Unsubscribe(match of {
                    OF_SUBSCRIPTION => Ask::Subscription(document),
                    OF_OFFLINE_PROFILE => Ask::OfflineProfile(document),
                    _ => return None,
                })
            }
            _ => return None,
        };
        let expires = TimestampMs(i64::from_be_bytes(rest.take()?));
        let [to] = rest.take()?;
        let recipient = match to {
            TO_USER => {
                let user = UserId(u64::from_be_bytes(rest.take()?));
                if !rest.0.is_empty() {
                    return None;
                }
                Recipient::User(user)
            }
            TO_ADDRESS => Recipient::Address(std::str::from_utf8(rest.0).ok()?.to_owned()),
            _ => return None,
        };
        Some(Self { action, recipient, expires })
    }
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: TimestampMs = TimestampMs(1_768_356_845_000);
    const LATER: TimestampMs = TimestampMs(NOW.0 + 86_400_000);

    fn key() -> LinkKey {
        LinkKey::new([7; 32])
    }

    fn any_link() -> impl Strategy<Value = Link> {
        let ask = prop_oneof![
            any::<u64>().prop_map(Ask::Subscription),
            any::<u64>().prop_map(Ask::OfflineProfile),
        ];
        let action = prop_oneof![
            (any::<u128>(), any::<u128>()).prop_map(|(alarm, notice)| LinkAction::Acknowledge {
                alarm: AlarmId(alarm),
                notice: NoticeId(notice),
            }),
            ask.prop_map(LinkAction::Unsubscribe),
        ];
        let recipient = prop_oneof![
            any::<u64>().prop_map(|id| Recipient::User(UserId(id))),
            "[a-zé@.+]{0,254}".prop_map(Recipient::Address),
        ];
        (action, recipient, NOW.0 + 1..i64::MAX).prop_map(|(action, recipient, expires)| Link {
            action,
            recipient,
            expires: TimestampMs(expires),
        })
    }

    proptest! {
        #[test]
        fn a_token_says_what_was_signed_and_no_bit_of_it_can_change(
            link in any_link(),
            bit in any::<prop::sample::Index>(),
        ) {
            let token = token(&key(), &link);
            prop_assert!(token.len() <= MAX_TOKEN_BYTES);
            prop_assert_eq!(open(&key(), &token, NOW), Ok(link.clone()));
            // Of the text …
            let mut text = token.clone().into_bytes();
            let at = bit.index(text.len() * 8);
            text[at / 8] ^= 1 << (at % 8);
            let text = String::from_utf8_lossy(&text).into_owned();
            prop_assert!(open(&key(), &text, NOW).is_err(), "{}", text);
            // … and of the bytes that it stands for.
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let at = bit.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            let refused = open(&key(), &URL_SAFE_NO_PAD.encode(&bytes), NOW);
            let expected = if at < 8 { LinkError::Malformed } else { LinkError::Forged };
            prop_assert_eq!(refused, Err(expected));
        }

        #[test]
        fn what_is_no_token_is_refused(text in "\\PC{0,300}") {
            prop_assert!(open(&key(), &text, NOW).is_err());
        }
    }

    /// The format is stable: links lie in mailboxes.
    #[test]
    fn tokens_of_a_fixed_key_stay_as_they_are() {
        let user = Recipient::User(UserId(17));
        let acknowledge = acknowledge(&key(), AlarmId(0xa1), &user, NoticeId(0xb2), LATER);
        assert_eq!(
            acknowledge,
            "AQEAAAAAAAAAAAAAAAAAAAChAAAAAAAAAAAAAAAAAAAAsgAAAZu_bnHIAAAAAAAAAAAR_F-YK569yEGl03_jwKWD8A"
        );
        let link = open(&key(), &acknowledge, NOW).unwrap();
        assert_eq!(hex::encode(link.id()), "1ebe689a338ef8120e4b69e6449826c2");
        let address = Recipient::Address("jan@example.com".to_owned());
        let unsubscribe = unsubscribe(&key(), &address, Ask::OfflineProfile(5), LATER);
        assert_eq!(
            unsubscribe,
            "AQIBAAAAAAAAAAUAAAGbv25xyAFqYW5AZXhhbXBsZS5jb22nvr6ECUMTN3Av9UiBuL5p"
        );
        assert_eq!(
            url("https://baken.example/", &unsubscribe),
            format!("https://baken.example/links/{unsubscribe}")
        );
    }

    #[test]
    fn a_link_is_good_until_its_time_and_with_its_key_only() {
        let user = Recipient::User(UserId(17));
        let token = acknowledge(&key(), AlarmId(1), &user, NoticeId(2), LATER);
        assert!(open(&key(), &token, TimestampMs(LATER.0 - 1)).is_ok());
        assert_eq!(open(&key(), &token, LATER), Err(LinkError::Expired));
        let other = LinkKey::new([8; 32]);
        assert_eq!(open(&other, &token, NOW), Err(LinkError::Forged));
        // A forged one says nothing of its time.
        assert_eq!(open(&other, &token, LATER), Err(LinkError::Forged));
        assert_eq!(open(&key(), &token[..token.len() - 10], NOW), Err(LinkError::Forged));
        assert_eq!(open(&key(), "", NOW), Err(LinkError::Malformed));
        assert_eq!(open(&key(), &"A".repeat(2_000), NOW), Err(LinkError::Malformed));
        assert_eq!(format!("{:?}", key()), "LinkKey(hidden)");
    }

    #[test]
    fn ids_differ_where_anything_differs() {
        let user = Recipient::User(UserId(17));
        let link = |alarm, expires| {
            let token = acknowledge(&key(), AlarmId(alarm), &user, NoticeId(2), expires);
            open(&key(), &token, NOW).unwrap().id()
        };
        assert_eq!(link(1, LATER), link(1, LATER));
        assert_ne!(link(1, LATER), link(2, LATER));
        assert_ne!(link(1, LATER), link(1, TimestampMs(LATER.0 + 1)));
    }
}
