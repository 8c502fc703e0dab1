//! Reads all back by the API and lets the audit judge it.

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::StreamReader;
use schema::TimestampMs;
use tokio::task::JoinSet;

use crate::api::{Api, Range};
use crate::audit::{SeriesAudit, SeriesName, Verdict};
use crate::ledger::Ledger;
use crate::plan::{Lane, Plan};
use crate::swing;
use crate::template::key_name;
use crate::transitions::Watched;
use crate::values::{self, Stored};

/// Series that are read at the same time.
const READERS: usize = 4;
/// How often the server is asked whether its history has caught up.
const LOOK: Duration = Duration::from_millis(50);
/// How long a message that was never acknowledged may take to show.
const MAYBE_NEVER: Duration = Duration::from_secs(10);
/// Series whose number of readings is also asked for as an aggregate, which the
/// server computes in another way than it gives rows.
const COUNTED_SERIES: usize = 64;

/// All that a run leaves to be judged.
#[derive(Debug)]
pub struct Evidence {
    pub plan: Plan,
    /// One for each connection.
    pub ledgers: Vec<Ledger>,
    /// The ids of each connection's devices; none for one that the server
    /// doesn't know.
    pub devices: Vec<Vec<Option<u64>>>,
}

/// What came of reading all back.
#[derive(Debug, Default)]
pub struct Judged {
    pub verdict: Verdict,
    /// What alarms the stored readings must have raised, where a profile watches
    /// the load.
    pub watched: Vec<Watched>,
}

/// How the history came to have all that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct CaughtUp {
    /// From the end of the load on.
    pub after: Duration,
    /// Whether it did so before the deadline.
    pub complete: bool,
}

impl Evidence {
    /// Waits until queries show the last acknowledged message of every
    /// connection; a router's messages are recorded in their order, so all
    /// before it are there too. Where nothing was acknowledged (QoS 0) it waits
    /// for the last one offered, which may never come.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub async fn catch_up(&self, api: &Api, deadline: Duration) -> anyhow::Result<CaughtUp> {
        let started = Instant::now();
        let mut complete = true;
        for (ledger, devices) in self.ledgers.iter().zip(&self.devices) {
            let Some(message) = last_acknowledged(ledger).or(ledger.offered().checked_sub(1))
            else {
                continue;
            };
            let message = self.plan.message(message);
            let Some(device) = devices[message.device as usize] else { continue };
            let from_ms = self.plan.time_of(message.lane, message.first).0;
            let range = Range { device, key: &key_name(0), from_ms, to_ms: from_ms + 1 };
            while !api.has_reading(range).await? {
                let patience =
                    if ledger.acknowledged() > 0 { deadline } else { deadline.min(MAYBE_NEVER) };
                if started.elapsed() > patience {
                    complete = false;
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(CaughtUp { after: started.elapsed(), complete })
    }

    /// Reads every series and judges it.
    ///
    /// # Errors
    /// If the server doesn't answer, or not in the form of its contract.
    pub async fn judge(self: Arc<Self>, api: &Api) -> anyhow::Result<Judged> {
        let mut judged = Judged::default();
        let mut readers = JoinSet::new();
        for (counted, name) in self.series().into_iter().enumerate() {
            if readers.len() >= READERS {
                collect(&mut readers, &mut judged).await?;
            }
            let (evidence, api) = (Arc::clone(&self), api.clone());
            let counts = counted < COUNTED_SERIES;
            readers.spawn(async move { evidence.judge_series(&api, name, counts).await });
        }
        while !readers.is_empty() {
            collect(&mut readers, &mut judged).await?;
        }
        Ok(judged)
    }

    fn series(&self) -> Vec<SeriesName> {
        let connections = 0..u32::try_from(self.ledgers.len()).unwrap_or(u32::MAX);
        connections
            .flat_map(|connection| {
                (0..self.plan.devices()).flat_map(move |device| {
                    (0..self.plan.keys).map(move |key| SeriesName { connection, device, key })
                })
            })
            .collect()
    }

    async fn judge_series(
        &self,
        api: &Api,
        name: SeriesName,
        counts: bool,
    ) -> anyhow::Result<Judged> {
        let ledger = &self.ledgers[name.connection as usize];
        let mut audit = SeriesAudit::new(&self.plan, ledger, name);
        let Some(device) = self.devices[name.connection as usize][name.device as usize] else {
            return Ok(Judged { verdict: audit.finish(), watched: Vec::new() });
        };
        let key = key_name(name.key);
        let range = Range { device, key: &key, from_ms: 0, to_ms: self.end_ms(ledger) };
        let mut cursor: Option<String> = None;
        loop {
            let page = api.page(range, cursor.as_deref()).await?;
            for batch in StreamReader::try_new(Cursor::new(page.arrow), None)? {
                rows(&batch?, &mut audit).with_context(|| name.to_string())?;
            }
            match page.next {
                Some(next) if Some(&next) == cursor.as_ref() => bail!("{name}: a page again"),
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        let mut watched = Vec::new();
        if self.plan.swing.watches(name.key) {
            let (rule, expected) = (swing::rule_name(name.key), audit.expected());
            watched.push(Watched { name, device, rule, expected });
        }
        let mut verdict = audit.finish();
        // Text has no place in an aggregate.
        if counts && values::is_numeric(name.key) {
            let count = api.count(range).await?;
            verdict.compare_count(name, count);
        }
        Ok(Judged { verdict, watched })
    }

    /// Behind all that a connection may have offered.
    fn end_ms(&self, ledger: &Ledger) -> i64 {
        let times = ledger.offered() * u64::from(self.plan.times_per_message.max(1));
        self.plan.time_of(Lane::Live, times + 1).0
    }
}

fn last_acknowledged(ledger: &Ledger) -> Option<u64> {
    (0..ledger.offered()).rev().find(|&message| ledger.is_acknowledged(message))
}

async fn collect(
    readers: &mut JoinSet<anyhow::Result<Judged>>,
    all: &mut Judged,
) -> anyhow::Result<()> {
    if let Some(judged) = readers.join_next().await {
        let judged = judged.context("a reader fell over")??;
        all.verdict.add(judged.verdict);
        all.watched.extend(judged.watched);
    }
    Ok(())
}

/// Hands the rows of a page to the audit.
fn rows(batch: &RecordBatch, audit: &mut SeriesAudit<'_>) -> anyhow::Result<()> {
    let column = |name| {
        batch.column_by_name(name).with_context(|| format!("no column `{name}` in the answer"))
    };
    let times = column("ts")?
        .as_primitive_opt::<TimestampMillisecondType>()
        .context("`ts` is no timestamp in milliseconds")?;
    let numbers = column("number")?.as_primitive_opt::<Float64Type>();
    let integers = column("integer")?.as_primitive_opt::<Int64Type>();
    let booleans = column("boolean")?.as_boolean_opt();
    let texts = column("text")?.as_string_opt::<i32>();
    let jsons = column("json")?.as_string_opt::<i32>();
    let (Some(numbers), Some(integers), Some(booleans), Some(texts), Some(jsons)) =
        (numbers, integers, booleans, texts, jsons)
    else {
        bail!("the answer's columns have other types: {}", batch.schema());
    };
    for row in 0..batch.num_rows() {
        let stored = if numbers.is_valid(row) {
            Stored::Number(numbers.value(row))
        } else if integers.is_valid(row) {
            Stored::Integer(integers.value(row))
        } else if booleans.is_valid(row) {
            Stored::Boolean(booleans.value(row))
        } else if texts.is_valid(row) {
            Stored::Text(texts.value(row))
        } else if jsons.is_valid(row) {
            Stored::Json(jsons.value(row))
        } else {
            bail!("a row has no value");
        };
        audit.row(TimestampMs(times.value(row)), stored);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
