//! Runs a scenario and says where it went otherwise than expected.
//!
//! Besides what the lines expect, what must always be so is looked at: no id
//! comes twice, and there is one uncleared alarm of a rule for a device at most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schema::{AlarmId, Originator, RuleId, Severity, Transition, TransitionId, TransitionKind};

use super::expected::{Expectation, show_transition};
use super::parse::{Line, Statement};
use super::setup::Setup;
use super::words::show;
use super::world::{Step, World};
use super::{Failure, MAX_FAILURES, Outcome, Scenario};

/// An alarm that is active by its transitions.
#[derive(Debug)]
struct Open {
    alarm: AlarmId,
    severity: Severity,
    acknowledged: bool,
    shelved: bool,
}

struct Run<'a> {
    setup: Arc<Setup>,
    world: World,
    /// By (of what, rule).
    open: BTreeMap<(Originator, RuleId), Open>,
    seen: BTreeSet<TransitionId>,
    alarms: BTreeSet<AlarmId>,
    /// All inputs so far and all that came of them.
    done: Vec<&'a Step>,
    came: Vec<Transition>,
    outcome: Outcome,
}

/// Runs all lines; a line that fails does not keep the next from being run.
pub(super) fn run(scenario: &Scenario, restart_after_each: bool) -> Outcome {
    let setup = Arc::new(scenario.setup.clone());
    let world = match World::new(&setup) {
        Ok(world) => world,
        Err(message) => {
            let input = format!("scenario {}", scenario.name);
            let failures = vec![Failure { line: scenario.line, input, message }];
            return Outcome { failures, left_out: 0, transitions: 0 };
        }
    };
    let mut run = Run {
        setup,
        world,
        open: BTreeMap::new(),
        seen: BTreeSet::new(),
        alarms: BTreeSet::new(),
        done: Vec::new(),
        came: Vec::new(),
        outcome: Outcome::default(),
    };
    for line in &scenario.lines {
        run.line(line);
        if restart_after_each && let Err(message) = run.world.restart() {
            run.fail(line, format!("after a restart behind this line: {message}"));
        }
    }
    run.outcome.transitions = run.came.len();
    run.outcome
}

impl<'a> Run<'a> {
    fn fail(&mut self, line: &Line, message: String) {
        if self.outcome.failures.len() == MAX_FAILURES {
            self.outcome.left_out += 1;
            return;
        }
        let failure = Failure { line: line.number, input: line.text.clone(), message };
        self.outcome.failures.push(failure);
    }

    fn line(&mut self, line: &'a Line) {
        let told = match &line.statement {
            Statement::Step(step, expectation) => self.step(step, expectation),
            Statement::Restart => self.world.restart(),
            Statement::Replay => self.replay(),
            Statement::Active(expected) => {
                let came = self.active();
                if came == *expected { Ok(()) } else { Err(difference(expected, &came, "none")) }
            }
            Statement::Late(expected) => {
                same("late readings", *expected, self.world.late_and_repeated().0)
            }
            Statement::Repeated(expected) => {
                same("repeated readings", *expected, self.world.late_and_repeated().1)
            }
        };
        if let Err(message) = told {
            self.fail(line, message);
        }
    }

    fn step(&mut self, step: &'a Step, expectation: &Expectation) -> Result<(), String> {
        let out = self.world.apply(step)?;
        self.done.push(step);
        let broken: Vec<String> = out.iter().filter_map(|t| self.keep_book(t).err()).collect();
        let message = self.compare(step, expectation, &out);
        self.came.extend(out);
        if let Some(broken) = broken.first() {
            return Err(broken.clone());
        }
        let (engine, told) = (self.world.engine.active_alarms(), self.open.len());
        if engine != told {
            return Err(format!(
                "{told} alarms are active by their transitions, {engine} in the engine"
            ));
        }
        message.map_or(Ok(()), Err)
    }

    /// What differs from the expectation.
    fn compare(
        &self,
        step: &Step,
        expectation: &Expectation,
        out: &[Transition],
    ) -> Option<String> {
        let Expectation::Exactly(expected) = expectation else { return None };
        let device = step.input.device().or_else(|| self.world.first_device());
        let wanted: Vec<String> =
            expected.iter().map(|one| one.show(device, step.at, &self.setup)).collect();
        let came: Vec<String> = out
            .iter()
            .enumerate()
            .map(|(place, transition)| {
                let of = self.world.originator(transition.originator);
                let (own, like) = ((device, step.at), expected.get(place));
                show_transition(transition, &of, own, like, &self.setup)
            })
            .collect();
        (wanted != came).then(|| difference(&wanted, &came, "nothing"))
    }

    /// What must always be so.
    fn keep_book(&mut self, transition: &Transition) -> Result<(), String> {
        let of = self.world.originator(transition.originator);
        let what = format!("{} {} of {}", transition.kind.as_str(), transition.rule.key, show(&of));
        if !self.seen.insert(transition.id) {
            return Err(format!("`{what}` has the id of an earlier transition"));
        }
        let key = (transition.originator, transition.rule.clone());
        let open = self.open.get_mut(&key);
        if transition.kind == TransitionKind::Raised {
            if open.is_some() {
                return Err(format!("`{what}`, though one is active"));
            }
            if !self.alarms.insert(transition.alarm) {
                return Err(format!("`{what}` uses an earlier alarm again"));
            }
            let severity = transition.severity;
            let open =
                Open { alarm: transition.alarm, severity, acknowledged: false, shelved: false };
            self.open.insert(key, open);
            return Ok(());
        }
        let Some(open) = open.filter(|open| open.alarm == transition.alarm) else {
            let known = self.alarms.contains(&transition.alarm);
            let of_an_alarm_that_is_over = matches!(
                transition.kind,
                TransitionKind::Acknowledged
                    | TransitionKind::Unacknowledged
                    | TransitionKind::Commented { .. }
                    | TransitionKind::Assigned { .. }
            );
            return match known && of_an_alarm_that_is_over {
                true => Ok(()),
                false => Err(format!("`{what}`, though no such alarm is active")),
            };
        };
        match &transition.kind {
            TransitionKind::SeverityChanged { .. } => open.severity = transition.severity,
            TransitionKind::Acknowledged => open.acknowledged = true,
            TransitionKind::Unacknowledged => open.acknowledged = false,
            TransitionKind::Shelved { .. } => open.shelved = true,
            TransitionKind::Unshelved { .. } => open.shelved = false,
            TransitionKind::Cleared { .. } => {
                self.open.remove(&key);
            }
            TransitionKind::Raised
            | TransitionKind::Updated { .. }
            | TransitionKind::Suppressed { .. }
            | TransitionKind::Commented { .. }
            | TransitionKind::Assigned { .. } => {}
        }
        Ok(())
    }

    fn active(&self) -> Vec<String> {
        let mut active: Vec<String> = self
            .open
            .iter()
            .map(|((of, rule), open)| {
                let of = format!("{}/{}", self.world.originator(*of), rule.key);
                let mut text = format!("{} {}", show(&of), open.severity);
                if open.acknowledged {
                    text.push_str(" acknowledged");
                }
                if open.shelved {
                    text.push_str(" shelved");
                }
                text
            })
            .collect();
        active.sort();
        active
    }

    /// All inputs again from the start: the same transitions with the same ids
    /// and times, and the same state.
    fn replay(&mut self) -> Result<(), String> {
        let mut world = World::new(&self.setup)?;
        let mut came = Vec::new();
        for step in &self.done {
            came.extend(world.apply(step)?);
        }
        if came != self.came {
            let place = came.iter().zip(&self.came).take_while(|(a, b)| a == b).count();
            let told = |transition: Option<&Transition>| match transition {
                Some(t) => format!(
                    "{} {} at {}",
                    t.kind.as_str(),
                    t.rule.key,
                    self.setup.show_time(t.at.0)
                ),
                None => "nothing".to_owned(),
            };
            return Err(format!(
                "the replay differs at transition {}: first it was {}, now it is {}",
                place + 1,
                told(self.came.get(place)),
                told(came.get(place))
            ));
        }
        if world.engine.snapshot() != self.world.engine.snapshot() {
            return Err("the replay ends in another state".to_owned());
        }
        self.world = world;
        Ok(())
    }
}

fn same(what: &str, expected: u64, came: u64) -> Result<(), String> {
    match expected == came {
        true => Ok(()),
        false => Err(format!("expected {expected} {what}, and there were {came}")),
    }
}

/// What both have in front and at the end as it is; between, what was expected
/// and what came.
fn difference(expected: &[String], came: &[String], none: &str) -> String {
    let head = expected.iter().zip(came).take_while(|(a, b)| a == b).count();
    let (wanted, got) = (&expected[head..], &came[head..]);
    let tail = wanted.iter().rev().zip(got.iter().rev()).take_while(|(a, b)| a == b).count();
    let mut lines: Vec<String> = Vec::new();
    let mut add = |label: &str, items: &[String]| {
        for item in items {
            lines.push(format!("{label:<10}{item}"));
        }
    };
    let empty = [none.to_owned()];
    add("", &expected[..head]);
    let (wanted, got) = (&wanted[..wanted.len() - tail], &got[..got.len() - tail]);
    add("expected", if expected.is_empty() { &empty } else { wanted });
    add("came", if came.is_empty() { &empty } else { got });
    add("", &expected[expected.len() - tail..]);
    lines.join("\n")
}
