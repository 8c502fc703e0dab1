//! When to try, when to wait, when to leave a platform alone. Time and
//! randomness are arguments, so that every decision can be tested.

mod backoff;
mod breaker;
mod bucket;

pub use backoff::Backoff;
pub use breaker::{Breaker, Gate};
pub use bucket::Bucket;
