//! Snapshots of version 5: each partition counted a rule's alarms for itself, and
//! told by itself that its limit was reached. They are read, never written.

use schema::AlarmId;
use serde::Deserialize;

use super::Head;
use crate::engine::StoredCount;

#[derive(Deserialize)]
pub(super) struct Count5 {
    active: u32,
    limit: Option<AlarmId>,
}

impl Head<Count5> {
    pub fn upgrade(self) -> Head {
        let Self { clock, keys, profiles, rule_places, counts } = self;
        let counts = counts.into_iter().map(Count5::upgrade).collect();
        Head { clock, keys, profiles, rule_places, counts }
    }
}

impl Count5 {
    fn upgrade(self) -> StoredCount {
        let Self { active, limit } = self;
        StoredCount { active, elsewhere: 0, refusing: limit.is_some(), limit }
    }
}
