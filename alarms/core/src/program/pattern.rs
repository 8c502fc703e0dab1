//! Patterns of `matches`, with a bound on what one may cost and on what all of
//! a profile may.

use regex::{Error, Regex, RegexBuilder};

use crate::limits::{
    MAX_PATTERN_BYTES, MAX_PATTERN_MEMORY_BYTES, MAX_PATTERNS, MAX_PATTERNS_MEMORY_BYTES,
};

/// What a compiled pattern is tried with first, and counts as at least.
const LEAST_MEMORY_BYTES: usize = 8 * 1_024;

/// Compiles the patterns of one profile.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    count: usize,
    memory_bytes: usize,
}

impl Patterns {
    /// Compiles one more within the limits; the error is what a person reads.
    pub fn compile(&mut self, pattern: &str) -> Result<Regex, String> {
        self.count += 1;
        if self.count > MAX_PATTERNS {
            return Err(format!("a profile has at most {MAX_PATTERNS} patterns"));
        }
        let (regex, memory_bytes) = compile(pattern)?;
        self.memory_bytes += memory_bytes;
        if self.memory_bytes > MAX_PATTERNS_MEMORY_BYTES {
            return Err(format!(
                "this pattern and those before it need more than {MAX_PATTERNS_MEMORY_BYTES} \
                 bytes of memory when compiled"
            ));
        }
        Ok(regex)
    }
}

/// A compiled pattern, and the memory that it was given. The library doesn't say
/// what it took, so it is tried with little first.
fn compile(pattern: &str) -> Result<(Regex, usize), String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("a pattern has at most {MAX_PATTERN_BYTES} bytes"));
    }
    let mut memory_bytes = LEAST_MEMORY_BYTES;
    loop {
        let built = RegexBuilder::new(pattern)
            .size_limit(memory_bytes)
            .dfa_size_limit(MAX_PATTERN_MEMORY_BYTES)
            .nest_limit(32)
            .build();
        match built {
            Ok(regex) => return Ok((regex, memory_bytes)),
            Err(Error::CompiledTooBig(_)) if memory_bytes < MAX_PATTERN_MEMORY_BYTES => {
                memory_bytes *= 2;
            }
            Err(error) => return Err(told(&error)),
        }
    }
}

fn told(error: &Error) -> String {
    if let Error::CompiledTooBig(_) = error {
        return format!(
            "the pattern needs more than {MAX_PATTERN_MEMORY_BYTES} bytes of memory when compiled"
        );
    }
    // The lines before the last draw the pattern with a mark below it.
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
