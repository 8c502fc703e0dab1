//! Each setting of a part reaches that part.

use std::path::{Path, PathBuf};

use super::*;

/// All that the settings become, as text.
fn parts(config: &Config) -> String {
    let (mqtt, journal, history) = (&config.mqtt, &config.journal, &config.history);
    let broker = (
        mqtt.listener_limits(0),
        mqtt.session_limits(),
        mqtt.payload_limits(),
        mqtt.auth_limits(),
        mqtt.address_limits(),
        mqtt.presence.options(),
    );
    let keeping = (
        journal.options(PathBuf::new()),
        journal.batch_options(),
        history.options(),
        history.recorder_options(),
        config.alarms.options(),
    );
    format!("{broker:?}\n{keeping:?}")
}

fn load(path: &str, value: &str) -> Config {
    let (section, name) = path.rsplit_once('.').unwrap();
    let text = format!("[{section}]\n{name} = {value}\n");
    Layers::default().toml(Path::new("baken.toml"), &text).load().unwrap().config
}

#[test]
fn every_setting_of_a_part_reaches_it() {
    let usual = parts(&Config::default());
    let mut tried = 0;
    for setting in settings() {
        let section = setting.path.split('.').next().unwrap();
        let is_of_a_part = ["mqtt", "journal", "history", "alarms"].contains(&section);
        // The server's own: the others become options of a part.
        let is_own = [".max_lag_records", ".transitions_retention_hours"];
        if !is_of_a_part || is_own.iter().any(|end| setting.path.ends_with(end)) {
            continue;
        }
        let value = match &setting.kind {
            Kind::Integer { max, .. } => {
                let default = setting.default.as_i64().unwrap();
                if default < *max { default + 1 } else { default - 1 }.to_string()
            }
            Kind::Text { form: Some(form) } if form.starts_with("COUNT") => "\"7:3\"".to_owned(),
            _ => continue,
        };
        assert_ne!(parts(&load(&setting.path, &value)), usual, "{} = {value}", setting.path);
        tried += 1;
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn the_defaults_are_the_parts_own() {
    use ingest::auth::AuthLimits;
    use ingest::broker::{AddressLimits, SessionLimits};

    let config = Config::default();
    assert_eq!(config.mqtt.session_limits(), SessionLimits::default());
    assert_eq!(config.mqtt.auth_limits(), AuthLimits::default());
    assert_eq!(config.mqtt.address_limits(), AddressLimits::default());
    assert_eq!(config.mqtt.presence.options(), ingest::broker::PresenceOptions::default());
    assert_eq!(config.mqtt.payload_limits(), ingest::limits::Limits::default());
    let text = |options: &dyn std::fmt::Debug| format!("{options:?}");
    let own = store::HistoryOptions::default();
    assert_eq!(text(&config.history.options()), text(&own));
    assert_eq!(text(&config.alarms.options()), text(&alarms::AlarmOptions::default()));
    let own = ingest::batch::BatchOptions::default();
    assert_eq!(text(&config.journal.batch_options()), text(&own));
}

#[test]
fn rates_that_are_none_are_told() {
    let text = "[mqtt.session]\nreading_rates = \"10\"\n";
    let error = Layers::default().toml(Path::new("baken.toml"), text).load().unwrap_err();
    let error = error.to_string();
    assert!(error.contains("`mqtt.session.reading_rates` is \"10\""), "{error}");
    assert!(error.contains("COUNT:SECONDS"), "{error}");
}

#[test]
fn sizes_that_do_not_fit_each_other_are_told() {
    for (path, value, other) in [
        ("journal.batch.max_record_bytes", "33554432", "journal.queue_bytes"),
        ("history.files.page_rows", "1048576", "history.files.row_group_rows"),
    ] {
        let (section, name) = path.rsplit_once('.').unwrap();
        let text = format!("[journal]\nqueue_bytes = 33554431\n[{section}]\n{name} = {value}\n");
        let loaded = Layers::default().toml(Path::new("baken.toml"), &text).load();
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(path) && error.contains(other), "{error}");
    }
}
