//! The command line of `baken`: what it takes, and who carries it out.

mod ask;
mod backtest;
mod backup;
mod migrate;
mod output;
mod rules;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Layers, Loaded, reference, settings};

pub(crate) use output::{Output, complain};
pub(crate) use serve::runtime;

/// An MQTT broker, journal, history and alarms for industrial routers, in one
/// process.
#[derive(Debug, Parser)]
#[command(name = "baken", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT; SIGHUP reads TLS certificates again
    Serve(ServeArgs),
    /// Run a node with simulated routers that replay a machine and its alarm
    Demo(crate::demo::DemoArgs),
    /// Check a configuration, show the one in force, or print the reference
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Test alarm profiles with text scenarios, and check them; no server needed
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    Backtest(backtest::BacktestArgs),
    Migrate(migrate::MigrateArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    /// Print the description of the HTTP API (OpenAPI, JSON)
    Openapi,
    /// Customers whose data nobody else sees
    #[command(subcommand)]
    Tenants(ask::TenantCommand),
    /// Places where routers stand
    #[command(subcommand)]
    Locations(ask::LocationCommand),
    /// Routers and their credentials
    #[command(subcommand)]
    Routers(ask::RouterCommand),
    /// Routers' own devices and the machines behind them
    #[command(subcommand)]
    Devices(ask::DeviceCommand),
    /// Bearer tokens of the HTTP API
    #[command(subcommand)]
    Tokens(ask::TokenCommand),
    /// People and tools that are told of alarms
    #[command(subcommand)]
    Users(ask::UserCommand),
    /// Which alarms a user is told of, and by what
    #[command(subcommand)]
    Subscriptions(ask::SubscriptionCommand),
    /// Who is told that a router is offline, and how long after
    #[command(subcommand)]
    OfflineProfiles(ask::OfflineProfileCommand),
    /// Readings of a device
    #[command(subcommand)]
    Telemetry(ask::TelemetryCommand),
    /// What sends readings to customers' own platforms
    #[command(subcommand)]
    Forwarders(ask::ForwarderCommand),
    /// Alarms, what is done to them, and how good they are
    #[command(subcommand)]
    Alarms(ask::AlarmCommand),
    /// What happened: to alarms, by people, at logins
    #[command(subcommand)]
    Events(ask::EventCommand),
    /// Messages to people: a test, and the delivery log
    #[command(subcommand)]
    Notify(ask::NotifyCommand),
    /// The last messages of routers that were refused, and why
    Rejections(ask::RejectionArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Tell all that is wrong with a file; exit code 1 if anything is
    Check { file: PathBuf },
    /// Print every setting in force and where it comes from
    Show(ConfigArgs),
    /// Print the reference of all settings in Markdown
    Reference,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Write the addresses that are listened on to this file once the node is
    /// ready (JSON); DATA/run.json has them too
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Flags that lie over the environment, the file and the defaults.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct ConfigArgs {
    /// The configuration, TOML
    #[arg(long, value_name = "FILE", env = "BAKEN_CONFIG")]
    config: Option<PathBuf>,
    /// The folder that holds all (server.data_dir)
    #[arg(long, value_name = "DIR", env = "BAKEN_DATA")]
    data: Option<String>,
    /// Where the journal is, if not in the folder (journal.url)
    #[arg(long, value_name = "kafka://…")]
    journal: Option<String>,
    /// Where all else is stored, if not in the folder (store.url)
    #[arg(long, value_name = "postgres://…")]
    store: Option<String>,
    /// What this node does, with commas between (server.roles)
    #[arg(long, value_name = "ROLE,…")]
    roles: Option<String>,
    /// Where plain MQTT is taken (mqtt.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    mqtt_listen: Option<String>,
    /// Where HTTP is taken (api.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    api_listen: Option<String>,
    /// From which level on is logged (log.level)
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Any setting, as often as needed, such as --set journal.retention_hours=48
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    /// The configuration of all layers.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        let mut layers = Layers::default();
        if let Some(file) = &self.config {
            layers = layers.file(file);
        }
        layers = layers.variables(std::env::vars());
        let flags = [
            ("--data", "server.data_dir", &self.data),
            ("--journal", "journal.url", &self.journal),
            ("--store", "store.url", &self.store),
            ("--roles", "server.roles", &self.roles),
            ("--mqtt-listen", "mqtt.listen", &self.mqtt_listen),
            ("--api-listen", "api.listen", &self.api_listen),
            ("--log-level", "log.level", &self.log_level),
        ];
        for (flag, path, value) in flags {
            if let Some(value) = value {
                layers = layers.flag(flag, path, value);
            }
        }
        for pair in &self.set {
            let Some((path, value)) = pair.split_once('=') else {
                anyhow::bail!("flag --set: {pair:?} must be PATH=VALUE, such as log.level=debug");
            };
            layers = layers.flag("--set", path.trim(), value.trim());
        }
        Ok(layers.load()?)
    }
}

/// Which server a client command asks, and with which token.
#[derive(Debug, Args, Clone)]
pub(crate) struct ServerArgs {
    /// The API's address; by default that of the process on --data
    #[arg(long, value_name = "URL", env = "BAKEN_SERVER")]
    server: Option<String>,
    /// A bearer token; by default the admin token in --data
    #[arg(long, env = "BAKEN_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    token: Option<String>,
    /// The server's folder
    #[arg(long, value_name = "DIR", env = "BAKEN_DATA", default_value = "data")]
    data: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Carries out the command line; the exit code is 0, or 1 with the reason on
/// standard error, or 2 when the command line is not understood.
#[must_use]
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    match run(line.command) {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = output::complain(&format!("baken: {}", output::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let mut output = Output::new();
    match command {
        Command::Serve(args) => return serve::serve(&args),
        Command::Demo(args) => return crate::demo::demo(&args),
        Command::Config(ConfigCommand::Check { file }) => {
            Layers::default().file(&file).load()?;
            output.line(&format!("{} is right", file.display()))?;
        }
        Command::Config(ConfigCommand::Show(args)) => show(&args.load()?, &mut output)?,
        Command::Config(ConfigCommand::Reference) => output.text(&reference())?,
        Command::Rules(command) => return rules::run(&command, &mut output),
        Command::Backtest(args) => return backtest::run(&args, &mut output),
        Command::Migrate(args) => return migrate::run(&args, &mut output),
        Command::Backup(args) => return backup::run(&args, &mut output),
        Command::Restore(args) => return backup::run_restore(&args, &mut output),
        Command::Openapi => output.text(&openapi_json())?,
        Command::Tenants(command) => ask::run(command.into(), &mut output)?,
        Command::Locations(command) => ask::run(command.into(), &mut output)?,
        Command::Routers(command) => ask::run(command.into(), &mut output)?,
        Command::Devices(command) => ask::run(command.into(), &mut output)?,
        Command::Tokens(command) => ask::run(command.into(), &mut output)?,
        Command::Users(command) => ask::run(command.into(), &mut output)?,
        Command::Subscriptions(command) => ask::run(command.into(), &mut output)?,
        Command::OfflineProfiles(command) => ask::run(command.into(), &mut output)?,
        Command::Telemetry(command) => ask::run(command.into(), &mut output)?,
        Command::Forwarders(command) => ask::run(command.into(), &mut output)?,
        Command::Alarms(command) => ask::run(command.into(), &mut output)?,
        Command::Events(command) => ask::run(command.into(), &mut output)?,
        Command::Notify(command) => ask::run(command.into(), &mut output)?,
        Command::Rejections(args) => ask::run(args.into(), &mut output)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The text of `docs/reference/openapi.json`.
#[must_use]
pub fn openapi_json() -> String {
    let mut text = crate::api::service::openapi()
        .to_pretty_json()
        .expect("the description of the API is JSON");
    text.push('\n');
    text
}

fn show(loaded: &Loaded, output: &mut Output) -> anyhow::Result<()> {
    let config = serde_json::to_value(&loaded.config)?;
    for setting in settings() {
        let value = setting.path.split('.').fold(&config, |place, name| &place[name]);
        let source = match loaded.sources.get(&setting.path) {
            Some(source) => source.to_string(),
            None => "default".to_owned(),
        };
        output.line(&format!("{} = {value}  # {source}", setting.path))?;
    }
    Ok(())
}

/// A runtime for commands that only ask.
pub(crate) fn small_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
