//! The profile that a scenario is about, checked as a save checks it.

use std::sync::Arc;

use schema::AlarmProfile;

use crate::{Problem, check, parse_toml};

/// A profile, or none where it is gone.
pub(super) type Body = Option<Arc<AlarmProfile>>;

fn show(problem: &Problem) -> String {
    let written = match problem.value.is_empty() {
        true => String::new(),
        false => format!(", and is `{}`", problem.value),
    };
    format!("{}: {}{written}", problem.field, problem.message)
}

fn show_all(problems: &[Problem]) -> String {
    let all: Vec<String> = problems.iter().map(show).collect();
    format!("the profile is refused: {}", all.join("; "))
}

/// From a file's text.
pub(super) fn from_file(name: &str, text: &str) -> Result<Arc<AlarmProfile>, String> {
    let profile =
        parse_toml(text).map_err(|report| format!("{name}: {}", show_all(&report.errors)))?;
    let report = check(&profile);
    match report.errors.is_empty() {
        true => Ok(Arc::new(profile)),
        false => Err(format!("{name}: {}", show_all(&report.errors))),
    }
}

/// From the lines of a block whose first is `first`; a wrong one is named by
/// its line in the file.
pub(super) fn from_block(text: &str, first: usize) -> Result<Arc<AlarmProfile>, (usize, String)> {
    let profile = parse_toml(text).map_err(|report| {
        let Some(problem) = report.errors.into_iter().next() else {
            return (first, "the profile is refused".to_owned());
        };
        // The line is that of the block, and the file's is the one to go to.
        let Problem { field, value, message } = problem;
        let line_of = |text: &str| text.strip_prefix("line ")?.parse::<usize>().ok();
        let (field, line, message) = match message.split_once(": ") {
            Some((place, rest)) if line_of(place).is_some() => {
                (field, line_of(place), rest.to_owned())
            }
            _ => ("text".to_owned(), line_of(&field), message),
        };
        let message = show(&Problem { field, value, message });
        (first + line.unwrap_or(1).max(1) - 1, format!("the profile is refused: {message}"))
    })?;
    let report = check(&profile);
    match report.errors.is_empty() {
        true => Ok(Arc::new(profile)),
        false => Err((first.saturating_sub(1), show_all(&report.errors))),
    }
}
