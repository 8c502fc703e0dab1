//! `baken serve`: a node in the foreground until it is told to stop.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::ServeArgs;
use crate::config::Config;
use crate::logging;
use crate::node::Node;

pub(super) fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let loaded = args.config.load()?;
    logging::start(&loaded.config.log)?;
    let runtime = runtime(&loaded.config)?;
    let code = runtime.block_on(run(loaded.config, args))?;
    // What is still running by now had its time; the process ends.
    runtime.shutdown_background();
    Ok(code)
}

/// The runtime of a node.
pub(crate) fn runtime(config: &Config) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_name("baken");
    if config.server.worker_threads > 0 {
        builder.worker_threads(config.server.worker_threads as usize);
    }
    builder.build()
}

/// Who waits for the file never sees half of it.
fn write_whole(file: &Path, text: &str) -> std::io::Result<()> {
    let mut fresh = file.as_os_str().to_owned();
    fresh.push(".new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, file)
}

async fn run(config: Config, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    // Before the node, so that a signal while it starts isn't lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let patience = Duration::from_millis(config.server.shutdown_timeout_ms);
    let node = Node::start(config).await?;
    if let Some(file) = &args.ready_file {
        write_whole(file, &serde_json::to_string(&node.run_file())?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => node.reload_tls(),
        }
    }
    tracing::info!("stopping; a second signal ends the process at once");
    let stop = async {
        node.drain().await;
        tokio::time::timeout(patience, node.stop()).await
    };
    tokio::select! {
        stopped = stop => match stopped {
            Ok(()) => {
                tracing::info!("stopped");
                Ok(ExitCode::SUCCESS)
            }
            Err(_) => {
                tracing::error!(?patience, "not all was stopped in time; what was acknowledged is on disk");
                Ok(ExitCode::FAILURE)
            }
        },
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}
