//! Tests of the workers with a real journal and a real store.

mod node;
mod replay;
mod timers;
mod ways;
