//! How bad an alarm is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The severity of an alarm; a later one in this list is worse, so `>` reads
/// as "worse than". The numbers and names are part of stored formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Severity {
    Indeterminate = 0,
    Warning = 1,
    Minor = 2,
    Major = 3,
    Critical = 4,
}

/// A text that names no severity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no severity; known are critical, major, minor, warning, indeterminate and high, middle, low"
)]
pub struct ParseSeverityError {
    text: String,
}

impl Severity {
    /// All severities, the worst first.
    pub const WORST_FIRST: [Self; 5] =
        [Self::Critical, Self::Major, Self::Minor, Self::Warning, Self::Indeterminate];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Major => "major",
            Self::Minor => "minor",
            Self::Warning => "warning",
            Self::Indeterminate => "indeterminate",
        }
    }

    /// The severity of a stored number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::WORST_FIRST.into_iter().find(|severity| *severity as u8 == number)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = ParseSeverityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "critical" | "high" => Ok(Self::Critical),
            "major" | "middle" => Ok(Self::Major),
            "minor" => Ok(Self::Minor),
            "warning" | "low" => Ok(Self::Warning),
            "indeterminate" => Ok(Self::Indeterminate),
            _ => Err(ParseSeverityError { text: text.to_owned() }),
        }
    }
}

impl Serialize for Severity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Severity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_is_greater_and_the_three_level_names_map() {
        assert!(Severity::Critical > Severity::Major && Severity::Major > Severity::Minor);
        assert!(Severity::Minor > Severity::Warning && Severity::Warning > Severity::Indeterminate);
        for (name, severity) in
            [("high", Severity::Critical), ("middle", Severity::Major), ("low", Severity::Warning)]
        {
            assert_eq!(name.parse(), Ok(severity));
        }
        assert!("bad".parse::<Severity>().unwrap_err().to_string().contains("`bad`"));
        for severity in Severity::WORST_FIRST {
            assert_eq!(Severity::from_u8(severity as u8), Some(severity));
            assert_eq!(severity.as_str().parse(), Ok(severity));
        }
    }
}
