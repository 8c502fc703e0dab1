//! Messages from elsewhere to one connection.
//!
//! A bounded queue with one waker. An idle mailbox owns no heap memory, which a
//! channel would: there are tens of thousands of them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Messages that may wait for one connection.
pub(crate) const MAILBOX_MESSAGES: usize = 256;

#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    waker: Option<Waker>,
    is_closed: bool,
}

/// The message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undeliverable {
    Full,
    Closed,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Self {
        let state = State { queue: VecDeque::new(), waker: None, is_closed: false };
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn push(&self, message: T) -> Result<(), Undeliverable> {
        let waker = {
            let mut state = self.lock();
            if state.is_closed {
                return Err(Undeliverable::Closed);
            }
            if state.queue.len() >= MAILBOX_MESSAGES {
                return Err(Undeliverable::Full);
            }
            state.queue.push_back(message);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// In front of all others, and never refused: an order to end, of which
    /// only the first counts.
    pub(crate) fn push_urgent(&self, message: T) {
        let waker = {
            let mut state = self.lock();
            if state.is_closed {
                return;
            }
            state.queue.truncate(MAILBOX_MESSAGES);
            state.queue.push_front(message);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<T> {
        let mut state = self.lock();
        if let Some(message) = state.queue.pop_front() {
            if state.queue.is_empty() {
                state.queue = VecDeque::new();
            }
            return Poll::Ready(message);
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Takes no more messages and drops those that wait, so that their senders
    /// learn that nobody is there.
    pub(crate) fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.is_closed = true;
            state.waker = None;
            std::mem::take(&mut state.queue)
        };
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_urgent_messages_go_first() {
        let mailbox = Mailbox::new();
        for number in 0..MAILBOX_MESSAGES {
            mailbox.push(number).unwrap();
        }
        assert_eq!(mailbox.push(0), Err(Undeliverable::Full));
        mailbox.push_urgent(999);
        let context = &Context::from_waker(Waker::noop());
        assert_eq!(mailbox.poll_take(context), Poll::Ready(999));
        assert_eq!(mailbox.poll_take(context), Poll::Ready(0));
        mailbox.close();
        assert_eq!(mailbox.push(0), Err(Undeliverable::Closed));
        assert!(mailbox.poll_take(context).is_pending());
    }
}
