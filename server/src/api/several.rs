//! A filter that takes one value or several: with commas between them in a
//! query, as a value or a list of them in a body.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// The most values of one filter.
pub const MAX_FILTER_VALUES: usize = 100;

/// One value or several; none when the filter is not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Several<T>(pub Vec<T>);

impl<T> Default for Several<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T> Deserialize<'de> for Several<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values(PhantomData))
    }
}

struct Values<T>(PhantomData<T>);

fn parse<T: FromStr, E: Error>(text: &str) -> Result<T, E>
where
    T::Err: fmt::Display,
{
    text.trim().parse().map_err(|error| E::custom(format!("{:?}: {error}", text.trim())))
}

fn few<T, E: Error>(values: Vec<T>) -> Result<Several<T>, E> {
    if values.len() > MAX_FILTER_VALUES {
        let message = format!("{} values, and at most {MAX_FILTER_VALUES}", values.len());
        return Err(E::custom(message));
    }
    Ok(Several(values))
}

impl<'de, T> Visitor<'de> for Values<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = Several<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value, or several of them")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        few(text.split(',').map(parse).collect::<Result<_, E>>()?)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        few(vec![parse::<T, E>(&number.to_string())?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(item) = items.next_element::<serde_json::Value>()? {
            let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            values.push(parse::<T, A::Error>(&text)?);
            if values.len() > MAX_FILTER_VALUES {
                return few(values);
            }
        }
        few(values)
    }
}

#[cfg(test)]
mod tests {
    use schema::Severity;
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn one_or_several_values_are_taken_and_a_wrong_one_is_named() {
        let severities = |value| from_value::<Several<Severity>>(value).map(|found| found.0);
        let both = vec![Severity::Critical, Severity::Major];
        assert_eq!(severities(json!("critical, major")).unwrap(), both);
        assert_eq!(severities(json!(["critical", "major"])).unwrap(), both);
        let numbers = |value| from_value::<Several<u64>>(value).map(|found| found.0);
        assert_eq!(numbers(json!(7)).unwrap(), [7]);
        assert_eq!(numbers(json!([7, 8])).unwrap(), [7, 8]);
        assert_eq!(numbers(json!("7,8")).unwrap(), [7, 8]);
        assert!(severities(json!("worst")).unwrap_err().to_string().contains("`worst`"));
        assert!(numbers(json!("7,x")).unwrap_err().to_string().contains("\"x\""));
        let many = vec!["1"; MAX_FILTER_VALUES + 1].join(",");
        assert!(numbers(json!(many)).unwrap_err().to_string().contains("at most 100"));
    }
}
