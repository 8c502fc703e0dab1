//! A backtest's result as tables on standard output.

use std::io;

use schema::DurationMs;

use crate::api::backtests::{AlarmShown, DifferenceShown, ResultShown, RuleShown, SpanShown};
use crate::command::Output;

/// The most alarms, and of each kind of difference, that are printed; the JSON
/// file has them all.
const MAX_PRINTED: usize = 200;

pub(super) fn print(name: &str, result: &ResultShown, output: &mut Output) -> io::Result<()> {
    output.line(&format!(
        "{name}, from {} to {}: {} readings of {} devices at {} locations, evaluated from {} on",
        time(result.from),
        time(result.to),
        result.readings,
        result.devices,
        result.locations,
        time(result.warm_up_from),
    ))?;
    output.line("")?;
    alarms(result, output)?;
    output.line("")?;
    rules(result, output)?;
    if let Some(difference) = &result.difference {
        output.line("")?;
        differences(difference, output)?;
    }
    output.line("")?;
    for assumption in &result.assumptions {
        output.line(&format!("Note: {assumption}"))?;
    }
    Ok(())
}

fn alarms(result: &ResultShown, output: &mut Output) -> io::Result<()> {
    if result.alarms.is_empty() {
        return output.line("No alarm would have been raised.");
    }
    let row = |alarm: &AlarmShown| {
        let end = alarm.cleared_at.unwrap_or(result.to);
        vec![
            time(alarm.raised_at),
            alarm.cleared_at.map_or_else(|| "active".to_owned(), time),
            length(end.saturating_sub(alarm.raised_at)),
            alarm.peak.clone(),
            alarm.rule.clone(),
            plain(alarm.device_name.as_deref().unwrap_or("-")),
            plain(alarm.location_name.as_deref().unwrap_or("-")),
            plain(&alarm.description),
        ]
    };
    let rows: Vec<_> = result.alarms.iter().take(MAX_PRINTED).map(row).collect();
    let headings =
        ["raised", "cleared", "for", "severity", "rule", "device", "location", "description"];
    output.table(&headings, &rows)?;
    let more = result.totals.alarms.saturating_sub(rows.len() as u64);
    if more > 0 {
        output.line(&format!("… and {more} more"))?;
    }
    Ok(())
}

fn rules(result: &ResultShown, output: &mut Output) -> io::Result<()> {
    let totals = &result.totals;
    let row = |rule: &RuleShown| {
        let severities = rule.by_severity.iter();
        let severities: Vec<_> =
            severities.map(|count| format!("{} {}", count.alarms, count.severity)).collect();
        vec![
            rule.rule.clone(),
            rule.alarms.to_string(),
            severities.join(", "),
            length(i64::try_from(rule.active_ms).unwrap_or(i64::MAX)),
            rule.active_at_end.to_string(),
            rule.chattering_devices.to_string(),
            rule.suppressions.to_string(),
        ]
    };
    if !totals.rules.is_empty() {
        let rows: Vec<_> = totals.rules.iter().map(row).collect();
        let headings = [
            "rule",
            "alarms",
            "by severity",
            "time active",
            "active at end",
            "chattering devices",
            "suppressed as flapping",
        ];
        output.table(&headings, &rows)?;
        output.line("")?;
    }
    output.line(&format!(
        "{} alarms, {} active in all; {} active at the end; {} were active before the period began",
        totals.alarms,
        length(i64::try_from(totals.active_ms).unwrap_or(i64::MAX)),
        totals.active_at_end,
        totals.active_at_start,
    ))
}

fn differences(difference: &DifferenceShown, output: &mut Output) -> io::Result<()> {
    output.line(&format!(
        "Beside what was really raised: {} the same, {} changed, {} only in the backtest, {} only in \
         reality",
        difference.same,
        difference.changed,
        difference.only_in_backtest,
        difference.only_in_reality,
    ))?;
    let cells = |span: &SpanShown| {
        let cleared = span.cleared_at.map_or_else(|| "active".to_owned(), time);
        vec![
            span.device.to_string(),
            span.rule.clone(),
            time(span.raised_at),
            cleared,
            span.severity.clone(),
        ]
    };
    let mut rows = Vec::new();
    for change in difference.changes.iter().take(MAX_PRINTED) {
        for (side, span) in [("backtest", &change.backtest), ("reality", &change.reality)] {
            rows.push([vec![format!("changed, {side}")], cells(span)].concat());
        }
    }
    let sides =
        [("only backtest", &difference.backtest_only), ("only reality", &difference.reality_only)];
    for (side, spans) in sides {
        for span in spans.iter().take(MAX_PRINTED) {
            rows.push([vec![side.to_owned()], cells(span)].concat());
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    output.table(&["where", "device", "rule", "raised", "cleared", "severity"], &rows)
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

fn length(ms: i64) -> String {
    let ms = if ms >= 1_000 { ms - ms % 1_000 } else { ms };
    DurationMs(ms).to_string()
}

/// What a router sent must not steer the terminal.
fn plain(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}
