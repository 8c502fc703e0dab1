//! The words of both languages that stand in no template: they are chosen by a
//! fact, and the same in every template.

use schema::{ClearReason, Language, Severity};
use serde_json::Value;

use super::limits::MAX_VALUE_CHARS;
use super::text::line;

const WEEKDAYS_NL: [&str; 7] = ["ma", "di", "wo", "do", "vr", "za", "zo"];
const WEEKDAYS_EN: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS_NL: [&str; 12] = [
    "januari",
    "februari",
    "maart",
    "april",
    "mei",
    "juni",
    "juli",
    "augustus",
    "september",
    "oktober",
    "november",
    "december",
];
const MONTHS_EN: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const SHORT_MONTHS_NL: [&str; 12] =
    ["jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"];

/// Of a day of the week, counted from 0 for Monday.
pub(super) fn weekday(language: Language, day: usize) -> &'static str {
    match language {
        Language::Nl => WEEKDAYS_NL[day % 7],
        Language::En => WEEKDAYS_EN[day % 7],
    }
}

/// Of a month, counted from 0 for January.
pub(super) fn month(language: Language, month: usize) -> &'static str {
    match language {
        Language::Nl => MONTHS_NL[month % 12],
        Language::En => MONTHS_EN[month % 12],
    }
}

pub(super) fn short_month(language: Language, number: usize) -> &'static str {
    match language {
        Language::Nl => SHORT_MONTHS_NL[number % 12],
        Language::En => &MONTHS_EN[number % 12][..3],
    }
}

pub(super) fn severity(language: Language, severity: Severity) -> &'static str {
    match (language, severity) {
        (Language::Nl, Severity::Critical) => "Kritiek",
        (Language::Nl, Severity::Major) => "Ernstig",
        (Language::Nl, Severity::Minor) => "Licht",
        (Language::Nl, Severity::Warning) => "Waarschuwing",
        (Language::Nl, Severity::Indeterminate) => "Onbepaald",
        (Language::En, Severity::Critical) => "Critical",
        (Language::En, Severity::Major) => "Major",
        (Language::En, Severity::Minor) => "Minor",
        (Language::En, Severity::Warning) => "Warning",
        (Language::En, Severity::Indeterminate) => "Indeterminate",
    }
}

/// So many of a severity, such as "3 waarschuwingen" or "1 critical".
pub(super) fn counted(language: Language, of: Severity, count: usize) -> String {
    let name = severity(language, of).to_lowercase();
    let ending = match (language, of) {
        (Language::Nl, Severity::Warning) if count != 1 => "en",
        (Language::En, Severity::Warning) if count != 1 => "s",
        _ => "",
    };
    format!("{count} {name}{ending}")
}

/// A colour for the severity on which white text can be read (a contrast of at
/// least 4.5 by WCAG 2), so that it does in light and in dark.
pub(super) fn color(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "#b3261e",
        Severity::Major => "#a84300",
        Severity::Minor => "#856000",
        Severity::Warning => "#6f6400",
        Severity::Indeterminate => "#5f6368",
    }
}

/// Why an alarm is over.
pub(super) fn clear_reason(language: Language, reason: ClearReason, by: Option<&str>) -> String {
    let known = match (language, reason) {
        (Language::Nl, ClearReason::Condition) => "de toestand is weer normaal",
        (Language::Nl, ClearReason::Time) => "vanzelf afgelopen, omdat het niet opnieuw optrad",
        (Language::Nl, ClearReason::Person) => "handmatig beëindigd",
        (Language::Nl, ClearReason::RuleRemoved) => "de alarmregel is verwijderd",
        (Language::Nl, ClearReason::DeviceRemoved) => "het apparaat is verwijderd",
        (Language::En, ClearReason::Condition) => "the condition is back to normal",
        (Language::En, ClearReason::Time) => "ended by itself, because it did not recur",
        (Language::En, ClearReason::Person) => "cleared by hand",
        (Language::En, ClearReason::RuleRemoved) => "the alarm rule was removed",
        (Language::En, ClearReason::DeviceRemoved) => "the device was removed",
    };
    match (language, by) {
        (_, None) => known.to_owned(),
        (Language::Nl, Some(by)) => format!("{known} door {by}"),
        (Language::En, Some(by)) => format!("{known} by {by}"),
    }
}

/// In the two largest units that matter, such as "2 uur 5 min".
pub(super) fn duration(language: Language, ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let minutes = seconds / 60 % 60;
    let (day, hour) = match language {
        Language::Nl => (if days == 1 { "dag" } else { "dagen" }, "uur"),
        Language::En => (if days == 1 { "day" } else { "days" }, "h"),
    };
    let (first, second) = match (days, hours, minutes) {
        (0, 0, 0) => (format!("{seconds} s"), String::new()),
        (0, 0, _) => (format!("{minutes} min"), String::new()),
        (0, _, 0) => (format!("{hours} {hour}"), String::new()),
        (0, _, _) => (format!("{hours} {hour}"), format!(" {minutes} min")),
        (_, 0, _) => (format!("{days} {day}"), String::new()),
        (_, _, _) => (format!("{days} {day}"), format!(" {hours} {hour}")),
    };
    first + &second
}

/// A value as a person of the language reads it: a decimal comma in Dutch, no
/// more than six decimals.
pub(super) fn value(language: Language, value: &Value) -> String {
    match (value, language) {
        (Value::Null, Language::Nl) => "geen waarde".to_owned(),
        (Value::Null, Language::En) => "no value".to_owned(),
        (Value::Bool(true), Language::Nl) => "ja".to_owned(),
        (Value::Bool(false), Language::Nl) => "nee".to_owned(),
        (Value::Bool(true), Language::En) => "yes".to_owned(),
        (Value::Bool(false), Language::En) => "no".to_owned(),
        (Value::Number(number), _) => {
            let text = match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => decimal(float),
                None => number.to_string(),
            };
            if language == Language::Nl { text.replacen('.', ",", 1) } else { text }
        }
        (Value::String(text), _) => line(text, MAX_VALUE_CHARS),
        (Value::Array(_) | Value::Object(_), _) => line(&value.to_string(), MAX_VALUE_CHARS),
    }
}

/// Without the noise of binary fractions (0.1 + 0.2 is 0.3), and by powers of ten
/// where it is very large or small.
fn decimal(float: f64) -> String {
    let size = float.abs();
    if float != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{float:e}");
    }
    let text = format!("{float:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_said_in_two_units_at_most() {
        let (nl, en) = (Language::Nl, Language::En);
        for (seconds, in_nl, in_en) in [
            (-5, "0 s", "0 s"),
            (59, "59 s", "59 s"),
            (60, "1 min", "1 min"),
            (3_599, "59 min", "59 min"),
            (3_600, "1 uur", "1 h"),
            (7_500, "2 uur 5 min", "2 h 5 min"),
            (86_400, "1 dag", "1 day"),
            (2 * 86_400 + 3_600 + 60, "2 dagen 1 uur", "2 days 1 h"),
        ] {
            assert_eq!(duration(nl, seconds * 1_000), in_nl);
            assert_eq!(duration(en, seconds * 1_000), in_en);
        }
    }

    #[test]
    fn values_are_written_as_the_language_writes_them() {
        for (json, in_nl, in_en) in [
            (json!(1.8), "1,8", "1.8"),
            (json!(0.1 + 0.2), "0,3", "0.3"),
            (json!(-0.0000001), "-1e-7", "-1e-7"),
            (json!(-0.0), "0", "0"),
            (json!(20.0), "20", "20"),
            (json!(1.5e300), "1,5e300", "1.5e300"),
            (json!(9_007_199_254_740_993_u64), "9007199254740993", "9007199254740993"),
            (json!(true), "ja", "yes"),
            (json!(null), "geen waarde", "no value"),
            (json!("open\nclosed"), "open closed", "open closed"),
        ] {
            assert_eq!(value(Language::Nl, &json), in_nl);
            assert_eq!(value(Language::En, &json), in_en);
        }
    }

    #[test]
    fn counts_of_warnings_are_plural() {
        assert_eq!(counted(Language::Nl, Severity::Warning, 1), "1 waarschuwing");
        assert_eq!(counted(Language::Nl, Severity::Warning, 2), "2 waarschuwingen");
        assert_eq!(counted(Language::En, Severity::Critical, 2), "2 critical");
    }

    #[test]
    fn white_can_be_read_on_every_color() {
        for severity in Severity::WORST_FIRST {
            let part = |at: usize| {
                let hex = &color(severity)[at..at + 2];
                let value = f64::from(u8::from_str_radix(hex, 16).unwrap()) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            let luminance = 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
            let contrast = 1.05 / (luminance + 0.05);
            assert!(contrast >= 4.5, "{severity}: {contrast}");
        }
    }
}
