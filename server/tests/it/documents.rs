//! What the documents point to is there.

use std::path::{Path, PathBuf};

/// Endings of files that documents name.
const ENDINGS: [&str; 8] = [".rs", ".md", ".toml", ".json", ".sql", ".py", ".sh", ".yaml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The README and all Markdown below `docs`.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// What stands between `open` and `close` on one line.
fn between<'a>(text: &'a str, open: &str, close: char) -> Vec<&'a str> {
    text.lines()
        .flat_map(|line| {
            line.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0))
        })
        .collect()
}

/// The targets of links that lead into the repository.
fn links(text: &str) -> Vec<&str> {
    between(text, "](", ')')
        .into_iter()
        .filter(|target| !target.contains("://") && !target.starts_with(['#', '/']))
        .map(|target| target.split('#').next().unwrap_or(target))
        .collect()
}

/// Whether text in backticks is meant as a path of the repository: it begins
/// with a folder of its root, or is a file below some folder.
fn is_path(text: &str, folders: &[String]) -> bool {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let Some((first, _)) = text.split_once('/') else { return false };
    let is_file = ENDINGS.iter().any(|ending| text.ends_with(ending));
    let is_named = first.chars().all(|c| c.is_lowercase() || "_-".contains(c));
    is_plain && (folders.iter().any(|folder| folder == first) || (is_file && is_named))
}

/// Code in backticks; fenced blocks are skipped.
fn code(text: &str) -> Vec<&str> {
    let mut is_fenced = false;
    let lines = text.lines().filter(move |line| {
        is_fenced ^= line.trim_start().starts_with("```");
        !is_fenced
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

fn missing(document: &Path, text: &str) -> Vec<String> {
    let root = root();
    let folders: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "target" && !name.starts_with('.'))
        .collect();
    let here = document.parent().unwrap();
    let linked = links(text).into_iter().map(|link| (link, here.join(link)));
    let named = code(text).into_iter().filter(|text| is_path(text, &folders));
    let named = named.map(|path| (path, root.join(path)));
    linked
        .chain(named)
        .filter(|(_, path)| !path.exists())
        .map(|(text, _)| format!("{}: {text}", document.display()))
        .collect()
}

#[test]
fn every_path_that_a_document_names_exists() {
    let all: Vec<String> = documents()
        .iter()
        .flat_map(|document| missing(document, &std::fs::read_to_string(document).unwrap()))
        .collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn a_path_that_is_not_there_is_found() {
    let text = "See `server/src/nothing.rs`, `server/src` and `device/key`, [a](docs/none.md) \
                and [b](README.md#top); `gone/away.rs`, `DATA/run.json`, https://example.org/x.\n\
                ```\n`server/fenced.rs`\n```\n";
    let document = root().join("README.md");
    let found: Vec<String> = missing(&document, text)
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(found, ["docs/none.md", "server/src/nothing.rs", "gone/away.rs"]);
}
