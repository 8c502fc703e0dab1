//! Readings to customers' own platforms.
//!
//! On a reading's way this stands behind the journal, beside the recorder and
//! the alarm workers: each forwarder has a place of its own in the journal,
//! which moves when its platform has acknowledged, so that a slow or dead
//! platform holds up nobody else and loses nothing that the journal keeps.
//!
//! `value` is what is sent, `lane` what is decided of each reading, `pace` when
//! to try, `destinations` the platforms, `engine` what runs. Only `engine` reads
//! the journal, starts a task or knows the directory.

pub mod destinations;
pub mod engine;
pub mod lane;
pub mod limits;
pub mod metrics;
mod outgoing;
pub mod pace;
pub mod reach;
#[cfg(test)]
mod testing;
mod time;
pub mod tls;
pub mod value;

pub use engine::{ForwarderOptions, Forwarders, State, Trouble};
pub use outgoing::{KeptValue, MessageId, Outgoing, Source};
