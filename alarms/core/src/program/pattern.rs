//! Patterns of `matches`, with a bound on what one may cost.

use regex::{Regex, RegexBuilder};

use crate::limits::{MAX_PATTERN_BYTES, MAX_PATTERN_MEMORY_BYTES};

/// Compiles a pattern within the limits; the error is what a person reads.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("a pattern has at most {MAX_PATTERN_BYTES} bytes"));
    }
    RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN_MEMORY_BYTES)
        .dfa_size_limit(MAX_PATTERN_MEMORY_BYTES)
        .nest_limit(32)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!(
                "the pattern needs more than {MAX_PATTERN_MEMORY_BYTES} bytes of memory when compiled"
            ),
            // The lines before the last draw the pattern with a mark below it.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        })
}
