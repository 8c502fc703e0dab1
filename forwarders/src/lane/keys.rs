//! Telemetry keys by number, so that a reading is compared without its text.

use std::sync::Arc;

use hashbrown::HashMap;

/// A key's number; valid with the [`Keys`] that gave it out, and never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

impl KeyId {
    #[cfg(test)]
    pub(super) const fn for_test(number: u32) -> Self {
        Self(number)
    }
}

/// All keys that a partition has met.
#[derive(Debug, Default)]
pub struct Keys {
    ids: HashMap<Arc<str>, KeyId, foldhash::quality::RandomState>,
    names: Vec<Arc<str>>,
}

impl Keys {
    /// The key's number, given out if it is new.
    ///
    /// # Panics
    /// At 2³² keys, which the directory's limits keep far away.
    pub fn id(&mut self, name: &str) -> KeyId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = KeyId(u32::try_from(self.names.len()).expect("tenants have a limit of keys"));
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.ids.insert(name, id);
        id
    }

    #[must_use]
    pub fn name(&self, id: KeyId) -> &Arc<str> {
        &self.names[id.0 as usize]
    }
}
