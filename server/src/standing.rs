//! How locations stand: worked out from the directory, the connections and the
//! routers' send intervals, in the six words of the portal.
//!
//! A location has the first of these that holds:
//! 1. *no configuration*: no enabled router stands there;
//! 2. *unknown*: its partition is stopped, so that nobody knows what comes in;
//! 3. *other cloud host*: all of its enabled routers are configured for a host
//!    that is none of `mqtt.public_hosts`, and none of them is connected here;
//! 4. *no MQTT connection*: an enabled router that is configured for here is away;
//! 5. *unknown*: the node has just started and waits for a router;
//! 6. *no new telemetry*: a router is connected and past its silent limit;
//! 7. *active*.
//!
//! So of several routers the one that is worst off counts: a location is active
//! only where all of its routers are.

mod board;

use std::sync::Arc;

use alarms::AlarmWorkers;
use ingest::broker::{Presence, Reach};
use ingest::recorder::Recorder;
use schema::{LocationId, PartitionId, RouterId, TimestampMs, partition_of};
use serde::{Deserialize, Serialize};
use store::{Directory, Entry, ListQuery};
use utoipa::ToSchema;

pub use board::{Board, Standings};

/// The routers of one location that an answer names.
pub const MAX_ROUTERS_SHOWN: usize = 100;

/// How a location stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LocationStatus {
    /// All of its routers are connected and send.
    Active,
    /// Active but no new telemetry.
    NoTelemetry,
    NoConfiguration,
    OtherCloudHost,
    /// No MQTT connection.
    NoConnection,
    Unknown,
}

impl LocationStatus {
    pub const ALL: [Self; 6] = [
        Self::Active,
        Self::NoTelemetry,
        Self::NoConfiguration,
        Self::OtherCloudHost,
        Self::NoConnection,
        Self::Unknown,
    ];

    /// The stable name in the API and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NoTelemetry => "no_telemetry",
            Self::NoConfiguration => "no_configuration",
            Self::OtherCloudHost => "other_cloud_host",
            Self::NoConnection => "no_connection",
            Self::Unknown => "unknown",
        }
    }
}

/// How one router stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouterStatus {
    Active,
    NoTelemetry,
    OtherCloudHost,
    NoConnection,
    Unknown,
    /// It may not connect, and doesn't count.
    Disabled,
}

/// A router of a location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RouterStanding {
    pub id: u64,
    pub name: String,
    pub status: RouterStatus,
    /// Milliseconds since 1970; absent where it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// How a location stands, with its routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub status: LocationStatus,
    /// Of the router that is worst off for the longest time, where it is known.
    pub since: Option<TimestampMs>,
    /// For people.
    pub reason: String,
    /// At most [`MAX_ROUTERS_SHOWN`].
    pub routers: Vec<RouterStanding>,
}

/// The routers of a location, counted by how they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    enabled: u32,
    elsewhere: u32,
    away: u32,
    unknown: u32,
    silent: u32,
}

impl Tally {
    fn add(&mut self, status: RouterStatus) {
        self.enabled += u32::from(status != RouterStatus::Disabled);
        match status {
            RouterStatus::Active | RouterStatus::Disabled => {}
            RouterStatus::NoTelemetry => self.silent += 1,
            RouterStatus::OtherCloudHost => self.elsewhere += 1,
            RouterStatus::NoConnection => self.away += 1,
            RouterStatus::Unknown => self.unknown += 1,
        }
    }

    fn status(self, is_stopped: bool) -> LocationStatus {
        if self.enabled == 0 {
            LocationStatus::NoConfiguration
        } else if is_stopped {
            LocationStatus::Unknown
        } else if self.elsewhere == self.enabled {
            LocationStatus::OtherCloudHost
        } else if self.away > 0 {
            LocationStatus::NoConnection
        } else if self.unknown > 0 {
            LocationStatus::Unknown
        } else if self.silent > 0 {
            LocationStatus::NoTelemetry
        } else {
            LocationStatus::Active
        }
    }
}

/// What a status is worked out from.
#[derive(Debug)]
struct Sources {
    directory: Directory,
    presence: Arc<Presence>,
    alarms: Arc<AlarmWorkers>,
    recorder: Arc<Recorder>,
    /// Lower case. Where it is empty no router is taken to be elsewhere.
    hosts: Vec<String>,
    partitions: u16,
}

impl Sources {
    /// The partitions in which nothing goes on.
    fn stopped(&self) -> Vec<PartitionId> {
        let alarms = self.alarms.status().into_iter();
        let alarms = alarms.filter(|it| it.stopped.is_some()).map(|it| it.partition);
        let recorder = self.recorder.status().into_iter();
        let recorder = recorder.filter(|it| it.stopped.is_some()).map(|it| it.partition);
        alarms.chain(recorder).collect()
    }

    fn router(&self, router: &Entry<schema::Router>) -> (RouterStatus, Option<TimestampMs>) {
        if !router.enabled {
            return (RouterStatus::Disabled, None);
        }
        let presence = self.presence.of(RouterId(router.id));
        let is_elsewhere = !self.hosts.is_empty()
            && router.cloud_host.as_ref().is_some_and(|host| {
                !self.hosts.iter().any(|known| host.eq_ignore_ascii_case(known))
            });
        let status = match presence.reach {
            Reach::Active => RouterStatus::Active,
            Reach::Silent => RouterStatus::NoTelemetry,
            // What is connected here is here, whatever it is configured for.
            Reach::Offline | Reach::Unknown if is_elsewhere => RouterStatus::OtherCloudHost,
            Reach::Offline => RouterStatus::NoConnection,
            Reach::Unknown => RouterStatus::Unknown,
        };
        (status, presence.since)
    }

    fn location(&self, location: &Entry<schema::Location>, stopped: &[PartitionId]) -> Standing {
        let id = LocationId(location.id);
        let partition = partition_of(location.tenant, id, self.partitions);
        let mut query = ListQuery { location: Some(id), ..ListQuery::default() };
        let (mut tally, mut routers) = (Tally::default(), Vec::new());
        loop {
            let page = self.directory.routers(&query);
            for router in page.items {
                let (status, since) = self.router(&router);
                tally.add(status);
                let since = since.map(|since| since.0);
                let name = router.name.clone();
                routers.push(RouterStanding { id: router.id, name, status, since });
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        let status = tally.status(stopped.contains(&partition));
        let (since, reason) = explain(status, tally, &routers, partition);
        routers.truncate(MAX_ROUTERS_SHOWN);
        Standing { status, since, reason, routers }
    }
}

/// Since when, and why in words.
fn explain(
    status: LocationStatus,
    tally: Tally,
    routers: &[RouterStanding],
    partition: PartitionId,
) -> (Option<TimestampMs>, String) {
    let (wanted, what) = match status {
        LocationStatus::NoConfiguration => {
            let detail = match routers.len() {
                0 => "No router is set up here.".to_owned(),
                count => format!("None of its {count} routers is enabled."),
            };
            return (None, detail);
        }
        LocationStatus::Unknown if tally.unknown == 0 => {
            return (None, format!("Partition {partition} of this node is stopped."));
        }
        LocationStatus::Active => (RouterStatus::Active, "connected and sending"),
        LocationStatus::NoTelemetry => {
            (RouterStatus::NoTelemetry, "connected but without new telemetry")
        }
        LocationStatus::OtherCloudHost => {
            (RouterStatus::OtherCloudHost, "configured for another cloud host")
        }
        LocationStatus::NoConnection => (RouterStatus::NoConnection, "without MQTT connection"),
        LocationStatus::Unknown => {
            (RouterStatus::Unknown, "not connected yet since this node started")
        }
    };
    let such = routers.iter().filter(|router| router.status == wanted);
    let since = match status {
        // Since the last of them became so.
        LocationStatus::Active => such.clone().filter_map(|router| router.since).max(),
        _ => such.clone().filter_map(|router| router.since).min(),
    };
    let count = such.clone().count();
    let names: Vec<&str> = such.take(3).map(|router| router.name.as_str()).collect();
    let more = if count > names.len() { ", …" } else { "" };
    let verb = if count == 1 { "is" } else { "are" };
    let reason = format!(
        "{count} of {} enabled routers {verb} {what}: {}{more}.",
        tally.enabled,
        names.join(", ")
    );
    (since.map(TimestampMs), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(routers: &[RouterStatus]) -> LocationStatus {
        let mut tally = Tally::default();
        routers.iter().for_each(|status| tally.add(*status));
        tally.status(false)
    }

    #[test]
    fn of_several_routers_the_one_that_is_worst_off_counts() {
        use RouterStatus::{Active, Disabled, NoConnection, NoTelemetry, OtherCloudHost, Unknown};
        for (routers, expected) in [
            (&[][..], LocationStatus::NoConfiguration),
            (&[Disabled, Disabled], LocationStatus::NoConfiguration),
            (&[Disabled, Active], LocationStatus::Active),
            (&[Active, NoTelemetry], LocationStatus::NoTelemetry),
            (&[NoTelemetry, NoConnection, Unknown], LocationStatus::NoConnection),
            (&[Active, Unknown, NoTelemetry], LocationStatus::Unknown),
            (&[OtherCloudHost, OtherCloudHost], LocationStatus::OtherCloudHost),
            (&[OtherCloudHost, Active], LocationStatus::Active),
            (&[OtherCloudHost, NoConnection], LocationStatus::NoConnection),
        ] {
            assert_eq!(status(routers), expected, "{routers:?}");
        }
        assert_eq!(Tally::default().status(true), LocationStatus::NoConfiguration);
        let one = Tally { enabled: 1, ..Tally::default() };
        assert_eq!(one.status(true), LocationStatus::Unknown);
    }

    #[test]
    fn the_reason_names_who_and_how_many() {
        let router = |id, status, since| RouterStanding {
            id,
            name: format!("r{id}"),
            status,
            since: Some(since),
        };
        let routers = [
            router(1, RouterStatus::NoConnection, 500),
            router(2, RouterStatus::Active, 100),
            router(3, RouterStatus::NoConnection, 400),
        ];
        let mut tally = Tally::default();
        routers.iter().for_each(|router| tally.add(router.status));
        let said = explain(LocationStatus::NoConnection, tally, &routers, PartitionId(0));
        assert_eq!(said.0, Some(TimestampMs(400)));
        assert_eq!(said.1, "2 of 3 enabled routers are without MQTT connection: r1, r3.");
    }
}
