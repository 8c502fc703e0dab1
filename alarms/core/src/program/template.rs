//! A rule's description with places for values.

use crate::limits::MAX_FILLED_BYTES;

/// Stands where text was cut off.
const CUT: &str = "…";

/// Text with `${…}` places, split once.
#[derive(Debug, Default)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(String),
    Place(String),
}

impl Template {
    /// A place without an end is text.
    pub fn new(mut text: &str) -> Self {
        let mut parts = Vec::new();
        while let Some(start) = text.find("${") {
            let Some(length) = text[start + 2..].find('}') else {
                break;
            };
            parts.push(Part::Text(text[..start].to_owned()));
            parts.push(Part::Place(text[start + 2..start + 2 + length].to_owned()));
            text = &text[start + 3 + length..];
        }
        parts.push(Part::Text(text.to_owned()));
        Self { parts }
    }

    /// Fills the places in; one that has no value stays as it was written. At
    /// most [`MAX_FILLED_BYTES`] come of it, and no more values than that needs
    /// are asked for.
    /// `value` writes one behind the text that it is given; `filled` is empty.
    pub fn fill(&self, filled: &mut String, value: impl Fn(&str, &mut String) -> Option<()>) {
        for part in &self.parts {
            if filled.len() > MAX_FILLED_BYTES {
                break;
            }
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Place(name) => {
                    if value(name, filled).is_none() {
                        filled.push_str("${");
                        filled.push_str(name);
                        filled.push('}');
                    }
                }
            }
        }
        cut(filled);
    }
}

/// A transition's description, as far as it has room.
pub(crate) fn cut_description(mut text: String) -> String {
    cut(&mut text);
    text
}

fn cut(text: &mut String) {
    if text.len() > MAX_FILLED_BYTES {
        text.truncate(text.floor_char_boundary(MAX_FILLED_BYTES - CUT.len()));
        text.push_str(CUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &Template, value: impl Fn(&str, &mut String) -> Option<()>) -> String {
        let mut text = String::new();
        template.fill(&mut text, value);
        text
    }

    #[test]
    fn places_are_filled_and_unknown_ones_stay() {
        let template = Template::new("a ${x} b ${y} ${z");
        let filled = filled(&template, |name, text| (name == "x").then(|| text.push('1')));
        assert_eq!(filled, "a 1 b ${y} ${z");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_asks_for_no_more_values() {
        let places = "${x}".repeat(MAX_FILLED_BYTES / 4);
        let asked = std::cell::Cell::new(0);
        let filled_places = filled(&Template::new(&places), |_, text| {
            asked.set(asked.get() + 1);
            text.push_str(&"é".repeat(500));
            Some(())
        });
        assert!((MAX_FILLED_BYTES - 4..=MAX_FILLED_BYTES).contains(&filled_places.len()));
        assert!(filled_places.ends_with("é…"), "{}", &filled_places[filled_places.len() - 20..]);
        assert_eq!(asked.get(), MAX_FILLED_BYTES / 1_000 + 1);
        let whole = "x".repeat(MAX_FILLED_BYTES);
        assert_eq!(filled(&Template::new(&whole), |_, _| None), whole);
    }
}
