//! The last messages that were refused, for the operator to see.
//!
//! A ring per tenant, bounded in tenants, entries and bytes, so that a noisy
//! tenant pushes out nobody's entries but its own. Off the hot path: only a
//! refused message comes here.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use schema::{RouterId, TenantId, TimestampMs};

/// Entries kept for each tenant.
pub const REJECTIONS_PER_TENANT: usize = 100;

/// Tenants that have a ring; with more, the longest untouched ring goes.
pub const REJECTION_TENANTS: usize = 1_000;

/// Bytes of a refused payload that are kept.
pub const REJECTION_PAYLOAD_BYTES: usize = 256;

/// Bytes of a refused topic that are kept.
pub const REJECTION_TOPIC_BYTES: usize = 128;

/// Bytes of the words that are kept; a device's name stands in them as it came.
pub const REJECTION_REASON_BYTES: usize = 512;

/// One refused message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub at: TimestampMs,
    pub router: RouterId,
    /// At most [`REJECTION_TOPIC_BYTES`], what is not UTF-8 replaced.
    pub topic: String,
    /// In words, at most [`REJECTION_REASON_BYTES`].
    pub reason: String,
    /// The first [`REJECTION_PAYLOAD_BYTES`] of it.
    pub payload: Vec<u8>,
}

impl Rejection {
    pub(crate) fn new(
        at: TimestampMs,
        router: RouterId,
        topic: &[u8],
        mut reason: String,
        payload: &[u8],
    ) -> Self {
        reason.truncate(reason.floor_char_boundary(REJECTION_REASON_BYTES));
        reason.shrink_to_fit();
        let topic = &topic[..topic.len().min(REJECTION_TOPIC_BYTES)];
        let payload = &payload[..payload.len().min(REJECTION_PAYLOAD_BYTES)];
        let topic = String::from_utf8_lossy(topic).into_owned();
        Self { at, router, topic, reason, payload: payload.to_vec() }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Rejections {
    rings: Mutex<HashMap<TenantId, VecDeque<Rejection>>>,
}

impl Rejections {
    pub(crate) fn add(&self, tenant: TenantId, rejection: Rejection) {
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        if !rings.contains_key(&tenant) && rings.len() >= REJECTION_TENANTS {
            let oldest = rings
                .iter()
                .min_by_key(|(_, ring)| ring.back().map(|rejection| rejection.at))
                .map(|(&tenant, _)| tenant);
            if let Some(oldest) = oldest {
                rings.remove(&oldest);
            }
        }
        let ring = rings.entry(tenant).or_default();
        if ring.len() >= REJECTIONS_PER_TENANT {
            ring.pop_front();
        }
        ring.push_back(rejection);
    }

    /// Oldest first.
    pub(crate) fn of(&self, tenant: TenantId) -> Vec<Rejection> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        rings.get(&tenant).map(|ring| ring.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(at: i64) -> Rejection {
        Rejection::new(TimestampMs(at), RouterId(1), &[b't'; 500], "why".into(), &[b'x'; 1_000])
    }

    #[test]
    fn it_keeps_the_last_of_each_tenant_and_only_their_beginnings() {
        let rejections = Rejections::default();
        for at in 0..250 {
            rejections.add(TenantId(1), rejection(at));
        }
        let kept = rejections.of(TenantId(1));
        assert_eq!(kept.len(), REJECTIONS_PER_TENANT);
        assert_eq!((kept[0].at.0, kept[99].at.0), (150, 249));
        assert_eq!((kept[0].topic.len(), kept[0].payload.len()), (128, 256));
        assert!(rejections.of(TenantId(2)).is_empty());
    }

    #[test]
    fn a_noisy_tenant_pushes_out_nobody_elses_and_its_words_are_bounded() {
        let rejections = Rejections::default();
        for tenant in [2, 3] {
            rejections.add(TenantId(tenant), rejection(0));
        }
        for at in 1..10_000 {
            let words = "ü".repeat(40_000);
            let noise = Rejection::new(TimestampMs(at), RouterId(9), b"t", words, b"");
            assert_eq!((noise.reason.len(), noise.reason.capacity()), (512, 512));
            rejections.add(TenantId(1), noise);
        }
        for tenant in [2, 3] {
            assert_eq!(rejections.of(TenantId(tenant)), [rejection(0)]);
        }
        assert_eq!(rejections.of(TenantId(1)).len(), REJECTIONS_PER_TENANT);
    }

    #[test]
    fn tenants_are_bounded() {
        let rejections = Rejections::default();
        for tenant in 0..REJECTION_TENANTS as u64 + 5 {
            rejections.add(TenantId(tenant), rejection(i64::try_from(tenant).unwrap()));
        }
        assert_eq!(rejections.rings.lock().unwrap().len(), REJECTION_TENANTS);
        assert!(rejections.of(TenantId(0)).is_empty());
        assert_eq!(rejections.of(TenantId(1_004)).len(), 1);
    }
}
