//! Connections that have not proved who they are: bounded, oldest out first.
//!
//! An honest client is through in milliseconds. When the bound is reached it is
//! the oldest that goes, so that those who open connections and say nothing, in
//! the middle of a TLS handshake or before CONNECT, hold nobody else up.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

#[derive(Debug)]
pub(crate) struct Unauthenticated {
    limit: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    /// In the order of their numbers.
    taken: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// One connection's place; given up when dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    all: &'a Unauthenticated,
    number: u64,
}

impl Unauthenticated {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), places: Mutex::default() }
    }

    /// Takes a place; the receiver resolves if it is taken away again.
    pub(crate) fn enter(&self) -> (Place<'_>, oneshot::Receiver<()>) {
        let (evict, evicted) = oneshot::channel();
        let mut places = self.lock();
        let number = places.next;
        places.next += 1;
        places.taken.push_back((number, evict));
        let oldest = if places.taken.len() > self.limit { places.taken.pop_front() } else { None };
        drop(places);
        if let Some((_, evict)) = oldest {
            // It may be through at this very moment.
            let _ = evict.send(());
        }
        (Place { all: self, number }, evicted)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().taken.len()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.all.lock();
        if let Ok(index) = places.taken.binary_search_by_key(&self.number, |(number, _)| *number) {
            places.taken.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let all = Unauthenticated::new(2);
        let (first, mut first_evicted) = all.enter();
        let (second, mut second_evicted) = all.enter();
        assert!(first_evicted.try_recv().is_err());
        let (_third, _) = all.enter();
        assert!(first_evicted.try_recv().is_ok());
        assert_eq!(all.len(), 2);
        drop(first);
        drop(second);
        assert_eq!(all.len(), 1);
        assert!(second_evicted.try_recv().is_err());
    }
}
