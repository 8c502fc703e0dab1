//! How fast one address may connect, and how often it may be wrong.
//!
//! First thing after accept. Memory is bounded: addresses beyond the table
//! share one allowance. Time is an argument.

use std::net::IpAddr;

use hashbrown::HashMap;

/// So many at once, and so many a second after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub burst: u32,
    pub per_s: u32,
}

/// What one source address may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// New connections. High, because a whole fleet may share one address.
    pub connects: Allowance,
    /// Refused credentials; past them all of the address is refused until
    /// the allowance has come back.
    pub failures: Allowance,
    /// Addresses that are told apart, some 32 bytes each.
    pub addresses: usize,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            connects: Allowance { burst: 50_000, per_s: 5_000 },
            failures: Allowance { burst: 100, per_s: 2 },
            addresses: 65_536,
        }
    }
}

/// A token bucket, kept as the time at which it will be full again (the
/// generic cell rate algorithm), in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at_us: u64,
}

impl Bucket {
    fn has_room(self, allowance: Allowance, now_us: u64) -> bool {
        let debt_us = self.full_at_us.saturating_sub(now_us);
        debt_us + interval_us(allowance)
            <= u64::from(allowance.burst.max(1)) * interval_us(allowance)
    }

    fn take(&mut self, allowance: Allowance, now_us: u64) {
        self.full_at_us = self.full_at_us.max(now_us) + interval_us(allowance);
    }
}

fn interval_us(allowance: Allowance) -> u64 {
    1_000_000 / u64::from(allowance.per_s.max(1))
}

#[derive(Clone, Copy, Debug, Default)]
struct Address {
    connects: Bucket,
    failures: Bucket,
}

/// The allowances of all addresses.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: AddressLimits,
    addresses: HashMap<IpAddr, Address>,
    /// All that no longer fit the table.
    others: Address,
}

impl Limiter {
    pub(crate) fn new(limits: AddressLimits) -> Self {
        Self { limits, addresses: HashMap::new(), others: Address::default() }
    }

    /// Whether a new connection from `address` may go on.
    pub(crate) fn connect(&mut self, address: IpAddr, now_us: u64) -> bool {
        let limits = self.limits.clone();
        let entry = self.entry(address, now_us);
        if !entry.connects.has_room(limits.connects, now_us)
            || !entry.failures.has_room(limits.failures, now_us)
        {
            return false;
        }
        entry.connects.take(limits.connects, now_us);
        true
    }

    /// Whether more wrong credentials from `address` would be looked at.
    pub(crate) fn may_fail(&mut self, address: IpAddr, now_us: u64) -> bool {
        let failures = self.limits.failures;
        self.entry(address, now_us).failures.has_room(failures, now_us)
    }

    /// Credentials from `address` were wrong.
    pub(crate) fn failed(&mut self, address: IpAddr, now_us: u64) {
        let failures = self.limits.failures;
        self.entry(address, now_us).failures.take(failures, now_us);
    }

    fn entry(&mut self, address: IpAddr, now_us: u64) -> &mut Address {
        let address = network(address);
        if !self.addresses.contains_key(&address) && self.addresses.len() >= self.limits.addresses {
            self.addresses.retain(|_, entry| {
                entry.connects.full_at_us > now_us || entry.failures.full_at_us > now_us
            });
            if self.addresses.len() >= self.limits.addresses {
                return &mut self.others;
            }
        }
        self.addresses.entry(address).or_default()
    }
}

/// One subscriber commonly holds a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    fn limiter(addresses: usize) -> Limiter {
        Limiter::new(AddressLimits {
            connects: Allowance { burst: 3, per_s: 1 },
            failures: Allowance { burst: 2, per_s: 1 },
            addresses,
        })
    }

    fn v4(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn a_burst_and_then_a_rate() {
        let mut limiter = limiter(10);
        let connects = |limiter: &mut Limiter, now_us| {
            (0..10).filter(|_| limiter.connect(v4(1), now_us)).count()
        };
        assert_eq!(connects(&mut limiter, 0), 3);
        assert_eq!(connects(&mut limiter, SECOND_US), 1);
        assert_eq!(connects(&mut limiter, 100 * SECOND_US), 3);
        assert!(limiter.connect(v4(2), 0));
    }

    #[test]
    fn who_is_wrong_too_often_waits() {
        let mut limiter = limiter(10);
        for _ in 0..2 {
            assert!(limiter.may_fail(v4(1), 0));
            limiter.failed(v4(1), 0);
        }
        assert!(!limiter.may_fail(v4(1), 0));
        assert!(!limiter.connect(v4(1), 0));
        assert!(limiter.connect(v4(1), SECOND_US));
    }

    #[test]
    fn addresses_beyond_the_table_share_one_allowance() {
        let mut limiter = limiter(2);
        assert!(limiter.connect(v4(1), 0) && limiter.connect(v4(2), 0));
        let allowed = (3..100).filter(|&last| limiter.connect(v4(last), 0)).count();
        assert_eq!((allowed, limiter.addresses.len()), (3, 2));
        assert!(limiter.connect(v4(50), 10 * SECOND_US));
        assert!(limiter.addresses.len() <= 2);
    }

    #[test]
    fn a_64_of_ipv6_counts_as_one() {
        let mut limiter = limiter(10);
        let allowed = (0..10u16)
            .filter(|&host| limiter.connect(IpAddr::from([1, 2, 3, 4, 0, 0, 0, host]), 0))
            .count();
        assert_eq!(allowed, 3);
    }
}
