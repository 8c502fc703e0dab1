//! `baken rules`: exit codes, what is printed, and the JUnit file.

use std::fs;
use std::path::{Path, PathBuf};

use super::harness::{baken, text};

const PROFILE: &str = r#"
name = "Pumps"
[[rules]]
key = "warm"
raise.major = { when = { key = "t", operator = ">", value = 80 } }
clear = { when = { key = "t", operator = "<", value = 70 } }
"#;

const GOOD: &str = "profile \"../pump.toml\"\n\
    scenario It gets warm\n1s pump t 85 -> raised major warm\n\
    scenario It cools down\n1s pump t 85 -> raised major warm\n2s pump t 60 -> cleared warm by rule\n";

const BAD: &str = "profile \"../pump.toml\"\n\
    scenario Warm & <hot>\n1s pump t 85 -> raised critical warm\n2s pump t 60\n";

/// Runs in a folder; exit code, standard output and standard error.
async fn run_in(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = baken().current_dir(dir).args(args).output().await.unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn write(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn scenarios_that_pass_end_with_0_and_are_found_in_folders() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write(dir, "pump.toml", PROFILE);
    write(dir, "tests/pump.scenario", GOOD);
    write(dir, "tests/deeper/more.scenario", &GOOD.replace("../", "../../"));
    write(dir, "tests/notes.txt", "no scenario");
    write(dir, "tests/.git/broken.scenario", "no scenario");
    let (code, out, err) = run_in(dir, &["rules", "test", "tests", "tests/pump.scenario"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let expected = "ok     tests/deeper/more.scenario:2  It gets warm\n\
        ok     tests/deeper/more.scenario:4  It cools down\n\
        ok     tests/pump.scenario:2  It gets warm\n\
        ok     tests/pump.scenario:4  It cools down\n\
        4 scenarios: 4 passed, 0 failed\n";
    assert_eq!(out, expected);
}

#[tokio::test]
async fn a_failed_scenario_ends_with_1_and_shows_what_differs() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write(dir, "pump.toml", PROFILE);
    write(dir, "tests/bad.scenario", BAD);
    write(dir, "tests/good.scenario", GOOD);
    let args = ["rules", "test", "tests", "--junit", "out.xml"];
    let (code, out, _) = run_in(dir, &args).await;
    assert_eq!(code, Some(1), "{out}");
    let expected = "FAILED tests/bad.scenario:2  Warm & <hot>\n       \
        line 3: 1s pump t 85 -> raised critical warm\n           \
        expected  raised critical warm\n           came      raised major warm\n       \
        line 4: 2s pump t 60\n           \
        expected  nothing\n           came      cleared warm by rule\n\
        ok     tests/good.scenario:2  It gets warm\n\
        ok     tests/good.scenario:4  It cools down\n\
        3 scenarios: 2 passed, 1 failed\n";
    assert_eq!(out, expected);
    let junit = fs::read_to_string(dir.join("out.xml")).unwrap();
    for part in [
        "<testsuites name=\"baken rules test\" tests=\"3\" failures=\"1\" errors=\"0\" time=\"",
        "<testsuite name=\"tests/bad.scenario\" tests=\"1\" failures=\"1\" errors=\"0\"",
        "name=\"Warm &amp; &lt;hot&gt;\" file=\"tests/bad.scenario\" line=\"2\"",
        "<failure type=\"scenario\" message=\"line 3: 1s pump t 85 -&gt; raised critical warm\">",
        "expected  raised critical warm&#10;",
        "name=\"It cools down\" file=\"tests/good.scenario\" line=\"4\"",
    ] {
        assert!(junit.contains(part), "no {part} in\n{junit}");
    }
    let opened = junit.matches("<testcase ").count();
    let closed = junit.matches("</testcase>").count() + junit.matches("\"/>").count();
    assert_eq!((opened, closed), (3, 3), "{junit}");
}

#[tokio::test]
async fn what_can_not_be_tested_ends_with_2() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write(dir, "pump.toml", PROFILE);
    write(dir, "tests/good.scenario", GOOD);
    write(dir, "tests/wrong.scenario", &format!("{GOOD}3s pomp\nwait\n"));
    let args = ["rules", "test", "tests", "--junit", "out.xml"];
    let (code, out, _) = run_in(dir, &args).await;
    assert_eq!(code, Some(2), "{out}");
    assert!(out.contains("error  tests/wrong.scenario:7: behind the time stands "), "{out}");
    assert!(out.contains("error  tests/wrong.scenario:8: `wait` is not understood"), "{out}");
    assert!(
        out.ends_with("2 scenarios: 2 passed, 0 failed; 1 file could not be tested\n"),
        "{out}"
    );
    let junit = fs::read_to_string(dir.join("out.xml")).unwrap();
    assert!(junit.contains("tests=\"4\" failures=\"0\" errors=\"2\""), "{junit}");
    assert!(junit.contains("file=\"tests/wrong.scenario\" line=\"8\""), "{junit}");

    fs::create_dir(dir.join("empty")).unwrap();
    let (code, out, _) = run_in(dir, &["rules", "test", "empty"]).await;
    assert_eq!(code, Some(2));
    assert!(out.starts_with("error  empty: there is no file that ends in .scenario\n"), "{out}");
    let (code, out, _) = run_in(dir, &["rules", "test", "gone.scenario"]).await;
    assert_eq!(code, Some(2));
    assert!(out.starts_with("error  gone.scenario: No such file"), "{out}");
    fs::write(dir.join("latin.scenario"), b"scenario \xe9").unwrap();
    let (code, out, _) = run_in(dir, &["rules", "test", "latin.scenario"]).await;
    assert_eq!(code, Some(2));
    assert!(out.contains("UTF-8"), "{out}");
    let good = ["rules", "test", "tests/good.scenario", "--junit", "none/out.xml"];
    let (code, _, err) = run_in(dir, &good).await;
    assert_eq!(code, Some(2), "the results could not be written");
    assert!(err.starts_with("baken: cannot write none/out.xml: No such file"), "{err}");
    let (code, _, err) = run_in(dir, &["rules", "test"]).await;
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("FILE_OR_FOLDER"), "{err}");
}

#[tokio::test]
async fn a_profile_is_checked_where_it_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write(dir, "good.toml", PROFILE);
    write(dir, "wrong.toml", &PROFILE.replace("\">\"", "\"=>\""));
    write(dir, "doubtful.toml", &PROFILE.replace("value = 70", "value = 90"));
    let (code, out, _) = run_in(dir, &["rules", "check", "good.toml"]).await;
    assert_eq!((code, out.as_str()), (Some(0), "good.toml is right\n"));
    let (code, out, _) = run_in(dir, &["rules", "check", "good.toml", "wrong.toml"]).await;
    assert_eq!(code, Some(1));
    let told =
        "wrong.toml: error: rules[0].raise.major.when.operator: unknown; the nearest known is `>=`";
    assert!(out.contains(told) && out.contains("and is `=>`"), "{out}");
    let (code, out, _) = run_in(dir, &["rules", "check", "doubtful.toml"]).await;
    assert_eq!(code, Some(0));
    assert!(out.starts_with("doubtful.toml: warning: rules[0].clear.when: also true"), "{out}");
    let (code, _, _) = run_in(dir, &["rules", "check", "--strict", "doubtful.toml"]).await;
    assert_eq!(code, Some(1));
    let (code, out, _) = run_in(dir, &["rules", "check", "gone.toml", "good.toml"]).await;
    assert_eq!(code, Some(2));
    assert!(out.starts_with("gone.toml: error: No such file"), "{out}");
}
