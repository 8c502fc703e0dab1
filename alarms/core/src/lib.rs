//! The alarm engine: readings, commands and time in, transitions out.
//!
//! It stands at the end of a reading's way, inside the worker that owns a
//! partition. It is pure and deterministic: no async, IO, clock, randomness,
//! logging or metrics, so a replay of the same inputs gives the same
//! transitions with the same ids and times. It never decides where a
//! transition is stored or who is told.
//!
//! The way of an input: [`Engine::readings`] fires the deadlines that come
//! before it, puts the values in place, looks only at the rules that mention
//! their keys, and runs one round of each.

mod engine;
mod identity;
pub mod limits;
mod map;
mod program;
pub mod scenario;
mod snapshot;
mod value;

pub use engine::{
    DeviceDescription, DeviceIndex, Engine, EngineOptions, KeyIndex, LIMIT_ALARM_VALUE,
    LimitStanding, Readings, Tally, limit_alarm_key, limit_alarm_text,
};
pub use program::{Problem, Report, check, parse_toml};
pub use snapshot::RestoreError;

#[cfg(test)]
mod tests;
