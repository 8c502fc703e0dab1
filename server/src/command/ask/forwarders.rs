//! `baken forwarders`: how they stand, and what is done to them.

use clap::{Args, Subcommand};
use serde_json::json;

use super::super::ServerArgs;
use super::{Ask, ListArgs, OneArgs, What, list, query_string};

const COLUMNS: [&str; 6] = ["id", "tenant", "platform", "state", "name", "detail"];
const LETTER_COLUMNS: [&str; 7] =
    ["id", "at", "reason", "value.device_name", "value.key", "value.at_ms", "value.value"];

#[derive(Debug, Subcommand)]
pub(in super::super) enum ForwarderCommand {
    /// Forwarders and how they stand, all or a tenant's
    List(ListArgs),
    /// One forwarder; with --accounting, what became of its readings
    Show(ShowArgs),
    /// Try whether its platform would take values
    Test(OneArgs),
    /// Send nothing until it is resumed; its data is kept
    Pause(OneArgs),
    /// Go on after a pause, or try again at once
    Resume(OneArgs),
    /// Values that its platform refused
    DeadLetters(LetterArgs),
}

#[derive(Debug, Args)]
pub(in super::super) struct ShowArgs {
    #[command(flatten)]
    one: OneArgs,
    /// What became of its readings, and how far behind it is
    #[arg(long)]
    accounting: bool,
}

#[derive(Debug, Args)]
pub(in super::super) struct LetterArgs {
    id: u64,
    /// The most that are listed
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Send the oldest 1,000 again
    #[arg(long, conflicts_with = "drop")]
    resend: bool,
    /// Drop the oldest 1,000 for good
    #[arg(long)]
    drop: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl From<ForwarderCommand> for Ask {
    fn from(command: ForwarderCommand) -> Self {
        match command {
            ForwarderCommand::List(args) => list("/forwarders", args, &COLUMNS),
            ForwarderCommand::Show(ShowArgs { one, accounting }) => {
                let part = if accounting { "/accounting" } else { "" };
                let path = format!("/forwarders/{}{part}", one.id);
                Self { server: one.server, what: What::Show { path } }
            }
            ForwarderCommand::Test(one) => {
                let what = What::Test {
                    path: format!("/forwarders/{}/test", one.id),
                    body: json!({}),
                    wanted: ("ok", json!(true)),
                    otherwise: "the platform would take no values",
                };
                Self { server: one.server, what }
            }
            ForwarderCommand::Pause(one) => deed(one, "pause"),
            ForwarderCommand::Resume(one) => deed(one, "resume"),
            ForwarderCommand::DeadLetters(args) => args.into(),
        }
    }
}

fn deed(one: OneArgs, name: &str) -> Ask {
    let path = format!("/forwarders/{}/{name}", one.id);
    Ask { server: one.server, what: What::Do { path, body: json!({}) } }
}

impl From<LetterArgs> for Ask {
    fn from(LetterArgs { id, limit, resend, drop, server }: LetterArgs) -> Self {
        let path = format!("/forwarders/{id}/dead-letters");
        let what = match (resend, drop) {
            (true, _) => What::Do { path: format!("{path}/resend"), body: json!({}) },
            (_, true) => What::Do { path: format!("{path}/drop"), body: json!({}) },
            _ => {
                let query = query_string(&[("limit", Some(limit.to_string()))]);
                What::Once { path: format!("{path}{query}"), columns: &LETTER_COLUMNS }
            }
        };
        Self { server, what }
    }
}
