//! Layers of settings, the later over the earlier: defaults, a TOML file,
//! environment variables, flags. What is misspelt or wrong is told with its
//! place, its value, what is allowed and the nearest name that is known; all of
//! it at once, not one a run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use journal::{KafkaOptions, OpenError};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::settings::{Setting, sections, settings};
use super::{Config, Role, TlsConfig};

/// What a variable of ours begins with.
const VARIABLE_PREFIX: &str = "BAKEN_";

/// Variables that are no settings: they belong to flags of the command line.
const OTHER_VARIABLES: [&str; 4] = ["BAKEN_CONFIG", "BAKEN_DATA", "BAKEN_SERVER", "BAKEN_TOKEN"];

/// Settings that may hold a password, so that no error repeats their text.
const WITH_SECRETS: [&str; 2] = ["journal.url", "store.url"];

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File { path: PathBuf, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax { path: PathBuf, line: usize, reason: String },
    #[error("{source_text}: there is no setting `{name}`{}", nearest_text(nearest.as_deref()))]
    Unknown { source_text: String, name: String, nearest: Option<String> },
    #[error("{source_text}: `{name}` is {value}, but must be {allowed}")]
    Wrong { source_text: String, name: String, value: String, allowed: String },
    #[error("{0}")]
    Together(String),
}

fn nearest_text(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// All that is wrong, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A checked configuration, and where each value that is set comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub sources: BTreeMap<String, Source>,
}

/// Settings being laid over one another. A later layer wins.
#[derive(Debug, Default)]
pub struct Layers {
    values: BTreeMap<String, (Value, Source)>,
    errors: Vec<ConfigError>,
}

impl Layers {
    /// Lays a TOML file over what there is.
    #[must_use]
    pub fn file(self, path: &Path) -> Self {
        match std::fs::read_to_string(path) {
            Ok(text) => self.toml(path, &text),
            Err(error) => self.error(ConfigError::Unreadable {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    /// Lays TOML text over what there is; `path` is what errors call it.
    #[must_use]
    pub fn toml(mut self, path: &Path, text: &str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            for error in errors {
                let line = error.span().map_or(1, |span| line_at(text, span.start));
                let reason = error.message().to_owned();
                self.errors.push(ConfigError::Syntax { path: path.to_owned(), line, reason });
            }
            return self;
        }
        let file = File { path, text, settings: settings(), sections: section_paths() };
        self.table("", table.get_ref(), &file);
        self
    }

    /// Lays environment variables over what there is. `BAKEN_MQTT__LISTEN` sets
    /// `mqtt.listen`.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let settings = settings();
        for (name, text) in variables {
            if !name.starts_with(VARIABLE_PREFIX) || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            if let Some(setting) = settings.iter().find(|setting| setting.variable() == name) {
                self.put(setting, setting.parse(&text), Source::Variable(name));
                continue;
            }
            let nearest = nearest(&name, settings.iter().map(Setting::variable));
            // An orchestrator sets variables such as BAKEN_SERVICE_HOST for a
            // service of this name; only what is meant for us is an error.
            if name.contains("__") || nearest.is_some() {
                self.errors.push(ConfigError::Unknown {
                    source_text: "environment".to_owned(),
                    name,
                    nearest,
                });
            }
        }
        self
    }

    /// Lays one flag over what there is, such as (`--data`, `server.data_dir`,
    /// `/var/lib/baken`).
    #[must_use]
    pub fn flag(mut self, flag: &str, path: &str, text: &str) -> Self {
        let settings = settings();
        match settings.iter().find(|setting| setting.path == path) {
            Some(setting) => {
                self.put(setting, setting.parse(text), Source::Flag(flag.to_owned()));
                self
            }
            None => self.error(ConfigError::Unknown {
                source_text: format!("flag {flag}"),
                name: path.to_owned(),
                nearest: nearest(path, settings.into_iter().map(|setting| setting.path)),
            }),
        }
    }

    /// The configuration of all layers.
    ///
    /// # Errors
    /// All that is wrong in any layer.
    pub fn load(mut self) -> Result<Loaded, ConfigErrors> {
        if !self.errors.is_empty() {
            return Err(ConfigErrors(self.errors));
        }
        let mut whole = serde_json::to_value(Config::default()).expect("a configuration is JSON");
        for (path, (value, _)) in &self.values {
            let place = path.split('.').fold(&mut whole, |place, name| &mut place[name]);
            *place = value.clone();
        }
        let config: Config = match serde_path_to_error::deserialize(whole) {
            Ok(config) => config,
            Err(error) => {
                let wrong = self.wrong(&error.path().to_string(), error.inner());
                self.errors.push(wrong);
                return Err(ConfigErrors(self.errors));
            }
        };
        let errors = together(&config);
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let sources = self.values.into_iter().map(|(path, (_, source))| (path, source)).collect();
        Ok(Loaded { config, sources })
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>, file: &File<'_>) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let line = line_at(file.text, key.span().start);
            let source = Source::File { path: file.path.to_owned(), line };
            if let Some(setting) = file.settings.iter().find(|setting| setting.path == path) {
                self.put(setting, json(value.get_ref()), source);
            } else if file.sections.contains(&path)
                && let Some(table) = value.get_ref().as_table()
            {
                self.table(&path, table, file);
            } else if file.sections.contains(&path) {
                self.errors.push(ConfigError::Wrong {
                    source_text: source.to_string(),
                    value: json(value.get_ref()).to_string(),
                    allowed: format!("a section: [{path}]"),
                    name: path,
                });
            } else {
                let known = file.settings.iter().map(|setting| setting.path.clone());
                let nearest = nearest(&path, known.chain(file.sections.iter().cloned()));
                self.errors.push(ConfigError::Unknown {
                    source_text: source.to_string(),
                    name: path,
                    nearest,
                });
            }
        }
    }

    fn put(&mut self, setting: &Setting, value: Value, source: Source) {
        if setting.admits(&value) {
            self.values.insert(setting.path.clone(), (value, source));
        } else {
            self.errors.push(ConfigError::Wrong {
                source_text: source.to_string(),
                name: setting.path.clone(),
                value: shown(&setting.path, &value),
                allowed: setting.allowed(),
            });
        }
    }

    fn wrong(&self, path: &str, reason: &serde_json::Error) -> ConfigError {
        let allowed = settings()
            .iter()
            .find(|setting| setting.path == path)
            .map_or_else(|| reason.to_string(), |s| format!("{} ({reason})", s.allowed()));
        let (value, source) =
            self.values.get(path).map_or((String::new(), Source::Default), |(value, source)| {
                (shown(path, value), source.clone())
            });
        ConfigError::Wrong {
            source_text: source.to_string(),
            name: path.to_owned(),
            value,
            allowed,
        }
    }

    fn error(mut self, error: ConfigError) -> Self {
        self.errors.push(error);
        self
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
    settings: Vec<Setting>,
    sections: Vec<String>,
}

/// `mqtt` too, where only `mqtt.tls` has settings.
fn section_paths() -> Vec<String> {
    sections().into_iter().map(|section| section.path).collect()
}

/// What is wrong only in its combination.
fn together(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut add = |text: &str| errors.push(ConfigError::Together(text.to_owned()));
    let TlsConfig { listen, cert, key, .. } = &config.mqtt.tls;
    let has_pair = !cert.as_os_str().is_empty() && !key.as_os_str().is_empty();
    if listen.0.is_some() && !has_pair {
        add("`mqtt.tls.listen` is set, so `mqtt.tls.cert` and `mqtt.tls.key` must be too");
    }
    let roles = &config.server.roles;
    let is_shared = config.journal.url.is_set() && config.store.url.is_set();
    if !roles.are_all() && !is_shared {
        add(
            "`server.roles` leaves work to other nodes, so `journal.url` and `store.url` must say \
             where they share it",
        );
    }
    let takes_routers = roles.has(Role::Ingest);
    if takes_routers && listen.0.is_none() && config.mqtt.listen.0.is_none() {
        add("`mqtt.listen` and `mqtt.tls.listen` are both empty: no router could connect");
    }
    if config.server.data_dir.as_os_str().is_empty() {
        add("`server.data_dir` is empty, but must name a folder");
    }
    let kafka = config.journal.url.is_set().then(|| config.journal.kafka_options(""));
    if let Some(Err(error)) = &kafka {
        add(&format!("`journal.url`: {error}"));
    }
    if let Some(wrong) = wrong_topic(&config.alarms.transitions_topic, kafka.as_ref()) {
        add(&wrong);
    }
    if config.store.url.is_set()
        && let Err(error) = config.store.postgres_options("")
    {
        add(&format!("`store.url`: {error}"));
    }
    if config.journal.retention_bytes < 2 * config.journal.segment_bytes {
        add("`journal.retention_bytes` must be at least twice `journal.segment_bytes`");
    }
    if (config.journal.queue_bytes as usize) < config.journal.batch.max_record_bytes {
        add("`journal.queue_bytes` must be at least `journal.batch.max_record_bytes`");
    }
    if config.history.files.page_rows > config.history.files.row_group_rows {
        add("`history.files.page_rows` must be at most `history.files.row_group_rows`");
    }
    errors
}

/// What is wrong with the topic for transitions, given the journal where it is in
/// Kafka.
fn wrong_topic(topic: &str, kafka: Option<&Result<KafkaOptions, OpenError>>) -> Option<String> {
    let is = format!("`alarms.transitions_topic` is {topic:?}, but");
    match kafka {
        _ if topic.is_empty() => None,
        None => Some(format!(
            "{is} must be empty where `journal.url` names no journal in Kafka: one in a folder has \
             no topics beside it"
        )),
        // It is told already.
        Some(Err(_)) => None,
        Some(Ok(journal)) if journal.topic == topic => Some(format!(
            "{is} must be another than the topic of the journal itself, which `journal.url` names"
        )),
        Some(Ok(journal)) => {
            let options = KafkaOptions { topic: topic.to_owned(), ..journal.clone() };
            let wrong = options.check().err()?;
            Some(format!("`alarms.transitions_topic`: {wrong}"))
        }
    }
}

/// A value as an error tells it.
fn shown(path: &str, value: &Value) -> String {
    if WITH_SECRETS.contains(&path) { "not shown".to_owned() } else { value.to_string() }
}

/// The known name that looks most like `name`, if any looks like it at all.
fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let first = |path: &str| path.split('.').next().unwrap_or(path).to_owned();
    known
        .map(|candidate| {
            // A right name in the wrong section is as near as a misspelt one.
            let whole = strsim::normalized_damerau_levenshtein(name, &candidate);
            let alone = strsim::normalized_damerau_levenshtein(&last(name), &last(&candidate));
            let same_section = if first(name) == first(&candidate) { 0.05 } else { 0.0 };
            (whole.max(alone - 0.1) + same_section, candidate)
        })
        .filter(|(similarity, _)| *similarity >= 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(boolean) => Value::from(*boolean),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| Value::from(integer.as_str()), Value::from),
        DeValue::Float(float) => {
            float.as_str().parse::<f64>().map_or_else(|_| Value::from(float.as_str()), Value::from)
        }
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

#[cfg(test)]
mod tests;
