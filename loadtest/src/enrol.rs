//! Makes the tenant, locations and routers of a run, and finds their devices
//! afterwards.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use schema::TimestampMs;

use crate::alarms::Watch;
use crate::api::{Api, MadeRouter, Quota};
use crate::connect::Login;
use crate::options::LoadOptions;
use crate::packets::Version;
use crate::plan::Plan;
use crate::swing;
use crate::template::device_name;

/// How long before the live readings the buffered ones begin.
const BUFFERED_BEFORE_MS: i64 = 30 * 86_400_000;
/// Devices that the quota has over what is needed.
const QUOTA_SLACK: u32 = 1_000;

/// The routers of a run.
#[derive(Debug)]
pub struct Enrolled {
    tenant: u64,
    places: Vec<u64>,
    /// Those that carry the load, then `extra` others.
    routers: Vec<MadeRouter>,
    carrying: usize,
    watch: Option<Watch>,
}

impl Enrolled {
    /// Makes routers, those that the plan needs and `extra` others, and the alarm
    /// profile that watches them, if the plan has alarms.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn make(
        api: &Api,
        plan: &Plan,
        connections: u32,
        extra: u32,
        locations: u32,
    ) -> anyhow::Result<Self> {
        let name = format!("loadtest-{}", now().0);
        let routers = connections + extra;
        let devices = routers.saturating_mul(1 + plan.devices_behind) + QUOTA_SLACK;
        let quota = Quota { devices, keys: plan.keys + QUOTA_SLACK };
        let tenant = api.make_tenant(&name, quota).await?;
        let mut places = Vec::new();
        for location in 0..locations.max(1).min(routers) {
            places.push(api.make_location(tenant, &format!("location-{location}")).await?);
        }
        let routers = api.make_routers(&places, routers as usize).await?;
        let watch = if plan.swing.is_on() {
            let profile = api.make_profile(tenant, swing::profile(plan.keys)).await?;
            let profile = profile.context("the alarm profile is not in force yet")?;
            Some(Watch { tenant, profile })
        } else {
            None
        };
        Ok(Self { tenant, places, routers, carrying: connections as usize, watch })
    }

    /// The tenant of them all.
    #[must_use]
    pub fn tenant(&self) -> u64 {
        self.tenant
    }

    /// The locations at which the routers stand in turns.
    #[must_use]
    pub fn places(&self) -> &[u64] {
        &self.places
    }

    /// What watches the load, where it has alarms.
    #[must_use]
    pub fn watch(&self) -> Option<Watch> {
        self.watch
    }

    /// How those that carry the load log in.
    #[must_use]
    pub fn logins(&self, version: Version, keep_alive_s: u16) -> Vec<Login> {
        self.routers[..self.carrying].iter().map(|r| login(r, version, keep_alive_s)).collect()
    }

    /// How the others log in.
    #[must_use]
    pub fn extra_logins(&self, version: Version) -> Vec<Login> {
        self.routers[self.carrying..].iter().map(|r| login(r, version, 0)).collect()
    }

    /// The ids of the devices of each connection, as the audit counts them.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub async fn devices(&self, api: &Api, plan: &Plan) -> anyhow::Result<Vec<Vec<Option<u64>>>> {
        if plan.devices_behind == 0 {
            return Ok(self.routers[..self.carrying]
                .iter()
                .map(|r| vec![Some(r.device)])
                .collect());
        }
        let known: HashMap<String, u64> = api.devices(self.tenant).await?.into_iter().collect();
        Ok((0..)
            .take(self.carrying)
            .map(|connection| {
                (0..plan.devices())
                    .map(|device| known.get(&device_name(connection, device)).copied())
                    .collect()
            })
            .collect())
    }
}

/// The plan that the options ask for.
#[must_use]
pub fn plan(options: &LoadOptions) -> Plan {
    let live_base = TimestampMs(now().0 - i64::from(options.age_s) * 1_000);
    Plan {
        live_base,
        buffered_base: TimestampMs(live_base.0 - BUFFERED_BEFORE_MS),
        keys: options.keys,
        times_per_message: options.times,
        devices_behind: options.devices,
        buffered_every: options.buffered_every,
        times_per_batch: options.buffered_times,
        swing: options.swing(),
    }
}

/// Logins for a broker that asks for none.
#[must_use]
pub fn anonymous(connections: u32, version: Version, keep_alive_s: u16) -> Vec<Login> {
    (0..connections)
        .map(|number| Login {
            version,
            client_id: format!("loadtest-{number}"),
            user: None,
            password: None,
            keep_alive_s,
        })
        .collect()
}

fn login(router: &MadeRouter, version: Version, keep_alive_s: u16) -> Login {
    Login {
        version,
        client_id: format!("router-{}", router.id),
        user: Some(router.token.clone()),
        password: None,
        keep_alive_s,
    }
}

fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
