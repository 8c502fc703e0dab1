//! What the standards recommend, and how the figures stand to it.
//!
//! The bounds are those of the tables of performance measures: ANSI/ISA-18.2
//! and IEC 62682, clause 16, which took the rates over from EEMUA 191. They are
//! meant for one operator and for at least 30 days. Where a table gives two
//! bounds, the first is called "very likely to be acceptable" and the second
//! "maximum manageable".

use schema::Severity;
use serde::Serialize;
use store::alarms::quality::{PERIOD_MS, QualityFigures, QualityQuery};
use utoipa::ToSchema;

use super::{DAY_MS, share};

/// How a figure stands to what is recommended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = QualityVerdict)]
pub enum Verdict {
    /// Within what is recommended.
    Good,
    /// Above it, and within what can just be managed.
    Manageable,
    /// Above all bounds.
    Over,
    /// There is no bound, or there is nothing to judge.
    None,
}

/// A figure with its bounds.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = QualityMeasure)]
pub struct Measure {
    /// Stable, for programs.
    name: &'static str,
    /// None where there is nothing to measure.
    value: Option<f64>,
    /// `alarms`, `share` (0 to 1) or `ms`.
    unit: &'static str,
    /// What it should be at most.
    recommended: Option<f64>,
    /// What it may be at most.
    maximum: Option<f64>,
    verdict: Verdict,
    /// What it is and where its bounds are from.
    basis: &'static str,
}

/// The three priorities of the recommended split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    High,
    Medium,
    Low,
}

impl Priority {
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// Three-level names are critical, major and warning; what lies below major is low.
pub fn priority(severity: Severity) -> Priority {
    match severity {
        Severity::Critical => Priority::High,
        Severity::Major => Priority::Medium,
        Severity::Minor | Severity::Warning | Severity::Indeterminate => Priority::Low,
    }
}

fn judged(
    (name, unit): (&'static str, &'static str),
    value: Option<f64>,
    recommended: Option<f64>,
    maximum: Option<f64>,
    basis: &'static str,
) -> Measure {
    let verdict = match (value, recommended) {
        (None, _) | (_, None) => Verdict::None,
        (Some(value), Some(bound)) if value <= bound => Verdict::Good,
        (Some(value), _) if maximum.is_some_and(|bound| value <= bound) => Verdict::Manageable,
        _ => Verdict::Over,
    };
    Measure { name, value, unit, recommended, maximum, verdict, basis }
}

/// All figures that can be judged.
#[allow(clippy::cast_precision_loss, reason = "counts and times are far below 2^53")]
pub fn measures(query: &QualityQuery, operators: u32, figures: &QualityFigures) -> Vec<Measure> {
    let mut all = rates(query, operators, figures);
    all.extend(nuisances(figures));
    all.extend(priorities(figures));
    let acknowledged = figures.acknowledged;
    for (name, value) in [
        ("time_to_acknowledge_median", acknowledged.median_ms),
        ("time_to_acknowledge_p90", acknowledged.p90_ms),
    ] {
        let basis = "From the moment that Baken learned of an alarm to its acknowledgement, of those \
                     that are acknowledged. The standards set no bound.";
        all.push(judged((name, "ms"), value.map(|ms| ms as f64), None, None, basis));
    }
    all
}

#[allow(clippy::cast_precision_loss, reason = "counts and times are far below 2^53")]
fn rates(query: &QualityQuery, operators: u32, figures: &QualityFigures) -> Vec<Measure> {
    let span_ms = (query.to.0 - query.from.0) as f64;
    let each = figures.raised as f64 / f64::from(operators);
    vec![
        judged(
            ("alarms_per_10_minutes_average", "alarms"),
            Some(each * PERIOD_MS as f64 / span_ms),
            Some(1.0),
            Some(2.0),
            "Annunciated alarms of an operator in ten minutes, on average (ISA-18.2, IEC 62682, \
             EEMUA 191).",
        ),
        judged(
            ("alarms_per_operator_day", "alarms"),
            Some(each * DAY_MS as f64 / span_ms),
            Some(144.0),
            Some(288.0),
            "Annunciated alarms of an operator in a day, on average (IEC 62682; ISA-18.2-2009 says \
             150 and 300).",
        ),
        judged(
            ("alarms_per_10_minutes_peak", "alarms"),
            Some(figures.peak as f64),
            Some(10.0),
            None,
            "The most alarms of one period of ten minutes (ISA-18.2, IEC 62682).",
        ),
        judged(
            ("share_of_10_minutes_over_10", "share"),
            Some(share(figures.periods_over, figures.periods)),
            Some(0.01),
            None,
            "Periods of ten minutes with more than 10 alarms (ISA-18.2, IEC 62682).",
        ),
        judged(
            ("share_of_hours_over_30", "share"),
            Some(share(figures.busy_hours, figures.hours)),
            Some(0.01),
            None,
            "Hours with more than 30 alarms (ISA-18.2-2009, IEC 62682).",
        ),
        judged(
            ("share_of_time_in_flood", "share"),
            Some(figures.floods.total_ms as f64 / span_ms),
            Some(0.01),
            None,
            "From the first ten minutes with more than 10 alarms to the first with fewer than 5 \
             (ISA-18.2, IEC 62682).",
        ),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn nuisances(figures: &QualityFigures) -> Vec<Measure> {
    let top: u64 = figures.top_alarms.iter().map(|alarm| alarm.raised).sum();
    // Of fewer than eleven alarms the ten most frequent are nearly all, however
    // well they behave.
    let enough = figures.raised >= 100;
    vec![
        judged(
            ("chattering_alarms", "alarms"),
            Some(figures.chattering as f64),
            Some(0.0),
            None,
            "Alarms (device and rule) raised three times or more within a minute (ISA-18.2, IEC \
             62682: none, and a plan for each).",
        ),
        judged(
            ("fleeting_alarms", "alarms"),
            Some(figures.fleeting as f64),
            Some(0.0),
            None,
            "Alarms that were over within a minute and did not chatter (ISA-18.2, IEC 62682: none, \
             and a plan for each).",
        ),
        judged(
            ("stale_alarms", "alarms"),
            Some(figures.stale as f64),
            Some(4.0),
            None,
            "Active for more than 24 hours and not shelved, at the end of the period (ISA-18.2, \
             IEC 62682: fewer than 5 on any day).",
        ),
        judged(
            ("top_10_alarms", "share"),
            enough.then(|| share(top, figures.raised)),
            Some(0.01),
            Some(0.05),
            "What the ten most frequent alarms (device and rule) are of all; not judged below 100 \
             alarms (ISA-18.2, IEC 62682: 1% to 5%).",
        ),
    ]
}

fn priorities(figures: &QualityFigures) -> Vec<Measure> {
    let part = |wanted: Priority| -> Option<f64> {
        let of = figures.by_severity.iter().filter(|(severity, _)| priority(**severity) == wanted);
        let count: u64 = of.map(|(_, count)| count).sum();
        (figures.raised > 0).then(|| share(count, figures.raised))
    };
    let basis = "Of all alarms: about 80% low, 15% medium and 5% high (ISA-18.2, IEC 62682, EEMUA \
                 191). Critical is high, major medium, and what is below it low. More low ones are \
                 no fault.";
    vec![
        judged(("high_priority", "share"), part(Priority::High), Some(0.05), None, basis),
        judged(("medium_priority", "share"), part(Priority::Medium), Some(0.15), None, basis),
        judged(("low_priority", "share"), part(Priority::Low), None, None, basis),
    ]
}

#[cfg(test)]
mod tests {
    use schema::TimestampMs;

    use super::*;

    fn of(figures: &QualityFigures, name: &str) -> (Option<f64>, Verdict) {
        let query = QualityQuery {
            tenant: None,
            location: None,
            from: TimestampMs(0),
            to: TimestampMs(10 * DAY_MS),
            now: TimestampMs(10 * DAY_MS),
        };
        let found = measures(&query, 2, figures).into_iter().find(|one| one.name == name).unwrap();
        (found.value, found.verdict)
    }

    #[test]
    fn a_figure_is_good_up_to_its_bound_and_manageable_up_to_the_other() {
        let raised = |raised| QualityFigures { raised, ..QualityFigures::default() };
        // Two operators over ten days.
        let daily = "alarms_per_operator_day";
        assert_eq!(of(&raised(2_880), daily), (Some(144.0), Verdict::Good));
        assert_eq!(of(&raised(2_881), daily).1, Verdict::Manageable);
        assert_eq!(of(&raised(5_761), daily).1, Verdict::Over);
        assert_eq!(of(&raised(2_880), "alarms_per_10_minutes_average"), (Some(1.0), Verdict::Good));
        let stale = QualityFigures { stale: 5, ..QualityFigures::default() };
        assert_eq!(of(&stale, "stale_alarms").1, Verdict::Over);
    }

    #[test]
    fn nothing_is_judged_of_nothing_and_more_low_ones_are_no_fault() {
        let none = QualityFigures::default();
        assert_eq!(of(&none, "high_priority"), (None, Verdict::None));
        assert_eq!(of(&none, "top_10_alarms"), (None, Verdict::None));
        assert_eq!(of(&none, "time_to_acknowledge_median"), (None, Verdict::None));
        let by_severity = [(Severity::Critical, 6), (Severity::Minor, 94)].into();
        let split = QualityFigures { raised: 100, by_severity, ..none };
        assert_eq!(of(&split, "high_priority"), (Some(0.06), Verdict::Over));
        assert_eq!(of(&split, "medium_priority"), (Some(0.0), Verdict::Good));
        assert_eq!(of(&split, "low_priority"), (Some(0.94), Verdict::None));
    }
}
