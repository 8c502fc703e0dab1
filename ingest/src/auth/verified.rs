//! Passwords that were found right, so that a fleet that reconnects at once
//! does not cost one argon2 run each.
//!
//! What is kept is an HMAC under a key that is drawn when the process starts
//! and never leaves it, over the router's identity, the version of its document
//! and the password: of no use in another process, and void as soon as the
//! document changes.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashSet;

/// One right password of one version of one router.
pub(super) type Proof = [u8; 32];

#[derive(Debug)]
pub(super) struct Verified {
    key: [u8; 32],
    /// Per generation; two are kept.
    limit: usize,
    generations: Mutex<Generations>,
}

/// When the young one is full it becomes the old one, and the old one is
/// forgotten; who comes back meanwhile is young again.
#[derive(Debug, Default)]
struct Generations {
    young: HashSet<Proof>,
    old: HashSet<Proof>,
}

impl Verified {
    pub(super) fn new(limit: usize) -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key, limit: limit.div_ceil(2).max(1), generations: Mutex::default() })
    }

    pub(super) fn proof(&self, router: u64, version: u64, password: &[u8]) -> Proof {
        let parts: [&[u8]; 3] = [&router.to_le_bytes(), &version.to_le_bytes(), password];
        super::keyed_hash(&self.key, &parts)
    }

    pub(super) fn contains(&self, proof: &Proof) -> bool {
        let known_of_old = {
            let generations = self.lock();
            if generations.young.contains(proof) {
                return true;
            }
            generations.old.contains(proof)
        };
        if known_of_old {
            self.insert(*proof);
        }
        known_of_old
    }

    pub(super) fn insert(&self, proof: Proof) {
        let mut generations = self.lock();
        if generations.young.len() >= self.limit {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(proof);
    }

    pub(super) fn len(&self) -> usize {
        let generations = self.lock();
        generations.young.len() + generations.old.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        // Nothing panics while it is held; a set is whole in any case.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_one_router_version_and_password() {
        let verified = Verified::new(10).unwrap();
        verified.insert(verified.proof(1, 1, b"right"));
        assert!(verified.contains(&verified.proof(1, 1, b"right")));
        assert!(!verified.contains(&verified.proof(1, 2, b"right")));
        assert!(!verified.contains(&verified.proof(2, 1, b"right")));
        assert!(!verified.contains(&verified.proof(1, 1, b"wrong")));
        let other = Verified::new(10).unwrap();
        assert_ne!(other.proof(1, 1, b"right"), verified.proof(1, 1, b"right"));
    }

    #[test]
    fn it_never_holds_more_than_its_limit_and_keeps_who_comes_back() {
        let verified = Verified::new(8).unwrap();
        let faithful = verified.proof(0, 1, b"x");
        verified.insert(faithful);
        for router in 1..100 {
            verified.insert(verified.proof(router, 1, b"x"));
            assert!(verified.len() <= 8);
            assert!(verified.contains(&faithful), "{router}");
        }
    }
}
