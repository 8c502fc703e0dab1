//! Ids that follow from causes, so that a replay gives the same ones.
//!
//! The bytes that are hashed are part of the stored format: changing them gives
//! a replay other ids than it had.

use schema::{AlarmId, Cause, Originator, RuleId, TimestampMs, TransitionId};
use sha2::{Digest, Sha256};

/// The id of what happened to (originator, rule) at `at` because of `cause`.
pub(crate) fn transition_id(
    originator: Originator,
    rule: &RuleId,
    kind: &str,
    at: TimestampMs,
    cause: Cause,
) -> TransitionId {
    let mut hash = Sha256::new();
    hash.update(b"baken transition 1\0");
    let (tag, id) = match originator {
        Originator::Device(device) => (1u8, device.0),
        Originator::Tenant(tenant) => (2u8, tenant.0),
    };
    hash.update([tag]);
    hash.update(id.to_be_bytes());
    hash.update(rule.profile.0.to_be_bytes());
    hash.update(rule.key.as_bytes());
    hash.update(b"\0");
    hash.update(kind.as_bytes());
    hash.update(b"\0");
    hash.update(at.0.to_be_bytes());
    match cause {
        Cause::Record { position, row } => {
            hash.update([1u8]);
            hash.update(position.0.to_be_bytes());
            hash.update(row.to_be_bytes());
        }
        Cause::Deadline => hash.update([2u8]),
    }
    TransitionId(first_128(hash))
}

/// The id of the alarm that a transition raised.
pub(crate) fn alarm_id(raised: TransitionId) -> AlarmId {
    let mut hash = Sha256::new();
    hash.update(b"baken alarm 1\0");
    hash.update(raised.0.to_be_bytes());
    AlarmId(first_128(hash))
}

fn first_128(hash: Sha256) -> u128 {
    let bytes = hash.finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&bytes[..16]);
    u128::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use schema::{DeviceId, Position, ProfileId};

    use super::*;

    #[test]
    fn ids_are_stable() {
        let rule = RuleId { profile: ProfileId(7), key: "too_warm".into() };
        let cause = Cause::Record { position: Position(9), row: 3 };
        let device = Originator::Device(DeviceId(5));
        let id = transition_id(device, &rule, "raised", TimestampMs(1_000), cause);
        assert_eq!(id.to_string(), GOLDEN.0, "changing this doubles stored transitions");
        assert_eq!(alarm_id(id).to_string(), GOLDEN.1);
        let timer = transition_id(device, &rule, "raised", TimestampMs(1_000), Cause::Deadline);
        assert_ne!(id, timer);
    }

    const GOLDEN: (&str, &str) =
        ("35617a0e7e5e7c72a1d3fb412dc46800", "ff83caa8745b30d0169bd7dad0bc8480");
}
