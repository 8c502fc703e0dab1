//! Checks a profile and compiles it, naming each wrong field by its path, its
//! value and what is allowed.

use std::sync::Arc;

use schema::{
    AlarmProfile, AlarmRule, AppliesTo, Condition as ConditionText, DAYS, DurationMs, Filter,
    MAX_LOCATION_GROUP_BYTES, ProfileId, RuleId, Schedule as ScheduleText, Severity, TenantId,
    parse_day, parse_time,
};

use super::contradictions;
use super::filter::{KeyRef, Of, Op, Operand, Test, Tree};
use super::history::{HistoryKind, HistorySpec};
use super::operators::{self, Wants};
use super::pattern::Patterns;
use super::schedule::{Schedule, Zones};
use super::{Condition, Kind, Rule, Switches, Template};
use crate::engine::Keys;
use crate::limits::{
    DEFAULT_MAX_ACTIVE, MAX_APPLIED_GROUPS, MAX_DESCRIPTION_BYTES, MAX_FILTERS, MAX_LATENESS_MS,
    MAX_NESTING, MAX_RULES, MAX_TIMES,
};
use crate::value::Scalar;

/// One thing that is wrong or doubtful in a profile.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Its path, such as `rules[2].raise.critical.when.all[1].operator`.
    pub field: String,
    /// As it was written; empty where the field is missing.
    pub value: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// All that was found in a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The profile can't be saved.
    pub errors: Vec<Problem>,
    /// It can, but a person should look.
    pub warnings: Vec<Problem>,
}

/// Checks a profile without running it.
#[must_use]
pub fn check(document: &AlarmProfile) -> Report {
    let (mut keys, mut zones) = (Keys::default(), Zones::default());
    let mut compiler = Compiler::new(&mut keys, &mut zones);
    compiler.profile(TenantId(0), ProfileId(0), document);
    compiler.into_report()
}

pub(super) struct Compiler<'a> {
    pub(super) keys: &'a mut Keys,
    zones: &'a mut Zones,
    report: Report,
    /// Of the rule being compiled.
    histories: Vec<HistorySpec>,
    pub(super) rule_keys: Vec<KeyRef>,
    pub(super) attributes: Vec<u32>,
    /// Of all rules.
    pub(super) patterns: Patterns,
    filters: usize,
    slots: usize,
}

impl<'a> Compiler<'a> {
    pub fn new(keys: &'a mut Keys, zones: &'a mut Zones) -> Self {
        Self {
            keys,
            zones,
            report: Report::default(),
            histories: Vec::new(),
            rule_keys: Vec::new(),
            attributes: Vec::new(),
            patterns: Patterns::default(),
            filters: 0,
            slots: 0,
        }
    }

    pub fn into_report(self) -> Report {
        self.report
    }

    #[allow(clippy::needless_pass_by_value, reason = "callers hand over a number or a text")]
    pub(super) fn error(&mut self, field: &str, value: impl ToString, message: impl Into<String>) {
        let problem =
            Problem { field: field.to_owned(), value: value.to_string(), message: message.into() };
        self.report.errors.push(problem);
    }

    pub fn profile(
        &mut self,
        tenant: TenantId,
        id: ProfileId,
        document: &AlarmProfile,
    ) -> Vec<Rule> {
        if document.name.is_empty() || document.name.len() > schema::MAX_NAME_BYTES {
            self.error("name", &document.name, "a name has 1 to 255 bytes");
        }
        if let Some(lateness) = document.lateness
            && lateness.0 > MAX_LATENESS_MS
        {
            self.error("lateness", lateness, "at most 24h");
        }
        self.applies_to(&document.applies_to);
        if document.rules.len() > MAX_RULES {
            let message = format!("a profile has at most {MAX_RULES} rules");
            self.error("rules", document.rules.len(), message);
            return Vec::new();
        }
        let mut rules = Vec::new();
        for (index, rule) in document.rules.iter().enumerate() {
            let twice = document.rules[..index].iter().any(|other| other.key == rule.key);
            if twice {
                let field = format!("rules[{index}].key");
                self.error(&field, &rule.key, "the key of a rule is unique in its profile");
            }
            rules.extend(self.rule(tenant, id, index, rule));
        }
        rules
    }

    fn applies_to(&mut self, applies_to: &AppliesTo) {
        let groups = &applies_to.location_groups;
        if groups.len() > MAX_APPLIED_GROUPS {
            let message = format!("a profile names at most {MAX_APPLIED_GROUPS} location groups");
            self.error("applies_to.location_groups", groups.len(), message);
        }
        for (index, group) in groups.iter().enumerate() {
            if !schema::is_location_group(group) {
                let field = format!("applies_to.location_groups[{index}]");
                let shown: String = group.chars().take(64).collect();
                let message = format!(
                    "a location group's name has 1 to {MAX_LOCATION_GROUP_BYTES} bytes without \
                     control characters or white space around them"
                );
                self.error(&field, shown, message);
            }
        }
    }

    fn rule(
        &mut self,
        tenant: TenantId,
        profile: ProfileId,
        index: usize,
        rule: &AlarmRule,
    ) -> Option<Rule> {
        let path = format!("rules[{index}]");
        let errors = self.report.errors.len();
        (self.histories, self.rule_keys, self.attributes) = Default::default();
        self.slots = 0;
        let key_ok = !rule.key.is_empty()
            && rule.key.len() <= schema::MAX_NAME_BYTES
            && !rule.key.contains('\0');
        if !key_ok {
            self.error(&format!("{path}.key"), &rule.key, "a key has 1 to 255 bytes and no NUL");
        }
        let description = rule.description.as_deref().unwrap_or_default();
        if description.len() > MAX_DESCRIPTION_BYTES {
            let message = format!("at most {MAX_DESCRIPTION_BYTES} bytes");
            self.error(&format!("{path}.description"), description.len(), message);
        }
        let raises = self.conditions(&path, "raise", rule);
        // What raises decides whose the rule is.
        let own = self.rule_keys.iter().any(|key| key.device.is_none());
        let first = self.rule_keys.iter().find_map(|key| key.device.clone());
        let anchor = first.filter(|_| !own);
        if rule.raise.is_empty() {
            self.error(
                &format!("{path}.raise"),
                "",
                "a rule has a condition for one severity or more",
            );
        }
        let clear_by_severity = self.conditions(&path, "clear_by_severity", rule);
        let field = format!("{path}.clear");
        let clear = rule.clear.as_ref().and_then(|c| self.condition(&field, c, None));
        let covered = raises.iter().all(|(s, _)| clear_by_severity.iter().any(|(c, _)| c == s));
        if rule.clear.is_none() && (rule.clear_by_severity.is_empty() || !covered) {
            let message = "a rule needs a clear condition, or one for each severity in \
                           `clear_by_severity`: an alarm that can't end is refused";
            self.error(&field, "", message);
        }
        let switches = self.switches(&path, rule);
        contradictions::warn(&path, rule, &mut self.report.warnings);
        if self.report.errors.len() > errors {
            return None;
        }
        let all = raises.iter().chain(&clear_by_severity).map(|(_, condition)| condition);
        let durations: Vec<(usize, i64)> =
            all.chain(&clear).filter_map(Condition::duration).collect();
        let stateless_when_idle = self.histories.is_empty() && rule.flapping.is_none();
        let waits = match durations.as_slice() {
            [(slot, length)] if stateless_when_idle && self.slots == 1 => {
                let raises = raises.iter().any(|(_, condition)| condition.slot == Some(*slot));
                raises.then_some(*length)
            }
            _ => None,
        };
        let of_system = self.rule_keys.iter().all(|key| self.keys.is_of_system(key.key));
        Some(Rule {
            tenant,
            id: RuleId { profile, key: rule.key.as_str().into() },
            source: Arc::new(rule.clone()),
            description: Template::new(description),
            stateless_when_idle,
            waits,
            raises,
            clear,
            clear_by_severity,
            histories: std::mem::take(&mut self.histories),
            keys: std::mem::take(&mut self.rule_keys),
            attributes: std::mem::take(&mut self.attributes),
            switches,
            slots: self.slots,
            durations,
            anchor,
            of_system,
        })
    }

    /// The conditions by severity, the worst first.
    fn conditions(
        &mut self,
        path: &str,
        field: &str,
        rule: &AlarmRule,
    ) -> Vec<(Severity, Condition)> {
        let (texts, schedule) = match field {
            "raise" => (&rule.raise, rule.schedule.as_ref()),
            _ => (&rule.clear_by_severity, None),
        };
        let mut conditions: Vec<(Severity, Condition)> = Vec::new();
        for (name, text) in texts {
            let path = format!("{path}.{field}.{name}");
            let severity: Severity = match name.parse() {
                Ok(severity) => severity,
                Err(error) => {
                    let error: schema::ParseSeverityError = error;
                    self.error(&path, name, error.to_string());
                    continue;
                }
            };
            if conditions.iter().any(|(known, _)| *known == severity) {
                self.error(&path, name, format!("`{severity}` has a condition under another name"));
            }
            if let Some(condition) = self.condition(&path, text, schedule) {
                conditions.push((severity, condition));
            }
        }
        conditions.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
        conditions
    }

    fn condition(
        &mut self,
        path: &str,
        text: &ConditionText,
        rule_schedule: Option<&ScheduleText>,
    ) -> Option<Condition> {
        self.filters = 0;
        let kind = self.kind(path, text);
        let slot = (kind != Some(Kind::Simple)).then_some(self.slots);
        self.slots += usize::from(slot.is_some());
        let own = text.schedule.as_ref();
        let schedule = own.or(rule_schedule).map(|s| self.schedule(&format!("{path}.schedule"), s));
        let tree = match (&text.when, text.no_reading_for) {
            (Some(filter), None) => self.tree(&format!("{path}.when"), filter, 1),
            (None, Some(length)) => self.inactivity(path, text, length),
            (Some(_), Some(_)) => {
                let message = "`no_reading_for` stands alone with its `key`; compare `of = \"age\"` in a tree";
                self.error(&format!("{path}.no_reading_for"), "", message);
                None
            }
            (None, None) => {
                self.error(&format!("{path}.when"), "", "what is compared is missing");
                None
            }
        };
        let schedule = match schedule {
            Some(schedule) => Some(Box::new(schedule?)),
            None => None,
        };
        Some(Condition { tree: tree?, kind: kind?, schedule, slot })
    }

    fn kind(&mut self, path: &str, text: &ConditionText) -> Option<Kind> {
        if text.key.is_some() && text.no_reading_for.is_none() {
            self.error(
                &format!("{path}.key"),
                "",
                "`key` here belongs to `no_reading_for`; others stand in `when`",
            );
        }
        match (text.holds_for, text.times) {
            (Some(_), Some(_)) => {
                self.error(&format!("{path}.times"), "", "`for` and `times` exclude one another");
                None
            }
            (Some(length), None) => {
                let length = self.positive(&format!("{path}.for"), length)?;
                Some(Kind::Duration(length))
            }
            (None, Some(times)) => {
                if times == 0 || times > MAX_TIMES {
                    self.error(&format!("{path}.times"), times, format!("from 1 to {MAX_TIMES}"));
                    return None;
                }
                let within = match text.within {
                    Some(within) => Some(self.positive(&format!("{path}.within"), within)?),
                    None => None,
                };
                Some(Kind::Repeating { times, within })
            }
            (None, None) => {
                if text.within.is_some() {
                    self.error(&format!("{path}.within"), "", "`within` belongs to `times`");
                }
                Some(Kind::Simple)
            }
        }
    }

    fn positive(&mut self, field: &str, length: DurationMs) -> Option<i64> {
        if length.0 == 0 {
            self.error(field, length, "longer than nothing");
        }
        (length.0 > 0).then_some(length.0)
    }

    fn inactivity(&mut self, path: &str, text: &ConditionText, length: DurationMs) -> Option<Tree> {
        let Some(key) = &text.key else {
            self.error(&format!("{path}.key"), "", "the key that has no reading is missing");
            return None;
        };
        let key = self.key(&format!("{path}.key"), key)?;
        let length = self.positive(&format!("{path}.no_reading_for"), length)?;
        let op = Op::AtLeast(Operand::Constant(Scalar::Integer(length)));
        Some(Tree::Is(Test { key, of: Of::Age, op }))
    }

    fn tree(&mut self, path: &str, filter: &Filter, depth: usize) -> Option<Tree> {
        if depth > MAX_NESTING {
            self.error(path, "", format!("conditions nest at most {MAX_NESTING} deep"));
            return None;
        }
        let group = match (&filter.all, &filter.any, &filter.key) {
            (Some(all), None, None) => Some(("all", all)),
            (None, Some(any), None) => Some(("any", any)),
            (None, None, Some(_)) => None,
            _ => {
                self.error(path, "", "exactly one of `all`, `any` and `key`");
                return None;
            }
        };
        let Some((name, filters)) = group else {
            return self.test(path, filter).map(Tree::Is);
        };
        if filters.is_empty() {
            self.error(&format!("{path}.{name}"), "", "one comparison or more");
            return None;
        }
        let mut trees = Vec::with_capacity(filters.len());
        for (index, filter) in filters.iter().enumerate() {
            trees.push(self.tree(&format!("{path}.{name}[{index}]"), filter, depth + 1));
        }
        let trees: Box<[Tree]> = trees.into_iter().collect::<Option<_>>()?;
        Some(if name == "all" { Tree::All(trees) } else { Tree::Any(trees) })
    }

    fn test(&mut self, path: &str, filter: &Filter) -> Option<Test> {
        self.filters += 1;
        if self.filters > MAX_FILTERS {
            if self.filters == MAX_FILTERS + 1 {
                self.error(path, "", format!("a condition has at most {MAX_FILTERS} comparisons"));
            }
            return None;
        }
        let key = self.key(&format!("{path}.key"), filter.key.as_deref().unwrap_or_default())?;
        let (name, wants) = self.operator(path, filter)?;
        let of = self.of(path, filter, &key, name)?;
        let op = self.op(path, filter, name, wants, of)?;
        Some(Test { key, of, op })
    }

    fn operator(&mut self, path: &str, filter: &Filter) -> Option<(&'static str, Wants)> {
        let field = format!("{path}.operator");
        let written = filter.operator.as_deref().unwrap_or_default();
        let found = operators::find(written);
        if found.is_none() {
            self.error(&field, written, operators::unknown(written));
        }
        found
    }

    fn of(&mut self, path: &str, filter: &Filter, key: &KeyRef, operator: &str) -> Option<Of> {
        let field = format!("{path}.of");
        if filter.window.is_some() && filter.of.as_deref() != Some("delta") {
            self.error(&format!("{path}.window"), "", "`window` belongs to `of = \"delta\"`");
        }
        let numeric = operators::is_numeric(operator);
        let history = match filter.of.as_deref().unwrap_or("value") {
            "value" if operator == "changed" => HistoryKind::Changed,
            "value" => return Some(Of::Value),
            "age" if matches!(operator, ">" | ">=" | "<" | "<=") => return Some(Of::Age),
            "rate" if numeric => HistoryKind::Rate,
            "delta" if numeric => {
                let Some(window) = filter.window else {
                    self.error(&format!("{path}.window"), "", "`delta` needs a window");
                    return None;
                };
                HistoryKind::Delta(self.positive(&format!("{path}.window"), window)?)
            }
            known @ ("age" | "rate" | "delta") => {
                let message = format!("`{operator}` does not compare the {known} of a key");
                self.error(&format!("{path}.operator"), operator, message);
                return None;
            }
            other => {
                let message = operators::nearest(other, &["value", "delta", "rate", "age"]);
                self.error(&field, other, message);
                return None;
            }
        };
        self.histories.push(HistorySpec { key: key.clone(), kind: history });
        Some(Of::History(self.histories.len() - 1))
    }

    fn schedule(&mut self, path: &str, text: &ScheduleText) -> Option<Schedule> {
        let zone = match &text.time_zone {
            None => None,
            Some(name) => {
                let zone = self.zones.find(name);
                if zone.is_none() {
                    let message = "an IANA time zone, such as `Europe/Amsterdam`";
                    self.error(&format!("{path}.time_zone"), name, message);
                }
                Some(zone?)
            }
        };
        let mut days = [text.days.is_empty(); 7];
        for (index, day) in text.days.iter().enumerate() {
            match parse_day(day) {
                Some(day) => days[day] = true,
                None => {
                    let message = operators::nearest(day, &DAYS);
                    self.error(&format!("{path}.days[{index}]"), day, message);
                }
            }
        }
        let mut time = |name: &str, written: &str| {
            let time = parse_time(written);
            if time.is_none() {
                self.error(
                    &format!("{path}.{name}"),
                    written,
                    "a time of the day, such as `08:30`",
                );
            }
            time
        };
        let (from, to) = (time("from", &text.from), time("to", &text.to));
        Some(Schedule::new(zone, days, from?, to?))
    }

    fn switches(&mut self, path: &str, rule: &AlarmRule) -> Switches {
        let millis = |length: Option<DurationMs>| length.map_or(0, |length| length.0);
        if let Some(deadband) = rule.deadband
            && !(deadband.is_finite() && deadband >= 0.0)
        {
            self.error(&format!("{path}.deadband"), deadband, "a number from 0 up");
        }
        if let Some(flapping) = &rule.flapping
            && !(0.0 < flapping.low && flapping.low < flapping.high && flapping.high <= 100.0)
        {
            let written = format!("{} to {}", flapping.low, flapping.high);
            self.error(&format!("{path}.flapping"), written, "0 < low < high <= 100");
        }
        if rule.max_active == Some(0) {
            self.error(&format!("{path}.max_active"), 0, "1 or more");
        }
        let auto_clear_after = rule
            .auto_clear_after
            .and_then(|length| self.positive(&format!("{path}.auto_clear_after"), length));
        Switches {
            deadband: rule.deadband.unwrap_or(0.0),
            off_delay: millis(rule.off_delay),
            min_on: millis(rule.min_on),
            re_alarm_after: millis(rule.re_alarm_after),
            flapping: rule.flapping.as_ref().map(|flapping| (flapping.low, flapping.high)),
            latch: rule.latch,
            de_escalate: rule.de_escalate,
            auto_clear_after,
            gap_breaks_duration: rule.gap_breaks_duration,
            max_active: rule.max_active.unwrap_or(DEFAULT_MAX_ACTIVE),
            reacknowledge_on_escalation: rule.reacknowledge_on_escalation,
        }
    }
}
