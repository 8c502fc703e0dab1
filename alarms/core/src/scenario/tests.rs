//! The language: what is understood, what is refused with which words, and how
//! a failure reads.

use super::{Outcome, Scenario, parse};

const PROFILE: &str = r#"
profile
name = "Pumps"
[[rules]]
key = "warm"
description = "${device} is at ${t}"
raise.critical = { when = { key = "t", operator = ">", value = 90 } }
raise.major = { when = { key = "t", operator = ">", value = 80 } }
clear = { when = { key = "t", operator = "<", value = 70 } }
end
"#;

fn scenarios(text: &str) -> Result<Vec<Scenario>, Vec<String>> {
    let read = &mut |name: &str| match name {
        "pump.toml" => Ok(PROFILE.replace("profile\n", "").replace("end\n", "")),
        "wrong.toml" => Ok("name = 5".to_owned()),
        _ => Err("No such file".to_owned()),
    };
    let told = parse("a.scenario", text, read);
    told.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// The outcome of one scenario with these lines.
fn run(lines: &str) -> Outcome {
    scenarios(&format!("{PROFILE}scenario one\n{lines}")).unwrap()[0].run()
}

#[track_caller]
fn passes(lines: &str) {
    let outcome = run(lines);
    assert!(outcome.passed(), "{:#?}", outcome.failures);
}

/// Asserts what the first failure says.
#[track_caller]
fn fails(lines: &str, message: &str) {
    let outcome = run(lines);
    assert!(!outcome.passed(), "it passed");
    assert_eq!(outcome.failures[0].message, message);
}

/// Asserts that one line says so.
#[track_caller]
fn refused(text: &str, message: &str) {
    let errors = scenarios(text).expect_err("it was understood");
    assert!(errors.iter().any(|error| error.contains(message)), "{errors:#?}");
}

#[test]
fn a_failure_shows_the_line_what_was_expected_and_what_came() {
    let outcome = run("1s pump t 85 -> raised critical warm\n2s pump t 60 -> cleared warm by rule");
    assert_eq!(outcome.transitions, 2);
    assert_eq!(outcome.failures.len(), 1);
    let text = outcome.failures[0].to_string();
    assert_eq!(
        text,
        "line 12: 1s pump t 85 -> raised critical warm\n    \
         expected  raised critical warm\n    came      raised major warm"
    );
    fails("1s pump t 85", "expected  nothing\ncame      raised major warm");
    fails("1s pump t 5 -> raised major warm", "expected  raised major warm\ncame      nothing");
    fails(
        "1s pump t 95 -> raised critical warm; updated warm",
        "          raised critical warm\nexpected  updated warm",
    );
    fails(
        "1s pump t 95 -> raised critical warm @2s",
        "expected  raised critical warm @2s\ncame      raised critical warm",
    );
    fails(
        "1s pump t 95 -> raised critical warm \"hot\"",
        "expected  raised critical warm \"hot\"\ncame      raised critical warm \"pump is at 95\"",
    );
    fails(
        "1s pump t 95 -> fan raised critical warm",
        "expected  fan raised critical warm\ncame      raised critical warm",
    );
}

#[test]
fn expectations_between_lines() {
    passes(
        "1s pump t 95 -> anything\nexpect active: pump/warm critical\n2s pump t 50 -> anything\nexpect active: none",
    );
    fails(
        "1s pump t 95 -> anything\nexpect active: none",
        "expected  none\ncame      pump/warm critical",
    );
    fails(
        "1s pump t 95 -> anything\nexpect active: pump/warm critical acknowledged",
        "expected  pump/warm critical acknowledged\ncame      pump/warm critical",
    );
    fails("1s pump t 5\nexpect late: 1", "expected 1 late readings, and there were 0");
    fails(
        "1s pump t 5 -> nothing\nexpect repeated: 2",
        "expected 2 repeated readings, and there were 0",
    );
    fails("1s do clear pump warm eva", "no alarm of `pump` for `warm` was raised before");
    fails("1s delete pump", "there is no device `pump` yet");
}

#[test]
fn names_and_values_may_have_spaces_and_anything_else() {
    passes(
        "1s \"Pump 1\" t 95 -> raised critical warm \"Pump 1 is at 95\"  # a comment\n\
         2s \"clock\" t 95 -> raised critical warm\n\
         expect active: \"Pump 1/warm\" critical; clock/warm critical\n\
         3s \"Pump 1\" note \"a; b # c -> \\\"d\\\"\" json {\"a\":[1,2]}\n\
         4s do comment \"Pump 1\" warm \"Eva M.\" \"seen; it's fine\" -> commented warm \"seen; it's fine\"",
    );
}

#[test]
fn times_are_since_the_start_or_of_the_calendar() {
    let text = format!(
        "start 2026-03-01T00:00:00Z\n{PROFILE}scenario one\n\
         2026-03-01T01:00:00+01:00 pump t 85 -> raised major warm\n\
         1h pump t 60 -> cleared warm by rule @2026-03-01T01:00:00Z"
    );
    let outcome = scenarios(&text).unwrap()[0].run();
    assert!(outcome.passed(), "{outcome:#?}");
    let head = format!("{PROFILE}scenario one\n");
    refused(
        &format!("{head}2020-01-01T00:00:00Z clock"),
        "is before the start, 2026-01-05T00:00:00Z",
    );
    refused(&format!("{head}9999-01-01T00:00:00Z clock"), "is not between 1970-01-01");
    refused(&format!("{head}5 clock"), "`5` is no duration");
    refused(&format!("{head}99999999d clock"), "is no duration");
    refused(&format!("{head}5s clock\n4s clock"), "lines stand in the order in which they come in");
    refused(&format!("{head}5s@6s clock"), "only what a device sends has a time of its own");
}

#[test]
fn profiles_come_from_blocks_and_files_and_their_errors_name_the_line() {
    let file = "profile \"pump.toml\"\nscenario one\n1s p t 85 -> raised major warm";
    assert!(scenarios(file).unwrap()[0].run().passed());
    refused(
        "profile \"none.toml\"\nscenario a\n1s clock",
        "a.scenario:1: none.toml can't be read: No such file",
    );
    refused(
        "profile \"wrong.toml\"\nscenario a\n1s clock",
        "wrong.toml: the profile is refused: name: line 1: invalid type",
    );
    refused(
        "profile\nname = \"p\"\nrools = []\nend\nscenario a\n1s clock",
        "a.scenario:3: the profile is refused: rools: unknown field `rools`",
    );
    let text = PROFILE.replace("clear =", "# clear =");
    refused(
        &format!("{text}scenario a\n1s clock"),
        "a.scenario:2: the profile is refused: rules[0].clear: a rule needs a clear",
    );
    refused("profile\nname = \"p\"\nscenario a", "has no `end` line");
    refused("scenario a\n1s clock", "a.scenario:1: the scenario has no profile");
    refused(&format!("{PROFILE}{PROFILE}scenario a\n1s clock"), "profile `profile` is here twice");
}

#[test]
fn wrong_lines_say_what_is_allowed_and_all_are_told() {
    refused("", "there is no scenario: one begins with `scenario NAME`");
    refused(PROFILE, "there is no scenario");
    refused(&format!("{PROFILE}scenario a"), "the scenario tests nothing");
    refused(&format!("{PROFILE}1s clock"), "this line belongs to a scenario");
    refused(
        &format!("{PROFILE}scenario a\n1s clock\nscenario a\n1s clock"),
        "line 11 has a scenario of that name",
    );
    let head = format!("{PROFILE}scenario one\n");
    for (line, message) in [
        ("wait 5s", "`wait` is not understood; a line begins with a time"),
        ("1s pump", "behind the time stands `DEVICE KEY VALUE"),
        ("1s pump t", "`t` has no value"),
        ("1s pump t 1 u", "`u` has no value"),
        ("1s clock now 5 6", "`clock` is no device here"),
        ("1s do ignore pump warm eva", "it reads `do acknowledge|"),
        ("1s do shelve pump warm eva never", "`never` is no duration"),
        ("1s pump t 1 -> raised terrible warm", "`terrible` is no severity"),
        ("1s pump t 1 -> cleared warm", "expected is `raised SEVERITY RULE`"),
        ("1s pump t 1 -> rised major warm", "`rised major warm` is not understood"),
        ("1s pump t 1 ->", "nothing stands behind the arrow"),
        ("1s pump t 1 -> updated warm -> updated warm", "one arrow at most"),
        ("1s pump t 1 -> updated warm at 5s", "`at` is not understood; behind a transition"),
        ("1s location North limit 5", "there is no location `North`; known are location"),
        ("1s place Yard Mars", "`Mars` is no IANA time zone"),
        (
            "1s place Yard UTC group",
            "it reads `place [LOCATION] NAME Europe/Amsterdam [group GROUP]…`",
        ),
        ("1s place Yard UTC group a b c", "it reads `place [LOCATION] NAME"),
        ("1s place Yard UTC group \" a\"", "` a` is no group's name: 1 to 64 bytes"),
        ("1s place Yard UTC group a group a", "`a` is one too many"),
        ("1s pump t \"5", "a quote has no end"),
        ("expect active", "it reads `expect active: none`"),
        ("expect active: pump critical", "it reads `expect active: none`"),
        ("1s clock\nstart 2026-01-05T00:00:00Z", "stands before the scenario's first line"),
        ("1s clock\ndevice a", "stands before the scenario's first line"),
        ("device a id 0", "`0` is no id"),
        ("device a colour red", "`colour` is not understood; allowed are"),
        ("location a zone Mars", "`Mars` is no IANA time zone"),
        ("location a group \"\"", "`` is no group's name"),
        ("location a group b group b", "a location is in at most 32 groups, in each once"),
    ] {
        refused(&format!("{head}{line}"), message);
    }
    let errors = scenarios(&format!("{head}wait\n1s pump\n2s clock")).unwrap_err();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with("a.scenario:12: ") && errors[1].starts_with("a.scenario:13: "));
}

#[test]
fn a_file_too_large_is_refused() {
    refused(&"#".repeat(super::MAX_FILE_BYTES + 1), "has at most 4194304 bytes");
}

/// Cuts and mutations of a file that has all kinds of lines: any answer is right
/// but a panic.
#[test]
fn no_text_makes_it_panic() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    let text = format!(
        "start 2026-01-05T00:00:00Z\ngrace 1s\nlocation \"Hall 3\" zone Europe/Amsterdam id 3 group Coast\n\
         device pump type pump location \"Hall 3\" id 9\n{PROFILE}scenario one\n\
         1s pump t 85 p -1.5 on true -> raised major warm \"pump is at 85\" @1s\n\
         1s@2s pump shared limit 80\n3s location limit 4\n4s tenant limit -\n5s do acknowledge pump warm eva -> anything\n\
         6s do shelve pump warm eva 1h -> shelved warm until 1h\n7s do assign pump warm eva - -> anything\n\
         8s describe pump pomp fan\n9s place \"Hall 3\" Yard UTC group Coast\n10s profile gone -> anything\n11s clock\n\
         restart\nreplay\nexpect active: none\nexpect late: 0\n12s delete pomp\n"
    );
    let seed = 20_260_105;
    let mut random = StdRng::seed_from_u64(seed);
    let alphabet: Vec<char> = "0 59sd@-;\"\\\n#{}é>/T:Z".chars().collect();
    for _ in 0..3_000 {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..random.random_range(1..4) {
            let place = random.random_range(0..chars.len());
            match random.random_range(0..3) {
                0 => chars[place] = alphabet[random.random_range(0..alphabet.len())],
                1 => chars.insert(place, alphabet[random.random_range(0..alphabet.len())]),
                _ => chars.truncate(place.max(1)),
            }
        }
        let mutated: String = chars.into_iter().collect();
        for scenario in scenarios(&mutated).unwrap_or_default() {
            let _ = scenario.run_with_restarts();
        }
    }
}
