//! The binary `loadtest`: the command line around the library of this name.

#![allow(clippy::print_stdout, reason = "figures are what the program is for")]

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use loadtest::options::{Command, Options};
use loadtest::report::{Report, write_json};
use loadtest::{backlog, cluster, crash, forwarding, idle, run, usage};

fn main() -> ExitCode {
    match execute(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(options: Options) -> anyhow::Result<ExitCode> {
    usage::raise_file_limit().context("the limit of open files can't be raised")?;
    let threads = match &options.command {
        Command::Run(run) => run.load.threads,
        Command::Crash(crash) => crash.load.threads,
        Command::Backlog(backlog) => backlog.load.threads,
        Command::Cluster(cluster) => cluster.load.threads,
        Command::Idle(idle) => idle.threads,
        Command::Forwarders(forwarders) => forwarders.threads,
        Command::Hub => 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match options.command {
            Command::Run(options) => {
                conclude(&run::run(&options).await?, options.outcome.json.as_deref())
            }
            Command::Crash(options) => {
                conclude(&crash::crash(&options).await?, options.outcome.json.as_deref())
            }
            Command::Backlog(options) => {
                conclude(&backlog::backlog(&options).await?, options.outcome.json.as_deref())
            }
            Command::Cluster(options) => {
                conclude(&cluster::cluster(&options).await?, options.outcome.json.as_deref())
            }
            Command::Idle(options) => {
                let report = idle::idle(&options).await?;
                println!(
                    "{} bytes for each of {} connections; {} lost",
                    report.bytes_per_connection, report.connections, report.lost
                );
                if let Some(path) = &options.json {
                    write_json(path, &report)?;
                }
                Ok(ExitCode::from(u8::from(report.lost > 0)))
            }
            Command::Forwarders(options) => {
                let report = forwarding::forwarders(&options).await?;
                print!("{}", report.text());
                if let Some(path) = &options.json {
                    write_json(path, &report)?;
                }
                Ok(judged(&report.faults()))
            }
            Command::Hub => {
                forwarding::serve().await?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

fn conclude(report: &Report, json: Option<&Path>) -> anyhow::Result<ExitCode> {
    print!("{}", report.text());
    if let Some(path) = json {
        write_json(path, report)?;
    }
    Ok(judged(&report.faults()))
}

fn judged(faults: &[String]) -> ExitCode {
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("FAILED: {}", faults.join(", "));
    ExitCode::from(1)
}
