//! A fleet of routers over real MQTT, and the audit that nothing was lost.
//!
//! It stands outside of a reading's way: at its beginning as the routers that
//! publish, and at its end as a reader of the HTTP API. It knows only MQTT,
//! HTTP and the columns of an Arrow answer, never the server's own crates, so
//! that a fault there can't hide itself here.
//!
//! Every reading that is offered follows from a number ([`plan`]), so the audit
//! needs to remember only how many messages each connection has offered and
//! which of them were acknowledged ([`ledger`]).

pub mod plan;
pub mod swing;
pub mod values;

pub mod packets;
pub mod template;

pub mod ledger;

pub mod audit;
pub mod distribution;
pub mod transitions;

pub mod connect;
pub mod fleet;
pub mod flight;
pub mod publisher;
pub mod shared;

pub mod alarms;
pub mod api;
pub mod readback;
pub mod usage;

pub mod course;
pub mod enrol;
pub mod misbehave;
pub mod node;
pub mod report;
pub mod subject;

pub mod killable;
pub mod services;

pub mod backlog;
pub mod cluster;
pub mod crash;
pub mod forwarding;
pub mod idle;
pub mod options;
pub mod run;
