use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};

use super::*;
use crate::plan;
use crate::values::Sample;

/// A page as the API gives it, of five rows with a value of each kind.
fn page(times: Vec<i64>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 6] = [
        ("ts", Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))),
        ("number", Arc::new(Float64Array::from(vec![Some(1.5), None, None, None, None]))),
        ("integer", Arc::new(Int64Array::from(vec![None, Some(7), None, None, None]))),
        ("boolean", Arc::new(BooleanArray::from(vec![None, None, Some(true), None, None]))),
        ("text", Arc::new(StringArray::from(vec![None, None, None, Some("s1"), None]))),
        ("json", Arc::new(StringArray::from(vec![None, None, None, None, Some("{}")]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .unwrap()
}

#[test]
fn each_row_reaches_the_audit_with_its_type() {
    let plan = plan::Plan { devices_behind: 0, times_per_message: 1, ..plan::sample() };
    let mut ledger = Ledger::default();
    (0..10).for_each(|_| {
        let message = ledger.offer();
        ledger.acknowledge(message);
    });
    let name = SeriesName { connection: 0, device: 0, key: 1 };
    let mut audit = SeriesAudit::new(&plan, &ledger, name);
    let base = plan.live_base.0;
    rows(&page((base..base + 5).collect()), &mut audit).unwrap();
    let verdict = audit.finish();
    assert_eq!((verdict.stored, verdict.wrong), (5, 5));
    for stored in ["Number(1.5)", "Integer(7)", "Boolean(true)", "Text(\"s1\")", "Json(\"{}\")"] {
        let found = verdict.examples.iter().any(|example| example.ends_with(stored));
        assert!(found, "{stored} in {:?}", verdict.examples);
    }
    let Sample::Integer(_) = values::sample(1, 1, 0) else { panic!("the second key's kind") };
}

#[test]
fn an_answer_of_another_form_is_an_error() {
    let plan = plan::sample();
    let ledger = Ledger::default();
    let name = SeriesName { connection: 0, device: 0, key: 0 };
    let whole = page((0..5).collect());
    for column in 0..whole.num_columns() {
        let kept: Vec<usize> = (0..whole.num_columns()).filter(|&c| c != column).collect();
        let mut audit = SeriesAudit::new(&plan, &ledger, name);
        let error = rows(&whole.project(&kept).unwrap(), &mut audit).unwrap_err();
        assert!(error.to_string().starts_with("no column"), "{error}");
    }
}
