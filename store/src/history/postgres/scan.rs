//! A bulk scan over PostgreSQL. It goes through time in slices whose width
//! follows how many readings there are, so that the server never sorts much at
//! once, and reads each by a cursor, so that memory here is bounded whatever a
//! slice holds. One scan sees one moment; two scans of a view need not see the
//! same.

use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashMap;
use schema::{TenantId, TimestampMs, Value};
use tokio_postgres::{IsolationLevel, Row as SqlRow, Statement, Transaction};

use super::link::{Lease, Link};
use super::shared::Shared;
use super::time::Micros;
use super::values::{Stored, observed_at, push, value};
use crate::history::rows::Rows;
use crate::history::{HistoryError, MAX_SCAN_SERIES, ScanDevice, ScanGroup, ScanQuery};

/// Series that are looked up by one statement.
const NAMES_AT_ONCE: usize = 20_000;
/// The width of the first slice, and of that behind a gap.
const FIRST_WIDTH_MS: i64 = 60_000;
/// Readings that a slice is to have, about: what the server sorts in memory.
const SLICE_ROWS: usize = 100_000;
/// A slice is at most so many times as wide as the one before.
const MAX_GROWTH: i64 = 8;
/// Bytes of a reading in memory, about.
const ROW_BYTES: usize = 64;
/// Readings of one step of the cursor at most.
const MOST_ROWS: usize = 16_384;

const FIND: &str = "SELECT n.place, s.id, s.tenant
     FROM unnest($1::bigint[], $2::text[], $3::boolean[]) WITH ORDINALITY
          AS n (device, key, escaped, place)
     JOIN series s ON s.device = n.device AND s.key = n.key AND s.escaped = n.escaped";
const SLICE: &str =
    "SELECT r.series, r.observed_at, r.number, r.integer, r.boolean, r.escaped, r.text, r.json
     FROM unnest($1::bigint[], $2::timestamptz[]) AS w (series, since)
     JOIN readings r ON r.series = w.series AND r.observed_at >= w.since
    WHERE r.observed_at >= $3 AND r.observed_at < $4
    ORDER BY r.observed_at";
const SLICE_ODD: &str =
    "SELECT r.series, r.observed_ms, r.number, r.integer, r.boolean, r.escaped, r.text, r.json
     FROM unnest($1::bigint[], $2::bigint[]) AS w (series, since)
     JOIN odd_readings r ON r.series = w.series AND r.observed_ms >= w.since
    WHERE r.observed_ms >= $3 AND r.observed_ms < $4";
const NEXT: &str =
    "SELECT min(n.at) FROM unnest($1::bigint[], $2::timestamptz[]) AS w (series, since),
     LATERAL (SELECT r.observed_at AS at FROM readings r
               WHERE r.series = w.series AND r.observed_at >= w.since
                 AND r.observed_at >= $3 AND r.observed_at < $4
               ORDER BY r.observed_at LIMIT 1) n";
const NEXT_ODD: &str =
    "SELECT min(n.at) FROM unnest($1::bigint[], $2::bigint[]) AS w (series, since),
     LATERAL (SELECT r.observed_ms AS at FROM odd_readings r
               WHERE r.series = w.series AND r.observed_ms >= w.since
                 AND r.observed_ms >= $3 AND r.observed_ms < $4
               ORDER BY r.observed_ms LIMIT 1) n";

/// Some series, as they are in PostgreSQL when a scan of them begins.
#[derive(Debug)]
pub struct PostgresView<K> {
    shared: Arc<Shared>,
    devices: Vec<ScanDevice<K>>,
    /// The series of each device that there are, in the order of its keys.
    series: Vec<Vec<ViewSeries>>,
    from: i64,
    to: i64,
}

#[derive(Clone, Copy, Debug)]
struct ViewSeries {
    /// The key's place in its device's keys.
    key: u32,
    id: i64,
    /// What is before it has expired.
    cutoff: i64,
}

pub(super) async fn view<K>(
    shared: Arc<Shared>,
    link: &mut Link,
    query: ScanQuery<K>,
) -> Result<PostgresView<K>, HistoryError> {
    let ScanQuery { devices, from, to } = query;
    let mut series: Vec<Vec<ViewSeries>> = vec![Vec::new(); devices.len()];
    let names: Vec<(usize, u32, Arc<str>)> = devices
        .iter()
        .enumerate()
        .flat_map(|(place, device)| {
            (0u32..).zip(device.keys.iter()).map(move |(key, (name, _))| (place, key, name.clone()))
        })
        .collect();
    let find = link.statements.get(&link.client, FIND).await?;
    for part in names.chunks(NAMES_AT_ONCE) {
        let ids: Vec<i64> =
            part.iter().map(|(place, ..)| devices[*place].device.0.cast_signed()).collect();
        let keys: Vec<Stored<'_>> = part.iter().map(|(.., name)| Stored::text(name)).collect();
        let texts: Vec<&str> = keys.iter().map(|key| &*key.text).collect();
        let escaped: Vec<bool> = keys.iter().map(|key| key.escaped).collect();
        for row in link.client.query(&find, &[&ids, &texts, &escaped]).await? {
            let number = usize::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(usize::MAX);
            let Some((place, key, _)) = part.get(number) else { continue };
            let tenant = TenantId(row.try_get::<_, i64>(2)?.cast_unsigned());
            let found =
                ViewSeries { key: *key, id: row.try_get(1)?, cutoff: shared.cutoff(tenant) };
            series[*place].push(found);
        }
    }
    for of_device in &mut series {
        of_device.sort_by_key(|series| series.key);
    }
    Ok(PostgresView { shared, devices, series, from: from.0, to: to.0 })
}

impl<K: Copy> PostgresView<K> {
    /// The devices as they were asked for.
    #[must_use]
    pub fn devices(&self) -> &[ScanDevice<K>] {
        &self.devices
    }

    /// How many of the keys asked for the device has ever sent.
    #[must_use]
    pub fn series_of(&self, device: usize) -> usize {
        self.series[device].len()
    }

    /// See [`crate::history::HistoryView::scan`].
    ///
    /// # Errors
    /// [`HistoryError::Postgres`] if it is away; [`HistoryError::ScanSeries`].
    pub fn scan(
        &self,
        devices: &[usize],
        slice_bytes: usize,
        mut visit: impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        let count: usize = devices.iter().map(|device| self.series[*device].len()).sum();
        if count > MAX_SCAN_SERIES {
            return Err(HistoryError::ScanSeries { asked: count, limit: MAX_SCAN_SERIES });
        }
        if count == 0 || self.from >= self.to {
            return Ok(());
        }
        self.shared.runtime().block_on(async {
            let mut lease = self.shared.pool.lease().await?;
            let scanned = self.run(&mut lease, devices, slice_bytes, &mut visit).await;
            if scanned.is_ok() {
                lease.done();
            }
            scanned
        })
    }

    async fn run(
        &self,
        lease: &mut Lease,
        devices: &[usize],
        slice_bytes: usize,
        visit: &mut impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        let Link { client, statements, .. } = lease.link();
        let slice = statements.get(client, SLICE).await?;
        let slice_odd = statements.get(client, SLICE_ODD).await?;
        let next = statements.get(client, NEXT).await?;
        let next_odd = statements.get(client, NEXT_ODD).await?;
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let mut wanted = Wanted::default();
        let mut places = HashMap::new();
        for (place, device) in (0u32..).zip(devices) {
            for series in &self.series[*device] {
                wanted.ids.push(series.id);
                wanted.since_ms.push(series.cutoff);
                wanted.since.push(Micros::bound(series.cutoff));
                places.insert(series.id, (place, series.key));
            }
        }
        let statements = Statements { slice, slice_odd, next, next_odd };
        let mut gathered = Gathered { places, items: Vec::new(), rows: Rows::default() };
        let step = (slice_bytes / ROW_BYTES).clamp(1, MOST_ROWS);
        let mut width = FIRST_WIDTH_MS;
        let mut at = self.from;
        'slices: while let Some(first) =
            wanted.next(&transaction, &statements, (at, self.to)).await?
        {
            at = first;
            loop {
                let end = at.saturating_add(width).min(self.to);
                let seen = {
                    let mut slice = Slice { view: self, wanted: &wanted, devices, step };
                    slice.read(&transaction, &statements, (at, end), &mut gathered, visit).await?
                };
                let Some(count) = seen else { break 'slices };
                at = end;
                if at >= self.to {
                    break 'slices;
                }
                if count == 0 {
                    width = FIRST_WIDTH_MS;
                    continue 'slices;
                }
                width = next_width(width, count);
            }
        }
        transaction.rollback().await?;
        Ok(())
    }
}

/// The width of a slice behind one that had so many readings.
fn next_width(width: i64, count: usize) -> i64 {
    let fits = i128::from(width) * SLICE_ROWS as i128 / count.max(1) as i128;
    let most = i128::from(width) * i128::from(MAX_GROWTH);
    i64::try_from(fits.clamp(1, most)).unwrap_or(i64::MAX)
}

struct Statements {
    slice: Statement,
    slice_odd: Statement,
    next: Statement,
    next_odd: Statement,
}

/// The series of a scan, and where each begins.
#[derive(Default)]
struct Wanted {
    ids: Vec<i64>,
    since_ms: Vec<i64>,
    since: Vec<Micros>,
}

impl Wanted {
    /// The first time in a span that there is a reading of.
    async fn next(
        &self,
        transaction: &Transaction<'_>,
        statements: &Statements,
        (from, to): (i64, i64),
    ) -> Result<Option<i64>, HistoryError> {
        let bounds = (Micros::bound(from), Micros::bound(to));
        let row = transaction
            .query_one(&statements.next, &[&self.ids, &self.since, &bounds.0, &bounds.1])
            .await?;
        let main: Option<Micros> = row.try_get(0)?;
        let row = transaction
            .query_one(&statements.next_odd, &[&self.ids, &self.since_ms, &from, &to])
            .await?;
        let odd: Option<i64> = row.try_get(0)?;
        Ok(main.map(Micros::ms).into_iter().chain(odd).min())
    }
}

/// Readings that were read and not given out yet.
struct Gathered {
    /// The place of a series' device in the scan, and of its key.
    places: HashMap<i64, (u32, u32)>,
    items: Vec<Item>,
    rows: Rows,
}

/// In the order in which they are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    at: i64,
    device: u32,
    key: u32,
    row: u32,
}

impl Gathered {
    fn add(&mut self, row: &SqlRow, odd: bool) -> Result<i64, HistoryError> {
        let series: i64 = row.try_get(0)?;
        let at = observed_at(row, 1, odd)?;
        let Some((device, key)) = self.places.get(&series).copied() else { return Ok(at) };
        let number = u32::try_from(self.rows.len()).expect("a step is far shorter");
        push(&mut self.rows, at, row, 2)?;
        self.items.push(Item { at, device, key, row: number });
        Ok(at)
    }

    /// Gives out all that is before `horizon`.
    fn give<K: Copy>(
        &mut self,
        view: &PostgresView<K>,
        devices: &[usize],
        horizon: i64,
        visit: &mut impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.items.sort_unstable();
        let count = self.items.partition_point(|item| item.at < horizon);
        let mut values: Vec<(K, Value<'_>)> = Vec::new();
        for group in self.items[..count].chunk_by(|a, b| (a.at, a.device) == (b.at, b.device)) {
            let device = devices[group[0].device as usize];
            values.clear();
            for item in group {
                let key = view.devices[device].keys[item.key as usize].1;
                values.push((key, value(&self.rows, &self.rows.rows[item.row as usize])));
            }
            let group = ScanGroup { device, at: TimestampMs(group[0].at), values: &values };
            visit(&group)?;
        }
        let mut kept = Rows::default();
        self.items.drain(..count);
        for (number, item) in (0u32..).zip(&mut self.items) {
            kept.push_row(&self.rows, self.rows.rows[item.row as usize]);
            item.row = number;
        }
        self.rows = kept;
        ControlFlow::Continue(())
    }
}

/// One slice of a scan.
struct Slice<'a, K> {
    view: &'a PostgresView<K>,
    wanted: &'a Wanted,
    devices: &'a [usize],
    step: usize,
}

impl<K: Copy> Slice<'_, K> {
    /// Gives out what is in a span; the number of readings, or `None` if the
    /// visitor has seen enough.
    async fn read(
        &mut self,
        transaction: &Transaction<'_>,
        statements: &Statements,
        (from, to): (i64, i64),
        gathered: &mut Gathered,
        visit: &mut impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> Result<Option<usize>, HistoryError> {
        let Self { view, wanted, devices, step } = self;
        let odd = transaction
            .query(&statements.slice_odd, &[&wanted.ids, &wanted.since_ms, &from, &to])
            .await?;
        let mut count = odd.len();
        for row in odd {
            gathered.add(&row, true)?;
        }
        let bounds = (Micros::bound(from), Micros::bound(to));
        let portal = transaction
            .bind(&statements.slice, &[&wanted.ids, &wanted.since, &bounds.0, &bounds.1])
            .await?;
        loop {
            let most = i32::try_from(*step).unwrap_or(i32::MAX);
            let rows = transaction.query_portal(&portal, most).await?;
            let mut horizon = to;
            for row in &rows {
                horizon = gathered.add(row, false)?;
            }
            count += rows.len();
            let is_last = rows.len() < *step;
            let horizon = if is_last { to } else { horizon };
            if gathered.give(view, devices, horizon, visit).is_break() {
                return Ok(None);
            }
            if is_last {
                return Ok(Some(count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_widens_where_little_is_and_narrows_where_much_is() {
        assert_eq!(next_width(60_000, 1), 480_000);
        assert_eq!(next_width(60_000, SLICE_ROWS), 60_000);
        assert_eq!(next_width(60_000, 1_000 * SLICE_ROWS), 60);
        assert_eq!(next_width(i64::MAX, 1), i64::MAX);
        assert_eq!(next_width(1, usize::MAX), 1);
    }
}
