use super::*;

fn toml(text: &str) -> Layers {
    Layers::default().toml(Path::new("baken.toml"), text)
}

/// The errors of a file, a line each.
fn check(text: &str, expected: &[&str]) {
    let errors = toml(text).load().unwrap_err().to_string();
    assert_eq!(errors.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn an_unknown_name_is_told_with_its_line_and_the_nearest_known_one() {
    check(
        "[mqtt]\nlisten = \"0.0.0.0:1883\"\n\n[mqtt.limits]\nmax_conections = 5\n",
        &["baken.toml, line 5: there is no setting `mqtt.limits.max_conections`; \
           did you mean `mqtt.limits.max_connections`?"],
    );
    check(
        "[mqtt]\nmax_connections = 5\n",
        &["baken.toml, line 2: there is no setting `mqtt.max_connections`; \
           did you mean `mqtt.limits.max_connections`?"],
    );
    check(
        "[journl]\n",
        &["baken.toml, line 1: there is no setting `journl`; did you mean `journal`?"],
    );
    check("colour = 'red'\n", &["baken.toml, line 1: there is no setting `colour`"]);
}

#[test]
fn a_wrong_value_is_told_with_what_is_allowed() {
    check(
        "[journal]\npartitions = 0\n",
        &["baken.toml, line 2: `journal.partitions` is 0, but must be a whole number, 1 to 1024"],
    );
    check(
        "[journal]\npartitions = \"four\"\nretention_hours = 1.5\n",
        &[
            "baken.toml, line 2: `journal.partitions` is \"four\", but must be a whole number, 1 to 1024",
            "baken.toml, line 3: `journal.retention_hours` is 1.5, but must be a whole number, 1 to 876000",
        ],
    );
    check(
        "[log]\nformat = \"xml\"\n",
        &["baken.toml, line 2: `log.format` is \"xml\", but must be text or json"],
    );
    check(
        "[api]\nlisten = \"8080\"\n",
        &["baken.toml, line 2: `api.listen` is \"8080\", but must be address:port \
           (invalid socket address syntax)"],
    );
    check("mqtt = 5\n", &["baken.toml, line 1: `mqtt` is 5, but must be a section: [mqtt]"]);
}

#[test]
fn settings_that_need_one_another_are_told_together() {
    check(
        "[mqtt]\nlisten = ''\n",
        &["`mqtt.listen` and `mqtt.tls.listen` are both empty: no router could connect"],
    );
    check(
        "[mqtt.tls]\nlisten = '0.0.0.0:8883'\ncert = 'a.pem'\n",
        &["`mqtt.tls.listen` is set, so `mqtt.tls.cert` and `mqtt.tls.key` must be too"],
    );
}

#[test]
fn a_topic_for_transitions_that_cannot_be_is_told_with_what_can() {
    check(
        "[alarms]\ntransitions_topic = 'alarms'\n",
        &["`alarms.transitions_topic` is \"alarms\", but must be empty where `journal.url` names \
           no journal in Kafka: one in a folder has no topics beside it"],
    );
    let kafka = "[journal]\nurl = 'kafka://a:9092/baken'\n[alarms]\n";
    check(
        &format!("{kafka}transitions_topic = 'baken'\n"),
        &["`alarms.transitions_topic` is \"baken\", but must be another than the topic of the \
           journal itself, which `journal.url` names"],
    );
    check(
        &format!("{kafka}transitions_topic = 'alarms of all'\n"),
        &["`alarms.transitions_topic`: journal option topic: \"alarms of all\" must be letters, \
           digits, dots, hyphens and underscores"],
    );
    assert!(toml(&format!("{kafka}transitions_topic = 'baken-transitions'\n")).load().is_ok());
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let errors = toml("[mqtt]\nlisten = \n").load().unwrap_err().to_string();
    assert!(errors.starts_with("baken.toml, line 2: "), "{errors}");
}

#[test]
fn flags_lie_over_variables_over_the_file_over_defaults() {
    let variable = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let loaded =
        toml("[api]\nlisten = '127.0.0.1:1'\nmax_requests = 7\nrequest_timeout_ms = 900\n")
            .variables([
                variable("BAKEN_API__LISTEN", "127.0.0.1:2"),
                variable("BAKEN_API__MAX_REQUESTS", "8"),
                variable("BAKEN_METRICS__REQUIRE_TOKEN", "true"),
                variable("BAKEN_TOKEN", "of a client command"),
                variable("BAKEN_PORT_1883_TCP", "tcp://10.0.0.1:1883"),
            ])
            .flag("--api-listen", "api.listen", "127.0.0.1:3")
            .load()
            .unwrap();
    assert_eq!(loaded.config.api.listen.port(), 3);
    assert_eq!(loaded.config.api.max_requests, 8);
    assert_eq!(loaded.config.api.request_timeout_ms, 900);
    assert_eq!(loaded.config.api.max_connections, 1_024);
    assert!(loaded.config.metrics.require_token);
    assert_eq!(loaded.sources["api.listen"], Source::Flag("--api-listen".to_owned()));
    assert_eq!(
        loaded.sources["api.request_timeout_ms"],
        Source::File { path: "baken.toml".into(), line: 4 }
    );
}

#[test]
fn a_misspelt_variable_or_flag_is_an_error() {
    let errors = Layers::default()
        .variables([
            ("BAKEN_MQTT_LISTEN".to_owned(), "x".to_owned()),
            ("BAKEN_JOURNAL__PARTITIONS".to_owned(), "many".to_owned()),
        ])
        .flag("--set", "log.levle", "debug")
        .load()
        .unwrap_err()
        .to_string();
    assert_eq!(
        errors.lines().collect::<Vec<_>>(),
        [
            "environment: there is no setting `BAKEN_MQTT_LISTEN`; did you mean `BAKEN_MQTT__LISTEN`?",
            "variable BAKEN_JOURNAL__PARTITIONS: `journal.partitions` is \"many\", but must be a whole number, 1 to 1024",
            "flag --set: there is no setting `log.levle`; did you mean `log.level`?",
        ]
    );
}

#[test]
fn the_defaults_are_a_configuration() {
    let loaded = Layers::default().load().unwrap();
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn what_is_wrong_with_the_journals_address_is_told_without_its_password() {
    let told = |url: &str| {
        let loaded = Layers::default().flag("--journal", "journal.url", url).load();
        loaded.map(|_| ()).map_err(|errors| errors.to_string())
    };
    assert_eq!(told("kafka://eva:hunter2@127.0.0.1:9092/baken"), Ok(()));
    assert_eq!(
        told("eva:hunter2@127.0.0.1").unwrap_err(),
        "flag --journal: `journal.url` is not shown, but must be empty, or \
         kafka://host:port,host:port/topic (it is no address of the form scheme://host)"
    );
    let error = told("kafka://eva:hunter2@127.0.0.1:9092/baken?partitions=0").unwrap_err();
    assert_eq!(error, "`journal.url`: journal option partitions: 1 to 1024");
}
