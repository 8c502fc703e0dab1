//! The naive evaluator's comparisons, on values as they were sent.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schema::{AlarmRule, Condition, DurationMs, Filter, Operand, Reference, Schedule};
use serde_json::Value as Json;

use super::naive::Naive;
use crate::tests::harness::START_MS;

/// Which way limits are moved: past for clear conditions, short for what still
/// counts as raised.
#[derive(Clone, Copy, Debug)]
pub enum Shift {
    None,
    Past(f64),
    Short(f64),
}

fn number(value: &Json) -> Option<f64> {
    value.as_f64()
}

fn equals(one: &Json, other: &Json) -> Option<bool> {
    match (one, other) {
        (Json::String(one), Json::String(other)) => Some(one == other),
        (Json::Bool(one), Json::Bool(other)) => Some(one == other),
        _ => Some(number(one)? == number(other)?),
    }
}

fn written(operand: &Operand) -> Json {
    match operand {
        Operand::Boolean(boolean) => Json::from(*boolean),
        Operand::Integer(integer) => Json::from(*integer),
        Operand::Number(number) => Json::from(*number),
        Operand::Text(text) => Json::from(text.as_str()),
        Operand::List(_) | Operand::Reference(_) => panic!("a constant"),
    }
}

impl Naive {
    fn place<'a>(&self, device: usize, key: &'a str) -> Option<(usize, &'a str)> {
        match key.split_once('/') {
            None => Some((device, key)),
            Some((name, key)) => {
                let place = self.devices.iter().position(|device| device.name == name)?;
                Some((place, key))
            }
        }
    }

    /// The last reading of a key.
    pub fn last(&self, device: usize, key: &str) -> Option<(i64, Json)> {
        let (device, key) = self.place(device, key)?;
        self.devices[device].readings.get(key)?.last().cloned()
    }

    fn attribute_of(&self, device: usize, name: &str) -> Option<Json> {
        let device = &self.devices[device];
        let places = [&device.shared, &device.client, &self.of_location, &self.of_tenant];
        places.into_iter().find_map(|place| place.get(name)).cloned()
    }

    fn operand(&self, device: usize, operand: &Operand) -> Option<Json> {
        match operand {
            Operand::Reference(Reference { key: Some(key), .. }) => {
                self.last(device, key).map(|(_, value)| value)
            }
            Operand::Reference(Reference { attribute: Some(name), default, .. }) => {
                self.attribute_of(device, name).or_else(|| default.as_deref().map(written))
            }
            constant => Some(written(constant)),
        }
    }

    /// Whether a condition's tree is true; what is unknown is not.
    pub fn holds(
        &self,
        device: usize,
        rule: &AlarmRule,
        condition: &Condition,
        at: i64,
        shift: Shift,
    ) -> bool {
        if let (Some(key), Some(length)) = (&condition.key, condition.no_reading_for) {
            let last = self.last(device, key);
            return last.is_some_and(|(time, _)| at - time >= length.0 / 1_000);
        }
        self.filter(device, rule, condition.when.as_ref().unwrap(), at, shift)
    }

    fn filter(
        &self,
        device: usize,
        rule: &AlarmRule,
        filter: &Filter,
        at: i64,
        shift: Shift,
    ) -> bool {
        if let Some(all) = &filter.all {
            return all.iter().all(|filter| self.filter(device, rule, filter, at, shift));
        }
        if let Some(any) = &filter.any {
            return any.iter().any(|filter| self.filter(device, rule, filter, at, shift));
        }
        self.compare(device, rule, filter, at, shift).unwrap_or(false)
    }

    /// What a filter compares.
    fn subject(&self, device: usize, rule: &AlarmRule, filter: &Filter, at: i64) -> Option<Json> {
        let key = filter.key.as_deref().unwrap();
        let (time, last) = self.last(device, key)?;
        let memory = self.memories.get(&(device, rule.key.clone()));
        let known = memory.and_then(|memory| memory.known_since.get(key).copied());
        let (place, own) = self.place(device, key)?;
        let all = &self.devices[place].readings[own];
        match filter.of.as_deref() {
            None => Some(last),
            Some("rate") => {
                known?;
                if memory?.known_by_correction.get(key) == Some(&time) {
                    return None;
                }
                let (before, value) = all.iter().rev().nth(1)?;
                Some(Json::from((number(&last)? - number(value)?) / (time - before) as f64))
            }
            Some("delta") => {
                let from = (at - filter.window?.0 / 1_000).max(known?);
                let window = all.iter().filter(|(time, _)| *time >= from);
                let first = window.filter_map(|(_, value)| number(value)).next()?;
                Some(Json::from(number(&last)? - first))
            }
            Some(other) => panic!("{other}"),
        }
    }

    fn compare(
        &self,
        device: usize,
        rule: &AlarmRule,
        filter: &Filter,
        at: i64,
        shift: Shift,
    ) -> Option<bool> {
        let operator = filter.operator.as_deref().unwrap();
        let key = filter.key.as_deref().unwrap();
        if filter.of.as_deref() == Some("age") {
            let Some(Operand::Text(text)) = &filter.value else { panic!("an age") };
            let old =
                at - self.last(device, key)?.0 >= text.parse::<DurationMs>().unwrap().0 / 1_000;
            return Some(old == (operator == ">="));
        }
        if operator == "changed" {
            let memory = self.memories.get(&(device, rule.key.clone()))?;
            let (place, own) = self.place(device, key)?;
            return Some(memory.known_since.contains_key(key) && self.devices[place].changed[own]);
        }
        let value = self.subject(device, rule, filter, at)?;
        let list = match filter.value.as_ref().unwrap() {
            Operand::List(list) => list.clone(),
            single => vec![single.clone()],
        };
        if matches!(operator, "in" | "not in") {
            let found = list.iter().any(|item| equals(&value, &written(item)) == Some(true));
            return Some(found == (operator == "in"));
        }
        let operand = |place: usize| self.operand(device, &list[place]);
        let limit = |place: usize| operand(place).as_ref().and_then(number);
        let by = match shift {
            Shift::None => 0.0,
            Shift::Past(by) => by,
            Shift::Short(by) => -by,
        };
        let texts = || Some((value.as_str()?.to_owned(), operand(0)?.as_str()?.to_owned()));
        Some(match operator {
            "=" => equals(&value, &operand(0)?)?,
            "!=" => !equals(&value, &operand(0)?)?,
            ">" => number(&value)? > limit(0)? + by,
            ">=" => number(&value)? >= limit(0)? + by,
            "<" => number(&value)? < limit(0)? - by,
            "<=" => number(&value)? <= limit(0)? - by,
            "between" => {
                let value = number(&value)?;
                limit(0)? + by <= value && value <= limit(1)? - by
            }
            "outside" => {
                let value = number(&value)?;
                value < limit(0)? - by || limit(1)? + by < value
            }
            "starts" => texts().map(|(value, text)| value.starts_with(&text))?,
            "ends" => texts().map(|(value, text)| value.ends_with(&text))?,
            "contains" => texts().map(|(value, text)| value.contains(&text))?,
            "not contains" => texts().map(|(value, text)| !value.contains(&text))?,
            // The one pattern of the cases: `^fault( [0-9])?$`.
            "matches" => {
                let text = value.as_str()?;
                let digit = text.strip_prefix("fault ");
                text == "fault" || digit.is_some_and(|d| d.len() == 1 && d.parse::<u8>().is_ok())
            }
            "is" => value.as_bool()? == list[0].eq(&Operand::Boolean(true)),
            other => panic!("{other}"),
        })
    }

    /// Whether a condition's schedule, or the rule's for raising, is on.
    pub fn on_schedule(
        &self,
        rule: &AlarmRule,
        name: &str,
        condition: &Condition,
        second: i64,
    ) -> bool {
        let of_rule = rule.schedule.as_ref().filter(|_| name.starts_with("raise"));
        condition.schedule.as_ref().or(of_rule).is_none_or(|schedule| is_on(schedule, second))
    }
}

/// By the wall clock of the schedule's zone. No clock is changed in the cases'
/// days.
fn is_on(schedule: &Schedule, second: i64) -> bool {
    let zone = schedule.time_zone.as_deref().unwrap_or("Europe/Amsterdam");
    let zone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::fixed(jiff::tz::offset(1)) };
    let now = Timestamp::from_millisecond(START_MS + second * 1_000).unwrap().to_zoned(zone);
    let minutes = |text: &str| {
        let (hours, minutes) = text.split_once(':').unwrap();
        hours.parse::<i64>().unwrap() * 60 + minutes.parse::<i64>().unwrap()
    };
    let (from, to) = (minutes(&schedule.from) * 60, minutes(&schedule.to) * 60);
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let today = usize::try_from(now.weekday().to_monday_zero_offset()).unwrap();
    let on_day = |day: usize| {
        schedule.days.is_empty() || schedule.days.iter().any(|name| name == days[day % 7])
    };
    let time =
        i64::from(now.hour()) * 3_600 + i64::from(now.minute()) * 60 + i64::from(now.second());
    if from < to {
        return on_day(today) && from <= time && time < to;
    }
    (on_day(today) && time >= from) || (on_day(today + 6) && time < to)
}
