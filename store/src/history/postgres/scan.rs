//! A bulk scan of the table, a week at a time and in the order of time.

use std::ops::ControlFlow;
use std::sync::Arc;

use schema::{TenantId, TimestampMs};

use super::Tables;
use super::query::{VALUE, value};
use crate::history::HistoryError;
use crate::history::options::DAY_MS;
use crate::history::reading::ReadingValue;
use crate::history::scan::{MAX_SCAN_SERIES, ScanDevice, ScanGroup};
use crate::sql::{Session, params};

/// Rows that are in memory at once.
const FETCH_ROWS: usize = 20_000;

/// The span whose rows the server sorts at once.
const SLICE_MS: i64 = DAY_MS;

/// The series of some devices.
#[derive(Debug)]
pub(in crate::history) struct TableView {
    tables: Arc<Tables>,
    /// Of each device, those that it has ever sent.
    series: Vec<Vec<ViewSeries>>,
    from: i64,
    to: i64,
}

#[derive(Clone, Copy, Debug)]
struct ViewSeries {
    id: i64,
    /// The key's place in its device's keys.
    key: u32,
}

impl TableView {
    pub fn new<K>(
        tables: &Arc<Tables>,
        devices: &[ScanDevice<K>],
        span: (TimestampMs, TimestampMs),
    ) -> Result<Self, HistoryError> {
        let (mut from, to) = (span.0.0, span.1.0);
        let mut series = Vec::with_capacity(devices.len());
        tables.readers.run(|sql| {
            let mut statement =
                sql.prepare_cached("SELECT key, id, tenant FROM series WHERE device = ?1")?;
            for wanted in devices {
                let known: Vec<(Vec<u8>, i64, u64)> = statement
                    .query_map([wanted.device.0], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })?;
                let mut found = Vec::new();
                for (key, (name, _)) in (0..).zip(wanted.keys.iter()) {
                    let series = known.iter().find(|(known, ..)| known == name.as_bytes());
                    if let Some((_, id, tenant)) = series {
                        found.push(ViewSeries { id: *id, key });
                        // One view is of one tenant.
                        from = from.max(tables.cutoff(TenantId(*tenant)));
                    }
                }
                series.push(found);
            }
            Ok::<_, HistoryError>(())
        })?;
        Ok(Self { tables: Arc::clone(tables), series, from, to })
    }

    pub fn series_of(&self, device: usize) -> usize {
        self.series[device].len()
    }

    pub fn scan<K: Copy>(
        &self,
        all: &[ScanDevice<K>],
        devices: &[usize],
        visit: &mut impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        let count: usize = devices.iter().map(|device| self.series[*device].len()).sum();
        if count > MAX_SCAN_SERIES {
            return Err(HistoryError::ScanSeries { asked: count, limit: MAX_SCAN_SERIES });
        }
        let mut wanted: Vec<(usize, ViewSeries)> = Vec::with_capacity(count);
        for device in devices {
            wanted.extend(self.series[*device].iter().map(|series| (*device, *series)));
        }
        let ids: Vec<i64> = wanted.iter().map(|(_, series)| series.id).collect();
        let mut session = self.tables.database.session()?;
        session.ready()?;
        // All slices see the same moment.
        let moment = session.moment()?;
        let Some((first, last)) = span(&moment, &ids, self.from, self.to)? else { return Ok(()) };
        let mut groups = Groups { all, wanted: &wanted, open: None, values: Vec::new() };
        let mut from = first;
        while from <= last {
            let to = from.saturating_add(SLICE_MS).min(last.saturating_add(1));
            if groups.slice(&moment, &ids, (from, to), visit)?.is_break() {
                return Ok(());
            }
            from = to;
        }
        let _ = groups.give(visit);
        Ok(())
    }
}

/// When the first and the last reading is.
fn span(
    sql: &Session,
    ids: &[i64],
    from: i64,
    to: i64,
) -> Result<Option<(i64, i64)>, HistoryError> {
    let (first, last): (Option<i64>, Option<i64>) = sql.query_row(
        "SELECT min(edge.first_at), max(edge.last_at)
         FROM unnest(CAST(?1 AS BIGINT[])) AS asked (id)
         CROSS JOIN LATERAL (
             SELECT min(observed_at) AS first_at, max(observed_at) AS last_at FROM readings
             WHERE series = asked.id AND observed_at >= ?2 AND observed_at < ?3) AS edge",
        params![ids, from, to],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(first.zip(last))
}

/// Rows put together by device and time.
struct Groups<'a, K> {
    all: &'a [ScanDevice<K>],
    /// By the place in the statement's array: the device's place, and the series.
    wanted: &'a [(usize, ViewSeries)],
    open: Option<(usize, i64)>,
    values: Vec<(K, ReadingValue)>,
}

impl<K: Copy> Groups<'_, K> {
    fn slice(
        &mut self,
        sql: &Session,
        ids: &[i64],
        (from, to): (i64, i64),
        visit: &mut impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, HistoryError> {
        sql.execute(
            &format!(
                "DECLARE slice NO SCROLL CURSOR FOR
                 SELECT asked.place, r.observed_at, {VALUE}
                 FROM unnest(CAST(?1 AS BIGINT[])) WITH ORDINALITY AS asked (id, place)
                 JOIN readings r ON r.series = asked.id
                 WHERE r.observed_at >= ?2 AND r.observed_at < ?3
                 ORDER BY r.observed_at, asked.place"
            ),
            params![ids, from, to],
        )?;
        let mut fetch = sql.prepare_cached(&format!("FETCH {FETCH_ROWS} FROM slice"))?;
        loop {
            let mut rows = fetch.query([])?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                count += 1;
                let place: usize = row.get(0)?;
                let at: i64 = row.get(1)?;
                let (device, series) = self.wanted[place - 1];
                if self.open != Some((device, at)) && self.give(visit).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.open = Some((device, at));
                let key = self.all[device].keys[series.key as usize].1;
                self.values.push((key, value(&row, 2)?));
            }
            if count < FETCH_ROWS {
                sql.run("CLOSE slice")?;
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    fn give(
        &mut self,
        visit: &mut impl FnMut(&ScanGroup<'_, K>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some((device, at)) = self.open.take() else { return ControlFlow::Continue(()) };
        let values: Vec<_> =
            self.values.iter().map(|(key, value)| (*key, value.as_value())).collect();
        let group = ScanGroup { device, at: TimestampMs(at), values: &values };
        let flow = visit(&group);
        drop(values);
        self.values.clear();
        flow
    }
}
