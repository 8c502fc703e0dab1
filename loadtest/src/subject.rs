//! The server that a run is about: one that was started for it, or several nodes
//! of one installation; one that runs already; or any broker that has no API of
//! ours.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::alarms;
use crate::api::Api;
use crate::connect::{Target, tls_from_ca};
use crate::distribution::Buckets;
use crate::node::Node;
use crate::options::ServerOptions;
use crate::usage::{self, Usage};

/// A server that answers.
#[derive(Debug)]
pub struct Subject {
    /// Those that were started here.
    pub nodes: Vec<Node>,
    /// None for a broker that has no API of ours.
    pub api: Option<Api>,
    /// Those of the other nodes.
    pub other_apis: Vec<Api>,
    pub target: Target,
    pid: Option<u32>,
}

impl Subject {
    /// Starts the server, or finds the one that is named.
    ///
    /// # Errors
    /// If it isn't there, or the options contradict one another.
    pub async fn open(options: &ServerOptions) -> anyhow::Result<Self> {
        let Some(address) = options.mqtt else {
            let baken = baken(options.baken.as_deref())?;
            return Self::start(&baken, options.keep, options.tls).await;
        };
        let tls = match (&options.ca, options.tls) {
            (Some(ca), true) => Some(tls_from_ca(ca, &options.tls_name)?),
            (None, true) => bail!("--tls needs --ca, to know whom to trust"),
            (_, false) => None,
        };
        let api = match (&options.server, &options.token) {
            (Some(server), Some(token)) => Some(Api::new(server, token)?),
            (Some(_), None) => bail!("--server needs --token"),
            (None, _) => None,
        };
        let target = Target::new(address, tls);
        let (nodes, other_apis) = (Vec::new(), Vec::new());
        Ok(Self { nodes, api, other_apis, target, pid: options.server_pid })
    }

    /// Starts a server in a folder of its own.
    ///
    /// # Errors
    /// If it doesn't come up.
    pub async fn start(baken: &Path, keep: bool, tls: bool) -> anyhow::Result<Self> {
        Self::start_with(baken, keep, tls, Vec::new()).await
    }

    /// As [`Subject::start`], with settings as environment variables.
    ///
    /// # Errors
    /// If it doesn't come up.
    pub async fn start_with(
        baken: &Path,
        keep: bool,
        tls: bool,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let mut node = Node::prepare(baken, keep, tls)?;
        node.set(settings);
        node.start()?;
        let api = node.live().await?;
        let tls = match node.certificate() {
            Some(ca) => Some(tls_from_ca(ca, &node.mqtt().ip().to_string())?),
            None => None,
        };
        let target = Target::new(node.mqtt(), tls);
        Ok(Self::of(vec![node], vec![api], target))
    }

    /// Nodes that were started here and serve one installation, and the API of
    /// each.
    #[must_use]
    pub fn of(nodes: Vec<Node>, apis: Vec<Api>, target: Target) -> Self {
        let mut apis = apis.into_iter();
        Self { nodes, api: apis.next(), other_apis: apis.collect(), target, pid: None }
    }

    /// The server, where it is one and was started here.
    ///
    /// # Errors
    /// If it was not started here.
    pub fn node(&mut self) -> anyhow::Result<&mut Node> {
        self.nodes.first_mut().context("the server was not started here")
    }

    /// Whether all that were started here, and not killed, still run.
    ///
    /// # Errors
    /// If one has ended by itself; with its own last words.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().filter(|node| node.is_started()).try_for_each(Node::check_alive)
    }

    /// How long alarms took by now, on all nodes.
    ///
    /// # Errors
    /// If a node doesn't answer or has no such metric.
    pub async fn time_to_alarm(&self) -> anyhow::Result<Buckets> {
        let mut all = Buckets::default();
        for api in self.api.iter().chain(&self.other_apis) {
            all.add(&alarms::time_to_alarm(api).await?);
        }
        Ok(all)
    }

    /// What the server has used; none where it can't be known.
    ///
    /// # Errors
    /// If its process is gone or its metrics don't answer.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub async fn usage(&self) -> anyhow::Result<Option<Usage>> {
        if !self.nodes.is_empty() {
            return Ok(Some(self.nodes.iter().map(Node::usage).sum()));
        }
        if let Some(pid) = self.pid {
            return Ok(Some(usage::of(pid)?));
        }
        let Some(api) = &self.api else { return Ok(None) };
        Ok(Some(Usage {
            cpu_us: (api.metric("process_cpu_seconds_total").await? * 1e6) as u64,
            rss_bytes: api.metric("process_resident_memory_bytes").await? as u64,
        }))
    }

    /// Stops the server in order, if it was started here.
    ///
    /// # Errors
    /// If it ends with a fault.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.stop().await
    }

    /// As [`Subject::close`], for a server that is to start again.
    ///
    /// # Errors
    /// If a node ends with a fault; the others are stopped too.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let mut stopped = Ok(());
        for node in &mut self.nodes {
            stopped = stopped.and(node.stop().await);
        }
        stopped
    }
}

/// The program to start: the one named, or `baken` beside this one.
///
/// # Errors
/// If there is none.
pub fn baken(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let beside = std::env::current_exe()?.with_file_name("baken");
    ensure!(beside.exists(), "there is no {}; name one by --baken", beside.display());
    beside.canonicalize().context("the server's program can't be found")
}
