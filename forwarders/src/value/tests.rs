use schema::Value;

use super::*;

#[test]
fn values_become_the_configured_type_or_are_refused() {
    use DataType::{Boolean, Integer, Json, Number, Text};
    let cases = [
        (Value::Integer(21), Number, Ok(Datum::Number(21.0))),
        (Value::Boolean(true), Number, Ok(Datum::Number(1.0))),
        (Value::Text(" 21.5 "), Number, Ok(Datum::Number(21.5))),
        (Value::Text("warm"), Number, Err(Unfit::WrongType)),
        (Value::Text("inf"), Number, Err(Unfit::NotFinite)),
        (Value::Number(f64::NAN), Number, Err(Unfit::NotFinite)),
        (Value::Number(21.0), Integer, Ok(Datum::Integer(21))),
        (Value::Number(21.5), Integer, Err(Unfit::WrongType)),
        (Value::Number(9.3e18), Integer, Err(Unfit::WrongType)),
        (Value::Text("9223372036854775807"), Integer, Ok(Datum::Integer(i64::MAX))),
        (Value::Integer(1), Boolean, Ok(Datum::Boolean(true))),
        (Value::Text("False"), Boolean, Ok(Datum::Boolean(false))),
        (Value::Integer(2), Boolean, Err(Unfit::WrongType)),
        (Value::Number(0.5), Text, Ok(Datum::Text("0.5".into()))),
        (Value::Json("{}"), Text, Ok(Datum::Text("{}".into()))),
        (Value::Json("[1]"), Json, Ok(Datum::Json("[1]".into()))),
        (Value::Text("[1]"), Json, Err(Unfit::WrongType)),
    ];
    for (value, wanted, expected) in cases {
        assert_eq!(coerce(value, Some(wanted)), expected, "{value:?} as {wanted:?}");
    }
    assert_eq!(coerce(Value::Text("x"), None), Ok(Datum::Text("x".into())));
    assert_eq!(coerce(Value::Number(f64::INFINITY), None), Err(Unfit::NotFinite));
}

#[test]
fn decimals_have_as_many_digits_as_the_platform_takes() {
    for (number, expected) in [
        (21.53, Some("21.53")),
        (1e-9, Some("0")),
        (-1e-9, Some("0")),
        (0.1 + 0.2, Some("0.3")),
        (1e19, Some("10000000000000000000")),
        (1e20, None),
        (-12_345_678.5, Some("-12345678.5")),
        (100.0, Some("100")),
    ] {
        assert_eq!(decimal(number, 20, 8).as_deref(), expected, "{number}");
    }
    assert_eq!(shortest(-0.0), "0");
    assert_eq!(shortest(1e21), "1000000000000000000000");
}

#[test]
fn texts_are_told_apart_by_their_fingerprint_and_by_their_type() {
    let print = |datum: Datum| Fingerprint::of(&datum);
    assert_eq!(print(Datum::Text("a".into())), print(Datum::Text("a".into())));
    assert_ne!(print(Datum::Text("a".into())), print(Datum::Text("b".into())));
    assert_ne!(print(Datum::Text("1".into())), print(Datum::Json("1".into())));
    assert_ne!(print(Datum::Integer(1)), print(Datum::Number(1.0)));
}

#[test]
fn the_size_of_a_text_in_json_is_known_before_it_is_written() {
    for text in ["", "läuft", "say \"x\" \\ \n\t\r", "\u{0}\u{1f}\u{8}\u{c}\u{7f}\u{2028}"] {
        let datum = Datum::Text(text.into());
        assert_eq!(datum.json_bytes(), datum.to_json().to_string().len(), "{text:?}");
    }
    for number in [Datum::Number(-1.797_693_134_862_315_7e-308), Datum::Integer(i64::MIN)] {
        assert!(number.to_json().to_string().len() <= number.json_bytes());
    }
}
