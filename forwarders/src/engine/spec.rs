//! A forwarder as a partition sees it: whose readings, which keys, how treated.

use std::collections::HashMap;

use schema::{Forwarder, LocationId, TenantId, Value};

use super::prepare::Opened;
use crate::destinations::Item;
use crate::lane::{DropReason, Policy, Tolerance};
use crate::value::{DataType, Datum, coerce};

/// Whose readings a forwarder sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Location(LocationId),
    Group(String),
    Tenant,
}

#[derive(Debug)]
pub(super) struct Spec {
    pub forwarder: u64,
    pub tenant: TenantId,
    pub scope: Scope,
    pub policy: Policy,
    /// Places in `treatments` by key; empty sends all keys but Baken's own.
    pub by_key: HashMap<String, u32>,
    treatments: Vec<Treatment>,
    fit: fn(Datum) -> Result<Datum, DropReason>,
}

#[derive(Clone, Copy, Debug)]
struct Treatment {
    data_type: Option<DataType>,
    tolerance: Option<Tolerance>,
}

impl Spec {
    /// What a document says; of one whose settings are wrong, as if the platform
    /// took all.
    pub fn new(
        (forwarder, tenant, scope): (u64, TenantId, Scope),
        document: &Forwarder,
        opened: Option<&Opened>,
    ) -> Self {
        let keys = (0..).zip(&document.items).map(|(place, item)| (item.key.clone(), place));
        let treat =
            |item: &Item| Treatment { data_type: item.data_type, tolerance: item.tolerance };
        let smart_ms = document.smart_interval_s.map(|interval_s| u64::from(interval_s) * 1_000);
        let newer_only = opened.is_some_and(|opened| opened.checked.newer_only);
        Self {
            forwarder,
            tenant,
            scope,
            policy: Policy { smart_ms, newer_only },
            by_key: keys.collect(),
            treatments: opened
                .map(|opened| opened.config.items.iter().map(treat).collect())
                .unwrap_or_default(),
            fit: opened.map_or(Ok, |opened| opened.checked.fit),
        }
    }

    /// The value as it is sent, and how near to the last one it may be.
    pub fn treat(
        &self,
        item: Option<u32>,
        value: Value<'_>,
    ) -> Result<(Datum, Option<Tolerance>), DropReason> {
        let treatment = item.and_then(|item| self.treatments.get(item as usize)).copied();
        let treatment = treatment.unwrap_or(Treatment { data_type: None, tolerance: None });
        let datum = (self.fit)(coerce(value, treatment.data_type)?)?;
        Ok((datum, treatment.tolerance))
    }
}
