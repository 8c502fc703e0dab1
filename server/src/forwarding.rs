//! How forwarders are put into a node: what opens their secrets, and who hears
//! of those that are in trouble.

use std::sync::Arc;
use std::time::Duration;

use alarms::{AlarmWorkers, CommandError};
use anyhow::Context as _;
use forwarders::engine::Unseal;
use forwarders::{Forwarders, Trouble};
use journal::Journal;
use prometheus::Registry;
use schema::Severity;
use store::Store;
use tokio::sync::mpsc;

use crate::config::{Config, Role};
use crate::secret::Secret;

/// Troubles that wait to be heard of; forwarders that find no room tell theirs
/// a second later.
const TROUBLES: usize = 1_024;

/// Opens forwarders' secrets with the installation's.
fn unseal(secret: &Secret) -> Unseal {
    let secret = secret.clone();
    Arc::new(move |context, sealed| secret.unseal(context, sealed).ok())
}

/// Starts the forwarders, where the node has the role; their troubles come out of the channel.
pub(crate) async fn start(
    config: &Config,
    secret: &Secret,
    journal: &Journal,
    store: &Store,
    registry: &Registry,
) -> anyhow::Result<(Forwarders, mpsc::Receiver<Trouble>)> {
    let (troubles, heard) = mpsc::channel(TROUBLES);
    let options = config.forwarders.options();
    if !config.server.roles.has(Role::Forwarders) {
        return Ok((Forwarders::elsewhere(store, unseal(secret), &options), heard));
    }
    let forwarders =
        Forwarders::start(journal, store, unseal(secret), troubles, &options, registry)
            .await
            .context("cannot start the forwarders")?;
    Ok((forwarders, heard))
}

/// How long an alarm that could not be told waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Makes each trouble a system alarm of its tenant, and clears it when the
/// forwarder is well again, until the forwarders end.
pub(crate) async fn listen(mut troubles: mpsc::Receiver<Trouble>, alarms: Arc<AlarmWorkers>) {
    while let Some(trouble) = troubles.recv().await {
        while let Err(error) = tell(&alarms, &trouble).await {
            tracing::warn!(%error, forwarder = trouble.forwarder, "an alarm is told again");
            if !error.is_retryable() {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn tell(alarms: &AlarmWorkers, trouble: &Trouble) -> Result<(), CommandError> {
    let Trouble { tenant, forwarder, name, reason, .. } = trouble;
    let description = match reason {
        Some(reason) => format!("Forwarder {name} sends nothing: {reason}"),
        None => format!("Forwarder {name} sends again"),
    };
    let values = vec![
        ("forwarder".into(), (*forwarder).into()),
        ("name".into(), name.as_str().into()),
        ("reason".into(), reason.as_deref().unwrap_or_default().into()),
    ];
    let key = format!("forwarder_failing/{forwarder}");
    let is_active = reason.is_some();
    alarms
        .commands()
        .tenant_alarm(*tenant, key, is_active, Severity::Major, description, values)
        .await
}
