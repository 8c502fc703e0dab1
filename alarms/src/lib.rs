//! The alarm workers: from the journal, through the alarm core, into the store.
//!
//! The end of a reading's way to an alarm. One worker owns each partition: it
//! reads durable records in their order, runs them through `alarm-core`, and
//! makes transitions, alarms, events and its position durable in one
//! transaction. After a crash it takes the last snapshot and replays from
//! there; what is committed already comes out again with the same ids and is
//! not written twice. Whoever changes which alarms are raised, or does something
//! to one, goes through [`AlarmCommands`] and so through the journal.
//!
//! This crate decides nothing about alarms (the core does) and speaks no SQL.

mod apply;
mod audience;
pub mod backtest;
mod clock;
mod commands;
mod follower;
mod limits;
mod metrics;
mod partition;
mod transitions;
mod workers;

pub use alarm_core::{Problem, Report, check, parse_toml, scenario};
pub use commands::{
    AlarmCommands, CommandError, MAX_ACTED_ALARMS, ManyOutcome, SavedProfile, Undelivered,
};
pub use transitions::{Publishing, RenderTransition, TRANSITION_SCHEMA};
pub use workers::{AlarmOptions, AlarmWorkers, PartitionStatus, StartError};
