//! What the platforms that speak MQTT share: a connection, and how one follows
//! another.

mod line;
mod link;
mod packet;
mod session;
mod tenure;

pub(super) use line::Line;
pub(super) use link::Login;
