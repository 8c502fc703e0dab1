//! `loadtest forwarders`: what thousands of forwarders cost a server in memory
//! and in ingest, and whether all that they selected arrived.
//!
//! Every router stands at a location of its own, whose forwarder sends some keys
//! of its messages to a double of AWS IoT Core by MQTT over TLS. The double is a
//! process of its own, so that its memory and processor time are not counted as
//! the server's. Rounds of the same load with and without the forwarders take
//! turns, so that what changes on the machine meanwhile concerns both.

mod frames;
mod hub;
mod process;
mod report;
mod rounds;
mod site;
mod tally;

pub use hub::serve;
pub use process::{Address, Ask, HubProcess};
pub use report::{Audit, ConnectionMemory, ForwardersReport, Round};
pub use tally::{Taken, Tally};

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::enrol::{self, Enrolled};
use crate::options::{ForwarderLoadOptions, LoadOptions};
use crate::packets::Version;
use crate::subject::{self, Subject};
use crate::usage;
use rounds::Rounds;
use site::Site;

/// How long the server may settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// Readings of its memory, of which the least counts: what is freed in between
/// is not what connections hold.
const MEMORY_LOOKS: u32 = 10;
const MEMORY_LOOK: Duration = Duration::from_millis(200);

/// New connections a second that the server is allowed: AWS takes 500 of an
/// account.
const CONNECTS_PER_S: u32 = 500;

/// The keep alive of routers.
const KEEP_ALIVE_S: u16 = 60;

/// Measures forwarders as the options ask for.
///
/// # Errors
/// If a process doesn't come up or doesn't answer; what is lost or doubled stands
/// in the report.
pub async fn forwarders(options: &ForwarderLoadOptions) -> anyhow::Result<ForwardersReport> {
    options.check()?;
    usage::check_file_limit(options.forwarders.saturating_mul(2))?;
    let mut hub = HubProcess::start(&std::env::current_exe()?).await?;
    let settings = vec![
        ("BAKEN_FORWARDERS__ALLOWED_NETWORKS", "127.0.0.0/8,::1".to_owned()),
        ("BAKEN_FORWARDERS__CONNECTS_PER_S", CONNECTS_PER_S.to_string()),
    ];
    let baken = subject::baken(options.baken.as_deref())?;
    let subject = Subject::start_with(&baken, options.keep, false, settings).await?;
    let measured = measure(options, &subject, &mut hub).await;
    subject.close().await?;
    hub.stop().await?;
    measured
}

async fn measure(
    options: &ForwarderLoadOptions,
    subject: &Subject,
    hub: &mut HubProcess,
) -> anyhow::Result<ForwardersReport> {
    let api = subject.api.as_ref().expect("a server that was started here has an API");
    let load = load(options);
    let count = options.forwarders;
    let enrolled = Enrolled::make(api, &enrol::plan(&load), count, 0, count).await?;
    let mut site = Site::make(api, &enrolled, hub.address(), options.selected_keys).await?;
    eprintln!("{count} routers and forwarders made");
    let logins = enrolled.logins(Version::V311, KEEP_ALIVE_S);
    let mut rounds = Rounds::new(options, &load, subject, logins);
    let mut report = ForwardersReport::of(options);

    // Memory that the load itself takes is there before anything is compared.
    rounds.round(None, options.warm_up_s).await?;
    let disabled_bytes = memory(subject).await?;
    site.enable(api, true).await?;
    let enabled_bytes = memory(subject).await?;
    let started = Instant::now();
    // One message each makes every forwarder connect.
    rounds.touch(hub, &mut report.audit).await?;
    report.connect_s = started.elapsed().as_secs_f64();
    let tally = hub.ask(Ask::Tally).await?;
    ensure!(tally.connected == u64::from(count), "{} connections are up", tally.connected);
    let connected_bytes = memory(subject).await?;
    report.memory =
        ConnectionMemory::of(disabled_bytes, enabled_bytes, connected_bytes, u64::from(count));
    eprintln!("{} bytes for a connection", report.memory.bytes_per_connection);

    for number in 0..options.rounds {
        // With, without, without, with: neither always comes first.
        for with in [number.is_multiple_of(2), !number.is_multiple_of(2)] {
            site.enable(api, with).await?;
            let hub = with.then_some((&mut *hub, &mut report.audit));
            let round = rounds.round(hub, options.seconds).await?;
            eprintln!("{}", round.line());
            report.rounds.push(round);
            if with {
                let sent = site.settled(api, report.audit.values_expected).await?;
                report.audit.sent_by_accounts = sent;
            }
        }
    }
    report.audit.discarded = hub.ask(Ask::Tally).await?.discarded;
    report.conclude();
    Ok(report)
}

/// The server's memory when nothing happens.
async fn memory(subject: &Subject) -> anyhow::Result<u64> {
    tokio::time::sleep(SETTLE).await;
    let mut least = u64::MAX;
    for _ in 0..MEMORY_LOOKS {
        least = least.min(subject.usage().await?.unwrap_or_default().rss_bytes);
        tokio::time::sleep(MEMORY_LOOK).await;
    }
    Ok(least)
}

/// The load of the routers: each message holds all keys once.
fn load(options: &ForwarderLoadOptions) -> LoadOptions {
    LoadOptions {
        connections: options.forwarders,
        rate: options.readings_per_s / f64::from(options.keys),
        keys: options.keys,
        locations: options.forwarders,
        keep_alive_s: KEEP_ALIVE_S,
        threads: options.threads,
        ..LoadOptions::usual()
    }
}
