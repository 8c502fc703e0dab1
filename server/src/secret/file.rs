//! Secrets that the configuration names a file for.

use std::path::Path;

use anyhow::{Context as _, ensure};

/// The first line of a file that holds a secret; `setting` is what errors call it.
pub(crate) fn first_line(setting: &str, path: &Path) -> anyhow::Result<String> {
    ensure!(!path.as_os_str().is_empty(), "`{setting}` is empty, but must name a file");
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("`{setting}`: cannot read {}", path.display()))?;
    let first = text.lines().next().unwrap_or_default().trim();
    ensure!(!first.is_empty(), "`{setting}`: {} is empty", path.display());
    Ok(first.to_owned())
}

/// As [`first_line`]; empty where no file is named.
pub(crate) fn optional_line(setting: &str, path: &Path) -> anyhow::Result<String> {
    if path.as_os_str().is_empty() {
        return Ok(String::new());
    }
    first_line(setting, path)
}
