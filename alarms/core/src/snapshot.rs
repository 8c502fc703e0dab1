//! The whole state of an engine as bytes, and back.
//!
//! The first byte is the version, the last four the CRC-32C of all before
//! them; between stands the state in postcard's format. Programs are not kept:
//! they are compiled again from the profiles, in the same places.
//!
//! A snapshot can't be made again by a replay, because the clock's moves and the
//! devices' descriptions before it are kept no longer. So older versions are
//! read on, each in a module of its own.

mod version_1;
mod version_2;
mod version_3;
mod version_4;
mod version_5;

use std::sync::Arc;

use schema::{AlarmProfile, ProfileId, TenantId};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineOptions, Profile, RuleState, StoredCount, World};
use crate::program;
use version_5::Count5;

/// The version of the format; part of stored data.
const VERSION: u8 = 6;

/// Why a snapshot can't be taken back. It came from our own store, so each of
/// these stops the partition and wants a person.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the alarm snapshot is shorter than its frame")]
    Short,
    #[error("the alarm snapshot has version {found}; this build reads 1 to {VERSION}")]
    Version { found: u8 },
    #[error("the alarm snapshot's checksum is wrong")]
    Checksum,
    #[error("the alarm snapshot can't be read: {0}")]
    Postcard(#[from] postcard::Error),
    #[error("a profile in the alarm snapshot can't be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("profile {profile} in the alarm snapshot no longer compiles")]
    Profile { profile: ProfileId },
    #[error("the alarm snapshot names a rule that its profiles do not have")]
    Rule,
}

#[derive(Serialize, Deserialize)]
struct Stored<W, S, C = StoredCount> {
    head: Head<C>,
    world: W,
    /// In the order of devices and their entries.
    states: S,
}

/// What is the same in all versions but for the rules' counts.
#[derive(Serialize, Deserialize)]
struct Head<C = StoredCount> {
    clock: i64,
    keys: Vec<Arc<str>>,
    profiles: Vec<StoredProfile>,
    /// How many places for rules there are, those of gone rules included.
    rule_places: usize,
    counts: Vec<C>,
}

/// An engine's states where they are: there may be millions.
struct States<'a>(&'a Engine);

impl Serialize for States<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.ordered_states().count()))?;
        for state in self.0.ordered_states() {
            list.serialize_element(&*state)?;
        }
        list.end()
    }
}

#[derive(Serialize, Deserialize)]
struct StoredProfile {
    id: ProfileId,
    tenant: TenantId,
    version: u64,
    /// JSON; empty once deleted.
    document: Vec<u8>,
    /// The place of each rule, in the document's order.
    rules: Vec<u32>,
}

impl Engine {
    /// The state as bytes; the same state gives the same bytes.
    ///
    /// # Panics
    /// If our own state can't be written to memory, which would be a defect.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let profiles = self.profiles.iter().map(|(id, profile)| StoredProfile {
            id: *id,
            tenant: profile.tenant,
            version: profile.version,
            document: profile.document.as_ref().map_or_else(Vec::new, |document| {
                serde_json::to_vec(&**document).expect("a profile is plain values and text keys")
            }),
            rules: profile.rules.clone(),
        });
        let head = Head {
            clock: self.clock,
            keys: self.keys.names.clone(),
            profiles: profiles.collect(),
            rule_places: self.rules.len(),
            counts: self.counts.clone(),
        };
        let stored = Stored { head, world: &self.world, states: States(self) };
        // What most take; a buffer that grows is copied each time.
        let (devices, series) = self.sizes();
        let mut bytes = Vec::with_capacity(96 * devices + 24 * series);
        bytes.push(VERSION);
        let mut bytes =
            postcard::to_extend(&stored, bytes).expect("plain values can be written to memory");
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// An engine that goes on where the snapshot was taken.
    ///
    /// # Errors
    /// The bytes are damaged or of another version.
    pub fn restore(options: EngineOptions, bytes: &[u8]) -> Result<Self, RestoreError> {
        let (framed, checksum) = bytes.split_last_chunk::<4>().ok_or(RestoreError::Short)?;
        let (version, body) = framed.split_first().ok_or(RestoreError::Short)?;
        if !(1..=VERSION).contains(version) {
            return Err(RestoreError::Version { found: *version });
        }
        if crc32c::crc32c(framed) != u32::from_le_bytes(*checksum) {
            return Err(RestoreError::Checksum);
        }
        match *version {
            1 => {
                let stored: version_1::Stored = postcard::from_bytes(body)?;
                let mut engine = Self::begin(options, stored.head.upgrade())?;
                let states = stored.states.into_iter().map(|state| state.upgrade(&engine));
                let states = states.collect::<Result<Vec<_>, _>>()?;
                engine.restore_world(stored.world.upgrade(), states)?;
                Ok(engine)
            }
            2 => Self::restore_older::<version_2::World2>(options, body, |it| it.upgrade()),
            3 => Self::restore_older::<version_3::World3>(options, body, |it| it.upgrade()),
            4 => Self::restore_older::<version_4::World4>(options, body, |it| it.upgrade()),
            5 => Self::restore_older::<World>(options, body, |it| it),
            _ => {
                let stored: Stored<World, Vec<RuleState>> = postcard::from_bytes(body)?;
                let mut engine = Self::begin(options, stored.head)?;
                engine.restore_world(stored.world, stored.states)?;
                Ok(engine)
            }
        }
    }

    /// From a version of which states are as they are now.
    fn restore_older<W: serde::de::DeserializeOwned>(
        options: EngineOptions,
        body: &[u8],
        upgrade: impl FnOnce(W) -> World,
    ) -> Result<Self, RestoreError> {
        let stored: Stored<W, Vec<RuleState>, Count5> = postcard::from_bytes(body)?;
        let mut engine = Self::begin(options, stored.head.upgrade())?;
        engine.restore_world(upgrade(stored.world), stored.states)?;
        Ok(engine)
    }

    /// An engine with profiles and no devices yet.
    fn begin(options: EngineOptions, head: Head) -> Result<Self, RestoreError> {
        let mut engine = Self::new(options);
        engine.clock = head.clock;
        for key in &head.keys {
            engine.key(key);
        }
        engine.rules.resize_with(head.rule_places, || None);
        engine.counts = head.counts;
        for profile in head.profiles {
            engine.restore_profile(profile)?;
        }
        Ok(engine)
    }

    fn restore_profile(&mut self, stored: StoredProfile) -> Result<(), RestoreError> {
        let StoredProfile { id, tenant, version, document, rules } = stored;
        let document: Option<Arc<AlarmProfile>> = match document.is_empty() {
            true => None,
            false => Some(Arc::new(serde_json::from_slice(&document)?)),
        };
        if let Some(document) = &document {
            let compiled = program::compile(tenant, id, document, &mut self.keys, &mut self.zones)
                .map_err(|_| RestoreError::Profile { profile: id })?;
            if compiled.len() != rules.len() {
                return Err(RestoreError::Rule);
            }
            for (rule, place) in compiled.into_iter().zip(&rules) {
                let slot = self.rules.get_mut(*place as usize).ok_or(RestoreError::Rule)?;
                *slot = Some(rule);
            }
        }
        self.profiles.insert(id, Profile { tenant, version, document, rules });
        Ok(())
    }
}
