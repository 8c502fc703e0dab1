//! A rule's description with places for values.

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

    /// Fills the places in; one that has no value stays as it was written.
    pub fn fill(&self, value: impl Fn(&str) -> Option<String>) -> String {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Place(name) => match value(name) {
                    Some(value) => filled.push_str(&value),
                    None => {
                        filled.push_str("${");
                        filled.push_str(name);
                        filled.push('}');
                    }
                },
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_unknown_ones_stay() {
        let template = Template::new("a ${x} b ${y} ${z");
        let filled = template.fill(|name| (name == "x").then(|| "1".to_owned()));
        assert_eq!(filled, "a 1 b ${y} ${z");
    }
}
