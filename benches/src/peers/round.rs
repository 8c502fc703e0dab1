//! One round: a server is started, loaded, drained and ended.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use loadtest::course::CONNECT_DEADLINE;
use loadtest::fleet::Fleet;
use loadtest::packets::{QoS, Version};
use loadtest::plan::Plan;
use loadtest::publisher::Load;
use loadtest::shared::counted;
use loadtest::swing::Swing;
use loadtest::usage;
use schema::TimestampMs;
use serde::Serialize;

use crate::Options;
use crate::contender::{Consumed, Contender, Kind};

/// How long the last PUBACKs may take after the load.
const DRAIN: Duration = Duration::from_secs(60);
/// How long before now the first reading was: a millisecond apart, they never
/// come to lie in the future.
const AGE_MS: i64 = 86_400_000;

/// The figures of a round.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub kind: Kind,
    /// Messages acknowledged a second, after the warm-up.
    pub rate_per_s: f64,
    /// Processor time of the server's process for each acknowledged message,
    /// until its consumer or its history has all of them.
    pub server_cpu_us_per_message: f64,
    /// The same until the load ended.
    pub server_cpu_us_per_message_under_load: f64,
    /// Of the load generator; with mosquitto its subscriber included.
    pub loadtest_cpu_us_per_message: f64,
    pub puback_p50_ms: f64,
    pub puback_p99_ms: f64,
    pub acknowledged: u64,
    /// Acknowledged messages that reached the consumer; Baken's are in its
    /// journal and its history.
    pub consumed: u64,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<31} {:>8.0}/s  {:>6.2} µs/message ({:.2} under load)  load test {:.2} µs  \
             p99 {:.1} ms  consumed {} of {}",
            self.kind.to_string(),
            self.rate_per_s,
            self.server_cpu_us_per_message,
            self.server_cpu_us_per_message_under_load,
            self.loadtest_cpu_us_per_message,
            self.puback_p99_ms,
            self.consumed,
            self.acknowledged
        )
    }
}

/// Plays one round.
#[allow(clippy::cast_precision_loss, reason = "counts of a round fit a double")]
pub async fn play(kind: Kind, options: &Options) -> anyhow::Result<Round> {
    let plan = plan(options.keys)?;
    let mut contender = Contender::start(kind, options, &plan).await?;
    let load = Load {
        plan: plan.clone(),
        version: Version::V311,
        qos: QoS::AtLeastOnce,
        window: options.window,
        interval_us: 0.0,
        messages_per_connection: None,
    };
    let fleet = Fleet::start(load, contender.target.clone(), contender.logins.clone());
    fleet.connected(CONNECT_DEADLINE).await?;
    let (cpu_before_us, own_before_us) = (contender.cpu_us().await?, usage::own()?.cpu_us);
    let shared = std::sync::Arc::clone(fleet.shared());
    let acknowledged = || counted(&shared.counters.acknowledged);

    fleet.begin();
    tokio::time::sleep(Duration::from_secs_f64(options.warm_up_s)).await;
    let (from, messages_before) = (Instant::now(), acknowledged());
    tokio::time::sleep(Duration::from_secs_f64(options.seconds)).await;
    let rate_per_s = (acknowledged() - messages_before) as f64 / from.elapsed().as_secs_f64();
    let loaded = acknowledged();
    let cpu_loaded_us = contender.cpu_us().await? - cpu_before_us;
    let own_us = usage::own()?.cpu_us - own_before_us;
    ensure!(loaded > 0, "nothing was acknowledged: {:?}", shared.reasons());

    let outcome = fleet.drain(DRAIN).await?;
    ensure!(counted(&shared.counters.breaks) == 0, "broken: {:?}", shared.reasons());
    let all: u64 = outcome.ledgers.iter().map(|ledger| ledger.acknowledged()).sum();
    let consumed = match contender.consumed(&plan, outcome.ledgers).await? {
        Consumed::Delivered(messages) => messages,
        Consumed::Stored { complete } => {
            ensure!(complete, "the history did not catch up");
            all
        }
    };
    let cpu_us = contender.cpu_us().await? - cpu_before_us;
    contender.stop().await?;
    let latency = shared.latency();
    Ok(Round {
        kind,
        rate_per_s,
        server_cpu_us_per_message: cpu_us as f64 / all as f64,
        server_cpu_us_per_message_under_load: cpu_loaded_us as f64 / loaded as f64,
        loadtest_cpu_us_per_message: own_us as f64 / loaded as f64,
        puback_p50_ms: latency.p50_ms,
        puback_p99_ms: latency.p99_ms,
        acknowledged: all,
        consumed,
    })
}

fn plan(keys: u32) -> anyhow::Result<Plan> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let now_ms = i64::try_from(now.as_millis()).context("a time of this age")?;
    Ok(Plan {
        live_base: TimestampMs(now_ms - AGE_MS),
        buffered_base: TimestampMs(now_ms - 2 * AGE_MS),
        keys,
        times_per_message: 1,
        devices_behind: 0,
        buffered_every: 0,
        times_per_batch: 1,
        swing: Swing::default(),
    })
}
