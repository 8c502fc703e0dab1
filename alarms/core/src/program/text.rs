//! A profile from its TOML text.

use schema::AlarmProfile;

use super::check::{Problem, Report};
use crate::limits::MAX_NESTING;

/// Reads a profile from TOML text; the error says where and what.
///
/// # Errors
/// A report with the one error that TOML or the profile's shape has: its field
/// is the path where there is one, else the line.
pub fn parse_toml(text: &str) -> Result<AlarmProfile, Report> {
    let read = toml::Deserializer::parse(text).map_err(|error| (String::new(), error)).and_then(
        |document| {
            serde_path_to_error::deserialize(document)
                .map_err(|error| (error.path().to_string(), error.into_inner()))
        },
    );
    read.map_err(|(path, error)| {
        let problem = unreadable(text, path.trim_end_matches(['.', '?']), &error);
        Report { errors: vec![problem], warnings: Vec::new() }
    })
}

fn unreadable(text: &str, path: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().filter(|span| span.start <= text.len());
    let line = span.as_ref().map(|span| text[..span.start].matches('\n').count() + 1);
    let place = line.map_or_else(|| "the text".to_owned(), |line| format!("line {line}"));
    let (value, message) = match error.message() {
        // What is too deep is shown from the start of its line.
        message if message.contains("recurs") => {
            let shown = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default();
            (shown, format!("nested too deep: conditions nest at most {MAX_NESTING} deep"))
        }
        message => {
            let written = span.and_then(|span| text.get(span)).unwrap_or_default();
            (written, message.trim_end().to_owned())
        }
    };
    let (field, message) = match path {
        "" => (place, message),
        path => (path.to_owned(), format!("{place}: {message}")),
    };
    Problem { field, value: value.trim().chars().take(80).collect(), message }
}
