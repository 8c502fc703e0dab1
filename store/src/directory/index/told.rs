//! What the alarm workers ask at each transition: all of one kind that a tenant
//! has, as one list that is made when it is first asked for after a change.

use std::sync::{Arc, OnceLock};

use foldhash::quality::RandomState;
use hashbrown::HashMap;
use schema::TenantId;

use crate::Entry;

type List<T> = Arc<[Arc<Entry<T>>]>;

#[derive(Debug)]
pub(super) struct Told<T>(HashMap<TenantId, OnceLock<List<T>>, RandomState>);

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T> Told<T> {
    /// The tenant's list; that of a tenant that is not there is empty.
    pub fn of(&self, tenant: TenantId, list: impl FnOnce() -> List<T>) -> List<T> {
        self.0.get(&tenant).map_or_else(Arc::default, |made| made.get_or_init(list).clone())
    }

    /// The tenant's list is another now.
    pub fn changed(&mut self, tenant: TenantId) {
        self.0.insert(tenant, OnceLock::new());
    }

    /// The tenant is there now, or gone.
    pub fn tenant(&mut self, tenant: TenantId, is_there: bool) {
        match is_there {
            true => self.changed(tenant),
            false => drop(self.0.remove(&tenant)),
        }
    }
}
