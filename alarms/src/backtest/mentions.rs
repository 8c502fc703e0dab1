//! What a profile looks at: keys, other devices, attributes, and how far back.

use std::collections::BTreeSet;
use std::sync::Arc;

use schema::{AlarmProfile, AlarmRule, Condition, DurationMs, Filter, Operand};

/// Places of a description that are no keys.
const NAMES: [&str; 4] = ["device", "location", "rule", "severity"];

/// All that the rules of a profile mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mentions {
    /// Keys of the rule's own device.
    pub own: BTreeSet<Arc<str>>,
    /// (device's name, key) of other devices at the location.
    pub others: BTreeSet<(Arc<str>, Arc<str>)>,
    pub attributes: BTreeSet<Arc<str>>,
    /// The longest duration or window.
    pub longest_ms: i64,
}

impl Mentions {
    pub fn of(profile: &AlarmProfile) -> Self {
        let mut mentions = Self::default();
        mentions.longest(profile.lateness);
        profile.rules.iter().for_each(|rule| mentions.rule(rule));
        mentions
    }

    fn rule(&mut self, rule: &AlarmRule) {
        let raises = rule.raise.values().chain(&rule.clear);
        raises.chain(rule.clear_by_severity.values()).for_each(|when| self.condition(when));
        let switches = [rule.off_delay, rule.min_on, rule.re_alarm_after, rule.auto_clear_after];
        switches.into_iter().for_each(|length| self.longest(length));
        let mut text = rule.description.as_deref().unwrap_or_default();
        while let Some((_, behind)) = text.split_once("${") {
            let Some((name, rest)) = behind.split_once('}') else { break };
            if !NAMES.contains(&name) {
                self.key(name);
            }
            text = rest;
        }
    }

    fn condition(&mut self, condition: &Condition) {
        let lengths = [condition.holds_for, condition.within, condition.no_reading_for];
        lengths.into_iter().for_each(|length| self.longest(length));
        if let Some(key) = &condition.key {
            self.key(key);
        }
        if let Some(filter) = &condition.when {
            self.filter(filter);
        }
    }

    fn filter(&mut self, filter: &Filter) {
        for part in filter.all.iter().chain(&filter.any).flatten() {
            self.filter(part);
        }
        if let Some(key) = &filter.key {
            self.key(key);
        }
        self.longest(filter.window);
        if let Some(value) = &filter.value {
            if filter.of.as_deref() == Some("age")
                && let Operand::Text(length) = value
            {
                self.longest(length.parse().ok());
            }
            self.operand(value);
        }
    }

    fn operand(&mut self, operand: &Operand) {
        match operand {
            Operand::List(list) => list.iter().for_each(|item| self.operand(item)),
            Operand::Reference(reference) => {
                if let Some(key) = &reference.key {
                    self.key(key);
                }
                self.attributes.extend(reference.attribute.as_deref().map(Arc::from));
            }
            Operand::Boolean(_) | Operand::Integer(_) | Operand::Number(_) | Operand::Text(_) => {}
        }
    }

    fn key(&mut self, written: &str) {
        match written.split_once('/') {
            Some((device, key)) => {
                self.others.insert((device.into(), key.into()));
            }
            None => {
                self.own.insert(written.into());
            }
        }
    }

    fn longest(&mut self, length: Option<DurationMs>) {
        self.longest_ms = self.longest_ms.max(length.map_or(0, |length| length.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_keys_devices_attributes_and_the_longest_time_wherever_they_stand() {
        let profile = alarm_core::parse_toml(
            r#"
            name = "all"
            lateness = "3m"
            [[rules]]
            key = "a"
            description = "${p} at ${device}, ${pump/q}, ${open"
            raise.major = { for = "2h", when = { all = [
                { key = "t", operator = ">", value = { attribute = "limit", default = 5 } },
                { any = [{ key = "u", operator = ">", value = { key = "v" } },
                         { key = "w", of = "age", operator = ">", value = "5h" },
                         { key = "x", of = "delta", window = "3h", operator = ">", value = 1 }] } ] } }
            clear = { when = { key = "fan/on", operator = "is", value = false } }
            [[rules]]
            key = "b"
            raise.minor = { key = "y", no_reading_for = "4h" }
            clear = { when = { key = "z", operator = "between", value = [{ key = "low" }, 9] } }
            "#,
        )
        .unwrap();
        let mentions = Mentions::of(&profile);
        let own: Vec<&str> = mentions.own.iter().map(|key| &**key).collect();
        assert_eq!(own, ["low", "p", "t", "u", "v", "w", "x", "y", "z"]);
        let others: Vec<(&str, &str)> =
            mentions.others.iter().map(|(device, key)| (&**device, &**key)).collect();
        assert_eq!(others, [("fan", "on"), ("pump", "q")]);
        assert_eq!(mentions.attributes.iter().map(|name| &**name).collect::<Vec<_>>(), ["limit"]);
        assert_eq!(mentions.longest_ms, 5 * 3_600_000);
    }
}
