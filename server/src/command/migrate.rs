//! `baken migrate`: from a folder into PostgreSQL.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::{ConfigArgs, Output, runtime};
use crate::logging;
use crate::migration::{Summary, Wishes, migrate};

/// Carry all of a folder to PostgreSQL, and to a new journal in Kafka if one is
/// named; the node on the folder must be stopped
///
/// Directory, attributes, alarms, events, messages, forwarders' progress and
/// history are copied and compared. Broken off at any moment, it goes on from
/// there when it is run again. Tokens and sealed secrets can only be read with
/// the folder's file `secret`: give it to every node (`server.secret_file`).
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The file with the database's password (store.password_file)
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Write what was done to this file, JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take a copy out of the database that was begun and not finished
    #[arg(long)]
    start_over: bool,
    /// Carry on though a forwarder has not sent all of the old journal; it
    /// never will
    #[arg(long)]
    leave_unsent: bool,
    /// How long forwarders may take to send the rest of the old journal
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

pub(super) fn run(args: &MigrateArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let mut config = args.config.clone();
    if let Some(file) = &args.password_file {
        config.set.push(format!("store.password_file={file}"));
    }
    let mut loaded = config.load()?;
    if !loaded.sources.contains_key("log.level") {
        // Its progress is what people want to see.
        loaded.config.log.level = "warn".to_owned();
    }
    logging::start(&loaded.config.log)?;
    let wishes = Wishes {
        start_over: args.start_over,
        leave_unsent: args.leave_unsent,
        patience: Duration::from_secs(args.patience),
    };
    let runtime = runtime(&loaded.config)?;
    let summary = runtime.block_on(migrate(&loaded.config, wishes))?;
    runtime.shutdown_background();
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&summary)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    print(&summary, output)?;
    Ok(ExitCode::SUCCESS)
}

fn print(summary: &Summary, output: &mut Output) -> anyhow::Result<()> {
    let Summary { report, seconds, .. } = summary;
    let mut rows: Vec<Vec<String>> = report
        .parts
        .iter()
        .filter(|part| part.rows > 0)
        .map(|part| vec![part.name.clone(), part.rows.to_string()])
        .collect();
    rows.push(vec!["history.readings".to_owned(), report.readings.to_string()]);
    output.table(&["part", "rows"], &rows)?;
    output.line(&match report.copied {
        true => format!("All of it is in PostgreSQL and equal to the folder, in {seconds:.1} s."),
        false => "All of it was in PostgreSQL before; nothing was done.".to_owned(),
    })?;
    output.line(match summary.journal {
        "new" => {
            "Start nodes with this `store.url` and `journal.url`, and with this folder's file \
             `secret` as `server.secret_file`."
        }
        _ => "Start the node on this folder, which keeps the journal, with this `store.url`.",
    })?;
    Ok(())
}
