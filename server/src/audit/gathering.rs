//! Makes few events of many logins and refusals, in bounded memory. Pure: time
//! comes in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use schema::{LocationId, TenantId, TimestampMs};

/// How long refusals of one kind count together.
const WINDOW_MS: i64 = 60_000;

/// Refusals that differ in kind, address, reason or router, and are told by
/// themselves within a minute. All further ones are one number.
pub(super) const MAX_REFUSALS_PER_MINUTE: usize = 100;

/// Logins that are told by themselves within a minute; a fleet that comes back
/// all at once is a number past it.
pub(super) const MAX_LOGINS_PER_MINUTE: usize = 1_000;

/// How long a login from the same address is no news.
const LOGIN_MEMORY_MS: i64 = 3_600_000;

/// Logins that are remembered; past it all are forgotten, and told anew.
pub(super) const MAX_REMEMBERED_LOGINS: usize = 131_072;

/// Events that wait for a store that refuses; past it the oldest are given up.
const MAX_WAITING: usize = 10_000;

/// A login or a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub kind: &'static str,
    pub tenant: Option<TenantId>,
    pub location: Option<LocationId>,
    /// The token or router, where it is known.
    pub document: Option<u64>,
    pub address: Option<IpAddr>,
    /// Empty for a login.
    pub reason: &'static str,
    pub who: String,
    pub client_id: Option<String>,
}

/// An event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub fact: Fact,
    /// When the last of them was.
    pub at: TimestampMs,
    /// When the first of them was, at the earliest.
    pub since: TimestampMs,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Likeness {
    kind: &'static str,
    network: Option<IpAddr>,
    reason: &'static str,
    document: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Gathering {
    window_since: i64,
    refusals: HashMap<Likeness, Option<Due>>,
    logins: usize,
    /// When each was told last.
    known_logins: HashMap<(u64, Option<IpAddr>), i64>,
    /// What there was no room for, by kind.
    unlisted: HashMap<&'static str, Due>,
    due: Vec<Due>,
}

/// Who owns one IPv6 address usually owns its whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::V6(Ipv6Addr::from(segments))
        }
    }
}

impl Gathering {
    /// Takes a fact in; false if only a number will tell of it.
    pub fn note(&mut self, fact: Fact, at: TimestampMs) -> bool {
        self.turn(at);
        if fact.reason.is_empty() { self.login(fact, at) } else { self.refusal(fact, at) }
    }

    fn refusal(&mut self, fact: Fact, at: TimestampMs) -> bool {
        let likeness = Likeness {
            kind: fact.kind,
            network: fact.address.map(network),
            reason: fact.reason,
            document: fact.document,
        };
        if let Some(others) = self.refusals.get_mut(&likeness) {
            add(others, fact, at);
            return true;
        }
        if self.refusals.len() >= MAX_REFUSALS_PER_MINUTE {
            self.unlisted(fact.kind, at);
            return false;
        }
        self.refusals.insert(likeness, None);
        self.due.push(Due { fact, at, since: at, count: 1 });
        true
    }

    fn login(&mut self, fact: Fact, at: TimestampMs) -> bool {
        let who = (fact.document.unwrap_or(0), fact.address);
        let told = self.known_logins.get(&who);
        if told.is_some_and(|told| at.0.saturating_sub(*told) < LOGIN_MEMORY_MS) {
            return true;
        }
        if told.is_none() && self.known_logins.len() >= MAX_REMEMBERED_LOGINS {
            self.known_logins.retain(|_, told| at.0.saturating_sub(*told) < LOGIN_MEMORY_MS);
            if self.known_logins.len() >= MAX_REMEMBERED_LOGINS {
                self.known_logins.clear();
            }
        }
        self.known_logins.insert(who, at.0);
        if self.logins >= MAX_LOGINS_PER_MINUTE {
            self.unlisted(fact.kind, at);
            return false;
        }
        self.logins += 1;
        self.due.push(Due { fact, at, since: at, count: 1 });
        true
    }

    fn unlisted(&mut self, kind: &'static str, at: TimestampMs) {
        let entry = self.unlisted.entry(kind).or_insert_with(|| {
            let fact = Fact {
                kind,
                tenant: None,
                location: None,
                document: None,
                address: None,
                reason: "too_many_to_list",
                who: String::new(),
                client_id: None,
            };
            Due { fact, at, since: at, count: 0 }
        });
        entry.at = at;
        entry.count += 1;
    }

    /// What is to be written now; with `all`, also the numbers so far.
    pub fn take(&mut self, at: TimestampMs, all: bool) -> Vec<Due> {
        self.turn(at);
        if all {
            self.end_window();
        }
        std::mem::take(&mut self.due)
    }

    /// What could not be written.
    pub fn give_back(&mut self, mut due: Vec<Due>) {
        due.append(&mut self.due);
        let excess = due.len().saturating_sub(MAX_WAITING);
        due.drain(..excess);
        self.due = due;
    }

    fn turn(&mut self, at: TimestampMs) {
        // A clock that is set back begins a window, too.
        if (0..WINDOW_MS).contains(&at.0.saturating_sub(self.window_since)) {
            return;
        }
        self.end_window();
        self.window_since = at.0;
    }

    fn end_window(&mut self) {
        self.due.extend(self.refusals.drain().filter_map(|(_, others)| others));
        self.due.extend(self.unlisted.drain().map(|(_, due)| due));
        self.logins = 0;
    }
}

fn add(others: &mut Option<Due>, fact: Fact, at: TimestampMs) {
    match others {
        Some(due) => {
            due.fact = fact;
            due.at = at;
            due.count += 1;
        }
        None => *others = Some(Due { fact, at, since: at, count: 1 }),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn refusal(address: u32, reason: &'static str) -> Fact {
        Fact {
            kind: "mqtt_refused",
            tenant: None,
            location: None,
            document: None,
            address: Some(Ipv4Addr::from(address).into()),
            reason,
            who: "user:eva…".to_owned(),
            client_id: None,
        }
    }

    fn login(document: u64, address: u32) -> Fact {
        let document = Some(document);
        Fact { kind: "mqtt_login", document, ..refusal(address, "") }
    }

    fn counts(due: &[Due]) -> Vec<u64> {
        let mut counts: Vec<u64> = due.iter().map(|due| due.count).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_of_the_minute_as_a_number() {
        let mut gathering = Gathering::default();
        for at in 0..10 {
            assert!(gathering.note(refusal(1, "bad_credentials"), TimestampMs(1_000_000 + at)));
        }
        assert_eq!(counts(&gathering.take(TimestampMs(1_000_010), false)), [1]);
        assert_eq!(gathering.take(TimestampMs(1_059_999), false), []);
        let others = gathering.take(TimestampMs(1_060_000), false);
        assert_eq!((others[0].count, others[0].since.0, others[0].at.0), (9, 1_000_001, 1_000_009));
        gathering.note(refusal(1, "bad_credentials"), TimestampMs(1_060_001));
        assert_eq!(counts(&gathering.take(TimestampMs(1_060_002), false)), [1]);
    }

    #[test]
    fn a_flood_makes_a_bounded_number_of_events_and_all_are_counted() {
        let mut gathering = Gathering::default();
        for address in 0..100_000 {
            gathering.note(refusal(address, "bad_credentials"), TimestampMs(1_000_000));
        }
        assert!(gathering.refusals.len() <= MAX_REFUSALS_PER_MINUTE);
        let due = gathering.take(TimestampMs(1_000_000), true);
        assert_eq!(due.len(), MAX_REFUSALS_PER_MINUTE + 1);
        assert_eq!(due.iter().map(|due| due.count).sum::<u64>(), 100_000);
        assert_eq!(due.last().unwrap().fact.reason, "too_many_to_list");
    }

    #[test]
    fn a_login_is_told_once_an_hour_from_an_address_and_a_fleet_as_a_number() {
        let mut gathering = Gathering::default();
        let hour = LOGIN_MEMORY_MS;
        for at in [0, 1, hour - 1, hour, hour + 1] {
            gathering.note(login(7, 1), TimestampMs(at));
        }
        gathering.note(login(7, 2), TimestampMs(hour + 1));
        assert_eq!(counts(&gathering.take(TimestampMs(hour + 2), false)), [1, 1, 1]);
        let later = TimestampMs(10 * hour);
        for router in 0..200_000 {
            gathering.note(login(router, 1), later);
        }
        assert!(gathering.known_logins.len() <= MAX_REMEMBERED_LOGINS);
        let due = gathering.take(later, true);
        assert_eq!(due.len(), MAX_LOGINS_PER_MINUTE + 1);
        assert_eq!(due.iter().map(|due| due.count).sum::<u64>(), 200_000);
    }

    #[test]
    fn what_could_not_be_written_waits_in_bounded_room() {
        let mut gathering = Gathering::default();
        let due =
            Due { fact: refusal(1, "x"), at: TimestampMs(0), since: TimestampMs(0), count: 1 };
        gathering.give_back(vec![due; MAX_WAITING + 5]);
        assert_eq!(gathering.take(TimestampMs(0), false).len(), MAX_WAITING);
    }
}
