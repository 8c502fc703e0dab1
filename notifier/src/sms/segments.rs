//! How many SMS a text takes, and how it is made to fit.
//!
//! A text of GSM 03.38's alphabet (3GPP TS 23.038, 6.2.1) goes in septets: 160 in
//! one SMS, and 153 in each where there are more, because a header then says which
//! of how many it is. A single character beyond that alphabet makes the whole text
//! UCS-2: 70 units, or 67. What takes two units is never split over two SMS.

use std::borrow::Cow;

/// How a text travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The default alphabet of GSM 03.38 with its extension, in septets.
    Gsm,
    /// UTF-16 code units.
    Ucs2,
}

impl Encoding {
    /// The most units of a text that goes as one SMS.
    #[must_use]
    pub fn single_units(self) -> usize {
        match self {
            Self::Gsm => 160,
            Self::Ucs2 => 70,
        }
    }

    /// The most units in each SMS of a text that takes more than one.
    #[must_use]
    pub fn part_units(self) -> usize {
        match self {
            Self::Gsm => 153,
            Self::Ucs2 => 67,
        }
    }

    /// What stands for what was cut off. The one-character ellipsis isn't in the
    /// GSM alphabet and would more than double what a text takes.
    fn ellipsis(self) -> &'static str {
        match self {
            Self::Gsm => "...",
            Self::Ucs2 => "…",
        }
    }

    fn units_of(self, c: char) -> usize {
        match self {
            Self::Gsm => gsm_septets(c).unwrap_or(1),
            Self::Ucs2 => c.len_utf16(),
        }
    }
}

/// What a text takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    pub encoding: Encoding,
    /// Septets or UTF-16 code units of the text itself.
    pub units: usize,
    /// How many SMS; each is paid for. An empty text is sent as one.
    pub count: usize,
}

/// The default alphabet without its escape, in the order of the table. `Ç` is what
/// it has; `ç`, `ë`, `ï` and `ê` it has not.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
                     ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// Its extension: an escape and a second septet for each.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// How many septets a character takes; none if the alphabet hasn't got it.
fn gsm_septets(c: char) -> Option<usize> {
    if c.is_ascii_alphanumeric() || BASIC.contains(c) {
        return Some(1);
    }
    EXTENSION.contains(c).then_some(2)
}

fn encoding_of(text: &str) -> Encoding {
    let gsm = text.chars().all(|c| gsm_septets(c).is_some());
    if gsm { Encoding::Gsm } else { Encoding::Ucs2 }
}

/// A text laid into SMS, character by character.
#[derive(Clone, Copy)]
struct Packing {
    encoding: Encoding,
    /// Units of one SMS.
    room: usize,
    count: usize,
    /// Units of the last.
    used: usize,
}

impl Packing {
    fn new(encoding: Encoding, room: usize) -> Self {
        Self { encoding, room, count: 1, used: 0 }
    }

    fn push(&mut self, c: char) {
        let units = self.encoding.units_of(c);
        if self.used + units > self.room {
            self.count += 1;
            self.used = 0;
        }
        self.used += units;
    }

    fn pushed(mut self, text: &str) -> Self {
        text.chars().for_each(|c| self.push(c));
        self
    }
}

/// What the text takes.
#[must_use]
pub fn segments(text: &str) -> Segments {
    let encoding = encoding_of(text);
    let units = text.chars().map(|c| encoding.units_of(c)).sum();
    let count = if units <= encoding.single_units() {
        1
    } else {
        Packing::new(encoding, encoding.part_units()).pushed(text).count
    };
    Segments { encoding, units, count }
}

/// The text, or as much of it as fits into `max_segments` (at least one) with an
/// ellipsis at its end. It is cut between characters.
#[must_use]
pub fn shorten(text: &str, max_segments: usize) -> Cow<'_, str> {
    let max = max_segments.max(1);
    if segments(text).count <= max {
        return Cow::Borrowed(text);
    }
    // The part up to the first character that makes it UCS-2 can go as GSM, in
    // which more fits. Only a cut behind that character has to go as UCS-2.
    let gsm_end = text.char_indices().find(|(_, c)| gsm_septets(*c).is_none());
    let gsm_end = gsm_end.map_or(text.len(), |(at, _)| at);
    let as_ucs2 = fitting(text, Encoding::Ucs2, max);
    let (end, encoding) = if as_ucs2 > gsm_end {
        (as_ucs2, Encoding::Ucs2)
    } else {
        (fitting(&text[..gsm_end], Encoding::Gsm, max), Encoding::Gsm)
    };
    Cow::Owned(format!("{}{}", text[..end].trim_end(), encoding.ellipsis()))
}

/// Where the longest beginning ends that fits together with its ellipsis.
fn fitting(text: &str, encoding: Encoding, max: usize) -> usize {
    let room = if max == 1 { encoding.single_units() } else { encoding.part_units() };
    let mut packing = Packing::new(encoding, room);
    let mut end = 0;
    for (at, c) in text.char_indices() {
        packing.push(c);
        if packing.pushed(encoding.ellipsis()).count > max {
            break;
        }
        end = at + c.len_utf8();
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, encoding: Encoding, units: usize, count: usize) {
        assert_eq!(segments(text), Segments { encoding, units, count }, "{text:?}");
    }

    #[test]
    fn the_alphabet_is_that_of_gsm_03_38() {
        // 128 places, of which one is the escape.
        assert_eq!(BASIC.chars().count(), 127);
        assert_eq!(EXTENSION.chars().count(), 10);
        for one in ["@", "£", "é", "è", "à", "ù", "ì", "ò", "Ç", "ß", "Ω", "Δ", "¤", "_", "\n", "§"]
        {
            check(one, Encoding::Gsm, 1, 1);
        }
        for two in ["€", "[", "]", "{", "}", "~", "^", "|", "\\", "\u{c}"] {
            check(two, Encoding::Gsm, 2, 1);
        }
        for beyond in ["ë", "ï", "ê", "ç", "á", "ó", "`", "“", "…", "–", "\t", "µ", "°", "α", "中"]
        {
            check(beyond, Encoding::Ucs2, 1, 1);
        }
        check("😀", Encoding::Ucs2, 2, 1);
        check("", Encoding::Gsm, 0, 1);
    }

    #[test]
    fn a_text_takes_as_many_as_the_table_says() {
        check(&"a".repeat(160), Encoding::Gsm, 160, 1);
        check(&"a".repeat(161), Encoding::Gsm, 161, 2);
        check(&"a".repeat(306), Encoding::Gsm, 306, 2);
        check(&"a".repeat(307), Encoding::Gsm, 307, 3);
        check(&"€".repeat(80), Encoding::Gsm, 160, 1);
        check(&"ë".repeat(70), Encoding::Ucs2, 70, 1);
        check(&"ë".repeat(71), Encoding::Ucs2, 71, 2);
        check(&"ë".repeat(134), Encoding::Ucs2, 134, 2);
        check(&"ë".repeat(135), Encoding::Ucs2, 135, 3);
        check(&"😀".repeat(35), Encoding::Ucs2, 70, 1);
    }

    #[test]
    fn a_pair_is_never_split_over_two() {
        // 153 is odd: each SMS of a text of pairs leaves one septet empty.
        check(&"€".repeat(153), Encoding::Gsm, 306, 3);
        check(&"€".repeat(152), Encoding::Gsm, 304, 2);
        // 67 is odd too.
        check(&"😀".repeat(66), Encoding::Ucs2, 132, 2);
        check(&"😀".repeat(67), Encoding::Ucs2, 134, 3);
        // The pair at the border goes over as a whole: 152, then 2 + 151, then 1.
        let border = format!("{}€{}", "a".repeat(152), "a".repeat(152));
        check(&border, Encoding::Gsm, 306, 3);
    }

    #[test]
    fn a_text_is_cut_with_an_ellipsis_of_its_encoding() {
        assert_eq!(shorten("short", 1), "short");
        let gsm = shorten(&"a".repeat(200), 1).into_owned();
        assert_eq!(gsm, format!("{}...", "a".repeat(157)));
        let ucs2 = shorten(&"ë".repeat(100), 1).into_owned();
        assert_eq!(ucs2, format!("{}…", "ë".repeat(69)));
        let two = shorten(&"a".repeat(400), 2).into_owned();
        assert_eq!(two, format!("{}...", "a".repeat(303)));
        // An emoji that would fit by half is left out.
        let emoji = shorten(&format!("{}{}", "ë".repeat(68), "😀".repeat(5)), 1).into_owned();
        assert_eq!(emoji, format!("{}…", "ë".repeat(68)));
        // No space is left before the ellipsis, and none at all is one.
        let spaced = format!("{} {}", "a".repeat(156), "b".repeat(20));
        assert_eq!(shorten(&spaced, 0), format!("{}...", "a".repeat(156)));
    }

    #[test]
    fn what_is_cut_before_its_first_foreign_character_goes_as_gsm() {
        let text = format!("{}ë{}", "a".repeat(120), "b".repeat(100));
        assert_eq!(shorten(&text, 1), format!("{}...", "a".repeat(120)));
        // With room for the foreign character it stays.
        let text = format!("{}ë{}", "a".repeat(30), "b".repeat(100));
        assert_eq!(shorten(&text, 1), format!("{}ë{}…", "a".repeat(30), "b".repeat(38)));
    }

    proptest! {
        #[test]
        fn what_is_shortened_fits_and_begins_as_the_text_did(
            text in "[a-z €\\[ë😀]{0,400}",
            max in 1_usize..4,
        ) {
            let short = shorten(&text, max);
            prop_assert!(segments(&short).count <= max);
            let kept = short.trim_end_matches("...").trim_end_matches('…');
            prop_assert!(short == text || text.starts_with(kept));
        }
    }
}
