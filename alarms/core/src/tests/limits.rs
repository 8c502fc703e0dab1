//! What a profile and its transitions may cost.

use std::fmt::Write as _;

use super::harness::World;
use crate::limits::{
    MAX_FILLED_BYTES, MAX_PATTERNS, MAX_PATTERNS_MEMORY_BYTES, MAX_TEXT_BYTES, MAX_VALUES_BYTES,
};
use crate::{Report, check, parse_toml};

fn report(text: &str) -> Report {
    match parse_toml(text) {
        Ok(profile) => check(&profile),
        Err(report) => report,
    }
}

/// A profile with one rule for each pattern.
fn patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = "name = \"p\"\n".to_owned();
    for (index, pattern) in patterns.into_iter().enumerate() {
        write!(
            text,
            "[[rules]]\nkey = \"r{index}\"\n\
             raise.major = {{ when = {{ key = \"t\", operator = \"matches\", value = '{pattern}' }} }}\n\
             clear = {{ when = {{ key = \"t\", operator = \"=\", value = \"ok\" }} }}\n"
        )
        .unwrap();
    }
    text
}

#[test]
fn a_profile_has_a_limited_number_of_patterns() {
    let most = vec!["^E-[0-9]+$"; MAX_PATTERNS];
    assert_eq!(report(&patterns(most.clone())).errors, []);
    let one_more = most.into_iter().chain(["^E$"]);
    let errors = report(&patterns(one_more)).errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].field, format!("rules[{MAX_PATTERNS}].raise.major.when.value"));
    assert_eq!(errors[0].message, "a profile has at most 64 patterns");
}

#[test]
fn the_patterns_of_a_profile_share_a_limit_of_memory() {
    // Each is allowed by itself, and takes more than half of what one may.
    let large = "[a-z]{2600}";
    let errors = report(&patterns([large])).errors;
    assert_eq!(errors, []);
    let errors = report(&patterns([large; 20])).errors;
    assert!(!errors.is_empty());
    assert_eq!(errors[0].field, "rules[8].raise.major.when.value");
    assert!(errors[0].message.contains(&MAX_PATTERNS_MEMORY_BYTES.to_string()), "{errors:?}");
}

#[test]
fn a_transition_tells_as_much_as_has_room() {
    const KEYS: usize = 40;
    let tests: Vec<String> = (0..KEYS)
        .map(|key| format!("{{ key = \"k{key}\", operator = \"=\", value = \"on\" }}"))
        .collect();
    let places: String = (0..KEYS).map(|key| format!("${{k{key}}}")).collect();
    let mut world = World::new(&[&format!(
        "name = \"p\"\n[[rules]]\nkey = \"r\"\ndescription = \"{places}\"\n\
         raise.major = {{ when = {{ any = [{}, {{ key = \"t\", operator = \">\", value = 1 }}] }} }}\n\
         clear = {{ when = {{ key = \"t\", operator = \"<\", value = 0 }} }}\n",
        tests.join(", ")
    )]);
    let long = "x".repeat(MAX_TEXT_BYTES + 1);
    for key in 0..KEYS {
        world.apply(&format!("1s pump k{key} \"{long}\""));
    }
    let out = world.apply("2s pump t 2").1;
    assert_eq!(out[0].description.len(), MAX_FILLED_BYTES);
    let bytes: usize = out[0].values.iter().map(|(_, v)| v.as_str().map_or(0, str::len)).sum();
    assert!(bytes <= MAX_VALUES_BYTES, "{bytes}");
    assert_eq!(bytes / MAX_TEXT_BYTES, MAX_VALUES_BYTES / MAX_TEXT_BYTES - 1);
    assert_eq!(&*out[0].values[0].0, "k0");
}
