//! `baken backup` and `baken restore`: of a node that runs by asking it, of a
//! folder at rest in this process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::output::{Output, complain};
use super::{ConfigArgs, runtime, small_runtime};
use crate::backup::{Manifest, Progress, check, default_name, restore};
use crate::client::ApiClient;
use crate::config::Config;
use crate::folder::{DataFolder, FolderError};
use crate::logging;
use crate::offline;

/// How often it is looked how far the work is.
const POLL: Duration = Duration::from_millis(250);

/// How often that is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Back up a node's folder, whether the node runs or not
///
/// A node that runs takes the backup itself, below its `backup.folder`, and goes on
/// meanwhile; the admin token of the folder, or --token, must open the whole
/// installation. Files that the newest backup in the same folder has as they are
/// share its room on the disk. The backup holds the installation's secret: whoever
/// can read it can read all.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The backup's folder, which is made; of a node that runs it is one below its
    /// `backup.folder`. By default one there that is called by the time
    #[arg(long, value_name = "FOLDER", conflicts_with = "check")]
    to: Option<PathBuf>,
    /// Instead: look whether a backup is whole
    #[arg(long, value_name = "FOLDER")]
    check: Option<PathBuf>,
    /// A bearer token for the node that runs; by default the admin token in --data
    #[arg(long, env = "BAKEN_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    token: Option<String>,
}

/// Make a node's folder of a backup
///
/// All of the backup is looked through before anything is written.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "FOLDER")]
    from: PathBuf,
    /// The node's folder, which must be empty or not there
    #[arg(long, value_name = "DIR", env = "BAKEN_DATA")]
    data: PathBuf,
}

pub(super) fn run(args: &BackupArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &args.check {
        let progress = Progress::default();
        let manifest = watched(&progress, || check(folder, &progress))?;
        told(output, &format!("{} is whole", folder.display()), &manifest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut loaded = args.config.load()?;
    if !loaded.sources.contains_key("log.level") {
        loaded.config.log.level = "warn".to_owned();
    }
    let config = loaded.config;
    logging::start(&config.log)?;
    offline::check_folder(&config)?;
    match DataFolder::open(&config.server.data_dir) {
        Err(FolderError::InUse { .. }) => small_runtime()?.block_on(by_node(args, &config, output)),
        Err(error) => Err(error.into()),
        Ok(folder) => at_rest(args, &config, folder, output),
    }?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run_restore(args: &RestoreArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let progress = Progress::default();
    let manifest = watched(&progress, || restore(&args.from, &args.data, &progress))?;
    told(output, &format!("{} is restored", args.data.display()), &manifest)?;
    if manifest.secret_is_elsewhere {
        output.line(
            "The node's configuration named a secret outside of the folder (server.secret_file), \
             which is not in the backup.",
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn told(output: &mut Output, what: &str, manifest: &Manifest) -> anyhow::Result<()> {
    let begun_at = jiff::Timestamp::from_millisecond(manifest.begun_at)?;
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    output.line(&format!(
        "{what}: {files} files, {bytes} bytes, as of {begun_at}, by Baken {}.",
        manifest.version
    ))?;
    Ok(())
}

/// Runs work on this thread and tells meanwhile how far it is.
fn watched<T, E>(progress: &Progress, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let (ended, waits) = std::sync::mpsc::sync_channel::<()>(0);
    let watched = progress.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while waits.recv_timeout(TELL_EVERY) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let (step, bytes, total) = watched.now();
                // Nobody reads it any more; the work goes on.
                let _ = complain(&format!("{step}: {bytes} of {total} bytes"));
            }
        });
        let done = work();
        drop(ended);
        done
    })
}

/// A folder that no node has open.
fn at_rest(
    args: &BackupArgs,
    config: &Config,
    folder: DataFolder,
    output: &mut Output,
) -> anyhow::Result<()> {
    let target = match (&args.to, config.backup.folder.as_os_str().is_empty()) {
        (Some(to), _) => to.clone(),
        (None, false) => config.backup.folder.join(default_name()),
        (None, true) => {
            anyhow::bail!("`backup.folder` is not set, so --to must say where the backup is to go")
        }
    };
    crate::install_crypto();
    let runtime = runtime(config)?;
    let progress = Progress::default();
    let taken = watched(&progress, || {
        runtime.block_on(offline::back_up(config, folder, target.clone(), progress.clone()))
    });
    runtime.shutdown_background();
    told(output, &format!("{} is taken", target.display()), &taken?)
}

/// The node that has the folder open takes it.
async fn by_node(args: &BackupArgs, config: &Config, output: &mut Output) -> anyhow::Result<()> {
    let client = ApiClient::find(None, args.token.as_deref(), &config.server.data_dir)?;
    let name = match &args.to {
        Some(to) => Some(name_below(to, &client.get("/backups").await?)?),
        None => None,
    };
    let begun = client.post("/backups", &json!({ "name": name })).await?;
    let name = begun["name"].clone();
    let mut told_at = tokio::time::Instant::now();
    let answer = loop {
        tokio::time::sleep(POLL).await;
        let answer = client.get("/backups").await?;
        if answer["running"]["name"] != name {
            break answer;
        }
        if told_at.elapsed() >= TELL_EVERY {
            told_at = tokio::time::Instant::now();
            let (bytes, total) = (&answer["running"]["bytes"], &answer["running"]["total_bytes"]);
            complain(&format!("{bytes} of {total} bytes"))?;
        }
    };
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = &answer["last"];
    if last["name"] == name
        && let Some(failure) = last["failure"].as_str()
    {
        anyhow::bail!("the node could not take the backup: {failure}");
    }
    let taken = items.iter().find(|item| item["name"] == name && item["problem"].is_null());
    let taken =
        taken.with_context(|| format!("the node has not taken {name}; its log says why"))?;
    let folder = Path::new(answer["folder"].as_str().unwrap_or_default());
    let path = folder.join(name.as_str().unwrap_or_default());
    output.line(&format!(
        "{} is taken: {} files, {} bytes.",
        path.display(),
        taken["files"],
        taken["bytes"]
    ))?;
    Ok(())
}

/// The name of a folder that is directly below the node's folder of backups.
fn name_below(to: &Path, answer: &Value) -> anyhow::Result<String> {
    let Some(folder) = answer["folder"].as_str() else {
        anyhow::bail!(
            "the node runs, and its `backup.folder` is not set: set it and restart the node, or \
             stop the node first"
        );
    };
    let wrong = || {
        format!(
            "--to is {}, but the node runs, and its backups go to a folder directly below its \
             `backup.folder`, {folder}",
            to.display()
        )
    };
    let name = to.file_name().and_then(|name| name.to_str()).with_context(wrong)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    anyhow::ensure!(real(parent) == real(Path::new(folder)), wrong());
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_directly_below_the_nodes_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let answer = json!({ "folder": folder.path() });
        assert_eq!(name_below(&folder.path().join("one"), &answer).unwrap(), "one");
        for to in [folder.path().join("one/two"), PathBuf::from("/"), PathBuf::from("one")] {
            let error = name_below(&to, &answer).unwrap_err().to_string();
            assert!(error.contains("directly below its `backup.folder`"), "{error}");
        }
        let error = name_below(Path::new("/x"), &json!({})).unwrap_err().to_string();
        assert!(error.contains("`backup.folder` is not set"), "{error}");
    }
}
