//! How many alarms are open, by location and severity: from an index that holds
//! open alarms only, so that the many that are over cost nothing.

use std::collections::BTreeMap;

use schema::{LocationId, RuleId, Severity, TenantId};

use super::bounds::{Bounds, known_severity, number};
use super::{AlarmStore, AlarmStoreError};
use crate::sql::params;

/// Open alarms of one severity. An alarm may count in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenCount {
    pub active: u64,
    /// Active or not.
    pub unacknowledged: u64,
    pub active_unacknowledged: u64,
    /// Active and shelved.
    pub shelved: u64,
}

/// Open alarms of one place by severity; those without any are left out.
pub type OpenBySeverity = BTreeMap<Severity, OpenCount>;

impl OpenCount {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.active += other.active;
        self.unacknowledged += other.unacknowledged;
        self.active_unacknowledged += other.active_unacknowledged;
        self.shelved += other.shelved;
    }
}

impl AlarmStore {
    /// How many alarms of one rule of a tenant are active at each location.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn active_of_rule(
        &self,
        tenant: TenantId,
        rule: RuleId,
    ) -> Result<Vec<(LocationId, u32)>, AlarmStoreError> {
        self.read(move |sql| {
            let mut statement = sql.prepare_cached(
                "SELECT location, count(*) FROM alarms INDEXED BY alarms_uncleared
                 WHERE tenant = ?1 AND profile = ?2 AND rule = ?3 AND active = 1
                    AND location IS NOT NULL
                 GROUP BY location",
            )?;
            let of_rule = params![number(tenant.0), number(rule.profile.0), &*rule.key];
            let rows =
                statement.query_map(of_rule, |row| Ok((LocationId(row.get(0)?), row.get(1)?)))?;
            Ok(rows)
        })
        .await
    }

    /// Open alarms (active, or not acknowledged) of each location; those of a
    /// tenant as a whole have none.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn open_alarms(
        &self,
        tenant: Option<TenantId>,
        locations: Vec<LocationId>,
    ) -> Result<BTreeMap<Option<LocationId>, OpenBySeverity>, AlarmStoreError> {
        self.read(move |sql| {
            let mut bounds = Bounds::default();
            bounds.add("tenant = ?", tenant.map(|id| number(id.0)));
            bounds.among("location", locations.iter().map(|id| number(id.0)));
            let mut statement = sql.prepare_cached(&format!(
                "SELECT location, severity, count(*) FILTER (WHERE active = 1),
                    count(*) FILTER (WHERE acknowledged = 0),
                    count(*) FILTER (WHERE active = 1 AND acknowledged = 0),
                    count(*) FILTER (WHERE active = 1 AND shelved_until IS NOT NULL)
                 FROM alarms INDEXED BY alarms_open
                 WHERE (active = 1 OR acknowledged = 0) AND {}
                 GROUP BY location, severity",
                bounds.clause(),
            ))?;
            let mut rows = statement.query(&*bounds.into_values())?;
            let mut found: BTreeMap<Option<LocationId>, OpenBySeverity> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let location = row.get::<Option<u64>>(0)?.map(LocationId);
                let count = OpenCount {
                    active: row.get(2)?,
                    unacknowledged: row.get(3)?,
                    active_unacknowledged: row.get(4)?,
                    shelved: row.get(5)?,
                };
                found.entry(location).or_default().insert(known_severity(&row, 1)?, count);
            }
            Ok(found)
        })
        .await
    }
}
