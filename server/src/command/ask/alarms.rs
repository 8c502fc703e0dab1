//! Alarms, what is done to them, and the audit history, on the command line.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{Ask, What, milliseconds, query_string};
use crate::client::ApiClient;
use crate::command::ServerArgs;

const ALARM_COLUMNS: [&str; 8] = [
    "id",
    "severity",
    "active",
    "acknowledged",
    "location",
    "device",
    "rule",
    "last_details.description",
];
const EVENT_COLUMNS: [&str; 8] =
    ["sequence", "at", "kind", "tenant", "document", "alarm", "actor", "peer"];
const MEASURE_COLUMNS: [&str; 6] = ["name", "value", "unit", "recommended", "maximum", "verdict"];

/// A deed takes an alarm, or `--all` with filters.
#[derive(Debug, Subcommand)]
pub(in super::super) enum AlarmCommand {
    /// Alarms, the last raised or the worst first
    List(AlarmListArgs),
    /// One alarm with its whole story
    Show(AlarmArgs),
    /// How many alarms are open, by severity and location
    Counts {
        #[arg(long, value_name = "ID")]
        tenant: Option<u64>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// How good the alarms of a period are, by ISA-18.2 and EEMUA 191
    Quality(QualityArgs),
    /// Say that somebody has seen an alarm
    Acknowledge(DeedArgs),
    /// Take that back
    Unacknowledge(DeedArgs),
    /// End an alarm by hand
    Clear(DeedArgs),
    /// Put an alarm aside for a while
    Shelve {
        /// Milliseconds since 1970, or RFC 3339
        #[arg(long)]
        until: String,
        #[command(flatten)]
        deed: DeedArgs,
    },
    /// Take an alarm back before its time
    Unshelve(DeedArgs),
    /// Write something about an alarm
    Comment {
        #[arg(long)]
        text: String,
        #[command(flatten)]
        deed: DeedArgs,
    },
    /// Say whose an alarm is; nobody's without --to
    Assign {
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        deed: DeedArgs,
    },
}

#[derive(Debug, Args)]
pub(in super::super) struct AlarmArgs {
    /// 32 hexadecimal digits
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Which alarms.
#[derive(Debug, Args)]
pub(in super::super) struct AlarmFilterArgs {
    #[arg(long, value_name = "ID")]
    tenant: Option<u64>,
    /// One, or several with commas between them
    #[arg(long, value_name = "ID,…")]
    location: Option<String>,
    #[arg(long, value_name = "ID")]
    device: Option<u64>,
    #[arg(long)]
    rule: Option<String>,
    /// One, or several with commas between them
    #[arg(long)]
    severity: Option<String>,
    #[arg(long, value_name = "BOOL")]
    active: Option<bool>,
    #[arg(long, value_name = "BOOL")]
    acknowledged: Option<bool>,
    #[arg(long, value_name = "BOOL")]
    shelved: Option<bool>,
    /// Stands in the rule's key or in the description
    #[arg(long = "containing", value_name = "TEXT")]
    containing: Option<String>,
}

#[derive(Debug, Args)]
pub(in super::super) struct AlarmListArgs {
    #[command(flatten)]
    filter: AlarmFilterArgs,
    /// The worst first
    #[arg(long)]
    worst_first: bool,
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in super::super) struct DeedArgs {
    /// 32 hexadecimal digits
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// All alarms that the filters leave, however many
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: AlarmFilterArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(in super::super) struct QualityArgs {
    #[arg(long, value_name = "ID")]
    tenant: Option<u64>,
    #[arg(long, value_name = "ID")]
    location: Option<u64>,
    /// Milliseconds since 1970, or RFC 3339; 30 days before --to by default
    #[arg(long)]
    from: Option<String>,
    /// Likewise; now by default
    #[arg(long)]
    to: Option<String>,
    /// Among how many operators the alarms are shared
    #[arg(long)]
    operators: Option<u32>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum EventCommand {
    /// Events, the newest first
    List(EventArgs),
}

#[derive(Debug, Args)]
pub(in super::super) struct EventArgs {
    #[arg(long, value_name = "ID")]
    tenant: Option<u64>,
    #[arg(long, value_name = "ID")]
    location: Option<u64>,
    #[arg(long, value_name = "ID")]
    device: Option<u64>,
    #[arg(long)]
    alarm: Option<String>,
    /// The tenant, location, router, device or token that it is about
    #[arg(long, value_name = "ID")]
    document: Option<u64>,
    /// One kind, or several with commas between them
    #[arg(long)]
    kind: Option<String>,
    /// The name of who did it
    #[arg(long)]
    actor: Option<String>,
    /// Milliseconds since 1970, or RFC 3339
    #[arg(long)]
    from: Option<String>,
    /// Likewise; the first time that is left out
    #[arg(long)]
    to: Option<String>,
    #[arg(long)]
    oldest_first: bool,
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// All of them as CSV, whatever the limit
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    server: ServerArgs,
}

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

impl AlarmFilterArgs {
    fn pairs(self) -> [(&'static str, Option<String>); 9] {
        [
            ("tenant", text(self.tenant)),
            ("location", self.location),
            ("device", text(self.device)),
            ("rule", self.rule),
            ("severity", self.severity),
            ("active", text(self.active)),
            ("acknowledged", text(self.acknowledged)),
            ("shelved", text(self.shelved)),
            ("text", self.containing),
        ]
    }

    fn json(self) -> Value {
        json!(Self::given([
            ("tenant", self.tenant.map(Value::from)),
            ("location", self.location.map(Value::from)),
            ("device", self.device.map(Value::from)),
            ("rule", self.rule.map(Value::from)),
            ("severity", self.severity.map(Value::from)),
            ("active", self.active.map(Value::from)),
            ("acknowledged", self.acknowledged.map(Value::from)),
            ("shelved", self.shelved.map(Value::from)),
            ("text", self.containing.map(Value::from)),
        ]))
    }

    fn given<const N: usize>(pairs: [(&str, Option<Value>); N]) -> serde_json::Map<String, Value> {
        let given = |(key, value): (&str, Option<Value>)| Some((key.to_owned(), value?));
        pairs.into_iter().filter_map(given).collect()
    }
}

fn deed(args: DeedArgs, mut body: Value) -> Ask {
    let DeedArgs { id, filter, server, .. } = args;
    let what = match id {
        Some(id) => What::Do { path: format!("/alarms/{id}/actions"), body },
        None => {
            body["filter"] = filter.json();
            What::DoAll { path: "/alarms/actions", body }
        }
    };
    Ask { server, what }
}

/// Calls until the server has come to all alarms, and adds up what came of it.
pub(super) async fn do_all(
    client: &ApiClient,
    path: &str,
    mut body: Value,
) -> anyhow::Result<Value> {
    let counts = ["matched", "done", "already", "failed"];
    let mut sums = [0u64; 4];
    let mut reason = Value::Null;
    loop {
        let mut outcome = match client.post(path, &body).await {
            Err(error) if sums[1] > 0 => {
                let before = format!("{} alarms were acted on before", sums[1]);
                return Err(anyhow::Error::new(error).context(before));
            }
            outcome => outcome?,
        };
        for (sum, name) in sums.iter_mut().zip(counts) {
            *sum += outcome[name].as_u64().unwrap_or(0);
        }
        if reason.is_null() {
            reason = outcome["reason"].take();
        }
        match outcome["next"].take() {
            Value::Null => break,
            next => body["after"] = next,
        }
    }
    let counted = counts.into_iter().zip(sums.map(Value::from));
    let mut all: Map<String, Value> = counted.map(|(name, sum)| (name.to_owned(), sum)).collect();
    if !reason.is_null() {
        all.insert("reason".to_owned(), reason);
    }
    Ok(Value::Object(all))
}

/// A time as the API takes it in a body; what is none is for the server to judge.
fn time(text: &str) -> Value {
    let text = milliseconds(text);
    text.parse::<i64>().map_or(Value::from(text), Value::from)
}

impl From<AlarmCommand> for Ask {
    fn from(command: AlarmCommand) -> Self {
        match command {
            AlarmCommand::List(AlarmListArgs { filter, worst_first, limit, server }) => {
                let order = worst_first.then(|| "severity".to_owned());
                let mut pairs = filter.pairs().to_vec();
                pairs.extend([("order", order), ("limit", text(Some(limit)))]);
                let path = format!("/alarms{}", query_string(&pairs));
                Self { server, what: What::Once { path, columns: &ALARM_COLUMNS } }
            }
            AlarmCommand::Show(AlarmArgs { id, server }) => {
                Self { server, what: What::Show { path: format!("/alarms/{id}") } }
            }
            AlarmCommand::Counts { tenant, server } => {
                let query = query_string(&[("tenant", text(tenant))]);
                Self { server, what: What::Show { path: format!("/alarms/counts{query}") } }
            }
            AlarmCommand::Quality(args) => args.into(),
            AlarmCommand::Acknowledge(args) => deed(args, json!({ "action": "acknowledge" })),
            AlarmCommand::Unacknowledge(args) => deed(args, json!({ "action": "unacknowledge" })),
            AlarmCommand::Clear(args) => deed(args, json!({ "action": "clear" })),
            AlarmCommand::Unshelve(args) => deed(args, json!({ "action": "unshelve" })),
            AlarmCommand::Shelve { until, deed: args } => {
                deed(args, json!({ "action": "shelve", "until": time(&until) }))
            }
            AlarmCommand::Comment { text, deed: args } => {
                deed(args, json!({ "action": "comment", "text": text }))
            }
            AlarmCommand::Assign { to, deed: args } => {
                deed(args, json!({ "action": "assign", "to": to }))
            }
        }
    }
}

impl From<QualityArgs> for Ask {
    fn from(args: QualityArgs) -> Self {
        let QualityArgs { tenant, location, from, to, operators, server } = args;
        let query = query_string(&[
            ("tenant", text(tenant)),
            ("location", text(location)),
            ("from", from.map(|text| milliseconds(&text))),
            ("to", to.map(|text| milliseconds(&text))),
            ("operators", text(operators)),
        ]);
        let path = format!("/alarm-quality{query}");
        Self { server, what: What::Part { path, part: "measures", columns: &MEASURE_COLUMNS } }
    }
}

impl From<EventCommand> for Ask {
    fn from(EventCommand::List(args): EventCommand) -> Self {
        let order = args.oldest_first.then(|| "asc".to_owned());
        let limit = (!args.csv).then(|| args.limit.to_string());
        let query = query_string(&[
            ("tenant", text(args.tenant)),
            ("location", text(args.location)),
            ("device", text(args.device)),
            ("alarm", args.alarm),
            ("document", text(args.document)),
            ("kind", args.kind),
            ("actor", args.actor),
            ("from", args.from.map(|text| milliseconds(&text))),
            ("to", args.to.map(|text| milliseconds(&text))),
            ("order", order),
            ("limit", limit),
        ]);
        let path = format!("/events{query}");
        let what = match args.csv {
            true => What::Download { path, accept: "text/csv" },
            false => What::Once { path, columns: &EVENT_COLUMNS },
        };
        Self { server: args.server, what }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Gives these answers one after another; what was asked.
    async fn answer(listener: TcpListener, answers: Vec<Value>) -> Vec<Value> {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let body = loop {
                let text = String::from_utf8_lossy(&request).into_owned();
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                if let Some(body) = body.and_then(|body| serde_json::from_str(body).ok()) {
                    break body;
                }
                assert!(stream.read_buf(&mut request).await.unwrap() > 0, "{text}");
            };
            asked.push(body);
            let body = answer.to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        asked
    }

    #[tokio::test]
    async fn a_deed_on_all_goes_on_until_nothing_is_left_and_adds_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = vec![
            json!({ "matched": 10_000, "done": 9_990, "already": 7, "failed": 3,
                    "reason": "slow", "more_remain": true, "next": "42" }),
            json!({ "matched": 5, "done": 5, "already": 0, "failed": 0, "more_remain": false }),
        ];
        let server = tokio::spawn(answer(listener, answers));
        let client = ApiClient::new(&url, "token").unwrap();
        let deed = json!({ "action": "acknowledge", "filter": { "rule": "hot" } });
        let done = do_all(&client, "/alarms/actions", deed.clone()).await.unwrap();
        let sums = json!({ "matched": 10_005, "done": 9_995, "already": 7, "failed": 3,
                           "reason": "slow" });
        assert_eq!(done, sums);
        let mut behind = deed.clone();
        behind["after"] = json!("42");
        assert_eq!(server.await.unwrap(), [deed, behind]);
    }
}
