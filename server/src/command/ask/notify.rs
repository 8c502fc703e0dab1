//! Notifications on the command line: a test message, and the delivery log.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{Ask, What, query_string};
use crate::command::ServerArgs;

const MESSAGE_COLUMNS: [&str; 9] =
    ["id", "made_at", "channel", "address", "kind", "notices", "state", "attempts", "answer"];
const NOTICE_COLUMNS: [&str; 9] =
    ["made_at", "channel", "user", "address", "purpose", "state", "reason", "alarm", "message"];

#[derive(Debug, Subcommand)]
pub(in super::super) enum NotifyCommand {
    /// Send a test message by the configured way and print the provider's answer;
    /// exit code 1 where it was not taken
    Test(TestArgs),
    /// Messages, the last written first
    Messages(MessageListArgs),
    /// One message with its text and its log
    Show(MessageArgs),
    /// Send a message again
    SendAgain(MessageArgs),
    /// Where the SMS provider is to report what became of messages, for its portal
    Callback(ServerArgs),
    /// What somebody is to be told, and why it waits, was told or was dropped
    Notices(NoticeListArgs),
}

/// How somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum ChannelName {
    Email,
    Sms,
    Webhook,
}

impl ChannelName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Webhook => "webhook",
        }
    }
}

#[derive(Debug, Args)]
pub(in super::super) struct TestArgs {
    /// An e-mail address, a number such as +31612345678, or the URL of a user's
    /// webhook
    #[arg(long, value_name = "ADDRESS", required_unless_present = "user", conflicts_with = "user")]
    to: Option<String>,
    /// A user instead, who is reached as they have it
    #[arg(long, value_name = "ID")]
    user: Option<u64>,
    #[arg(long)]
    channel: ChannelName,
    /// Whose message it is; not needed with a tenant's own token, with a user, or
    /// where there is one tenant only
    #[arg(long, value_name = "ID")]
    tenant: Option<u64>,
    /// The language: nl or en
    #[arg(long)]
    language: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in super::super) struct MessageListArgs {
    #[arg(long, value_name = "ID")]
    tenant: Option<u64>,
    #[arg(long, value_name = "ID")]
    user: Option<u64>,
    #[arg(long)]
    channel: Option<ChannelName>,
    /// queued, on_its_way, sent, delivered, failed or unknown
    #[arg(long)]
    state: Option<String>,
    #[arg(long, value_name = "ID")]
    alarm: Option<String>,
    /// The most that are shown
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in super::super) struct MessageArgs {
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in super::super) struct NoticeListArgs {
    #[arg(long, value_name = "ID")]
    tenant: Option<u64>,
    #[arg(long, value_name = "ID")]
    user: Option<u64>,
    #[arg(long, value_name = "ID")]
    alarm: Option<String>,
    #[arg(long, value_name = "ID")]
    message: Option<String>,
    /// waits, told or dropped
    #[arg(long)]
    state: Option<String>,
    /// The most that are shown
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    server: ServerArgs,
}

impl From<NotifyCommand> for Ask {
    fn from(command: NotifyCommand) -> Self {
        match command {
            NotifyCommand::Test(args) => {
                let TestArgs { to, user, channel, tenant, language, server } = args;
                let body: Value = json!({
                    "to": to, "user": user, "channel": channel.as_str(), "tenant": tenant,
                    "language": language,
                });
                let what = What::Test {
                    path: "/messages/test".to_owned(),
                    body,
                    wanted: ("outcome", json!("sent")),
                    otherwise: "the message was not taken",
                };
                Self { server, what }
            }
            NotifyCommand::Messages(args) => {
                let query = query_string(&[
                    ("tenant", args.tenant.map(|id| id.to_string())),
                    ("user", args.user.map(|id| id.to_string())),
                    ("channel", args.channel.map(|name| name.as_str().to_owned())),
                    ("state", args.state),
                    ("alarm", args.alarm),
                    ("limit", Some(args.limit.to_string())),
                ]);
                let (path, columns) = (format!("/messages{query}"), &MESSAGE_COLUMNS);
                Self { server: args.server, what: What::Part { path, part: "items", columns } }
            }
            NotifyCommand::Show(args) => {
                let path = format!("/messages/{}", args.id);
                Self { server: args.server, what: What::Show { path } }
            }
            NotifyCommand::SendAgain(args) => {
                let path = format!("/messages/{}/send-again", args.id);
                Self { server: args.server, what: What::Do { path, body: Value::Null } }
            }
            NotifyCommand::Callback(server) => {
                Self { server, what: What::Show { path: "/sms-callback".to_owned() } }
            }
            NotifyCommand::Notices(args) => {
                let query = query_string(&[
                    ("tenant", args.tenant.map(|id| id.to_string())),
                    ("user", args.user.map(|id| id.to_string())),
                    ("alarm", args.alarm),
                    ("message", args.message),
                    ("state", args.state),
                    ("limit", Some(args.limit.to_string())),
                ]);
                let (path, columns) = (format!("/notices{query}"), &NOTICE_COLUMNS);
                Self { server: args.server, what: What::Part { path, part: "items", columns } }
            }
        }
    }
}
