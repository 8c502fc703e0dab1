//! What is refused when a profile is saved, and what is doubtful.

use crate::{Report, check, parse_toml};

fn report(text: &str) -> Report {
    match parse_toml(text) {
        Ok(profile) => check(&profile),
        Err(report) => report,
    }
}

fn rule(raise: &str, rest: &str) -> String {
    format!(
        "name = \"p\"\n[[rules]]\nkey = \"r\"\nraise.major = {{ when = {{ {raise} }} }}\n{rest}"
    )
}

const CLEAR: &str = "clear = { when = { key = \"t\", operator = \"<\", value = 0 } }";

#[track_caller]
fn refused(text: &str, field: &str, message: &str) {
    let report = report(text);
    let found = report.errors.iter().any(|p| p.field == field && p.message.contains(message));
    assert!(found, "no error at {field} saying `{message}`: {report:#?}");
}

#[test]
fn an_alarm_that_cannot_end_is_refused() {
    let raise = "key = \"t\", operator = \">\", value = 1";
    refused(&rule(raise, ""), "rules[0].clear", "an alarm that can't end is refused");
    let partly =
        "clear_by_severity.minor = { when = { key = \"t\", operator = \"<\", value = 0 } }";
    refused(&rule(raise, partly), "rules[0].clear", "one for each severity");
}

#[test]
fn an_unknown_operator_names_the_nearest() {
    let text = rule("key = \"t\", operator = \"contain\", value = \"x\"", CLEAR);
    refused(&text, "rules[0].raise.major.when.operator", "the nearest known is `contains`");
    let text = rule("all = [{ key = \"t\", operator = \"=>\", value = 1 }]", CLEAR);
    refused(&text, "rules[0].raise.major.when.all[0].operator", "the nearest known is `>=`");
}

#[test]
fn a_wrong_value_says_what_is_wanted() {
    let when = "rules[0].raise.major.when.value";
    refused(&rule("key = \"t\", operator = \">\", value = \"x\"", CLEAR), when, "a number");
    refused(&rule("key = \"t\", operator = \"between\", value = 5", CLEAR), when, "two numbers");
    refused(&rule("key = \"t\", operator = \"is\", value = 1", CLEAR), when, "true or false");
    refused(&rule("key = \"t\", operator = \">\"", CLEAR), when, "needs a number");
    refused(&rule("key = \"t\", operator = \"changed\", value = 1", CLEAR), when, "takes no value");
    let age = "key = \"t\", of = \"age\", operator = \">\", value = 5";
    refused(&rule(age, CLEAR), when, "a duration, such as `10m`");
}

#[test]
fn a_pattern_that_explodes_is_refused() {
    let text = rule("key = \"t\", operator = \"matches\", value = '(a{1000}){1000}'", CLEAR);
    refused(&text, "rules[0].raise.major.when.value", "bytes of memory");
    let text = rule("key = \"t\", operator = \"matches\", value = '(a'", CLEAR);
    refused(&text, "rules[0].raise.major.when.value", "unclosed group");
    let deep = format!("{}a{}", "(".repeat(200), ")".repeat(200));
    let text = rule(&format!("key = \"t\", operator = \"matches\", value = '{deep}'"), CLEAR);
    refused(&text, "rules[0].raise.major.when.value", "nested parentheses");
    let long = "a".repeat(1_025);
    let text = rule(&format!("key = \"t\", operator = \"matches\", value = '{long}'"), CLEAR);
    refused(&text, "rules[0].raise.major.when.value", "at most 1024 bytes");
}

#[test]
fn nesting_is_bounded_however_deep_it_goes() {
    let nested = |depth: usize| {
        let leaf = "key = \"t\", operator = \">\", value = 1".to_owned();
        (0..depth).fold(leaf, |inner, _| format!("all = [{{ {inner} }}]"))
    };
    assert_eq!(report(&rule(&nested(7), CLEAR)).errors, []);
    let path = format!("rules[0].raise.major.when{}", ".all[0]".repeat(8));
    refused(&rule(&nested(8), CLEAR), &path, "at most 8 deep");
    // A thousand levels are refused by the reader already, at their line.
    let thousand = report(&rule(&nested(1_000), CLEAR));
    let error = &thousand.errors[0];
    assert_eq!(error.field, "line 4");
    assert!(error.value.starts_with("raise.major = { when = { all = "), "{error:#?}");
    assert_eq!(error.message, "nested too deep: conditions nest at most 8 deep");
    let lists = format!(
        "key = \"t\", operator = \"in\", value = {}{}",
        "[".repeat(1_000),
        "]".repeat(1_000)
    );
    assert_eq!(report(&rule(&lists, CLEAR)).errors[0].message, error.message);
}

#[test]
fn misspelt_fields_are_named_with_their_line() {
    let report = report("name = \"p\"\n[[rules]]\nkey = \"r\"\nrase = {}");
    assert_eq!(report.errors[0].field, "rules[0].rase");
    assert!(report.errors[0].message.starts_with("line 4: unknown field `rase`"), "{report:#?}");
}

#[test]
fn a_wrong_type_names_its_field_and_line() {
    for (raise, rest, field) in [
        ("key = 5, operator = \">\", value = 1", "", "rules[0].raise.major.when.key"),
        ("key = \"t\", operator = 3, value = 1", "", "rules[0].raise.major.when.operator"),
        ("all = [{ key = 5 }]", "", "rules[0].raise.major.when.all[0].key"),
        ("key = \"t\", of = \"delta\", window = 5", "", "rules[0].raise.major.when.window"),
        (
            "key = \"t\", operator = \">\", value = { keys = 1 }",
            "",
            "rules[0].raise.major.when.value",
        ),
        ("key = \"t\", operator = \">\", value = 1", "latch = \"yes\"", "rules[0].latch"),
        ("key = \"t\", operator = \">\", value = 1", "off_delay = 5", "rules[0].off_delay"),
        ("key = \"t\", operator = \">\", value = 1", "max_active = -1", "rules[0].max_active"),
    ] {
        refused(&rule(raise, &format!("{CLEAR}\n{rest}")), field, "line ");
    }
}

#[test]
fn kinds_and_switches_are_checked() {
    let raise = "key = \"t\", operator = \">\", value = 1";
    for (rest, field, message) in [
        ("deadband = -1.0", "rules[0].deadband", "from 0 up"),
        ("flapping = { low = 50, high = 20 }", "rules[0].flapping", "low < high"),
        ("max_active = 0", "rules[0].max_active", "1 or more"),
        (
            "raise.worse = { when = { key = \"t\", operator = \">\", value = 1 } }",
            "rules[0].raise.worse",
            "no severity",
        ),
        (
            "raise.middle = { when = { key = \"t\", operator = \">\", value = 1 } }",
            "rules[0].raise.middle",
            "under another name",
        ),
        (
            "raise.minor = { times = 0, when = { key = \"t\", operator = \">\", value = 1 } }",
            "rules[0].raise.minor.times",
            "from 1 to",
        ),
        (
            "raise.minor = { for = \"0s\", when = { key = \"t\", operator = \">\", value = 1 } }",
            "rules[0].raise.minor.for",
            "longer than nothing",
        ),
        (
            "schedule = { from = \"8\", to = \"17:00\" }",
            "rules[0].raise.major.schedule.from",
            "a time of the day",
        ),
        (
            "schedule = { time_zone = \"Mars\", from = \"08:00\", to = \"17:00\" }",
            "rules[0].raise.major.schedule.time_zone",
            "IANA",
        ),
        (
            "schedule = { days = [\"mo\"], from = \"08:00\", to = \"17:00\" }",
            "rules[0].raise.major.schedule.days[0]",
            "the nearest known is `mon`",
        ),
    ] {
        refused(&rule(raise, &format!("{CLEAR}\n{rest}")), field, message);
    }
    let twice = format!(
        "{}\n[[rules]]\nkey = \"r\"\nraise.major = {{ when = {{ {raise} }} }}\n{CLEAR}",
        rule(raise, CLEAR)
    );
    refused(&twice, "rules[1].key", "unique");
}

#[test]
fn contradictory_limits_are_warned_of() {
    let warned = |text: &str, field: &str, message: &str| {
        let report = report(text);
        assert_eq!(report.errors, []);
        let found = report.warnings.iter().any(|p| p.field == field && p.message.contains(message));
        assert!(found, "no warning at {field} saying `{message}`: {report:#?}");
    };
    let above = |limit: i32| format!("key = \"t\", operator = \">\", value = {limit}");
    let overlap = "clear = { when = { key = \"t\", operator = \"<\", value = 90 } }";
    warned(&rule(&above(80), overlap), "rules[0].clear.when", "raising wins");
    let swapped = format!("{CLEAR}\nraise.critical = {{ when = {{ {} }} }}", above(70));
    warned(&rule(&above(80), &swapped), "rules[0].raise.major.when", "never reached");
    let never = "all = [{ key = \"t\", operator = \">\", value = 5 }, { key = \"t\", operator = \"<\", value = 4 }]";
    warned(&rule(never, CLEAR), "rules[0].raise.major.when", "no value makes this true");
    let when = |field: &str, filter: &str| format!("{field} = {{ when = {{ {filter} }} }}");
    let within = |low: i32, high: i32| {
        format!("key = \"t\", operator = \"between\", value = [{low}, {high}]")
    };
    let outside = "key = \"t\", operator = \"outside\", value = [2, 8]";
    let text = rule(outside, &when("clear", &within(1, 9)));
    warned(&text, "rules[0].clear.when", "raising wins");
    let own = format!("{CLEAR}\n{}", when("clear_by_severity.major", &above(90)));
    warned(&rule(&above(80), &own), "rules[0].clear_by_severity.major.when", "raising wins");
    let both = "all = [{ key = \"t\", operator = \"=\", value = 5 }, { key = \"t\", operator = \"≠\", value = 5 }]";
    let never = when("clear", both);
    warned(&rule(&above(80), &never), "rules[0].clear.when", "the alarm can't end at `major`");
    let any = "any = [{ key = \"t\", operator = \">\", value = 95 }, { key = \"t\", operator = \"=\", value = 85 }]";
    let text = format!("{CLEAR}\n{}", when("raise.critical", &above(80)));
    warned(&rule(any, &text), "rules[0].raise.major.when", "never reached");
}

#[test]
fn limits_that_go_together_are_not_warned_of() {
    let when = |field: &str, filter: &str| format!("{field} = {{ when = {{ {filter} }} }}");
    let above = |limit: i32| format!("key = \"t\", operator = \">\", value = {limit}");
    let below = |limit: i32| format!("key = \"t\", operator = \"<\", value = {limit}");
    let outside = "key = \"t\", operator = \"outside\", value = [2, 8]";
    let between = "key = \"t\", operator = \"between\", value = [2, 8]";
    for (raise, rest) in [
        (
            above(80),
            format!("{}\n{}", when("clear", &below(70)), when("raise.critical", &above(90))),
        ),
        (outside.to_owned(), when("clear", between)),
        (above(80), format!("deadband = 3\n{}", when("clear", &below(82)))),
        (above(80), when("clear", "key = \"other\", operator = \">\", value = 0")),
        (
            above(80),
            format!(
                "{}\nraise.critical = {{ schedule = {{ from = \"22:00\", to = \"06:00\" }}, when = {{ {} }} }}",
                when("clear", &below(70)),
                above(70)
            ),
        ),
    ] {
        let report = report(&rule(&raise, &rest));
        assert_eq!((report.errors, report.warnings), (vec![], vec![]), "{raise} {rest}");
    }
}

#[test]
fn a_profile_reads_back_from_its_own_text() {
    let text = r#"
        name = "Cold store"
        lateness = "5s"
        applies_to = { locations = [3], location_groups = ["Coast", "Cold stores"], device_types = ["freezer"] }
        [[rules]]
        key = "warm"
        latch = true
        raise.high = { for = "5m", when = { key = "t", operator = ">", value = { attribute = "limit", default = 8 } } }
        clear = { when = { key = "t", operator = "in", value = [1, 2.5, "x", true] } }
    "#;
    let profile = parse_toml(text).unwrap();
    let again = parse_toml(&toml::to_string(&profile).unwrap()).unwrap();
    assert_eq!(again, profile);
    let json = serde_json::to_string(&profile).unwrap();
    assert_eq!(serde_json::from_str::<schema::AlarmProfile>(&json).unwrap(), profile);
}

#[test]
fn location_groups_are_checked() {
    let with = |groups: &[&str]| {
        let rule = rule("key = \"t\", operator = \">\", value = 1", CLEAR);
        report(&format!("applies_to = {{ location_groups = {groups:?} }}\n{rule}"))
    };
    assert_eq!(with(&["Coast", "é"]).errors, []);
    let long = "x".repeat(65);
    let errors = with(&["Coast", "", " Inland", &long]).errors;
    let fields: Vec<&str> = errors.iter().map(|problem| problem.field.as_str()).collect();
    let field = |place: usize| format!("applies_to.location_groups[{place}]");
    assert_eq!(fields, [field(1), field(2), field(3)]);
    assert_eq!(errors[1].value, " Inland");
    assert!(errors.iter().all(|problem| problem.message.contains("1 to 64 bytes")), "{errors:?}");
    let many: Vec<String> =
        (0..=crate::limits::MAX_APPLIED_GROUPS).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(with(&many[1..]).errors, []);
    assert_eq!(with(&many).errors[0].message, "a profile names at most 256 location groups");
}

#[test]
fn a_profile_is_for_the_devices_that_it_names() {
    let text = format!(
        "applies_to = {{ device_types = [\"pump\"] }}\n{}",
        rule("key = \"t\", operator = \">\", value = 1", CLEAR)
    );
    super::harness::check(&text, "1s pump-1 t 5 -> raised major r\n2s fan-1 t 5");
}
