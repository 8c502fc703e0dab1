//! Numbers as text.

/// The shortest text that reads back as the same number, without an exponent.
#[must_use]
pub fn shortest(number: f64) -> String {
    // Rust writes floats so; only zero's sign is of no use to anybody.
    if number == 0.0 { "0".to_owned() } else { format!("{number}") }
}

/// The number as a decimal with at most `fraction` digits behind the point, or
/// none if it has more than `whole` before it. Rounded half to even, as Python
/// and IEEE 754 do; trailing zeros are left out.
#[must_use]
pub fn decimal(number: f64, whole: usize, fraction: usize) -> Option<String> {
    let text = format!("{number:.fraction$}");
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => &text,
    };
    let digits = text.trim_start_matches('-').split('.').next().unwrap_or_default();
    if digits.len() > whole {
        return None;
    }
    Some(if text == "-0" { "0".to_owned() } else { text.to_owned() })
}
