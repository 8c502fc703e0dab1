//! The nodes of a cluster: processes with folders and ports of their own, which
//! share a topic, a database and a secret.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::connect::Target;
use crate::node::Node;
use crate::options::ClusterOptions;
use crate::services::Services;
use crate::subject::Subject;

/// Copies of a partition at most, and how many must have a record.
const REPLICAS: u32 = 3;

/// Starts the nodes one after another; the first makes topic, tables and token.
///
/// # Errors
/// If one doesn't come up.
pub async fn start(
    options: &ClusterOptions,
    services: &Services,
    baken: &Path,
) -> anyhow::Result<Subject> {
    let replicas = options.brokers.min(REPLICAS);
    let journal = format!(
        "kafka://{}/readings?partitions={}&replication_factor={replicas}&min_insync_replicas={}",
        services.kafka(),
        options.partitions,
        replicas.div_ceil(2)
    );
    let (mut nodes, mut apis) = (Vec::new(), Vec::new());
    let mut shared: Option<(PathBuf, String)> = None;
    for number in 1..=options.nodes {
        let name = format!("node-{number}");
        let mut node = Node::prepare(baken, options.keep, false)?.named(&name);
        let secret = match &shared {
            Some((secret, _)) => secret.clone(),
            None => node.make_secret()?,
        };
        node.set(vec![
            ("BAKEN_SERVER__NODE", name),
            ("BAKEN_SERVER__SECRET_FILE", secret.display().to_string()),
            ("BAKEN_JOURNAL__URL", journal.clone()),
            ("BAKEN_STORE__URL", services.postgres().to_owned()),
        ]);
        node.start()?;
        node.answers().await?;
        let token = match &shared {
            Some((_, token)) => token.clone(),
            None => node.token()?,
        };
        apis.push(node.api(&token)?);
        shared = Some((secret, token));
        nodes.push(node);
    }
    let mut addresses = nodes.iter().map(Node::mqtt);
    let first = addresses.next().context("--nodes must be at least 1")?;
    let target = Target { others: addresses.collect(), ..Target::new(first, None) };
    Ok(Subject::of(nodes, apis, target))
}
