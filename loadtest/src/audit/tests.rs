use super::*;
use crate::plan;
use crate::values::Sample;

const NAME: SeriesName = SeriesName { connection: 4, device: 2, key: 1 };

/// A connection that has offered 100 messages and had all but `lost` acknowledged.
fn ledger(lost: &[u64]) -> Ledger {
    let mut ledger = Ledger::default();
    for _ in 0..100 {
        let message = ledger.offer();
        if !lost.contains(&message) {
            ledger.acknowledge(message);
        }
    }
    ledger
}

/// What a faultless server gives back of the series, oldest first.
fn rows(plan: &Plan) -> Vec<(TimestampMs, i64)> {
    let mut rows = Vec::new();
    for lane in [Lane::Buffered, Lane::Live] {
        let seed = values::series(NAME.connection, NAME.device, lane == Lane::Buffered);
        for number in 0..plan.readings_offered(lane, NAME.device, 100) {
            let Sample::Integer(value) = values::sample(seed, NAME.key, number) else {
                panic!("the second key is an integer")
            };
            rows.push((plan.time_of(lane, number), i64::from(value)));
        }
    }
    rows
}

fn judge(plan: &Plan, ledger: &Ledger, rows: &[(TimestampMs, i64)]) -> Verdict {
    let mut audit = SeriesAudit::new(plan, ledger, NAME);
    for &(time, value) in rows {
        audit.row(time, Stored::Integer(value));
    }
    audit.finish()
}

#[test]
fn a_faultless_run_is_clean() {
    let plan = plan::sample();
    let rows = rows(&plan);
    let verdict = judge(&plan, &ledger(&[]), &rows);
    assert!(verdict.is_clean(), "{verdict:?}");
    // 25 of 75 live messages with 2 times each, 8 of 25 batches with 5.
    assert_eq!((verdict.stored, rows.len()), (90, 90));
}

#[test]
fn an_acknowledged_reading_that_is_not_there_is_missing() {
    let plan = plan::sample();
    for gone in 0..90 {
        let mut rows = rows(&plan);
        rows.remove(gone);
        let verdict = judge(&plan, &ledger(&[]), &rows);
        assert_eq!((verdict.missing, verdict.stored), (1, 89));
        assert!(!verdict.is_clean());
        assert!(verdict.examples[0].contains("was acknowledged, not stored"));
    }
    assert_eq!(judge(&plan, &ledger(&[]), &[]).missing, 90);
}

#[test]
fn one_that_was_never_acknowledged_may_be_there_or_not() {
    let plan = plan::sample();
    let rows = rows(&plan);
    let lost = plan.message_of(Lane::Live, NAME.device, 10);
    let verdict = judge(&plan, &ledger(&[lost]), &rows);
    assert!(verdict.is_clean());
    assert_eq!(verdict.stored_unacknowledged, 2);
    let without: Vec<_> = rows
        .into_iter()
        .filter(|&(time, _)| {
            plan.at(time)
                .is_none_or(|(lane, number)| plan.message_of(lane, NAME.device, number) != lost)
        })
        .collect();
    let verdict = judge(&plan, &ledger(&[lost]), &without);
    assert!(verdict.is_clean());
    assert_eq!((verdict.stored, verdict.stored_unacknowledged), (88, 0));
}

#[test]
fn a_row_twice_is_doubled_wherever_the_second_stands() {
    let plan = plan::sample();
    for twice in [0, 50, 89] {
        let mut rows = rows(&plan);
        rows.insert(twice, rows[twice]);
        let verdict = judge(&plan, &ledger(&[]), &rows);
        assert_eq!((verdict.doubled, verdict.missing, verdict.out_of_order), (1, 0, 0));
    }
    let mut rows = rows(&plan);
    rows.push(rows[0]);
    let verdict = judge(&plan, &ledger(&[]), &rows);
    assert_eq!((verdict.doubled, verdict.out_of_order), (1, 1));
}

#[test]
fn another_value_or_type_is_wrong() {
    let plan = plan::sample();
    let mut changed = rows(&plan);
    changed[7].1 += 1;
    let verdict = judge(&plan, &ledger(&[]), &changed);
    assert_eq!((verdict.wrong, verdict.missing), (1, 0));
    assert!(verdict.examples[0].contains("became Integer"));

    let (plan, ledger) = (plan::sample(), ledger(&[]));
    let mut audit = SeriesAudit::new(&plan, &ledger, NAME);
    let (time, value) = rows(&plan)[0];
    audit.row(time, Stored::Text(&value.to_string()));
    assert_eq!(audit.finish().wrong, 1);
}

#[test]
fn a_row_that_nobody_offered_is_unexpected() {
    let plan = plan::sample();
    let before = TimestampMs(plan.buffered_base.0 - 1);
    let between = TimestampMs(plan.buffered_base.0 + 1_000);
    let behind = TimestampMs(plan.live_base.0 + 50);
    for time in [before, between, behind] {
        let mut rows = rows(&plan);
        rows.push((time, 100_000));
        rows.sort_unstable();
        let verdict = judge(&plan, &ledger(&[]), &rows);
        assert_eq!((verdict.unexpected, verdict.out_of_order), (1, 0));
    }
}

#[test]
fn rows_in_the_wrong_order_are_counted_and_still_found() {
    let plan = plan::sample();
    let mut rows = rows(&plan);
    rows.swap(3, 4);
    let verdict = judge(&plan, &ledger(&[]), &rows);
    assert_eq!((verdict.out_of_order, verdict.missing, verdict.doubled), (1, 0, 0));
}

#[test]
fn parts_add_up_and_examples_stay_few() {
    let plan = plan::sample();
    let mut sum = judge(&plan, &ledger(&[]), &[]);
    sum.add(judge(&plan, &ledger(&[]), &rows(&plan)));
    assert_eq!((sum.missing, sum.stored, sum.examples.len()), (90, 90, MAX_EXAMPLES));
}

#[test]
fn an_aggregate_that_counts_otherwise_is_a_fault() {
    let plan = plan::sample();
    let clean = judge(&plan, &ledger(&[]), &rows(&plan));
    for (count, doubled, missing) in [(90, 0, 0), (92, 2, 0), (87, 0, 3)] {
        let mut verdict = clean.clone();
        verdict.compare_count(NAME, count);
        assert_eq!((verdict.doubled, verdict.missing), (doubled, missing));
        assert_eq!(verdict.examples.len(), usize::from(count != 90));
    }
}
