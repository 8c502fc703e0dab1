//! Why a message is rejected: a reason to count by, and words for a person.

use std::fmt;

/// The reason that a message or a part of one is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No JSON, or not of the form that the topic asks for.
    Malformed,
    /// The payload is larger than allowed.
    TooLarge,
    /// A nested value is deeper than allowed.
    TooDeep,
    TooManyKeys,
    KeyTooLong,
    /// A text or nested value is longer than allowed.
    ValueTooLong,
    /// NaN, an infinity, or a number too large for a float.
    NotFinite,
    /// A time too far ahead.
    Future,
    /// A time before the tenant's retention.
    TooOld,
    /// The tenant uses all the distinct keys that it may.
    KeyQuota,
    /// The tenant has all the devices that it may.
    DeviceQuota,
    /// A device may not be used by this router, or its name not at all.
    DeviceRefused,
    /// A key that only the platform itself writes.
    ReservedKey,
}

impl Reason {
    /// Every reason, so that each has its counter from the start.
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::TooLarge,
        Self::TooDeep,
        Self::TooManyKeys,
        Self::KeyTooLong,
        Self::ValueTooLong,
        Self::NotFinite,
        Self::Future,
        Self::TooOld,
        Self::KeyQuota,
        Self::DeviceQuota,
        Self::DeviceRefused,
        Self::ReservedKey,
    ];

    /// The stable name in metrics and in what operators see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::TooManyKeys => "too_many_keys",
            Self::KeyTooLong => "key_too_long",
            Self::ValueTooLong => "value_too_long",
            Self::NotFinite => "not_finite",
            Self::Future => "future",
            Self::TooOld => "too_old",
            Self::KeyQuota => "key_quota",
            Self::DeviceQuota => "device_quota",
            Self::DeviceRefused => "device_refused",
            Self::ReservedKey => "reserved_key",
        }
    }

    /// Whether it costs only the object whose time it is about.
    pub(super) fn is_time(self) -> bool {
        matches!(self, Self::Future | Self::TooOld)
    }

    /// Whether the message was in order but over a quota, which MQTT 5 answers
    /// with 0x97 instead of 0x99.
    #[must_use]
    pub fn is_quota(self) -> bool {
        matches!(self, Self::KeyQuota | Self::DeviceQuota)
    }
}

/// A rejected message or part: the reason, and which field and value it was
/// and what is allowed, for the operator to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Rejection {
    pub reason: Reason,
    pub detail: String,
    /// Of a time out of bounds: how far it is ahead of the server's clock.
    pub clock_offset_ms: Option<i64>,
}

impl Rejection {
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), clock_offset_ms: None }
    }

    /// The same, of a time that is so far ahead of the server's clock.
    pub(super) fn of_clock(reason: Reason, detail: String, offset_ms: i64) -> Self {
        Self { reason, detail, clock_offset_ms: Some(offset_ms) }
    }
}

/// Objects of a message that were left out of it because of their times, while
/// the others were taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub objects: u32,
    /// Of the first of them; the reason is that of all.
    pub rejection: Rejection,
}

/// Adds an object to those that are left out, an entry for each reason.
pub(super) fn leave_out(left_out: &mut Vec<LeftOut>, rejection: Rejection) {
    match left_out.iter_mut().find(|known| known.rejection.reason == rejection.reason) {
        Some(known) => known.objects += 1,
        None => left_out.push(LeftOut { objects: 1, rejection }),
    }
}

/// The longest piece of a payload that is shown, in characters.
const SHOWN_CHARS: usize = 64;

/// A value from outside, safe to show: quoted, shortened, without control characters.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        let end = self.0.char_indices().nth(SHOWN_CHARS).map(|(end, _)| end);
        for char in self.0[..end.unwrap_or(self.0.len())].chars() {
            match char.is_control() {
                true => write!(f, "{}", char.escape_default())?,
                false => write!(f, "{char}")?,
            }
        }
        match end {
            Some(_) => write!(f, "…` ({} bytes)", self.0.len()),
            None => f.write_str("`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_shortened_and_control_characters_are_escaped() {
        assert_eq!(Shown("a\u{1b}[2J").to_string(), "`a\\u{1b}[2J`");
        let shown = Shown(&"ü".repeat(100)).to_string();
        assert_eq!(shown, format!("`{}…` (200 bytes)", "ü".repeat(64)));
    }

    #[test]
    fn names_differ() {
        let names: std::collections::HashSet<_> =
            Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
