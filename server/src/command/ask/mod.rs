//! Client commands: each becomes one or a few requests to the HTTP API, and its
//! answer a table, or JSON with `--json`.

mod alarms;
mod args;
mod forwarders;
mod notify;
mod told;

use serde_json::{Map, Value, json};

use super::{Output, ServerArgs, small_runtime};
use crate::client::ApiClient;

pub(super) use alarms::{AlarmCommand, EventCommand};
pub(super) use args::{
    CredentialKind, DeviceCommand, ListArgs, LocationCommand, OneArgs, RejectionArgs,
    RouterCommand, TelemetryCommand, TenantCommand, TokenCommand,
};
pub(super) use forwarders::ForwarderCommand;
pub(super) use notify::NotifyCommand;
pub(super) use told::{OfflineProfileCommand, SubscriptionCommand, UserCommand};

/// Items asked for at once when all are listed.
const PAGE_ITEMS: u32 = 1_000;

/// What is to be asked, in terms of the API.
#[derive(Debug)]
pub(super) struct Ask {
    server: ServerArgs,
    what: What,
}

#[derive(Debug)]
enum What {
    Create {
        path: &'static str,
        body: Value,
    },
    List {
        path: &'static str,
        query: Vec<(&'static str, String)>,
        columns: &'static [&'static str],
    },
    /// A list without pages.
    Once {
        path: String,
        columns: &'static [&'static str],
    },
    Show {
        path: String,
    },
    Delete {
        path: String,
    },
    /// A deed that is answered by nothing, or by what came of it.
    Do {
        path: String,
        body: Value,
    },
    /// A test; it is an error where its answer is not the wanted one.
    Test {
        path: String,
        body: Value,
        wanted: (&'static str, Value),
        otherwise: &'static str,
    },
    /// Something that is done to many, a number of them in a call.
    DoAll {
        path: &'static str,
        body: Value,
    },
    /// A list that is a part of the answer.
    Part {
        path: String,
        part: &'static str,
        columns: &'static [&'static str],
    },
    /// An answer that is printed as it comes.
    Download {
        path: String,
        accept: &'static str,
    },
    Latest {
        path: String,
    },
    Range {
        path: String,
    },
}

const TENANT_COLUMNS: [&str; 2] = ["id", "name"];
const LOCATION_COLUMNS: [&str; 4] = ["id", "tenant", "name", "time_zone"];
const ROUTER_COLUMNS: [&str; 6] = ["id", "tenant", "location", "device", "enabled", "name"];
const DEVICE_COLUMNS: [&str; 6] = ["id", "tenant", "location", "router", "behind_router", "name"];
const TOKEN_COLUMNS: [&str; 4] = ["id", "tenant", "read_only", "name"];
const SESSION_COLUMNS: [&str; 7] =
    ["client_id", "peer", "mqtt5", "tls", "connected_at", "publishes", "bytes"];
const REJECTION_COLUMNS: [&str; 6] = ["at", "tenant", "router", "topic", "reason", "payload"];

impl From<TenantCommand> for Ask {
    fn from(command: TenantCommand) -> Self {
        match command {
            TenantCommand::Create { name, server } => {
                create(server, "/tenants", json!({ "name": name }))
            }
            TenantCommand::List(server) => Self {
                server,
                what: What::List { path: "/tenants", query: Vec::new(), columns: &TENANT_COLUMNS },
            },
            TenantCommand::Show(one) => show("/tenants", one),
            TenantCommand::Delete(one) => delete("/tenants", one),
        }
    }
}

impl From<LocationCommand> for Ask {
    fn from(command: LocationCommand) -> Self {
        match command {
            LocationCommand::Create { name, tenant, time_zone, server } => create(
                server,
                "/locations",
                json!({ "tenant": tenant, "name": name, "time_zone": time_zone }),
            ),
            LocationCommand::List(args) => list("/locations", args, &LOCATION_COLUMNS),
            LocationCommand::Show(one) => show("/locations", one),
            LocationCommand::Delete(one) => delete("/locations", one),
        }
    }
}

impl From<RouterCommand> for Ask {
    fn from(command: RouterCommand) -> Self {
        match command {
            RouterCommand::Create {
                name,
                location,
                credential,
                value,
                user,
                password,
                client_id,
                server,
            } => {
                let pairs: &[(&str, Option<String>)] = match credential {
                    CredentialKind::Token => &[("token", value)],
                    CredentialKind::Password => {
                        &[("user", user), ("password", password), ("client_id", client_id)]
                    }
                    CredentialKind::Fingerprint => &[("sha256", value)],
                    CredentialKind::CommonName => &[("common_name", value)],
                };
                let kind = match credential {
                    CredentialKind::Token => "access_token",
                    CredentialKind::Password => "password",
                    CredentialKind::Fingerprint => "fingerprint",
                    CredentialKind::CommonName => "common_name",
                };
                let mut credentials = Map::from_iter([("type".to_owned(), json!(kind))]);
                for (name, value) in pairs {
                    if let Some(value) = value {
                        credentials.insert((*name).to_owned(), json!(value));
                    }
                }
                let body =
                    json!({ "location": location, "name": name, "credentials": credentials });
                create(server, "/routers", body)
            }
            RouterCommand::List(args) => list("/routers", args, &ROUTER_COLUMNS),
            RouterCommand::Show(one) => show("/routers", one),
            RouterCommand::Sessions(one) => {
                let path = format!("/routers/{}/sessions", one.id);
                Self { server: one.server, what: What::Once { path, columns: &SESSION_COLUMNS } }
            }
            RouterCommand::Delete(one) => delete("/routers", one),
        }
    }
}

impl From<RejectionArgs> for Ask {
    fn from(RejectionArgs { tenant, limit, server }: RejectionArgs) -> Self {
        let tenant = tenant.map(|id| id.to_string());
        let query = query_string(&[("tenant", tenant), ("limit", Some(limit.to_string()))]);
        let path = format!("/rejections{query}");
        Self { server, what: What::Once { path, columns: &REJECTION_COLUMNS } }
    }
}

impl From<DeviceCommand> for Ask {
    fn from(command: DeviceCommand) -> Self {
        match command {
            DeviceCommand::List(args) => list("/devices", args, &DEVICE_COLUMNS),
            DeviceCommand::Show(one) => show("/devices", one),
            DeviceCommand::Delete(one) => delete("/devices", one),
        }
    }
}

impl From<TokenCommand> for Ask {
    fn from(command: TokenCommand) -> Self {
        match command {
            TokenCommand::Create { name, tenant, read_only, server } => {
                let mut body = json!({ "name": name, "read_only": read_only });
                if let Some(tenant) = tenant {
                    body["tenant"] = json!(tenant);
                }
                create(server, "/tokens", body)
            }
            TokenCommand::List(args) => list("/tokens", args, &TOKEN_COLUMNS),
            TokenCommand::Show(one) => show("/tokens", one),
            TokenCommand::Delete(one) => delete("/tokens", one),
        }
    }
}

impl From<TelemetryCommand> for Ask {
    fn from(command: TelemetryCommand) -> Self {
        match command {
            TelemetryCommand::Latest { device, keys, server } => {
                let query = query_string(&[("keys", keys)]);
                let path = format!("/devices/{device}/telemetry/latest{query}");
                Self { server, what: What::Latest { path } }
            }
            TelemetryCommand::Range { device, key, from, to, limit, newest_first, server } => {
                let order = if newest_first { "desc" } else { "asc" };
                let query = query_string(&[
                    ("key", Some(key)),
                    ("from", from.map(|text| milliseconds(&text))),
                    ("to", to.map(|text| milliseconds(&text))),
                    ("order", Some(order.to_owned())),
                    ("limit", Some(limit.to_string())),
                ]);
                let path = format!("/devices/{device}/telemetry{query}");
                Self { server, what: What::Range { path } }
            }
        }
    }
}

fn create(server: ServerArgs, path: &'static str, body: Value) -> Ask {
    Ask { server, what: What::Create { path, body } }
}

fn show(path: &str, one: OneArgs) -> Ask {
    Ask { what: What::Show { path: format!("{path}/{}", one.id) }, server: one.server }
}

fn delete(path: &str, one: OneArgs) -> Ask {
    Ask { what: What::Delete { path: format!("{path}/{}", one.id) }, server: one.server }
}

fn list(path: &'static str, args: ListArgs, columns: &'static [&'static str]) -> Ask {
    let ListArgs { tenant, location, router, name, server } = args;
    let number = |id: Option<u64>| id.map(|id| id.to_string());
    let query = [
        ("tenant", number(tenant)),
        ("location", number(location)),
        ("router", number(router)),
        ("name", name),
    ];
    let query = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    Ask { server, what: What::List { path, query, columns } }
}

/// Carries a client command out.
pub(super) fn run(ask: Ask, output: &mut Output) -> anyhow::Result<()> {
    let Ask { server, what } = ask;
    let client = ApiClient::find(server.server.as_deref(), server.token.as_deref(), &server.data)?;
    let runtime = small_runtime()?;
    let pretty = |output: &mut Output, value: &Value| -> anyhow::Result<()> {
        Ok(output.line(&serde_json::to_string_pretty(value)?)?)
    };
    match what {
        What::Create { path, body } => {
            let made = runtime.block_on(client.post(path, &body))?;
            if server.json { pretty(output, &made)? } else { fields(&made, output)? }
        }
        What::Show { path } => {
            let found = runtime.block_on(client.get(&path))?;
            if server.json { pretty(output, &found)? } else { fields(&found, output)? }
        }
        What::Delete { path } => {
            runtime.block_on(client.delete(&path))?;
            if !server.json {
                output.line("deleted")?;
            }
        }
        What::Do { path, body } => {
            let done = runtime.block_on(client.post(&path, &body))?;
            match done {
                Value::Null if server.json => {}
                Value::Null => output.line("done")?,
                done if server.json => pretty(output, &done)?,
                done => fields(&done, output)?,
            }
        }
        What::Test { path, body, wanted: (field, value), otherwise } => {
            let done = runtime.block_on(client.post(&path, &body))?;
            if server.json {
                pretty(output, &done)?
            } else {
                fields(&done, output)?
            }
            anyhow::ensure!(done[field] == value, "{otherwise}");
        }
        What::DoAll { path, body } => {
            let done = runtime.block_on(alarms::do_all(&client, path, body))?;
            if server.json { pretty(output, &done)? } else { fields(&done, output)? }
        }
        What::Part { path, part, columns } => {
            let found = runtime.block_on(client.get(&path))?;
            if server.json {
                return pretty(output, &found);
            }
            table(columns, found[part].as_array().map_or(&[], Vec::as_slice), output)?;
        }
        What::Download { path, accept } => {
            runtime.block_on(client.download(&path, accept, |piece| output.bytes(piece)))??;
        }
        What::List { path, query, columns } => {
            let items = runtime.block_on(all_items(&client, path, &query))?;
            if server.json {
                pretty(output, &json!({ "items": items }))?;
            } else {
                table(columns, &items, output)?;
            }
        }
        What::Once { path, columns } => {
            let found = runtime.block_on(client.get(&path))?;
            if server.json {
                return pretty(output, &found);
            }
            table(columns, found["items"].as_array().map_or(&[], Vec::as_slice), output)?;
        }
        What::Latest { path } => {
            let found = runtime.block_on(client.get(&path))?;
            if server.json {
                return pretty(output, &found);
            }
            let readings = found["readings"].as_object().cloned().unwrap_or_default();
            let row = |(key, reading): (&String, &Value)| {
                vec![key.clone(), time_of(&reading["ts"]), text_of(&reading["value"])]
            };
            let rows: Vec<_> = readings.iter().map(row).collect();
            output.table(&["key", "time", "value"], &rows)?;
        }
        What::Range { path } => {
            let found = runtime.block_on(client.get(&path))?;
            if server.json {
                return pretty(output, &found);
            }
            let readings = found["readings"].as_array().cloned().unwrap_or_default();
            let row = |reading: &Value| vec![time_of(&reading["ts"]), text_of(&reading["value"])];
            output.table(&["time", "value"], &readings.iter().map(row).collect::<Vec<_>>())?;
            if found["next"].is_string() {
                output.line("(there are more: raise --limit or --from)")?;
            }
        }
    }
    Ok(())
}

async fn all_items(
    client: &ApiClient,
    path: &str,
    query: &[(&'static str, String)],
) -> Result<Vec<Value>, crate::client::ClientError> {
    let mut items = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut pairs: Vec<(&str, Option<String>)> =
            query.iter().map(|(key, value)| (*key, Some(value.clone()))).collect();
        pairs.push(("limit", Some(PAGE_ITEMS.to_string())));
        pairs.push(("after", after.take()));
        let mut page = client.get(&format!("{path}{}", query_string(&pairs))).await?;
        if let Value::Array(more) = page["items"].take() {
            items.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(items),
        }
    }
}

fn table(columns: &[&str], items: &[Value], output: &mut Output) -> anyhow::Result<()> {
    let cell = |item: &Value, name: &str| match name {
        "at" | "connected_at" => time_of(&item[name]),
        _ => text_of(name.split('.').fold(item, |place, name| &place[name])),
    };
    let row = |item: &Value| columns.iter().map(|name| cell(item, name)).collect();
    Ok(output.table(columns, &items.iter().map(row).collect::<Vec<_>>())?)
}

fn fields(value: &Value, output: &mut Output) -> anyhow::Result<()> {
    let none = Map::new();
    for (name, value) in value.as_object().unwrap_or(&none) {
        output.line(&format!("{name}: {}", text_of(value)))?;
    }
    Ok(())
}

fn text_of(value: &Value) -> String {
    match value {
        // What a router sent must not steer the terminal.
        Value::String(text) if text.contains(char::is_control) => text
            .chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
            .collect(),
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn time_of(value: &Value) -> String {
    value
        .as_i64()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| text_of(value), |time| format!("{time:.3}"))
}

/// RFC 3339 becomes milliseconds; all else is left for the server to judge.
fn milliseconds(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.as_millisecond().to_string(),
        Err(_) => text.to_owned(),
    }
}

/// `?key=value&…` of what is given; empty if nothing is.
fn query_string(pairs: &[(&str, Option<String>)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        if let Some(value) = value {
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(key);
            text.push('=');
            percent_encode(value, &mut text);
        }
    }
    text
}

fn percent_encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_what_is_given_and_encodes_it() {
        let pairs =
            [("keys", Some("a b,é".to_owned())), ("x", None), ("limit", Some("5".to_owned()))];
        assert_eq!(query_string(&pairs), "?keys=a%20b,%C3%A9&limit=5");
        assert_eq!(query_string(&[("x", None)]), "");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(text_of(&json!("é\u{1b}[2J\n")), "é\\u{1b}[2J\\n");
    }

    #[test]
    fn times_are_taken_as_milliseconds_or_rfc_3339() {
        assert_eq!(milliseconds("2026-01-01T00:00:00Z"), "1767225600000");
        assert_eq!(milliseconds("1500"), "1500");
        assert_eq!(time_of(&json!(1_500)), "1970-01-01T00:00:01.500Z");
    }
}
