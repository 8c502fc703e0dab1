//! The binary `peers`: Baken, `rumqttd` with an in-process consumer, and
//! mosquitto with one subscriber, under the same load in one go.
//!
//! The rounds alternate between them and medians are taken, because a machine
//! is noisy. Baken runs with all on: fsync before each PUBACK, history written.
//! The others store nothing.

#![allow(clippy::print_stdout, reason = "figures are what the program is for")]

mod contender;
mod mosquitto;
mod round;
mod rumqttd;
mod summary;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use loadtest::usage;

use contender::Kind;

/// Baken and its peers under the same load: QoS 1, as fast as the window allows.
#[derive(Debug, Parser)]
#[command(name = "peers", max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    peer: Option<Peer>,
    /// Connections, each a router of its own.
    #[arg(long, value_name = "N", default_value_t = 100)]
    connections: u32,
    /// Messages of one connection that may wait for their PUBACK.
    #[arg(long, value_name = "N", default_value_t = 100)]
    window: u16,
    /// Telemetry keys in a message.
    #[arg(long, value_name = "N", default_value_t = 3)]
    keys: u32,
    /// How long the rate is measured, after a warm-up.
    #[arg(long, value_name = "S", default_value_t = 8.0)]
    seconds: f64,
    /// Before that.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    warm_up_s: f64,
    /// Rounds of each; the figures are medians.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Only these, of `baken`, `rumqttd`, `mosquitto`, `mosquitto-qos0`.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Kind>,
    /// Baken's program; by default `baken` beside this one.
    #[arg(long, value_name = "FILE")]
    baken: Option<PathBuf>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Peer {
    /// The process that embeds rumqttd; started by the rounds themselves.
    #[command(hide = true)]
    RumqttdBroker { listen: SocketAddr },
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(Peer::RumqttdBroker { listen }) = options.peer {
        return rumqttd::serve(listen);
    }
    usage::raise_file_limit().context("the limit of open files can't be raised")?;
    // One thread, so that the server has the rest of the machine.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(compare(&options))
}

async fn compare(options: &Options) -> anyhow::Result<()> {
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| options.only.is_empty() || options.only.contains(kind))
        .collect();
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        for &kind in &kinds {
            let round = round::play(kind, options)
                .await
                .with_context(|| format!("round {number} of {kind}"))?;
            println!("round {number}  {round}");
            rounds.push(round);
        }
    }
    let summary = summary::summarise(options, &kinds, rounds);
    print!("{}", summary.text());
    if let Some(path) = &options.json {
        loadtest::report::write_json(path, &summary)?;
    }
    Ok(())
}
