//! The decoder against a slow evaluator over random JSON trees.
//!
//! The tree is printed by the test itself, so no parser is shared. Where a
//! decoder that reads on as it goes may refuse what the evaluator, which sees
//! the whole, would pass over (a repeated key whose first value is bad), only
//! one direction is demanded.

use std::fmt::Write as _;

use proptest::prelude::*;
use schema::Value;

use super::*;

#[derive(Clone, Debug)]
enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

const MAX_NESTING: usize = 2;
const TIMES: [&str; 5] =
    ["1763999999000", "1763999998000.0", "\"1763999997000\"", "17", "1799999999000"];

impl Json {
    fn print(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(bool) => write!(out, "{bool}").unwrap(),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => print_text(text, out),
            Self::List(list) => {
                out.push('[');
                for (index, element) in list.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { " ,\n" });
                    element.print(out);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if index == 0 { " " } else { "," });
                    print_text(key, out);
                    out.push_str(" :\t");
                    value.print(out);
                }
                out.push('}');
            }
        }
    }

    fn printed(&self) -> String {
        let mut out = String::new();
        self.print(&mut out);
        out
    }

    fn depth(&self) -> usize {
        match self {
            Self::List(list) => 1 + list.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(entries) => 1 + entries.iter().map(|(_, v)| v.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn is_finite(&self) -> bool {
        match self {
            Self::Number(number) => number.parse::<f64>().unwrap().is_finite(),
            Self::List(list) => list.iter().all(Self::is_finite),
            Self::Object(entries) => entries.iter().all(|(_, value)| value.is_finite()),
            _ => true,
        }
    }
}

fn print_text(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => write!(out, "\\{char}").unwrap(),
            '\u{0}'..='\u{1f}' | 'q' => write!(out, "\\u{:04x}", u32::from(char)).unwrap(),
            '😀' => out.push_str("\\ud83d\\ude00"),
            _ => out.push(char),
        }
    }
    out.push('"');
}

type Line = (u64, String, i64, String);

/// The entries of an object with the last value of each key.
fn last_wins(entries: &[(String, Json)]) -> Vec<(&str, &Json)> {
    let mut kept: Vec<(&str, &Json)> = Vec::new();
    for (key, value) in entries {
        kept.retain(|(earlier, _)| *earlier != key.as_str());
        kept.push((key, value));
    }
    kept
}

fn evaluate_values(
    device: u64,
    at: i64,
    entries: &[(&str, &Json)],
    lines: &mut Vec<Line>,
) -> Option<()> {
    for (key, value) in entries {
        if key.is_empty() {
            return None;
        }
        let value = match value {
            Json::Null => continue,
            Json::Bool(bool) => format!("{:?}", Value::Boolean(*bool)),
            Json::Number(number) if number.contains(['.', 'e', 'E']) => {
                let float: f64 = number.parse().unwrap();
                if !float.is_finite() {
                    return None;
                }
                format!("{:?}", Value::Number(float))
            }
            Json::Number(number) => match number.parse() {
                Ok(integer) => format!("{:?}", Value::Integer(integer)),
                Err(_) => format!("{:?}", Value::Text(number)),
            },
            Json::Text(text) => format!("{:?}", Value::Text(text)),
            nested => {
                if nested.depth() > MAX_NESTING || !nested.is_finite() {
                    return None;
                }
                format!("{:?}", Value::Json(&nested.printed()))
            }
        };
        lines.push((device, (*key).to_owned(), at, value));
    }
    Some(())
}

/// Adds the lines of an object; returns whether it is left out for its time.
fn evaluate_object(
    device: u64,
    entries: &[(String, Json)],
    gateway: bool,
    lines: &mut Vec<Line>,
) -> Option<bool> {
    let mut entries = last_wins(entries);
    if gateway {
        entries.retain(|(key, _)| *key != "metadata");
    }
    let find = |name| entries.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    match (find("ts"), find("values")) {
        (Some(ts), Some(Json::Object(values))) => {
            let printed = ts.printed();
            let printed = printed.trim_matches('"');
            if !printed.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit()) {
                return None;
            }
            let ts: f64 = printed.parse().ok()?;
            let ahead_ms = ts - NOW.0 as f64;
            if (-365.0 * 86_400_000.0..=86_400_000.0).contains(&ahead_ms) {
                evaluate_values(device, ts as i64, &last_wins(values), lines)?;
                return Some(false);
            }
            evaluate_values(device, 0, &last_wins(values), &mut Vec::new())?;
            Some(true)
        }
        (Some(_), Some(_)) => None,
        _ => evaluate_values(device, NOW.0, &entries, lines).map(|()| false),
    }
}

/// The lines of a list's objects, unless it is bad or nothing is left of it.
fn evaluate_list(device: u64, list: &[Json], gateway: bool) -> Option<Vec<Line>> {
    let (mut lines, mut left_out) = (Vec::new(), false);
    for element in list {
        let Json::Object(entries) = element else { return None };
        left_out |= evaluate_object(device, entries, gateway, &mut lines)?;
    }
    (!left_out || !lines.is_empty()).then_some(lines)
}

fn evaluate(json: &Json) -> Option<Vec<Line>> {
    let mut lines = match json {
        Json::Object(_) => evaluate_list(ME.0, std::slice::from_ref(json), false)?,
        Json::List(list) => evaluate_list(ME.0, list, false)?,
        _ => return None,
    };
    lines.sort();
    Some(lines)
}

/// The lines of the good parts, and how many parts are bad.
fn evaluate_gateway(json: &Json) -> Option<(Vec<Line>, usize)> {
    let Json::Object(parts) = json else { return None };
    let (mut lines, mut bad) = (Vec::new(), 0);
    for (name, part) in parts {
        let evaluated = match (name.strip_prefix('D').and_then(|n| n.parse().ok()), part) {
            (Some(device), Json::List(list)) => evaluate_list(device, list, true),
            _ => None,
        };
        match evaluated {
            Some(mut of_part) => lines.append(&mut of_part),
            None => bad += 1,
        }
    }
    lines.sort();
    (bad == 0 || bad < parts.len()).then_some((lines, bad))
}

/// Whether no object repeats a key or holds one that is passed over.
fn is_plain(json: &Json) -> bool {
    match json {
        Json::List(list) => list.iter().all(is_plain),
        Json::Object(entries) => {
            let has = |name: &str| entries.iter().any(|(key, _)| key == name);
            last_wins(entries).len() == entries.len()
                && (entries.len() == 2 || !(has("ts") && has("values")))
                && entries.iter().all(|(_, value)| is_plain(value))
        }
        _ => true,
    }
}

/// Whether a number that no float can be stands where no number may: the JSON
/// reader itself stumbles over it, which is bad for the whole message.
fn stumbles(part: &Json) -> bool {
    let infinite = |json: &Json| matches!(json, Json::Number(_)) && !json.is_finite();
    let in_object = |json: &Json| match json {
        Json::Object(entries) => entries.iter().any(|(key, v)| key == "values" && infinite(v)),
        other => infinite(other),
    };
    match part {
        Json::List(list) => list.iter().any(in_object),
        other => in_object(other),
    }
}

fn lines_of(bench: &mut Bench) -> Vec<Line> {
    let mut names = Vec::new();
    bench.table.extend_names(&mut names);
    let mut lines: Vec<Line> = bench
        .rows
        .as_slice()
        .iter()
        .map(|row| {
            let value = format!("{:?}", bench.rows.value(row).unwrap());
            (row.device.0, names[row.key.index()].to_string(), row.observed_at.0, value)
        })
        .collect();
    lines.sort();
    lines
}

fn leaf() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(|integer| Json::Number(integer.to_string())),
        "-?[1-9][0-9]{15,24}".prop_map(Json::Number),
        "-?(0|[1-9][0-9]{0,4})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?".prop_map(Json::Number),
        Just(Json::Number("1e999".to_owned())),
        prop::num::f64::NORMAL.prop_map(|float| Json::Number(format!("{float:e}"))),
        "[a-q\"\\\\ü😀\u{0}-\u{1f}0-9.]{0,6}".prop_map(Json::Text),
    ]
}

fn tree() -> impl Strategy<Value = Json> {
    let key = prop_oneof![8 => "[a-fq]", 1 => Just("ü😀".to_owned()), 1 => "[a-f]{0,2}"];
    leaf().prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Json::List),
            prop::collection::vec((key.clone(), inner), 0..4).prop_map(Json::Object),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => "[a-hq]",
        1 => Just("ts".to_owned()),
        1 => Just("values".to_owned()),
        1 => Just("metadata".to_owned()),
        1 => Just(String::new()),
    ]
}

fn time() -> impl Strategy<Value = Json> {
    prop_oneof![
        9 => prop::sample::select(&TIMES[..]).prop_map(|time| match time.strip_prefix('"') {
            Some(text) => Json::Text(text.trim_end_matches('"').to_owned()),
            None => Json::Number(time.to_owned()),
        }),
        1 => leaf(),
    ]
}

fn object() -> impl Strategy<Value = Json> {
    let plain = || prop::collection::vec((key(), tree()), 0..5);
    let values = prop_oneof![9 => plain().prop_map(Json::Object), 1 => tree()];
    let timestamped = (time(), values, any::<bool>(), plain(), 0..4usize).prop_map(
        |(ts, values, ts_first, others, with_others)| {
            let mut entries = vec![("ts".to_owned(), ts), ("values".to_owned(), values)];
            if !ts_first {
                entries.reverse();
            }
            if with_others == 0 {
                let at = others.len().min(1);
                entries.splice(at..at, others);
            }
            Json::Object(entries)
        },
    );
    prop_oneof![plain().prop_map(Json::Object), timestamped]
}

fn list() -> impl Strategy<Value = Json> {
    let element = prop_oneof![12 => object(), 1 => tree()];
    prop::collection::vec(element, 0..4).prop_map(Json::List)
}

fn gateway() -> impl Strategy<Value = Json> {
    let part = prop_oneof![6 => list(), 1 => tree()];
    prop::collection::vec(("(D[1-9]|Dx)", part), 0..4).prop_map(Json::Object)
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.limits.max_nesting = MAX_NESTING;
    bench.settings.numbers_from_text = false;
    bench
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn telemetry_is_what_the_slow_evaluator_says(json in prop_oneof![3 => object(), 3 => list(), 1 => tree()]) {
        let mut bench = bench();
        let payload = json.printed();
        let result = bench.telemetry(payload.as_bytes());
        let expected = evaluate(&json);
        match (&result, &expected) {
            (Ok(_), _) => prop_assert_eq!(Some(lines_of(&mut bench)), expected, "{}", payload),
            (Err(error), Some(_)) => prop_assert!(!is_plain(&json), "{payload}\n{error}"),
            (Err(_), None) => {}
        }
        prop_assert!(result.is_ok() || bench.rows.is_empty());
    }

    #[test]
    fn gateway_telemetry_is_what_the_slow_evaluator_says(json in gateway()) {
        let mut bench = bench();
        let payload = json.printed();
        let result = bench.gateway_telemetry(payload.as_bytes());
        let expected = evaluate_gateway(&json);
        let Json::Object(parts) = &json else { unreachable!() };
        if parts.iter().all(|(_, part)| is_plain(part) && !stumbles(part)) {
            let got = result.as_ref().ok().map(|parts| (lines_of(&mut bench), parts.rejected.len()));
            prop_assert_eq!(got, expected, "{}", payload);
        } else if result.is_ok() {
            let all = expected.map(|(lines, _)| lines).unwrap_or_default();
            for line in lines_of(&mut bench) {
                prop_assert!(all.contains(&line), "{line:?} in {payload}");
            }
        }
        prop_assert!(result.is_ok() || bench.rows.is_empty());
    }
}
