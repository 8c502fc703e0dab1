//! Which partition a location's readings go to.

use crate::{LocationId, PartitionId, TenantId};

/// The partition of all that stands at `location`, so that its devices stay in
/// order together and a rule can look across them.
///
/// The result is part of the stored format: a folder or a topic keeps its
/// number of partitions for life. The mixing step is the finalizer of
/// `SplitMix64` (Steele, Lea and Flood, 2014).
///
/// # Panics
/// If `partitions` is 0, which no journal has.
#[must_use]
pub fn partition_of(tenant: TenantId, location: LocationId, partitions: u16) -> PartitionId {
    assert!(partitions > 0, "a journal has at least one partition");
    let hash = mix(mix(tenant.0) ^ location.0);
    let partition = hash % u64::from(partitions);
    PartitionId(u16::try_from(partition).expect("a remainder of a u16 fits a u16"))
}

/// The home partition of a tenant: that of the system alarms that are of the
/// tenant as a whole. Part of the stored format as [`partition_of`] is; no
/// location has the id 0.
///
/// # Panics
/// If `partitions` is 0, which no journal has.
#[must_use]
pub fn home_partition_of(tenant: TenantId, partitions: u16) -> PartitionId {
    partition_of(tenant, LocationId(0), partitions)
}

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable() {
        let partitions: Vec<u16> =
            (1..=8).map(|location| partition_of(TenantId(1), LocationId(location), 8).0).collect();
        assert_eq!(partitions, GOLDEN, "changing this loses the order of stored data");
    }

    const GOLDEN: [u16; 8] = [6, 3, 3, 3, 7, 2, 2, 1];

    #[test]
    fn a_tenants_home_is_stable() {
        let homes: Vec<u16> =
            (1..=8).map(|tenant| home_partition_of(TenantId(tenant), 8).0).collect();
        assert_eq!(homes, GOLDEN_HOMES, "changing this raises a tenant's alarms twice");
    }

    const GOLDEN_HOMES: [u16; 8] = [6, 4, 7, 3, 5, 1, 5, 6];

    #[test]
    fn spreads_evenly() {
        let mut counts = [0u32; 16];
        for tenant in 1..=10 {
            for location in 1..=1_600 {
                let p = partition_of(TenantId(tenant), LocationId(location), 16);
                counts[usize::from(p.0)] += 1;
            }
        }
        let (least, most) = (counts.iter().min(), counts.iter().max());
        assert!(least > Some(&850) && most < Some(&1_150), "{counts:?}");
    }
}
