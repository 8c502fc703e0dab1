//! `baken demo`: a node with simulated routers, for a first look, and with
//! `--until-alarm` a check of the whole way: a reading goes in by MQTT, and it,
//! the alarm that it raises and clears, and their events come out by the API.
//!
//! All that it does to the node goes through MQTT and HTTP, as for anybody.

mod alarm;
mod fleet;
mod machine;
mod router;
mod watch;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::ApiClient;
use crate::command::{Output, runtime};
use crate::config::{Config, Layers, Listen};
use crate::folder::{ADMIN_TOKEN_FILE, RunFile};
use crate::logging;
use crate::node::Node;

use fleet::{Fleet, Site};
use watch::Watch;

const MQTT_PORT: u16 = 1883;
const API_PORT: u16 = 8080;

/// Room for routers of one's own beside the demo's.
const MAX_CONNECTIONS: u32 = 1_000;

/// What `baken demo` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// The folder that holds all; made if it is not there
    #[arg(long, value_name = "DIR", env = "BAKEN_DATA", default_value = "demo-data")]
    data: String,
    /// Where MQTT is taken; by default 127.0.0.1:1883, or a free port if that is taken
    #[arg(long, value_name = "ADDRESS:PORT")]
    mqtt_listen: Option<SocketAddr>,
    /// Where HTTP is taken; by default 127.0.0.1:8080, or a free port if that is taken
    #[arg(long, value_name = "ADDRESS:PORT")]
    api_listen: Option<SocketAddr>,
    /// End once a reading, a raised and a cleared alarm and their events have
    /// been read back by the API; exit code 1 if they do not come in time
    #[arg(long)]
    until_alarm: bool,
    /// Write what was seen to this file
    #[arg(long, value_name = "FILE", requires = "until_alarm")]
    json: Option<PathBuf>,
    /// How long --until-alarm waits
    #[arg(long, value_name = "SECONDS", default_value_t = 180, requires = "until_alarm")]
    timeout_s: u64,
    /// From which level on the node logs
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

/// Why the demo ended.
enum Ended {
    ByPerson,
    SawAll,
    InVain(Vec<&'static str>),
}

pub(crate) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut output = Output::new();
    let config = config(args, &mut output)?;
    logging::start(&config.log)?;
    let runtime = runtime(&config)?;
    let code = runtime.block_on(run(args, config, &mut output));
    runtime.shutdown_background();
    code
}

fn config(args: &DemoArgs, output: &mut Output) -> anyhow::Result<Config> {
    let layers = Layers::default().flag("--data", "server.data_dir", &args.data).flag(
        "--log-level",
        "log.level",
        &args.log_level,
    );
    let mut config = layers.load()?.config;
    let mqtt = free(args.mqtt_listen, MQTT_PORT, "MQTT", output)?;
    config.mqtt.listen = Listen(Some(mqtt));
    config.mqtt.limits.max_connections = MAX_CONNECTIONS;
    config.api.listen = free(args.api_listen, API_PORT, "the API", output)?;
    Ok(config)
}

/// The address that was asked for, or the usual one, or any port if that is
/// taken by another program.
fn free(
    asked: Option<SocketAddr>,
    port: u16,
    name: &str,
    output: &mut Output,
) -> anyhow::Result<SocketAddr> {
    if let Some(address) = asked {
        return Ok(address);
    }
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(usual) {
        Ok(_) => Ok(usual),
        Err(error) => {
            output.line(&format!("{name}: {usual} cannot be had ({error}); taking a free port"))?;
            Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        }
    }
}

async fn run(args: &DemoArgs, config: Config, output: &mut Output) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let patience = Duration::from_millis(config.server.shutdown_timeout_ms);
    let node = Node::start(config).await?;
    let played = tokio::select! {
        played = play(args, &node, output) => played,
        _ = terminate.recv() => Ok(Ended::ByPerson),
        _ = interrupt.recv() => Ok(Ended::ByPerson),
    };
    output.line("stopping")?;
    let stopped = tokio::time::timeout(patience, node.stop()).await;
    anyhow::ensure!(stopped.is_ok(), "the node did not stop within {patience:?}");
    match played? {
        Ended::ByPerson if !args.until_alarm => Ok(ExitCode::SUCCESS),
        Ended::ByPerson => anyhow::bail!("stopped before all was seen"),
        Ended::SawAll => {
            output.line("a reading, an alarm raised and cleared, and their events came back")?;
            Ok(ExitCode::SUCCESS)
        }
        Ended::InVain(missing) => {
            anyhow::bail!("did not come within {} s: {}", args.timeout_s, missing.join(", "))
        }
    }
}

async fn play(args: &DemoArgs, node: &Node, output: &mut Output) -> anyhow::Result<Ended> {
    let run = node.run_file();
    let token = node.admin_token()?.with_context(|| {
        format!("{} is gone from {}; name another folder", ADMIN_TOKEN_FILE, args.data)
    })?;
    let client = ApiClient::new(&run.api, &token)?;
    let site = fleet::provision(&client, &node.state().secret).await?;
    alarm::provision(&client, &site).await?;
    let mqtt = run.mqtt.as_deref().context("the node takes no MQTT")?;
    tell(args, run, mqtt, &site, output)?;
    let mut watch = Watch::new(client, &site).await?;
    let fleet = Fleet::start(&site, mqtt.parse()?);
    let ended = watch_on(args, &mut watch, &fleet, output).await;
    fleet.stop().await;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&watch.report())?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    ended
}

async fn watch_on(
    args: &DemoArgs,
    watch: &mut Watch,
    fleet: &Fleet,
    output: &mut Output,
) -> anyhow::Result<Ended> {
    let until_end = async {
        loop {
            watch.look(&fleet.acknowledged, output).await?;
            if args.until_alarm && watch.missing().is_empty() {
                return anyhow::Ok(());
            }
            tokio::time::sleep(watch::LOOK_EVERY).await;
        }
    };
    if !args.until_alarm {
        until_end.await?;
        return Ok(Ended::ByPerson);
    }
    match tokio::time::timeout(Duration::from_secs(args.timeout_s), until_end).await {
        Ok(seen) => seen.map(|()| Ended::SawAll),
        Err(_) => Ok(Ended::InVain(watch.missing())),
    }
}

/// Where to look.
fn tell(
    args: &DemoArgs,
    run: &RunFile,
    mqtt: &str,
    site: &Site,
    output: &mut Output,
) -> anyhow::Result<()> {
    let RunFile { api, .. } = run;
    let Site { tenant, chiller, .. } = site;
    let header = format!("-H \"Authorization: Bearer $(cat {}/{ADMIN_TOKEN_FILE})\"", args.data);
    let (host, port) = mqtt.rsplit_once(':').unwrap_or((mqtt, ""));
    output.text(&format!(
        "\n\
         Baken runs. Its folder is {folder}; Ctrl-C stops it.\n\n\
         MQTT      {mqtt}   access token of the chiller's router: {token}\n\
         API       {api}/api/v1   token in {folder}/{ADMIN_TOKEN_FILE}\n\n\
         publish   mosquitto_pub -h {host} -p {port} -u {token} -q 1 -t v1/devices/me/telemetry -m '{{\"hello\":1}}'\n\
         latest    curl -s {header} {api}/api/v1/devices/{device}/telemetry/latest\n\
         alarms    curl -s {header} '{api}/api/v1/alarms?tenant={tenant}'\n\
         events    curl -s {header} '{api}/api/v1/events?tenant={tenant}'\n\
         metrics   curl -s {api}/metrics\n\n\
         The chiller trips now and then. Its supply gets warm: above {limit} °C for 5 s raises an alarm.\n\
         Times are UTC.\n\n",
        folder = args.data,
        token = chiller.token,
        device = chiller.device,
        limit = machine::ALARM_LIMIT_C,
    ))?;
    Ok(())
}
