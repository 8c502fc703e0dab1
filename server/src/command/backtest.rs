//! `baken backtest`: a profile over stored history, by a server or on a folder
//! that no server has open.

mod shown;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use alarms::backtest::{BacktestError, BacktestOptions, BacktestQuery, Control, DRAFT, backtest};
use alarms::{check, parse_toml};
use anyhow::Context as _;
use clap::Args;
use schema::{AlarmProfile, DurationMs, LocationId, TimestampMs};
use serde_json::json;

use super::output::{Output, complain};
use super::{runtime, small_runtime};
use crate::api::backtests::{ProgressShown, ResultShown, Shown};
use crate::client::ApiClient;
use crate::config::Layers;
use crate::offline::Offline;

/// How often a server is asked how far it is.
const POLL: Duration = Duration::from_millis(250);

/// Where the token is looked for when none is given.
const DEFAULT_FOLDER: &str = "data";

/// Try an alarm profile on stored history
///
/// It says which alarms the profile would have raised, and what differs from
/// those that were. Nothing is changed. Exit code 0 with a result, 1 without, 2
/// when the command line is not understood.
#[derive(Debug, Args)]
pub(super) struct BacktestArgs {
    /// The API of a server that runs
    #[arg(long, value_name = "URL", env = "BAKEN_SERVER", required_unless_present = "data")]
    server: Option<String>,
    /// A bearer token; by default the admin token in ./data or BAKEN_DATA
    #[arg(long, env = "BAKEN_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    token: Option<String>,
    /// Instead of a server: a folder that no server has open
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// With --data: the server's configuration, TOML
    #[arg(long, value_name = "FILE", env = "BAKEN_CONFIG")]
    config: Option<PathBuf>,
    /// The profile, TOML
    #[arg(long, value_name = "FILE")]
    profile: PathBuf,
    /// RFC 3339, milliseconds since 1970, or as far back as -7d or -36h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    from: TimestampMs,
    /// Likewise; the first time that is left out
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time, default_value = "now")]
    to: TimestampMs,
    /// Only these locations; may be given several times
    #[arg(long, value_name = "ID")]
    location: Vec<u64>,
    /// Whose history; needed where there are several tenants
    #[arg(long, value_name = "ID")]
    tenant: Option<u64>,
    /// How long before --from readings are evaluated, such as 2h; by default the
    /// longest time in the profile, and at least an hour
    #[arg(long, value_name = "DURATION")]
    warm_up: Option<DurationMs>,
    /// Write the whole result to this file, JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn time(text: &str) -> Result<TimestampMs, String> {
    let now = jiff::Timestamp::now().as_millisecond();
    if text == "now" {
        return Ok(TimestampMs(now));
    }
    if let Some(back) = text.strip_prefix('-') {
        let back: DurationMs = back.parse().map_err(|_| wrong(text))?;
        return Ok(TimestampMs(now.saturating_sub(back.0)));
    }
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(TimestampMs(ms));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong(text))?;
    Ok(TimestampMs(time.as_millisecond()))
}

fn wrong(text: &str) -> String {
    format!(
        "{text:?} must be a time such as 2026-01-31T08:00:00Z, milliseconds since 1970, `now`, or \
         a time back such as -7d"
    )
}

pub(super) fn run(args: &BacktestArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(&args.profile)
        .with_context(|| format!("cannot read {}", args.profile.display()))?;
    let profile = profile(&args.profile, &text)?;
    anyhow::ensure!(args.from < args.to, "--from must be before --to");
    // A server in the environment is no wish of this call.
    let wished = args.server.is_some() && args.server != std::env::var("BAKEN_SERVER").ok();
    anyhow::ensure!(!(wished && args.data.is_some()), "either --server or --data, not both");
    let result = match &args.data {
        Some(folder) => runtime(&crate::config::Config::default())?.block_on(offline(
            args,
            folder,
            profile.clone(),
        ))?,
        None => small_runtime()?.block_on(by_server(args, &text))?,
    };
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&result)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    shown::print(&profile.name, &result, output)?;
    Ok(ExitCode::SUCCESS)
}

/// The profile, or all that is wrong with it.
fn profile(path: &Path, text: &str) -> anyhow::Result<AlarmProfile> {
    let report = match parse_toml(text) {
        Ok(profile) => match check(&profile) {
            report if report.errors.is_empty() => return Ok(profile),
            report => report,
        },
        Err(report) => report,
    };
    let lines: Vec<String> = report
        .errors
        .iter()
        .map(|problem| format!("{}: {} ({})", problem.field, problem.message, problem.value))
        .collect();
    anyhow::bail!("{}: {}", path.display(), lines.join("; "))
}

/// Progress on a terminal, on one line.
struct Ticker {
    shows: bool,
}

impl Ticker {
    fn new() -> Self {
        Self { shows: std::io::stderr().is_terminal() }
    }

    fn show(&self, progress: ProgressShown) {
        if self.shows {
            let ProgressShown { share, readings, alarms } = progress;
            let line = format!("{:3.0} %  {readings} readings, {alarms} alarms", share * 100.0);
            // Who closed standard error does not want to know.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("\r{line:<60}").as_bytes(),
            );
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if self.shows {
            let _ = complain("");
        }
    }
}

async fn by_server(args: &BacktestArgs, text: &str) -> anyhow::Result<ResultShown> {
    let folder = std::env::var_os("BAKEN_DATA").unwrap_or_else(|| DEFAULT_FOLDER.into());
    let client = ApiClient::find(args.server.as_deref(), args.token.as_deref(), folder.as_ref())?;
    let tenant = match args.tenant {
        Some(tenant) => Some(tenant),
        None => only_tenant(&client).await,
    };
    let input = json!({
        "tenant": tenant,
        "profile": { "toml": text },
        "from": args.from,
        "to": args.to,
        "locations": args.location,
        "warm_up_ms": args.warm_up.map(|length| length.0),
    });
    let started: Shown =
        serde_json::from_value(client.post("/alarm-profiles/backtest", &input).await?)?;
    let path = format!("/alarm-profiles/backtests/{}", started.id);
    let ticker = Ticker::new();
    loop {
        let asked = tokio::select! {
            _ = tokio::signal::ctrl_c() => {
                client.delete(&path).await?;
                anyhow::bail!("interrupted; the backtest was cancelled");
            }
            asked = client.get(&path) => asked?,
        };
        let job: Shown = serde_json::from_value(asked)?;
        ticker.show(job.progress);
        match (job.status.as_str(), job.result) {
            ("running", _) => tokio::time::sleep(POLL).await,
            (_, Some(result)) => return Ok(result),
            (status, None) => {
                let why = job.error.unwrap_or_else(|| format!("it is {status}"));
                anyhow::bail!("the backtest has no result: {why}");
            }
        }
    }
}

/// The one tenant that there is; none where there are several, or where the
/// token is of a tenant that the server then knows.
async fn only_tenant(client: &ApiClient) -> Option<u64> {
    let tenants = client.get("/tenants?limit=2").await.ok()?;
    match tenants["items"].as_array().map(Vec::as_slice) {
        Some([only]) => only["id"].as_u64(),
        _ => None,
    }
}

async fn offline(
    args: &BacktestArgs,
    folder: &Path,
    profile: AlarmProfile,
) -> anyhow::Result<ResultShown> {
    let mut layers = Layers::default();
    if let Some(file) = &args.config {
        layers = layers.file(file);
    }
    let dir = folder.to_string_lossy();
    let config = layers.variables(std::env::vars()).flag("--data", "server.data_dir", &dir);
    let config = config.load()?.config;
    let open = Offline::open(&config).await?;
    let grace_ms = i64::from(config.alarms.grace_ms);
    let result = on_folder(args, &open, profile, grace_ms).await;
    open.close().await;
    result
}

async fn on_folder(
    args: &BacktestArgs,
    open: &Offline,
    profile: AlarmProfile,
    grace_ms: i64,
) -> anyhow::Result<ResultShown> {
    let tenant = open.tenant(args.tenant)?;
    let directory = open.store.directory();
    let locations: Vec<LocationId> = args.location.iter().copied().map(LocationId).collect();
    for location in &locations {
        let known = directory.location(*location).is_some_and(|found| found.tenant == tenant);
        anyhow::ensure!(known, "there is no location {location}");
    }
    let saved = open.store.alarms().profiles(Some(tenant), schema::ProfileId(0), 1_000).await?;
    let saved = saved.iter().find(|saved| saved.name == profile.name).map(|saved| saved.id);
    let query = BacktestQuery {
        tenant,
        profiles: vec![(saved.unwrap_or(DRAFT), profile)],
        from: args.from,
        to: args.to.min(TimestampMs(jiff::Timestamp::now().as_millisecond())),
        locations: (!locations.is_empty()).then_some(locations),
        warm_up_ms: args.warm_up.map(|length| length.0),
        compare_with: saved,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = BacktestOptions { threads: cores, in_background: false, grace_ms };
    let (control, ticker) = (Control::default(), Ticker::new());
    let work = backtest(&open.store, query, options, &control);
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => {
                ticker.show(control.progress().into());
                return match result {
                    Ok(outcome) => Ok(ResultShown::of(&outcome, directory)),
                    Err(BacktestError::Cancelled) => anyhow::bail!("interrupted"),
                    Err(error) => Err(error.into()),
                };
            }
            _ = tokio::signal::ctrl_c() => control.cancel(),
            () = tokio::time::sleep(POLL) => ticker.show(control.progress().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_in_four_forms() {
        assert_eq!(time("2026-01-31T08:00:00Z"), Ok(TimestampMs(1_769_846_400_000)));
        assert_eq!(time("1769846400000"), Ok(TimestampMs(1_769_846_400_000)));
        let (now, back) = (time("now").unwrap(), time("-1d12h").unwrap());
        let apart = now.0 - back.0 - 36 * 3_600_000;
        assert!((-60_000..=0).contains(&apart), "{apart}");
        for text in ["yesterday", "-x", "7d", ""] {
            assert!(time(text).unwrap_err().contains("must be a time"), "{text}");
        }
    }
}
