//! Removes what has expired: spans that are too old for every tenant whole, and
//! rows of tenants whose retention is shorter, some at a time.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use schema::TenantId;

use super::link::Link;
use super::shared::Shared;
use super::spans;
use super::time::Micros;
use crate::history::HistoryError;

/// Held by the one node that removes. The number is the text `keep` in ASCII.
const UPKEEP_LOCK: i64 = 0x6b_65_65_70;

/// Series whose rows are removed together.
const SERIES_AT_ONCE: i64 = 1_000;

/// How far a tenant's cutoff moves before its rows are looked at again: each
/// look asks for all of its series.
const STEP_MS: i64 = 3_600_000;

const TENANTS: &str = "SELECT DISTINCT tenant FROM series";
const SERIES: &str = "SELECT id FROM series WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
const EXPIRE: &str = "DELETE FROM readings r USING
       (SELECT series, observed_at FROM readings
         WHERE series = ANY($1) AND observed_at < $2 LIMIT $3) old
     WHERE r.series = old.series AND r.observed_at = old.observed_at";
const EXPIRE_ODD: &str = "DELETE FROM odd_readings r USING
       (SELECT series, observed_ms FROM odd_readings
         WHERE series = ANY($1) AND observed_ms < $2 LIMIT $3) old
     WHERE r.series = old.series AND r.observed_ms = old.observed_ms";

/// Up to where each tenant's rows were removed.
type Cleaned = HashMap<TenantId, i64>;

/// Runs until the history is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut cleaned = Cleaned::new();
    let interval = Duration::from_millis(shared.options.upkeep_interval_ms.max(1));
    loop {
        tokio::select! {
            () = shared.closing() => return,
            () = tokio::time::sleep(interval) => {}
            () = shared.retention_changed.notified() => {}
        }
        match once(&shared, false, &mut cleaned).await {
            Ok(0) => {}
            Ok(pieces) => tracing::info!(pieces, "readings that have expired were removed"),
            Err(error) => tracing::warn!(%error, "expired readings stay; tried again later"),
        }
    }
}

/// Removes all that has expired by now; gives the number of pieces of work.
pub(super) async fn all(shared: &Shared) -> Result<usize, HistoryError> {
    once(shared, true, &mut Cleaned::new()).await
}

/// `waits` is for another node that is at it; without it that is left to it.
async fn once(shared: &Shared, waits: bool, cleaned: &mut Cleaned) -> Result<usize, HistoryError> {
    let mut link = Link::connect(&shared.server, shared.runtime()).await?;
    if waits {
        link.client.execute("SELECT pg_advisory_lock($1)", &[&UPKEEP_LOCK]).await?;
    } else {
        let lock = "SELECT pg_try_advisory_lock($1)";
        if !link.client.query_one(lock, &[&UPKEEP_LOCK]).await?.try_get::<_, bool>(0)? {
            return Ok(0);
        }
    }
    // The lock goes with the connection.
    let tenants = link.client.query(TENANTS, &[]).await?;
    let mut cutoffs = Vec::with_capacity(tenants.len());
    for row in tenants {
        let tenant = TenantId(row.try_get::<_, i64>(0)?.cast_unsigned());
        cutoffs.push((tenant, shared.cutoff(tenant)));
    }
    let mut pieces = 0;
    // A tenant that keeps all keeps every span.
    let longest = cutoffs.iter().map(|(_, cutoff)| *cutoff).min().unwrap_or(i64::MIN);
    if longest > i64::MIN {
        let dropped = spans::drop_before(&mut link.client, longest, shared.is_timescale).await?;
        if dropped > 0 {
            shared.forget_spans();
        }
        pieces += dropped;
    }
    for (tenant, cutoff) in cutoffs {
        let is_due =
            cleaned.get(&tenant).is_none_or(|done| cutoff.abs_diff(*done) >= STEP_MS as u64);
        if cutoff == i64::MIN || !is_due || shared.is_closed() {
            continue;
        }
        pieces += expire(shared, &mut link, tenant, cutoff).await?;
        cleaned.insert(tenant, cutoff);
    }
    Ok(pieces)
}

/// Removes a tenant's rows before a time.
async fn expire(
    shared: &Shared,
    link: &mut Link,
    tenant: TenantId,
    cutoff: i64,
) -> Result<usize, HistoryError> {
    let series = link.statements.get(&link.client, SERIES).await?;
    let expire = link.statements.get(&link.client, EXPIRE).await?;
    let expire_odd = link.statements.get(&link.client, EXPIRE_ODD).await?;
    let most = i64::try_from(shared.options.expire_rows.max(1)).unwrap_or(i64::MAX);
    let before = Micros::bound(cutoff);
    let (mut after, mut pieces) = (i64::MIN, 0);
    loop {
        let tenant = tenant.0.cast_signed();
        let rows = link.client.query(&series, &[&tenant, &after, &SERIES_AT_ONCE]).await?;
        let ids: Vec<i64> =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, tokio_postgres::Error>>()?;
        let Some(last) = ids.last() else { return Ok(pieces) };
        after = *last;
        loop {
            let mut gone = link.client.execute(&expire, &[&ids, &before, &most]).await?;
            gone += link.client.execute(&expire_odd, &[&ids, &cutoff, &most]).await?;
            shared.metrics.expired.inc_by(gone);
            pieces += usize::from(gone > 0);
            if gone == 0 {
                break;
            }
        }
    }
}
