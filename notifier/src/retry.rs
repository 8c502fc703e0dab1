//! When a message that was not taken is handed over again, and when it is given
//! up. Pure: the time and the randomness come in.

use std::time::Duration;

use schema::{Channel, TimestampMs};

/// The longest pause before the second hand-over.
const FIRST_MS: u64 = 5_000;

/// The longest pause between two hand-overs.
const LONGEST_MS: u64 = 15 * 60 * 1_000;

/// How long a message is worth telling, by channel. Past it the message has
/// failed: an SMS about the night before helps nobody.
#[must_use]
pub fn give_up_after(channel: Channel) -> Duration {
    match channel {
        Channel::Email | Channel::Webhook => Duration::from_secs(3 * 24 * 3_600),
        Channel::Sms => Duration::from_secs(12 * 3_600),
    }
}

/// Backoff with full jitter: anything up to twice the time before, at least what
/// the provider asks for. `random` is uniform over all 64-bit numbers.
#[must_use]
pub fn pause(failures: u32, asked: Option<Duration>, random: u64) -> Duration {
    let doubled = FIRST_MS.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let longest = doubled.min(LONGEST_MS);
    let jittered = Duration::from_millis(random % (longest + 1));
    let asked = asked.unwrap_or_default().min(Duration::from_millis(LONGEST_MS));
    jittered.max(asked).max(Duration::from_millis(250))
}

/// When it is handed over again; none where it is given up.
#[must_use]
pub fn again(
    channel: Channel,
    made_at: TimestampMs,
    now: TimestampMs,
    pause: Duration,
) -> Option<TimestampMs> {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let next = TimestampMs(now.0.saturating_add(ms(pause)));
    let last = made_at.0.saturating_add(ms(give_up_after(channel)));
    (next.0 <= last).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour_and_never_undercut_the_provider() {
        let longest = |failures| {
            (0..2_000)
                .map(|step| pause(failures, None, step * 0x9e37_79b9_7f4a_7c15 % (1 << 53)))
                .max()
        };
        assert!(longest(1) <= Some(Duration::from_secs(5)));
        assert!(longest(2) > Some(Duration::from_secs(5)));
        assert!(longest(60) <= Some(Duration::from_secs(900)));
        let asked = Some(Duration::from_secs(120));
        assert_eq!(pause(1, asked, 0), Duration::from_secs(120));
        assert_eq!(pause(1, None, 0), Duration::from_millis(250));
    }

    #[test]
    fn what_is_too_old_to_be_worth_telling_is_given_up() {
        let hour = 3_600_000;
        let minute = Duration::from_secs(60);
        let at = |hours: i64| TimestampMs(hours * hour);
        assert!(again(Channel::Sms, at(0), at(11), minute).is_some());
        assert_eq!(again(Channel::Sms, at(0), at(12), minute), None);
        assert!(again(Channel::Email, at(0), at(71), minute).is_some());
        assert_eq!(again(Channel::Webhook, at(0), at(72), minute), None);
    }
}
