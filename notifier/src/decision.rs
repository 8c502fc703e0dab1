//! Whether somebody is told, when, and why: one pure function over all that is
//! due for one recipient on one channel.
//!
//! It knows no clock and no store. What it holds back it holds until a time that
//! is yet to come, so that it is never asked in vain, and each decision bears a
//! reason that stays in the delivery log.

use jiff::tz::TimeZone;
use schema::{Moment, Purpose, Severity, TimestampMs, WeeklyHours};
use store::alarms::ToldLately;

/// The time over which the cap of messages counts.
pub const CAP_WINDOW_MS: i64 = 3_600_000;

/// The recipient as they are by now.
#[derive(Clone, Debug)]
pub struct Whom {
    /// Why nothing can be told, where nothing can.
    pub unreachable: Option<DropReason>,
    /// What comes within this time behind a message is told together.
    pub group_ms: i64,
    /// The most messages within [`CAP_WINDOW_MS`].
    pub max_per_hour: usize,
    pub time_zone: TimeZone,
    /// Hours, and the severity that comes through all the same.
    pub quiet: Vec<(WeeklyHours, Severity)>,
}

/// What decides about one notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub moment: Moment,
    pub purpose: Purpose,
    /// How bad that is which it tells.
    pub severity: Severity,
    pub made_at: TimestampMs,
    /// It was to wait from the start, and is told only of what still holds.
    pub delayed: bool,
    /// Why it has waited until now.
    pub waited: Option<HoldReason>,
    /// The subscription or profile is there and enabled.
    pub is_asked: bool,
    /// It is news only to who was told of the alarm before.
    pub follows_raise: bool,
    pub told_before: bool,
    /// The alarm by now.
    pub active: bool,
    pub acknowledged: bool,
    pub shelved_until: Option<TimestampMs>,
}

impl Candidate {
    /// Whether it is told in one message with the others that are. Without
    /// grouping each new notice is a message of its own; what has waited shares
    /// one.
    #[must_use]
    pub fn shares_message(&self, whom: &Whom) -> bool {
        whom.group_ms > 0 || self.waited.is_some()
    }
}

/// What is done with a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Tell(TellReason),
    Hold(TimestampMs, HoldReason),
    Drop(DropReason),
}

/// Why something is told now. The names are part of a stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TellReason {
    /// Nothing was told for the time of grouping.
    First,
    /// It is worse than all that was told within the time of grouping.
    Worse,
    /// It has waited, and is told together with what else has.
    Waited,
    Escalated,
    Reminder,
}

/// Why something waits. The names are part of a stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// Something was told just before.
    Grouped,
    /// The recipient was told as often as they may be within an hour.
    Capped,
    QuietHours,
    /// The alarm was over when it came; it is told together with others.
    OverAlready,
    Shelved,
}

/// Why something is never told. The names are part of a stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    RecipientGone,
    RecipientDisabled,
    /// The user has no address of this channel any more.
    NoAddress,
    /// Nobody asks for it any more.
    Unsubscribed,
    /// It is over before it was to be told.
    Over,
    /// Somebody has acknowledged it before it was to be told.
    Acknowledged,
    /// The recipient was never told of the alarm itself.
    NotTold,
}

impl TellReason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Worse => "worse",
            Self::Waited => "waited",
            Self::Escalated => "escalated",
            Self::Reminder => "reminder",
        }
    }
}

impl HoldReason {
    pub const ALL: [Self; 5] =
        [Self::Grouped, Self::Capped, Self::QuietHours, Self::OverAlready, Self::Shelved];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grouped => "grouped",
            Self::Capped => "capped",
            Self::QuietHours => "quiet_hours",
            Self::OverAlready => "over_already",
            Self::Shelved => "shelved",
        }
    }
}

impl DropReason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecipientGone => "recipient_gone",
            Self::RecipientDisabled => "recipient_disabled",
            Self::NoAddress => "no_address",
            Self::Unsubscribed => "unsubscribed",
            Self::Over => "over",
            Self::Acknowledged => "acknowledged",
            Self::NotTold => "not_told",
        }
    }
}

/// Decides on all that is due, in its order. `lately` is what the recipient was
/// told by this channel within the last [`CAP_WINDOW_MS`], the oldest first.
#[must_use]
pub fn decide(
    now: TimestampMs,
    whom: &Whom,
    lately: &[ToldLately],
    due: &[Candidate],
) -> Vec<Decision> {
    let window = Window::of(now, whom, lately);
    let mut room = whom.max_per_hour.saturating_sub(window.told);
    let mut together = false;
    let decided = due.iter().map(|notice| {
        if let Some(decision) = of_itself(now, whom, notice) {
            return decision;
        }
        if let Some(hold) = window.hold(notice) {
            return hold;
        }
        let shares = notice.shares_message(whom);
        let needs_room = !(shares && together);
        if needs_room && room == 0 {
            return Decision::Hold(window.room_at(now, whom, lately), HoldReason::Capped);
        }
        if needs_room {
            room -= 1;
            together |= shares;
        }
        Decision::Tell(window.why(notice))
    });
    decided.collect()
}

/// What follows from the notice and its alarm alone; none where it may be told.
fn of_itself(now: TimestampMs, whom: &Whom, notice: &Candidate) -> Option<Decision> {
    if let Some(reason) = whom.unreachable {
        return Some(Decision::Drop(reason));
    }
    if !notice.is_asked {
        return Some(Decision::Drop(DropReason::Unsubscribed));
    }
    // The raise itself may still be held back; it will be told as it is then.
    if notice.follows_raise && !notice.told_before {
        return Some(Decision::Drop(DropReason::NotTold));
    }
    let waits_for_a_person = matches!(notice.purpose, Purpose::Escalated | Purpose::Reminder(_));
    if waits_for_a_person && notice.acknowledged {
        return Some(Decision::Drop(DropReason::Acknowledged));
    }
    let is_bad_news = matches!(notice.moment, Moment::Raised | Moment::SeverityChanged);
    let was_shelved = notice.waited == Some(HoldReason::Shelved);
    let only_while_active = waits_for_a_person || notice.delayed || was_shelved;
    if is_bad_news && only_while_active && !notice.active {
        return Some(Decision::Drop(DropReason::Over));
    }
    if is_bad_news && let Some(until) = notice.shelved_until.filter(|until| *until > now) {
        return Some(Decision::Hold(until, HoldReason::Shelved));
    }
    for (hours, severity_from) in &whom.quiet {
        let window = hours.window(&whom.time_zone, now.0);
        if window.active && notice.severity < *severity_from && window.until > now.0 {
            return Some(Decision::Hold(TimestampMs(window.until), HoldReason::QuietHours));
        }
    }
    let together_at = TimestampMs(notice.made_at.0.saturating_add(whom.group_ms));
    if notice.moment == Moment::Raised && !notice.active && now < together_at {
        return Some(Decision::Hold(together_at, HoldReason::OverAlready));
    }
    None
}

/// What the recipient was told lately, as far as it holds further things back.
struct Window {
    /// Messages within the hour.
    told: usize,
    /// Until when things are told together; none where nothing was told within
    /// the time of grouping.
    until: Option<TimestampMs>,
    /// The worst that was told within it.
    worst: Option<Severity>,
}

impl Window {
    fn of(now: TimestampMs, whom: &Whom, lately: &[ToldLately]) -> Self {
        let within =
            |ms: i64| lately.iter().filter(move |told| told.at.0.saturating_add(ms) > now.0);
        let last = within(whom.group_ms).next_back();
        Self {
            told: within(CAP_WINDOW_MS).count(),
            until: last.map(|told| TimestampMs(told.at.0.saturating_add(whom.group_ms))),
            worst: within(whom.group_ms).filter_map(|told| told.severity).max(),
        }
    }

    fn is_worse(&self, notice: &Candidate) -> bool {
        let is_bad_news = matches!(notice.moment, Moment::Raised | Moment::SeverityChanged);
        is_bad_news && self.worst.is_none_or(|worst| notice.severity > worst)
    }

    fn hold(&self, notice: &Candidate) -> Option<Decision> {
        let until = self.until?;
        (!self.is_worse(notice)).then_some(Decision::Hold(until, HoldReason::Grouped))
    }

    /// When a message of the hour is no longer counted.
    fn room_at(&self, now: TimestampMs, whom: &Whom, lately: &[ToldLately]) -> TimestampMs {
        let counted = &lately[lately.len() - self.told..];
        let leaves = self.told.checked_sub(whom.max_per_hour).and_then(|first| counted.get(first));
        // All room was taken by what is told now.
        let at = leaves.or(counted.first()).map_or(now, |told| told.at);
        TimestampMs(at.0.saturating_add(CAP_WINDOW_MS))
    }

    fn why(&self, notice: &Candidate) -> TellReason {
        match (notice.purpose, notice.waited) {
            (_, Some(_)) => TellReason::Waited,
            (Purpose::Escalated, None) => TellReason::Escalated,
            (Purpose::Reminder(_), None) => TellReason::Reminder,
            (Purpose::Told, None) if self.until.is_some() => TellReason::Worse,
            (Purpose::Told, None) => TellReason::First,
        }
    }
}

#[cfg(test)]
mod tests;
