//! Lays what a backtest raised beside what was really raised.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::DeviceId;

use super::control::Control;
use super::outcome::{Difference, Span};
use super::{BacktestError, MAX_LISTED_DIFFERENCES};

/// Alarms of one device and rule, in the order of raising.
type Sides = (Vec<Span>, Vec<Span>);

/// Compares. Alarms of one device and rule that were raised at the same time
/// are one; of the others those that were active at the same time are pairs, in
/// the order of raising.
pub(super) fn difference(
    backtest: Vec<Span>,
    reality: Vec<Span>,
    control: &Control,
) -> Result<Difference, BacktestError> {
    let mut by_rule: BTreeMap<(DeviceId, Arc<str>), Sides> = BTreeMap::new();
    for span in backtest {
        by_rule.entry((span.device, span.rule.clone())).or_default().0.push(span);
    }
    for span in reality {
        by_rule.entry((span.device, span.rule.clone())).or_default().1.push(span);
    }
    let mut difference = Difference::default();
    for (_, (mut backtest, mut reality)) in by_rule {
        control.go_on()?;
        backtest.sort_by_key(|span| span.raised_at);
        reality.sort_by_key(|span| span.raised_at);
        let (backtest, reality) = exact(&mut difference, backtest, reality);
        overlapping(&mut difference, backtest, reality);
    }
    let by_time = |span: &Span| (span.raised_at, span.device, span.rule.clone());
    difference.backtest_only.sort_by_key(by_time);
    difference.reality_only.sort_by_key(by_time);
    difference.pairs.sort_by_key(|(span, _)| by_time(span));
    difference.backtest_only.truncate(MAX_LISTED_DIFFERENCES);
    difference.reality_only.truncate(MAX_LISTED_DIFFERENCES);
    difference.pairs.truncate(MAX_LISTED_DIFFERENCES);
    Ok(difference)
}

/// Takes out those that were raised at one time; gives what is left of both.
fn exact(
    found: &mut Difference,
    backtest: Vec<Span>,
    reality: Vec<Span>,
) -> (Vec<Span>, Vec<Span>) {
    let (mut rest, mut real_rest) = (Vec::new(), Vec::new());
    let mut reality = reality.into_iter().peekable();
    for span in backtest {
        while let Some(earlier) = reality.next_if(|real| real.raised_at < span.raised_at) {
            real_rest.push(earlier);
        }
        match reality.next_if(|real| real.raised_at == span.raised_at) {
            Some(real) if real == span => found.same += 1,
            Some(real) => {
                found.changed += 1;
                found.pairs.push((span, real));
            }
            None => rest.push(span),
        }
    }
    real_rest.extend(reality);
    (rest, real_rest)
}

fn overlapping(found: &mut Difference, backtest: Vec<Span>, reality: Vec<Span>) {
    let mut reality = reality.into_iter().peekable();
    for span in backtest {
        // Over before this one begins: it has no match.
        while let Some(real) =
            reality.next_if(|real| real.cleared_at.is_some_and(|at| at < span.raised_at))
        {
            found.only_in_reality += 1;
            found.reality_only.push(real);
        }
        let overlaps =
            |real: &Span| span.cleared_at.is_none_or(|cleared| real.raised_at <= cleared);
        if let Some(real) = reality.next_if(overlaps) {
            found.changed += 1;
            found.pairs.push((span, real));
        } else {
            found.only_in_backtest += 1;
            found.backtest_only.push(span);
        }
    }
    for real in reality {
        found.only_in_reality += 1;
        found.reality_only.push(real);
    }
}

#[cfg(test)]
mod tests {
    use schema::{Severity, TimestampMs};

    use super::*;

    fn span(device: u64, raised: i64, cleared: Option<i64>, severity: Severity) -> Span {
        Span {
            device: DeviceId(device),
            location: None,
            rule: "hot".into(),
            raised_at: TimestampMs(raised),
            cleared_at: cleared.map(TimestampMs),
            severity,
        }
    }

    #[test]
    fn finds_the_same_the_changed_and_those_of_one_side() {
        let major = |device, raised, cleared| span(device, raised, Some(cleared), Severity::Major);
        let backtest = vec![
            major(1, 10, 20),
            major(1, 30, 40),
            major(1, 50, 60),
            major(1, 70, 80),
            span(2, 10, None, Severity::Major),
        ];
        let reality = vec![
            major(1, 5, 8),
            major(1, 10, 20),
            span(1, 30, Some(40), Severity::Critical),
            major(1, 55, 60),
            major(1, 90, 95),
            major(3, 10, 20),
        ];
        let control = Control::default();
        let found = difference(backtest.clone(), reality.clone(), &control).unwrap();
        assert_eq!((found.same, found.changed), (1, 2));
        let pairs = [(&backtest[1], &reality[2]), (&backtest[2], &reality[3])];
        let shown: Vec<_> = found.pairs.iter().map(|(a, b)| (a, b)).collect();
        assert_eq!(shown, pairs);
        assert_eq!(found.backtest_only, [backtest[4].clone(), backtest[3].clone()]);
        assert_eq!(
            found.reality_only,
            [reality[0].clone(), reality[5].clone(), reality[4].clone()]
        );
        assert_eq!((found.only_in_backtest, found.only_in_reality), (2, 3));
    }

    #[test]
    fn a_cancelled_one_ends() {
        let spans = vec![span(1, 10, None, Severity::Major)];
        let control = Control::default();
        control.cancel();
        let ended = difference(spans.clone(), spans, &control);
        assert!(matches!(ended, Err(BacktestError::Cancelled)), "{ended:?}");
    }
}
