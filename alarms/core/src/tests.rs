//! What scenario files can't say: ids, snapshots, refused profiles, and random
//! cases against a naive evaluator. The rest is in the folder `scenarios`.

mod allocations;
mod directory;
mod harness;
mod lifecycle;
mod limits;
mod oracle;
mod profiles;
mod snapshots;
mod tenant_alarms;
mod tenant_limit;
