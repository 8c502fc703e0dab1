//! Random series through a lane with crashes, acknowledgements that get lost
//! and stores at any moment, against a naive reading of the rules: what the
//! platform has at the end, each message id once, must be what the rules say of
//! the journal as a whole.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Rows of one record of the journal of the test.
const RECORD_ROWS: usize = 5;
const MAX_OUTSTANDING: usize = 6;

#[derive(Clone, Copy, Debug)]
struct Reading {
    device: u64,
    key: usize,
    at_ms: i64,
    value: i64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Read,
    /// The platform takes what is oldest, and we hear of it.
    Acknowledge,
    /// It takes it, and we don't.
    LoseAcknowledgement,
    Store,
    Crash,
    /// The forwarder is changed: what is outstanding is read again.
    Reset,
}

const KEYS: [&str; 2] = ["a", "b"];

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let reading = (1..3_u64, 0..KEYS.len(), -30..200_i64, 0..3_i64)
        .prop_map(|(device, key, step_ms, value)| (device, key, step_ms, value));
    prop::collection::vec(reading, 1..60).prop_map(|steps| {
        let mut at_ms = 1_000;
        steps
            .into_iter()
            .map(|(device, key, step_ms, value)| {
                at_ms += step_ms;
                Reading { device, key, at_ms, value }
            })
            .collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Read),
        4 => Just(Step::Acknowledge),
        2 => Just(Step::LoseAcknowledgement),
        2 => Just(Step::Store),
        1 => Just(Step::Crash),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 0..200)
}

/// What survives a crash.
#[derive(Default)]
struct Disk {
    place: Place,
    counts: Counts,
    devices: BTreeMap<u64, Vec<u8>>,
}

struct World<'a> {
    journal: &'a [Reading],
    policy: Policy,
    tolerance: Option<Tolerance>,
    disk: Disk,
    lane: Lane,
    keys: Keys,
    /// Index of the next reading to be taken.
    read: usize,
    /// Indexes of readings that are outstanding, oldest first.
    queue: Vec<usize>,
    /// What the platform has been sent, in order, repetitions included.
    sent: Vec<usize>,
}

fn place_of(index: usize) -> Place {
    let position = Position((index / RECORD_ROWS) as u64);
    Place { position, row: u32::try_from(index % RECORD_ROWS).unwrap() }
}

fn index_of(place: Place) -> usize {
    usize::try_from(place.position.0).unwrap() * RECORD_ROWS + place.row as usize
}

impl World<'_> {
    fn step(&mut self, step: Step) {
        match step {
            Step::Read => self.take_next(),
            Step::Acknowledge | Step::LoseAcknowledgement => {
                let Some(&oldest) = self.queue.first() else { return };
                self.sent.push(oldest);
                if matches!(step, Step::Acknowledge) {
                    self.queue.remove(0);
                    self.lane.resolve(Outcome::Sent);
                }
            }
            Step::Store => self.store(),
            Step::Crash => self.crash(),
            Step::Reset => {
                self.read = index_of(self.lane.place(place_of(self.read)));
                self.lane.reset();
                self.queue.clear();
            }
        }
        let taken = self.lane.taken();
        assert_eq!(taken.selected, taken.settled() + self.lane.outstanding() as u64);
        assert_eq!(taken.selected, self.read as u64, "each reading is counted once");
    }

    fn take_next(&mut self) {
        if self.read == self.journal.len() || self.queue.len() == MAX_OUTSTANDING {
            return;
        }
        let Reading { device, key, at_ms, value } = self.journal[self.read];
        let of = (DeviceId(device), self.keys.id(KEYS[key]));
        let datum = Datum::Integer(value);
        let decision = self.lane.take(place_of(self.read), of, at_ms, &datum, self.tolerance);
        if matches!(decision, Decision::Send(_)) {
            self.queue.push(self.read);
        }
        self.read += 1;
    }

    fn store(&mut self) {
        self.disk.place = self.lane.place(place_of(self.read));
        self.disk.counts = self.lane.settled();
        for (device, bytes) in self.lane.unstored(&self.keys) {
            self.disk.devices.insert(device.0, bytes.unwrap());
        }
        self.lane.stored();
    }

    fn crash(&mut self) {
        self.keys = Keys::default();
        self.lane = Lane::new(self.policy, self.disk.counts);
        for (device, bytes) in &self.disk.devices {
            self.lane.restore(DeviceId(*device), bytes, &mut self.keys).unwrap();
        }
        self.read = index_of(self.disk.place);
        self.queue.clear();
    }

    fn finish(&mut self) {
        while self.read < self.journal.len() || !self.queue.is_empty() {
            self.step(Step::Read);
            self.step(Step::Acknowledge);
        }
    }
}

/// The rules, reading by reading, with nothing kept but what the platform has.
fn check(world: &World<'_>) -> Result<(), TestCaseError> {
    let mut last: BTreeMap<(u64, usize), Reading> = BTreeMap::new();
    for (index, reading) in world.journal.iter().enumerate() {
        let series = (reading.device, reading.key);
        let is_sent = world.sent.contains(&index);
        let Some(before) = last.get(&series).copied() else {
            prop_assert!(is_sent, "the first of a series is sent: {index}");
            last.insert(series, *reading);
            continue;
        };
        let is_older = reading.at_ms <= before.at_ms;
        if world.policy.newer_only && is_older {
            prop_assert!(!is_sent, "{index} is not newer than the newest");
            continue;
        }
        if let Some(interval) = world.policy.smart_ms {
            let width = match world.tolerance {
                Some(Tolerance::Absolute(width)) => width,
                _ => 0.0,
            };
            let differs = ((reading.value - before.value) as f64).abs() > width;
            let is_due = interval > 0 && reading.at_ms.abs_diff(before.at_ms) >= interval;
            prop_assert_eq!(
                is_sent,
                differs || is_due,
                "{}: {:?} after {:?}",
                index,
                reading,
                before
            );
        } else {
            prop_assert!(is_sent, "{index}: all is sent");
        }
        if is_sent {
            last.insert(series, *reading);
        }
    }
    // In order within a series, apart from repetitions.
    let mut first = Vec::new();
    for index in &world.sent {
        if !first.contains(index) {
            prop_assert!(first.last().is_none_or(|before| before < index), "{:?}", world.sent);
            first.push(*index);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn crashes_and_lost_acknowledgements_change_nothing_of_what_the_platform_has(
        journal in readings(),
        steps in steps(),
        smart_ms in prop_oneof![Just(None), Just(Some(0)), (1..400_u64).prop_map(Some)],
        newer_only in any::<bool>(),
        tolerance in prop_oneof![Just(None), Just(Some(Tolerance::Absolute(1.0)))],
    ) {
        let policy = Policy { smart_ms, newer_only };
        let mut world = World {
            journal: &journal,
            policy,
            tolerance,
            disk: Disk::default(),
            lane: Lane::new(policy, Counts::default()),
            keys: Keys::default(),
            read: 0,
            queue: Vec::new(),
            sent: Vec::new(),
        };
        for step in steps {
            world.step(step);
        }
        world.finish();
        let counts = world.lane.settled();
        prop_assert_eq!(counts.selected, counts.settled());
        prop_assert_eq!(counts.selected, journal.len() as u64);
        check(&world)?;
    }
}
