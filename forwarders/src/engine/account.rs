//! What all forwarders to one target share: its rate, its places in flight, and
//! whether it is left alone for now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::destinations::AccountLimits;
use crate::pace::{Breaker, Bucket, Gate};

/// A target and its limits.
#[derive(Debug)]
pub struct Account {
    begun: Instant,
    bucket: Mutex<Bucket>,
    breaker: Mutex<Breaker>,
    places: Semaphore,
}

impl Account {
    #[must_use]
    pub fn new(limits: &AccountLimits) -> Self {
        Self {
            begun: Instant::now(),
            bucket: Mutex::new(Bucket::new(limits.rate_per_s, limits.burst)),
            breaker: Mutex::default(),
            places: Semaphore::new(limits.concurrency.max(1)),
        }
    }

    /// Waits until `count` requests or messages may go out, and for a place in
    /// flight, which is held as long as the permit.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn permit(&self, count: u32) -> SemaphorePermit<'_> {
        let place = self.places.acquire().await.expect("the semaphore is never closed");
        let wait = lock(&self.bucket).take(count, self.now());
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
        place
    }

    /// Whether to try, or how long to wait.
    pub(super) fn gate(&self) -> Gate {
        lock(&self.breaker).ask(self.now())
    }

    pub(super) fn succeeded(&self) {
        lock(&self.breaker).succeeded();
    }

    pub(super) fn failed(&self) {
        lock(&self.breaker).failed(self.now());
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// All accounts that a forwarder stands on.
#[derive(Debug, Default)]
pub(super) struct Accounts(Mutex<HashMap<String, Weak<Account>>>);

impl Accounts {
    pub fn get(&self, limits: &AccountLimits) -> Arc<Account> {
        let mut accounts = lock(&self.0);
        if let Some(account) = accounts.get(&limits.name).and_then(Weak::upgrade) {
            return account;
        }
        accounts.retain(|_, account| account.strong_count() > 0);
        let account = Arc::new(Account::new(limits));
        accounts.insert(limits.name.clone(), Arc::downgrade(&account));
        account
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
