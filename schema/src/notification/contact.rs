//! Where somebody is reached, and what addresses and numbers look like.

use super::{Channel, User, Webhook};

/// Where somebody is reached by a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Contact {
    Email(String),
    Phone(String),
    Webhook(Webhook),
}

impl User {
    /// Where the user is reached by the channel, if they are.
    #[must_use]
    pub fn contact(&self, channel: Channel) -> Option<Contact> {
        match channel {
            Channel::Email => self.email.clone().map(Contact::Email),
            Channel::Sms => self.phone.clone().map(Contact::Phone),
            Channel::Webhook => self.webhook.clone().map(Contact::Webhook),
        }
    }
}

/// The longest e-mail address (RFC 5321, 4.5.3.1.3 without its brackets).
const MAX_EMAIL_BYTES: usize = 254;

/// Whether mail can be sent there: a local part of at most 64 of RFC 5322's atom
/// characters and dots, and a domain of letters, digits, hyphens and dots.
/// Quoted local parts and address literals are refused, for nobody has them.
#[must_use]
pub fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let dotted = |part: &str, max: usize, inner: &dyn Fn(u8) -> bool| {
        (1..=max).contains(&part.len())
            && part.split('.').all(|label| !label.is_empty() && label.bytes().all(inner))
    };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let label_ends = |label: &str| !label.starts_with('-') && !label.ends_with('-');
    text.len() <= MAX_EMAIL_BYTES
        && dotted(local, 64, &atom)
        && dotted(domain, 253, &letter)
        && domain.contains('.')
        && domain.split('.').all(|label| label.len() <= 63 && label_ends(label))
}

/// Whether it is a number in the form of E.164: a plus sign and 8 to 15 digits,
/// of which the first is not 0.
#[must_use]
pub fn is_phone(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (8..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_can_be_reached_are_told_from_others() {
        for good in ["a@b.nl", "jan.de-vries+plc@mail.example.com", "o'neil@x-y.org"] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(65));
        for bad in [
            "",
            "a",
            "a@",
            "@b.nl",
            "a@b",
            "a b@c.nl",
            "a@b..nl",
            ".a@b.nl",
            "a@-b.nl",
            "a@b.nl\n",
            "a@b.nl,c@d.nl",
            "<a@b.nl>",
            &long,
        ] {
            assert!(!is_email(bad), "{bad:?}");
        }
        for good in ["+31612345678", "+12025550123"] {
            assert!(is_phone(good), "{good}");
        }
        for bad in ["", "0612345678", "+0612345678", "+31 612345678", "+316", "+3161234567890123"] {
            assert!(!is_phone(bad), "{bad}");
        }
    }
}
