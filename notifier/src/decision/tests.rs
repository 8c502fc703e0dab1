use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;
use schema::QuietHours;

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn whom() -> Whom {
    Whom {
        unreachable: None,
        group_ms: 5 * MINUTE,
        max_per_hour: 4,
        time_zone: TimeZone::UTC,
        quiet: Vec::new(),
    }
}

fn raised(severity: Severity) -> Candidate {
    Candidate {
        moment: Moment::Raised,
        purpose: Purpose::Told,
        severity,
        made_at: TimestampMs(DAY),
        delayed: false,
        waited: None,
        is_asked: true,
        follows_raise: false,
        told_before: false,
        active: true,
        acknowledged: false,
        shelved_until: None,
    }
}

fn told(ago: i64, severity: Severity) -> ToldLately {
    ToldLately { at: TimestampMs(DAY - ago), severity: Some(severity) }
}

fn one(whom: &Whom, lately: &[ToldLately], notice: Candidate) -> Decision {
    decide(TimestampMs(DAY), whom, lately, &[notice])[0]
}

#[test]
fn the_first_is_told_at_once_and_what_follows_within_the_window_together() {
    let major = raised(Severity::Major);
    assert_eq!(one(&whom(), &[], major), Decision::Tell(TellReason::First));
    let lately = [told(MINUTE, Severity::Major)];
    let until = TimestampMs(DAY + 4 * MINUTE);
    assert_eq!(one(&whom(), &lately, major), Decision::Hold(until, HoldReason::Grouped));
    // What has waited is told at the window's end.
    let waited = Candidate { waited: Some(HoldReason::Grouped), ..major };
    let lately = [told(5 * MINUTE, Severity::Major)];
    assert_eq!(one(&whom(), &lately, waited), Decision::Tell(TellReason::Waited));
}

#[test]
fn what_is_worse_than_all_that_was_told_does_not_wait() {
    let lately = [told(2 * MINUTE, Severity::Minor), told(MINUTE, Severity::Warning)];
    let major = raised(Severity::Major);
    assert_eq!(one(&whom(), &lately, major), Decision::Tell(TellReason::Worse));
    let until = TimestampMs(DAY + 4 * MINUTE);
    let minor = raised(Severity::Minor);
    assert_eq!(one(&whom(), &lately, minor), Decision::Hold(until, HoldReason::Grouped));
    // An end is no bad news, however bad the alarm was.
    let end =
        Candidate { moment: Moment::Cleared, told_before: true, follows_raise: true, ..major };
    assert_eq!(one(&whom(), &lately, end), Decision::Hold(until, HoldReason::Grouped));
}

#[test]
fn the_cap_of_an_hour_holds_until_there_is_room() {
    let lately: Vec<ToldLately> =
        [50, 40, 30, 20].map(|ago| told(ago * MINUTE, Severity::Critical)).to_vec();
    let until = TimestampMs(DAY + 10 * MINUTE);
    let notice = raised(Severity::Critical);
    assert_eq!(one(&whom(), &lately, notice), Decision::Hold(until, HoldReason::Capped));
    let lately: Vec<ToldLately> =
        [55, 50, 40, 30, 20].map(|ago| told(ago * MINUTE, Severity::Critical)).to_vec();
    assert_eq!(one(&whom(), &lately, notice), Decision::Hold(until, HoldReason::Capped));
}

#[test]
fn without_grouping_each_is_a_message_of_its_own_up_to_the_cap() {
    let whom = Whom { group_ms: 0, max_per_hour: 2, ..whom() };
    let due = [raised(Severity::Major); 4];
    let decisions = decide(TimestampMs(DAY), &whom, &[], &due);
    let held = Decision::Hold(TimestampMs(DAY + HOUR), HoldReason::Capped);
    let first = Decision::Tell(TellReason::First);
    assert_eq!(decisions, [first, first, held, held]);
    // What was held back shares the room of one.
    let whom = Whom { max_per_hour: 1, ..whom };
    let waited = Candidate { waited: Some(HoldReason::Capped), ..due[0] };
    let decisions = decide(TimestampMs(DAY), &whom, &[], &[waited; 3]);
    assert_eq!(decisions, [Decision::Tell(TellReason::Waited); 3]);
}

#[test]
fn what_is_over_when_it_comes_waits_for_others_and_is_told_all_the_same() {
    let over = Candidate { active: false, ..raised(Severity::Major) };
    let until = TimestampMs(DAY + 5 * MINUTE);
    assert_eq!(one(&whom(), &[], over), Decision::Hold(until, HoldReason::OverAlready));
    let waited = Candidate {
        waited: Some(HoldReason::OverAlready),
        made_at: TimestampMs(DAY - 5 * MINUTE),
        ..over
    };
    assert_eq!(one(&whom(), &[], waited), Decision::Tell(TellReason::Waited));
}

#[test]
fn an_escalation_or_a_reminder_is_told_of_what_is_open_only() {
    for purpose in [Purpose::Escalated, Purpose::Reminder(2)] {
        let open = Candidate { purpose, ..raised(Severity::Minor) };
        assert!(matches!(one(&whom(), &[], open), Decision::Tell(_)));
        let seen = Candidate { acknowledged: true, ..open };
        assert_eq!(one(&whom(), &[], seen), Decision::Drop(DropReason::Acknowledged));
        let over = Candidate { active: false, ..open };
        assert_eq!(one(&whom(), &[], over), Decision::Drop(DropReason::Over));
        let shelved = Candidate { shelved_until: Some(TimestampMs(DAY + 1)), ..open };
        let held = Decision::Hold(TimestampMs(DAY + 1), HoldReason::Shelved);
        assert_eq!(one(&whom(), &[], shelved), held);
    }
    // A router that is back before it was to be told of is not told of.
    let back = Candidate { delayed: true, active: false, ..raised(Severity::Major) };
    assert_eq!(one(&whom(), &[], back), Decision::Drop(DropReason::Over));
}

#[test]
fn the_end_of_what_was_never_told_is_no_news() {
    let end = Candidate { moment: Moment::Cleared, follows_raise: true, ..raised(Severity::Major) };
    assert_eq!(one(&whom(), &[], end), Decision::Drop(DropReason::NotTold));
    let known = Candidate { told_before: true, ..end };
    assert!(matches!(one(&whom(), &[], known), Decision::Tell(_)));
    // Who asks for ends only is told of ends.
    let only_ends = Candidate { follows_raise: false, ..end };
    assert!(matches!(one(&whom(), &[], only_ends), Decision::Tell(_)));
}

#[test]
fn nobody_is_told_who_cannot_be_or_did_not_ask() {
    let gone = Whom { unreachable: Some(DropReason::NoAddress), ..whom() };
    let notice = raised(Severity::Critical);
    assert_eq!(one(&gone, &[], notice), Decision::Drop(DropReason::NoAddress));
    let unasked = Candidate { is_asked: false, ..notice };
    assert_eq!(one(&whom(), &[], unasked), Decision::Drop(DropReason::Unsubscribed));
}

#[test]
fn quiet_hours_end_by_the_wall_clock_also_in_the_nights_when_it_changes() {
    let quiet = QuietHours {
        days: Vec::new(),
        from: "22:00".to_owned(),
        to: "07:00".to_owned(),
        severity_from: Severity::Critical,
    };
    let zone = TimeZoneDatabase::bundled().get("Europe/Amsterdam").unwrap();
    let hours = quiet.hours().unwrap();
    let whom = Whom { time_zone: zone, quiet: vec![(hours, quiet.severity_from)], ..whom() };
    for (now, end) in [
        ("2026-01-10T22:00:00Z", "2026-01-11T06:00:00Z"), // 23:00 to 07:00 in winter
        ("2026-03-28T22:30:00Z", "2026-03-29T05:00:00Z"), // the night of 9 hours is one of 8
        ("2026-10-24T20:30:00Z", "2026-10-25T06:00:00Z"), // and one of 10
    ] {
        let at = |text: &str| TimestampMs(text.parse::<Timestamp>().unwrap().as_millisecond());
        let notice = Candidate { made_at: at(now), ..raised(Severity::Major) };
        let decision = decide(at(now), &whom, &[], &[notice])[0];
        assert_eq!(decision, Decision::Hold(at(end), HoldReason::QuietHours), "{now}");
        let waited = Candidate { waited: Some(HoldReason::QuietHours), ..notice };
        let decision = decide(at(end), &whom, &[], &[waited])[0];
        assert_eq!(decision, Decision::Tell(TellReason::Waited), "{end}");
        let critical = Candidate { severity: Severity::Critical, ..notice };
        let decision = decide(at(now), &whom, &[], &[critical])[0];
        assert_eq!(decision, Decision::Tell(TellReason::First), "{now}");
    }
}

/// A notice that is on its way through the simulation.
#[derive(Clone, Debug)]
struct Waiting {
    due_at: i64,
    notice: Candidate,
}

fn severities() -> impl Strategy<Value = Severity> {
    prop::sample::select(Severity::WORST_FIRST.to_vec())
}

fn arrivals() -> impl Strategy<Value = Vec<(i64, Severity, bool)>> {
    prop::collection::vec((0..3 * HOUR, severities(), any::<bool>()), 1..200)
}

proptest! {
    /// Whatever comes: everything is told in the end, nothing is held until a
    /// time that has passed, no hour has more messages than the cap, and within
    /// the time of grouping a further message tells of something worse.
    #[test]
    fn a_storm_is_told_whole_and_within_its_limits(
        arrivals in arrivals(),
        group_minutes in 0i64..10,
        max_per_hour in 1usize..8,
    ) {
        let whom = Whom { group_ms: group_minutes * MINUTE, max_per_hour, ..whom() };
        let mut waiting: Vec<Waiting> = arrivals
            .iter()
            .map(|&(at, severity, active)| Waiting {
                due_at: DAY + at,
                notice: Candidate { made_at: TimestampMs(DAY + at), active, ..raised(severity) },
            })
            .collect();
        let mut messages: Vec<ToldLately> = Vec::new();
        let mut rounds = 0;
        while let Some(now) = waiting.iter().map(|one| one.due_at).min() {
            rounds += 1;
            prop_assert!(rounds < 20_000, "it never ends");
            let due: Vec<usize> =
                (0..waiting.len()).filter(|&place| waiting[place].due_at <= now).collect();
            let candidates: Vec<Candidate> = due.iter().map(|&place| waiting[place].notice).collect();
            let lately: Vec<ToldLately> = messages
                .iter()
                .filter(|told| told.at.0 > now - CAP_WINDOW_MS)
                .copied()
                .collect();
            let decisions = decide(TimestampMs(now), &whom, &lately, &candidates);
            let mut shared: Option<Severity> = None;
            let mut done = Vec::new();
            for (&place, decision) in due.iter().zip(&decisions) {
                match decision {
                    Decision::Hold(until, reason) => {
                        prop_assert!(until.0 > now, "held until {until} at {now}");
                        waiting[place].due_at = until.0;
                        waiting[place].notice.waited = Some(*reason);
                    }
                    Decision::Tell(_) => {
                        let notice = waiting[place].notice;
                        if whom.group_ms == 0 && notice.waited.is_none() {
                            let severity = Some(notice.severity);
                            messages.push(ToldLately { at: TimestampMs(now), severity });
                        } else {
                            shared = shared.max(Some(notice.severity));
                        }
                        done.push(place);
                    }
                    Decision::Drop(reason) => prop_assert!(false, "dropped: {reason:?}"),
                }
            }
            if let Some(severity) = shared {
                let at = TimestampMs(now);
                let recent = messages.iter().filter(|told| told.at.0 + whom.group_ms > now);
                let worst = recent.filter_map(|told| told.severity).max();
                prop_assert!(worst.is_none_or(|worst| severity > worst || whom.group_ms == 0));
                messages.push(ToldLately { at, severity: Some(severity) });
            }
            for place in done.into_iter().rev() {
                waiting.remove(place);
            }
        }
        for (first, message) in messages.iter().enumerate() {
            let hour = messages[first..]
                .iter()
                .filter(|other| other.at.0 < message.at.0 + CAP_WINDOW_MS);
            prop_assert!(hour.count() <= max_per_hour);
        }
    }
}
