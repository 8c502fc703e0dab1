//! The value of every reading, as a function of what it is a reading of.
//!
//! Stands at both ends: the template writes it into a packet, the audit
//! compares it with what was stored. All texts have one width per kind, so that
//! a pre-built packet is patched in place.

/// A value of a fixed kind per key: numbers mostly, so that all of the
/// server's columns are in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// From 100.00 to 999.99, in hundredths.
    Hundredths(u32),
    /// From 100,000 to 999,999.
    Integer(u32),
    Boolean(bool),
    /// `s` and six digits.
    Text(u32),
}

/// What a value says, as the server stored it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored<'a> {
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Text(&'a str),
    Json(&'a str),
}

/// The widest text of a [`Sample`], in bytes.
pub const MAX_WIDTH_BYTES: usize = 9;

/// The value of reading `number` of a key. `series` tells devices and lanes
/// apart, so that readings that were mixed up don't match.
#[must_use]
pub fn sample(series: u64, key: u32, number: u64) -> Sample {
    let hash = mix(series ^ (u64::from(key) << 56) ^ number);
    let below = |limit: u32| {
        u32::try_from(((hash & 0xffff_ffff) * u64::from(limit)) >> 32)
            .expect("a product of two 32-bit numbers, shifted by 32")
    };
    match key % 5 {
        0 | 2 => Sample::Hundredths(10_000 + below(90_000)),
        1 => Sample::Integer(100_000 + below(900_000)),
        3 => Sample::Boolean(hash & 1 == 1),
        _ => Sample::Text(100_000 + below(900_000)),
    }
}

/// Whether a key's values are numbers or integers.
#[must_use]
pub fn is_numeric(key: u32) -> bool {
    key % 5 <= 2
}

/// What tells the series of one device and lane from all others.
#[must_use]
pub fn series(connection: u32, device: u32, buffered: bool) -> u64 {
    mix((u64::from(connection) << 33) | (u64::from(device) << 1) | u64::from(buffered))
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, 2014).
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Sample {
    /// Bytes of its JSON text.
    #[must_use]
    pub fn width(key: u32) -> usize {
        match key % 5 {
            0..=2 => 6,
            3 => 5,
            _ => MAX_WIDTH_BYTES,
        }
    }

    /// Writes its JSON text over `place`, which has [`Sample::width`] bytes.
    pub fn write(self, place: &mut [u8]) {
        match self {
            Self::Hundredths(value) => {
                digits(&mut place[..3], u64::from(value / 100));
                place[3] = b'.';
                digits(&mut place[4..6], u64::from(value % 100));
            }
            Self::Integer(value) => digits(&mut place[..6], u64::from(value)),
            Self::Boolean(true) => place.copy_from_slice(b"true "),
            Self::Boolean(false) => place.copy_from_slice(b"false"),
            Self::Text(value) => {
                place[..2].copy_from_slice(b"\"s");
                digits(&mut place[2..8], u64::from(value));
                place[8] = b'"';
            }
        }
    }

    /// Whether the server stored this very value with its type.
    #[must_use]
    pub fn is(self, stored: Stored<'_>) -> bool {
        match (self, stored) {
            // The text "123.45" and the quotient both round to the nearest double.
            (Self::Hundredths(value), Stored::Number(number)) => {
                number.to_bits() == (f64::from(value) / 100.0).to_bits()
            }
            (Self::Integer(value), Stored::Integer(integer)) => integer == i64::from(value),
            (Self::Boolean(value), Stored::Boolean(boolean)) => boolean == value,
            (Self::Text(value), Stored::Text(text)) => {
                text.strip_prefix('s').and_then(|digits| digits.parse().ok()) == Some(value)
            }
            _ => false,
        }
    }
}

/// Writes `number` over all of `place` in decimal, with leading zeros.
pub fn digits(place: &mut [u8], mut number: u64) {
    for byte in place.iter_mut().rev() {
        *byte = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fill_their_width_and_read_back_as_the_value() {
        let mut kinds = [0; 5];
        for number in 0..2_000 {
            for key in 0..5 {
                let sample = sample(series(3, 1, false), key, number);
                let mut text = vec![b'#'; Sample::width(key)];
                sample.write(&mut text);
                let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
                let owned;
                let stored = if let Some(integer) = json.as_i64() {
                    Stored::Integer(integer)
                } else if let Some(number) = json.as_f64() {
                    Stored::Number(number)
                } else if let Some(boolean) = json.as_bool() {
                    Stored::Boolean(boolean)
                } else {
                    owned = json.as_str().unwrap().to_owned();
                    Stored::Text(&owned)
                };
                assert!(sample.is(stored), "{sample:?} is not {stored:?}");
                kinds[key as usize] += 1;
            }
        }
        assert_eq!(kinds, [2_000; 5]);
    }

    #[test]
    fn another_series_key_number_or_type_does_not_match() {
        assert!(!Sample::Integer(123_456).is(Stored::Integer(123_457)));
        assert!(!Sample::Integer(123_456).is(Stored::Number(123_456.0)));
        assert!(!Sample::Hundredths(12_345).is(Stored::Number(123.46)));
        assert!(!Sample::Text(123_456).is(Stored::Text("s123457")));
        assert!(!Sample::Boolean(true).is(Stored::Boolean(false)));
        assert_ne!(series(0, 0, false), series(0, 0, true));
        assert_ne!(series(0, 1, false), series(1, 0, false));
        let same = (0..1_000)
            .filter(|&number| {
                sample(series(1, 0, false), 0, number) == sample(series(2, 0, false), 0, number)
            })
            .count();
        assert!(same < 5, "{same} of 1000 equal between devices");
    }
}
