//! Who is told of alarms, on the command line: users, subscriptions and offline
//! profiles.

use clap::{Args, Subcommand};
use schema::DurationMs;
use serde_json::{Map, Value, json};

use super::{Ask, OneArgs, What, create, delete, show};
use crate::command::ServerArgs;

const USER_COLUMNS: [&str; 6] = ["id", "tenant", "enabled", "email", "phone", "name"];
const SUBSCRIPTION_COLUMNS: [&str; 8] =
    ["id", "tenant", "user", "enabled", "channels", "severity_from", "on", "unacknowledged_for_s"];
const PROFILE_COLUMNS: [&str; 7] =
    ["id", "tenant", "enabled", "after_s", "users", "emails", "name"];

#[derive(Debug, Subcommand)]
pub(in super::super) enum UserCommand {
    /// Make a user
    Create(UserArgs),
    /// Users, all or a tenant's
    List(NamedListArgs),
    /// One user; never the secret of a webhook
    Show(OneArgs),
    /// Delete a user and their subscriptions
    Delete(OneArgs),
}

#[derive(Debug, Args)]
pub(in super::super) struct UserArgs {
    name: String,
    #[arg(long, value_name = "ID")]
    tenant: u64,
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// With the country, such as +31612345678
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
    /// Where a tool takes messages; its secret is made, and shown once
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// nl or en
    #[arg(long, default_value = "en")]
    language: String,
    /// An IANA time zone, such as Europe/Amsterdam
    #[arg(long, default_value = "UTC")]
    time_zone: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum SubscriptionCommand {
    /// Make a subscription of a user
    Create(SubscriptionArgs),
    /// Subscriptions, all, a tenant's or a user's
    List {
        #[arg(long, value_name = "ID")]
        tenant: Option<u64>,
        #[arg(long, value_name = "ID")]
        user: Option<u64>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// One subscription
    Show(OneArgs),
    /// Delete a subscription
    Delete(OneArgs),
}

/// What can be given several times is also taken with commas in between.
#[derive(Debug, Args)]
pub(in super::super) struct SubscriptionArgs {
    #[arg(long, value_name = "ID")]
    user: u64,
    /// email, sms or webhook; may be given several times
    #[arg(long = "channel", value_name = "CHANNEL", required = true, value_delimiter = ',')]
    channels: Vec<String>,
    /// Alarms of this severity or worse; all without this
    #[arg(long, value_name = "SEVERITY")]
    severity_from: Option<String>,
    /// raised, severity_changed, acknowledged or cleared; may be given several times
    #[arg(long, value_name = "MOMENT", default_value = "raised,cleared", value_delimiter = ',')]
    on: Vec<String>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// An alarm profile, or one rule of it; all without this; may be given several times
    #[arg(long = "rule", value_name = "PROFILE[/KEY]", value_parser = rule)]
    rules: Vec<Value>,
    /// Only when nobody has acknowledged the alarm so long after, such as 10m
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    unacknowledged_for: Option<u32>,
    /// Again at this interval while it is active and unacknowledged, such as 1h
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    repeat: Option<u32>,
    #[command(flatten)]
    server: ServerArgs,
}

/// All of the tenant where nothing is given.
#[derive(Debug, Args)]
pub(in super::super) struct ScopeArgs {
    /// Only at this location; may be given several times
    #[arg(long = "location", value_name = "ID", value_delimiter = ',')]
    locations: Vec<u64>,
    /// Only at locations in this group; may be given several times
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum OfflineProfileCommand {
    /// Make an offline profile
    Create(OfflineProfileArgs),
    /// Offline profiles, all or a tenant's
    List(NamedListArgs),
    /// One offline profile
    Show(OneArgs),
    /// Delete an offline profile
    Delete(OneArgs),
}

#[derive(Debug, Args)]
pub(in super::super) struct OfflineProfileArgs {
    name: String,
    #[arg(long, value_name = "ID")]
    tenant: u64,
    /// How long after a router was last connected, such as 30m
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    after: u32,
    /// Again at this interval while it is offline, such as 1d
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    repeat: Option<u32>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// May be given several times
    #[arg(long = "user", value_name = "ID", value_delimiter = ',')]
    users: Vec<u64>,
    /// By which the users are told: email, sms or webhook; may be given several times
    #[arg(long = "channel", value_name = "CHANNEL", value_delimiter = ',')]
    channels: Vec<String>,
    /// An address that belongs to no user; may be given several times
    #[arg(long = "email", value_name = "ADDRESS", value_delimiter = ',')]
    emails: Vec<String>,
    /// Likewise a number, such as +31612345678
    #[arg(long = "phone", value_name = "NUMBER", value_delimiter = ',')]
    phones: Vec<String>,
    /// nl or en, for the further addresses
    #[arg(long, default_value = "en")]
    language: String,
    /// An IANA time zone, for the further addresses
    #[arg(long, default_value = "UTC")]
    time_zone: String,
    /// Don't tell that the router is back
    #[arg(long)]
    not_when_back: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in super::super) struct NamedListArgs {
    #[arg(long, value_name = "ID")]
    tenant: Option<u64>,
    /// Names that begin with this
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Whole seconds of `90s` or `1h30m`; a bare number is seconds.
fn seconds(text: &str) -> Result<u32, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let DurationMs(ms) =
        text.parse().map_err(|error: schema::ParseDurationError| error.to_string())?;
    match u32::try_from(ms / 1_000) {
        Ok(seconds) if ms % 1_000 == 0 => Ok(seconds),
        _ => Err(format!("{text} is no number of whole seconds")),
    }
}

/// `PROFILE` or `PROFILE/KEY`, as the API has it.
fn rule(text: &str) -> Result<Value, String> {
    let (profile, key) = match text.split_once('/') {
        Some((profile, key)) => (profile, Some(key)),
        None => (text, None),
    };
    let profile: u64 = profile
        .parse()
        .map_err(|_| format!("{profile:?} is no id of an alarm profile; 0 is for system alarms"))?;
    Ok(match key {
        Some(key) => json!({ "profile": profile, "key": key }),
        None => json!({ "profile": profile }),
    })
}

/// An object of the fields that have a value.
fn body(fields: &[(&str, Option<Value>)]) -> Value {
    let given =
        fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
    Value::Object(given.collect::<Map<_, _>>())
}

impl ScopeArgs {
    fn json(&self) -> Value {
        json!({ "locations": self.locations, "groups": self.groups })
    }
}

fn named_list(path: &'static str, args: NamedListArgs, columns: &'static [&'static str]) -> Ask {
    let NamedListArgs { tenant, name, server } = args;
    let query = [("tenant", tenant.map(|id| id.to_string())), ("name", name)];
    let query = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    Ask { server, what: What::List { path, query, columns } }
}

impl From<UserCommand> for Ask {
    fn from(command: UserCommand) -> Self {
        match command {
            UserCommand::Create(args) => {
                let body = body(&[
                    ("tenant", Some(json!(args.tenant))),
                    ("name", Some(json!(args.name))),
                    ("email", args.email.map(Value::from)),
                    ("phone", args.phone.map(Value::from)),
                    ("webhook", args.webhook.map(|url| json!({ "url": url }))),
                    ("language", Some(json!(args.language))),
                    ("time_zone", Some(json!(args.time_zone))),
                ]);
                create(args.server, "/users", body)
            }
            UserCommand::List(args) => named_list("/users", args, &USER_COLUMNS),
            UserCommand::Show(one) => show("/users", one),
            UserCommand::Delete(one) => delete("/users", one),
        }
    }
}

impl From<SubscriptionCommand> for Ask {
    fn from(command: SubscriptionCommand) -> Self {
        match command {
            SubscriptionCommand::Create(args) => {
                let body = body(&[
                    ("user", Some(json!(args.user))),
                    ("channels", Some(json!(args.channels))),
                    ("severity_from", args.severity_from.map(Value::from)),
                    ("on", Some(json!(args.on))),
                    ("scope", Some(args.scope.json())),
                    ("rules", Some(json!(args.rules))),
                    ("unacknowledged_for_s", args.unacknowledged_for.map(Value::from)),
                    ("repeat_s", args.repeat.map(Value::from)),
                ]);
                create(args.server, "/subscriptions", body)
            }
            SubscriptionCommand::List { tenant, user, server } => {
                let ids = [("tenant", tenant), ("user", user)];
                let query = ids.into_iter().filter_map(|(key, id)| Some((key, id?.to_string())));
                let (path, query) = ("/subscriptions", query.collect());
                Self { server, what: What::List { path, query, columns: &SUBSCRIPTION_COLUMNS } }
            }
            SubscriptionCommand::Show(one) => show("/subscriptions", one),
            SubscriptionCommand::Delete(one) => delete("/subscriptions", one),
        }
    }
}

impl From<OfflineProfileCommand> for Ask {
    fn from(command: OfflineProfileCommand) -> Self {
        match command {
            OfflineProfileCommand::Create(args) => {
                let body = body(&[
                    ("tenant", Some(json!(args.tenant))),
                    ("name", Some(json!(args.name))),
                    ("scope", Some(args.scope.json())),
                    ("after_s", Some(json!(args.after))),
                    ("repeat_s", args.repeat.map(Value::from)),
                    ("users", Some(json!(args.users))),
                    ("channels", Some(json!(args.channels))),
                    ("emails", Some(json!(args.emails))),
                    ("phones", Some(json!(args.phones))),
                    ("language", Some(json!(args.language))),
                    ("time_zone", Some(json!(args.time_zone))),
                    ("when_back", Some(json!(!args.not_when_back))),
                ]);
                create(args.server, "/offline-profiles", body)
            }
            OfflineProfileCommand::List(args) => {
                named_list("/offline-profiles", args, &PROFILE_COLUMNS)
            }
            OfflineProfileCommand::Show(one) => show("/offline-profiles", one),
            OfflineProfileCommand::Delete(one) => delete("/offline-profiles", one),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_profile_or_one_key_of_it() {
        assert_eq!(rule("0").unwrap(), json!({ "profile": 0 }));
        let key = "alarm_limit/4/hot/2";
        let wanted = json!({ "profile": 0, "key": key });
        assert_eq!(rule(&format!("0/{key}")).unwrap(), wanted);
        assert!(rule("hot").unwrap_err().contains("\"hot\" is no id"));
    }

    #[test]
    fn times_are_seconds_or_have_units() {
        assert_eq!(seconds("600"), Ok(600));
        assert_eq!(seconds("1h30m"), Ok(5_400));
        assert!(seconds("1500ms").unwrap_err().contains("whole seconds"));
        assert!(seconds("soon").is_err());
    }
}
