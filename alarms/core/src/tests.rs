//! Text scenarios of the whole engine.

mod allocations;
mod directory;
mod harness;
mod lifecycle;
mod operators;
mod oracle;
mod profiles;
mod snapshots;
mod switches;
mod temporal;
