//! A length of time as a person writes it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in milliseconds; in text `1h30m`, `90s` or `250ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationMs(pub i64);

/// The units of the text form with their length in milliseconds, longest first.
const UNITS: [(&str, i64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The longest duration, so that no sum with a time of our era overflows.
const MAX_MS: i64 = 100 * 365 * 86_400_000;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no duration: write whole numbers with d, h, m, s or ms, such as `1h30m`")]
pub struct ParseDurationError {
    text: String,
}

impl FromStr for DurationMs {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseDurationError { text: text.to_owned() };
        let mut rest = text.trim();
        let mut total: i64 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]);
            let (_, unit_ms) = unit.ok_or_else(wrong)?;
            rest = rest[letters..].trim_start();
            total = number
                .checked_mul(*unit_ms)
                .and_then(|part| part.checked_add(total))
                .filter(|&sum| sum <= MAX_MS)
                .ok_or_else(wrong)?;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, unit_ms) in UNITS {
            if rest >= unit_ms {
                write!(f, "{}{name}", rest / unit_ms)?;
                rest %= unit_ms;
            }
        }
        Ok(())
    }
}

impl Serialize for DurationMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DurationMs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_milliseconds_agree() {
        for (text, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1m 5s", 65_000),
        ] {
            let duration: DurationMs = text.parse().unwrap();
            assert_eq!(duration, DurationMs(ms), "{text}");
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }

    #[test]
    fn what_is_no_duration_is_named() {
        for text in ["", "5", "m", "5x", "-5s", "1.5h", "99999999999d", "é5s"] {
            let error = text.parse::<DurationMs>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is no duration")));
        }
    }
}
