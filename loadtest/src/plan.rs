//! Which readings message number `m` of a connection carries, and back.
//!
//! The whole load is arithmetic: no list of what was sent is kept. A device's
//! readings are numbered from 0 without gaps in each of two lanes, and lie a
//! millisecond apart from the lane's base time on, so that thousands of
//! readings a second have distinct times. It never performs IO or reads a clock.

use schema::TimestampMs;

use crate::swing::Swing;
use crate::values::Sample;

/// Where a reading's time lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Sent when it was taken.
    Live,
    /// Kept by the router while it was away, and sent in a batch later.
    Buffered,
}

/// The load of every connection; the same for all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The time of a device's first live reading.
    pub live_base: TimestampMs,
    /// The time of a device's first buffered reading, far before `live_base`.
    pub buffered_base: TimestampMs,
    /// Telemetry keys in each reading time of a message.
    pub keys: u32,
    /// Reading times in a live message.
    pub times_per_message: u32,
    /// Devices behind each router, taken in turns; 0 if the router speaks for
    /// itself on `v1/devices/me/telemetry`.
    pub devices_behind: u32,
    /// Each how-many-th message is a buffered batch; 0 for none. Never 1.
    pub buffered_every: u32,
    /// Reading times in a buffered batch.
    pub times_per_batch: u32,
    /// How values cross the limits of alarms.
    pub swing: Swing,
}

/// What one message carries: `times` consecutive readings of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub lane: Lane,
    /// The device's place among those of its connection.
    pub device: u32,
    /// The number of its first reading in the lane.
    pub first: u64,
    pub times: u32,
}

impl Plan {
    /// Devices of one connection: at least the router's own.
    #[must_use]
    pub fn devices(&self) -> u32 {
        self.devices_behind.max(1)
    }

    /// What message number `m` of a connection carries.
    #[must_use]
    pub fn message(&self, m: u64) -> Message {
        let devices = u64::from(self.devices());
        let every = u64::from(self.buffered_every);
        let (lane, ordinal) = if every == 0 {
            (Lane::Live, m)
        } else if m % every == every - 1 {
            (Lane::Buffered, m / every)
        } else {
            (Lane::Live, m - m / every)
        };
        let times = self.times(lane);
        Message {
            lane,
            device: u32::try_from(ordinal % devices).expect("a remainder of a u32 fits a u32"),
            first: ordinal / devices * u64::from(times),
            times,
        }
    }

    /// The message that carries reading `number` of a device.
    #[must_use]
    pub fn message_of(&self, lane: Lane, device: u32, number: u64) -> u64 {
        let every = u64::from(self.buffered_every);
        let turn = number / u64::from(self.times(lane));
        let ordinal = turn * u64::from(self.devices()) + u64::from(device);
        match (lane, every) {
            (Lane::Live, 0) => ordinal,
            (Lane::Live, _) => ordinal + ordinal / (every - 1),
            (Lane::Buffered, _) => ordinal * every + every - 1,
        }
    }

    /// Reading times in a message of `lane`.
    #[must_use]
    pub fn times(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Live => self.times_per_message,
            Lane::Buffered => self.times_per_batch,
        }
    }

    /// The time of reading `number`.
    #[must_use]
    pub fn time_of(&self, lane: Lane, number: u64) -> TimestampMs {
        let base = match lane {
            Lane::Live => self.live_base,
            Lane::Buffered => self.buffered_base,
        };
        TimestampMs(base.0 + number.cast_signed())
    }

    /// The value of reading `number` of a key; `series` is that of the lane.
    #[must_use]
    pub fn sample(&self, series: u64, key: u32, number: u64) -> Sample {
        self.swing.sample(series, key, number)
    }

    /// The lane and number of the reading at a time; `None` if it lies before
    /// both lanes.
    #[must_use]
    pub fn at(&self, time: TimestampMs) -> Option<(Lane, u64)> {
        if time >= self.live_base {
            Some((Lane::Live, (time.0 - self.live_base.0).cast_unsigned()))
        } else if time >= self.buffered_base && self.buffered_every > 0 {
            Some((Lane::Buffered, (time.0 - self.buffered_base.0).cast_unsigned()))
        } else {
            None
        }
    }

    /// How many readings of a lane the first `messages` messages of a
    /// connection carry for one of its devices, each of every key.
    #[must_use]
    pub fn readings_offered(&self, lane: Lane, device: u32, messages: u64) -> u64 {
        let every = u64::from(self.buffered_every);
        let ordinals = match (lane, every) {
            (Lane::Live, 0) => messages,
            (Lane::Buffered, 0) => 0,
            (Lane::Live, _) => messages - messages / every,
            (Lane::Buffered, _) => messages / every,
        };
        let devices = u64::from(self.devices());
        let turns = ordinals / devices + u64::from(ordinals % devices > u64::from(device));
        turns * u64::from(self.times(lane))
    }

    /// Readings in message number `m`: a time with three keys is three.
    #[must_use]
    pub fn readings_in(&self, m: u64) -> u64 {
        u64::from(self.message(m).times) * u64::from(self.keys)
    }

    /// Readings in the first `messages` messages of a connection.
    #[must_use]
    pub fn readings_in_first(&self, messages: u64) -> u64 {
        let every = u64::from(self.buffered_every);
        let batches = messages.checked_div(every).unwrap_or(0);
        let times = (messages - batches) * u64::from(self.times_per_message)
            + batches * u64::from(self.times_per_batch);
        times * u64::from(self.keys)
    }
}

#[cfg(test)]
pub(crate) fn sample() -> Plan {
    Plan {
        live_base: TimestampMs(1_764_000_000_000),
        buffered_base: TimestampMs(1_763_000_000_000),
        keys: 3,
        times_per_message: 2,
        devices_behind: 3,
        buffered_every: 4,
        times_per_batch: 5,
        swing: Swing::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn shapes() -> Vec<Plan> {
        let alone = Plan { devices_behind: 0, buffered_every: 0, ..sample() };
        let single = Plan { times_per_message: 1, ..alone.clone() };
        vec![sample(), alone, single, Plan { buffered_every: 2, ..sample() }]
    }

    #[test]
    fn every_reading_leads_back_to_its_message_and_none_is_offered_twice() {
        for plan in shapes() {
            let mut seen = HashSet::new();
            for m in 0..500 {
                let message = plan.message(m);
                for number in message.first..message.first + u64::from(message.times) {
                    let time = plan.time_of(message.lane, number);
                    assert_eq!(plan.at(time), Some((message.lane, number)));
                    assert_eq!(plan.message_of(message.lane, message.device, number), m);
                    assert!(seen.insert((message.device, time)), "{plan:?} message {m}");
                }
            }
        }
    }

    #[test]
    fn counts_agree_with_the_messages_themselves() {
        for plan in shapes() {
            for messages in 0..100 {
                let mut readings = 0;
                for lane in [Lane::Live, Lane::Buffered] {
                    for device in 0..plan.devices() {
                        let numbers: HashSet<u64> = (0..messages)
                            .map(|m| plan.message(m))
                            .filter(|message| message.lane == lane && message.device == device)
                            .flat_map(|message| {
                                message.first..message.first + u64::from(message.times)
                            })
                            .collect();
                        let offered = plan.readings_offered(lane, device, messages);
                        assert_eq!(numbers.len() as u64, offered);
                        assert!(numbers.iter().all(|&number| number < offered), "no gaps");
                        readings += offered * u64::from(plan.keys);
                    }
                }
                assert_eq!(readings, plan.readings_in_first(messages));
                assert_eq!(readings, (0..messages).map(|m| plan.readings_in(m)).sum::<u64>());
            }
        }
    }
}
