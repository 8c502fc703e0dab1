//! A line of a scenario as words.

/// A word and whether it stood in quotes: quoted ones are never keywords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub text: String,
    pub quoted: bool,
}

impl Word {
    pub fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// Splits a line at white space. `"…"` is one word in which `\"`, `\\`, `\n`
/// and `\t` stand for themselves; `#` at a word's start begins a comment; a
/// `;` at a word's end is a word of its own.
pub(super) fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => break,
            ';' => {
                words.push(Word { text: ";".to_owned(), quoted: false });
                rest = &rest[1..];
            }
            '"' => {
                let (text, after) = quoted(&rest[1..])?;
                words.push(Word { text, quoted: true });
                rest = after;
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let word = &rest[..end];
                let bare = word.trim_end_matches(';');
                words.push(Word { text: bare.to_owned(), quoted: false });
                rest = &rest[bare.len()..];
            }
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

/// The text up to the closing quote, and what stands behind it.
fn quoted(rest: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((place, char)) = chars.next() {
        match char {
            '"' => {
                let after = &rest[place + 1..];
                let apart = after.chars().next().is_none_or(|c| c.is_whitespace() || c == ';');
                return match apart {
                    true => Ok((text, after)),
                    false => Err("a space belongs behind a closing quote".to_owned()),
                };
            }
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, same @ ('"' | '\\'))) => text.push(same),
                _ => return Err(r#"a backslash stands before `"`, `\`, `n` or `t`"#.to_owned()),
            },
            other => text.push(other),
        }
    }
    Err("a quote has no end".to_owned())
}

/// A name as it is written in a line: in quotes where it has to be.
pub(super) fn show(name: &str) -> String {
    let plain = !name.is_empty()
        && !name.starts_with(['"', '#', '@'])
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ';');
    if plain { name.to_owned() } else { quote(name) }
}

pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_spaces_outside_quotes() {
        let words = split(r#"5s "Pump 1" t "a # \"b\"" -> x; "y"; # rest "#).unwrap();
        let texts: Vec<(&str, bool)> = words.iter().map(|w| (&*w.text, w.quoted)).collect();
        let expected = [
            ("5s", false),
            ("Pump 1", true),
            ("t", false),
            ("a # \"b\"", true),
            ("->", false),
            ("x", false),
            (";", false),
            ("y", true),
            (";", false),
        ];
        assert_eq!(texts, expected);
        for wrong in [r#""a"#, r#""a"b"#, r#""\x""#, r#""\"#] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for name in ["pump", "Pump 1", "a\"b", "", "x;", "#1", "é\n", "a\\b"] {
            let words = split(&show(name)).unwrap();
            assert_eq!(words.len(), 1, "{name}");
            assert_eq!(words[0].text, name);
        }
    }
}
