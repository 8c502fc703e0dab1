//! Text from routers and people, made fit for a message. Whatever a router calls
//! itself can neither break a line, nor turn the direction of reading, nor be
//! longer than a reader bears.

use super::limits::{MAX_SMS_CHARS, MAX_WIDE_SMS_CHARS};

/// One line without control characters, at most so long; what is cut is marked.
pub(super) fn line(text: &str, max_chars: usize) -> String {
    // Four times the limit is looked at, so that a name of megabytes costs little.
    let mut clean = String::with_capacity(text.len().min(4 * max_chars));
    let mut space = true;
    for letter in text.chars().take(4 * max_chars) {
        if letter.is_whitespace() || letter.is_control() {
            if !space {
                clean.push(' ');
            }
            space = true;
        } else if !is_deceptive(letter) {
            clean.push(letter);
            space = false;
        }
    }
    cut(clean.trim_end(), max_chars)
}

/// Characters that show nothing and change how others are shown.
fn is_deceptive(letter: char) -> bool {
    matches!(letter, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
        // Joins parts of one sign, as in many names and signs of the world.
        && letter != '\u{200D}'
}

/// At most so many characters, the last one an ellipsis where some are missing.
pub(super) fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    kept.trim_end().to_owned() + "…"
}

/// Lines without trailing spaces, at most one empty line between two others.
/// What a template's conditions leave behind is gone.
pub(super) fn paragraphs(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = true;
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() && empty {
            continue;
        }
        empty = line.is_empty();
        tidy.extend(line.chars().filter(|letter| !letter.is_control()));
        tidy.push('\n');
    }
    tidy.truncate(tidy.trim_end().len());
    tidy
}

/// The text of an SMS: no control characters but line breaks, at most three
/// segments, and in the GSM alphabet where a few letters spelt plainly make it so.
/// One letter outside of it (an `ë`, a curly quote) would make every segment hold
/// 70 characters in the place of 160.
pub(super) fn sms(text: &str) -> String {
    let text = paragraphs(text);
    let plain = spelt_plainly(&text);
    if plain.chars().all(is_gsm) {
        return fit(&plain, MAX_SMS_CHARS, septets, "...");
    }
    fit(&text, MAX_WIDE_SMS_CHARS, char::len_utf16, "…")
}

/// At most so many units, with the mark at the end where something is missing.
fn fit(text: &str, max: usize, units: fn(char) -> usize, mark: &str) -> String {
    let all: usize = text.chars().map(units).sum();
    if all <= max {
        return text.to_owned();
    }
    let mut left = max - mark.chars().map(units).sum::<usize>();
    let kept: String = text
        .chars()
        .take_while(|letter| {
            let fits = units(*letter) <= left;
            left = left.saturating_sub(units(*letter));
            fits
        })
        .collect();
    kept.trim_end().to_owned() + mark
}

/// What a letter of the GSM alphabet takes; one of its extension takes two.
fn septets(letter: char) -> usize {
    if "^{}\\[~]|€".contains(letter) { 2 } else { 1 }
}

fn spelt_plainly(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '°' if letters.peek().is_some_and(|next| matches!(next, 'C' | 'F')) => {}
            _ if is_gsm(letter) => plain.push(letter),
            _ => match plain_of(letter) {
                Some(spelling) => plain.push_str(spelling),
                None => plain.push(letter),
            },
        }
    }
    plain
}

fn plain_of(letter: char) -> Option<&'static str> {
    Some(match letter {
        '‘' | '’' | '‚' | '′' | '`' | '´' => "'",
        '“' | '”' | '„' | '″' => "\"",
        '–' | '—' | '−' | '‑' => "-",
        '…' => "...",
        '\u{a0}' | '\u{202f}' | '\u{2009}' => " ",
        '·' | '•' => "-",
        '×' => "x",
        '²' => "2",
        '³' => "3",
        'µ' | 'μ' => "u",
        '≥' => ">=",
        '≤' => "<=",
        '≠' => "<>",
        'á' | 'â' | 'ã' => "a",
        'ê' | 'ë' => "e",
        'í' | 'î' | 'ï' => "i",
        'ó' | 'ô' | 'õ' => "o",
        'ú' | 'û' => "u",
        'ç' => "c",
        'ý' | 'ÿ' => "y",
        'Á' | 'À' | 'Â' | 'Ã' => "A",
        'È' | 'Ê' | 'Ë' => "E",
        'Í' | 'Ì' | 'Î' | 'Ï' => "I",
        'Ó' | 'Ò' | 'Ô' | 'Õ' => "O",
        'Ú' | 'Ù' | 'Û' => "U",
        _ => return None,
    })
}

/// Whether it is in the alphabet of GSM 03.38 or its extension.
fn is_gsm(letter: char) -> bool {
    const OTHERS: &str =
        "@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà^{}\\[~]|€";
    letter.is_ascii_alphanumeric() || OTHERS.contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line_and_reads_in_its_direction() {
        assert_eq!(line("a\r\nBcc: b@c.nl\u{0}\u{7} d ", 50), "a Bcc: b@c.nl d");
        assert_eq!(line("pump\u{202e}gnp.exe\u{200b}", 50), "pumpgnp.exe");
        assert_eq!(line("👩\u{200d}🔧", 50), "👩\u{200d}🔧");
        assert_eq!(line("abcdef", 4), "abc…");
        assert_eq!(line(&"x".repeat(10_000_000), 4), "xxx…");
    }

    #[test]
    fn an_sms_stays_in_the_cheap_alphabet_where_it_can() {
        assert_eq!(sms("Zoë’s “pomp” – 82 °C…\u{7}"), "Zoe's \"pomp\" - 82 C...");
        // Nothing is gained there, so nothing is changed.
        assert_eq!(sms("Насос – Zoë"), "Насос – Zoë");
        assert_eq!(sms("90° bocht"), "90° bocht");
        assert!("@£$¥èéùìòÇØøÅå_ÆæßÉ€".chars().all(is_gsm) && !"ëç…`".chars().any(is_gsm));
    }

    #[test]
    fn an_sms_has_at_most_three_segments() {
        assert_eq!(sms(&"a".repeat(459)).len(), 459);
        assert_eq!(sms(&"a".repeat(460)), "a".repeat(456) + "...");
        assert_eq!(sms(&"{".repeat(300)), "{".repeat(228) + "...");
        assert_eq!(sms(&"я".repeat(201)).chars().count(), 201);
        assert_eq!(sms(&"🔧".repeat(201)), "🔧".repeat(100) + "…");
    }

    #[test]
    fn empty_lines_don_t_add_up() {
        assert_eq!(paragraphs("\n\na  \n\n \n\nb\n\n"), "a\n\nb");
    }
}
