//! The results as JUnit XML, as pipelines read it: a test suite for each file, a
//! test case for each scenario, an error where a file could not be tested.

use std::fmt::Write as _;
use std::time::Duration;

use super::{TestedFile, details};

pub(super) fn report(files: &[TestedFile]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let total = files.iter().map(Counts::of).fold(Counts::default(), Counts::and);
    let _ = writeln!(text, "<testsuites name=\"baken rules test\"{}>", total.attributes());
    for file in files {
        suite(file, &mut text);
    }
    text.push_str("</testsuites>\n");
    text
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    took: Duration,
}

impl Counts {
    fn of(file: &TestedFile) -> Self {
        Self {
            tests: file.scenarios.len() + file.errors.len(),
            failures: file.scenarios.iter().filter(|tested| !tested.outcome.passed()).count(),
            errors: file.errors.len(),
            took: file.scenarios.iter().map(|tested| tested.took).sum(),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            tests: self.tests + other.tests,
            failures: self.failures + other.failures,
            errors: self.errors + other.errors,
            took: self.took + other.took,
        }
    }

    fn attributes(self) -> String {
        let Self { tests, failures, errors, took } = self;
        let seconds = took.as_secs_f64();
        format!(
            " tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{seconds:.6}\""
        )
    }
}

fn suite(file: &TestedFile, text: &mut String) {
    let path = escape(&file.path);
    let _ = writeln!(text, "  <testsuite name=\"{path}\"{}>", Counts::of(file).attributes());
    for (line, message) in &file.errors {
        let line = line.unwrap_or(1);
        let message = escape(message);
        let _ = writeln!(
            text,
            "    <testcase classname=\"{path}\" name=\"line {line}\" file=\"{path}\" line=\"{line}\">\n      \
             <error type=\"invalid\" message=\"{message}\">{path}:{line}: {message}</error>\n    </testcase>"
        );
    }
    for tested in &file.scenarios {
        let _ = write!(
            text,
            "    <testcase classname=\"{path}\" name=\"{}\" file=\"{path}\" line=\"{}\" time=\"{:.6}\"",
            escape(&tested.name),
            tested.line,
            tested.took.as_secs_f64()
        );
        let Some(first) = tested.outcome.failures.first() else {
            text.push_str("/>\n");
            continue;
        };
        let message = format!("line {}: {}", first.line, first.input);
        let _ = writeln!(
            text,
            ">\n      <failure type=\"scenario\" message=\"{}\">{}</failure>\n    </testcase>",
            escape(&message),
            escape(&details(&tested.outcome))
        );
    }
    text.push_str("  </testsuite>\n");
}

/// Text for an attribute or an element. What XML 1.0 has no way to write
/// becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            '\r' => escaped.push_str("&#13;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_xml_is_escaped() {
        let text = escape("a < b && \"c\" > 'd'\n\u{0}é\u{ffff}");
        assert_eq!(
            text,
            "a &lt; b &amp;&amp; &quot;c&quot; &gt; &apos;d&apos;&#10;\u{fffd}é\u{fffd}"
        );
    }

    #[test]
    fn an_error_is_a_case_with_its_line() {
        let file = TestedFile {
            path: "a&b.scenario".to_owned(),
            scenarios: Vec::new(),
            errors: vec![(Some(7), "`<` is not understood".to_owned())],
        };
        let text = report(&[file]);
        for part in [
            "<testsuites name=\"baken rules test\" tests=\"1\" failures=\"0\" errors=\"1\" ",
            "<testsuite name=\"a&amp;b.scenario\" tests=\"1\"",
            "file=\"a&amp;b.scenario\" line=\"7\">",
            "message=\"`&lt;` is not understood\"",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
