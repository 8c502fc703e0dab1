//! `baken demo`: a node with simulated routers, for a first look.

use std::path::PathBuf;
use std::process::ExitCode;

/// What `baken demo` takes.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// The folder that holds all
    #[arg(long, value_name = "DIR", env = "BAKEN_DATA", default_value = "demo-data")]
    data: PathBuf,
}

pub(crate) fn demo(args: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("there are no routers to simulate in {} yet", args.data.display())
}
