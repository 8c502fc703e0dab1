//! From whom an SMS comes, as the telephone shows it.

use schema::is_phone;

use super::SmsOptionsError;

/// The longest name that a network carries (3GPP TS 23.040, 9.1.2.5).
const MAX_NAME_CHARS: usize = 11;

/// A name, a number or a short code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender(String);

impl Sender {
    /// The sender of a setting, which an error names.
    ///
    /// # Errors
    /// Where no network would carry it.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, SmsOptionsError> {
        let alphanumeric = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let possible = if digits {
            (3..=8).contains(&text.len())
        } else {
            is_phone(text) || (alphanumeric && text.len() <= MAX_NAME_CHARS)
        };
        if possible {
            return Ok(Self(text.to_owned()));
        }
        Err(SmsOptionsError::Sender { field, text: text.to_owned() })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_a_name_a_number_or_a_short_code() {
        for good in ["Baken", "Gemaal12345", "+31612345678", "12345", "112", "12345678", "4You"] {
            assert_eq!(Sender::parse("sender", good).unwrap().as_str(), good);
        }
        let bad =
            ["", "Waterschapje", "Gemaal 1", "Pompé", "0612345678", "31612345678", "+316", "12"];
        for text in bad {
            let error = Sender::parse("sms.sender", text).unwrap_err().to_string();
            assert!(error.starts_with("sms.sender: "), "{error}");
        }
    }
}
