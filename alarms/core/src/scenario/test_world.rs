//! A world that the core's own tests drive line by line.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use schema::Transition;

pub(crate) use super::setup::DEFAULT_START_MS as START_MS;
use super::setup::{LocationLine, Setup};
use super::{input, words, world};
use crate::parse_toml;

#[derive(Debug)]
pub(crate) struct TestWorld {
    world: world::World,
    setup: Arc<Setup>,
}

impl TestWorld {
    /// Of one profile, with devices at "Hall 3" in Amsterdam.
    pub fn new([profile]: &[&str; 1]) -> Self {
        let profile = parse_toml(profile).unwrap_or_else(|r| panic!("{r:#?}\n{profile}"));
        let mut setup = Setup::default();
        setup.profiles.push(("profile".to_owned(), Arc::new(profile)));
        setup.locations.push(LocationLine {
            id: schema::LocationId(1),
            name: "Hall 3".to_owned(),
            zone: "Europe/Amsterdam".to_owned(),
            groups: Vec::new(),
        });
        let setup = Arc::new(setup);
        Self { world: world::World::new(&setup).unwrap(), setup }
    }

    /// Applies one line without an expectation: its time and its transitions.
    pub fn apply(&mut self, line: &str) -> (i64, Vec<Transition>) {
        let words = words::split(line).unwrap();
        let step = input::parse(&words, &self.setup).unwrap_or_else(|e| panic!("{line}: {e}"));
        let out = self.world.apply(&step).unwrap_or_else(|e| panic!("{line}: {e}"));
        (step.at - self.setup.start_ms, out)
    }
}

impl Deref for TestWorld {
    type Target = world::World;

    fn deref(&self) -> &world::World {
        &self.world
    }
}

impl DerefMut for TestWorld {
    fn deref_mut(&mut self) -> &mut world::World {
        &mut self.world
    }
}
