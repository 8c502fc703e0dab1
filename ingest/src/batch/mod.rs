//! From decoded rows to durable journal records.
//!
//! A session fills [`Rows`], hands them over as one [`Submission`] per socket
//! read, and waits on its [`Completion`] before it sends any PUBACK. One task
//! per partition gathers what has been submitted into journal records. Nothing
//! here parses a payload or knows a connection.

mod batcher;
mod keys;
mod metrics;
mod rows;
mod submitter;

pub(crate) use keys::{Found, NAMES_WITH_A_MEANING};
pub use keys::{KeyCache, KeyId, KeyQuota, KeyTable};
pub use rows::{Mark, Row, Rows};
pub use submitter::{BatchOptions, Completion, Submission, SubmitError, Submitter};
