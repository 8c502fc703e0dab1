//! Puts the rows of a transaction in order and decides which way each goes.

use schema::Value;

use super::super::copy::CopyRows;
use super::super::series::Wanted;
use super::super::shared::Shared;
use super::super::spans::Spans;
use super::super::time::Micros;
use super::super::values;
use super::OnItsWay;

/// The batches that share a transaction.
pub(in super::super) type Group = Vec<OnItsWay>;

/// Times without a span of which one transaction makes spans.
const MAX_NEW_SPANS: usize = 64;

/// A row in the order of series and time, where those of one series and time
/// are in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    series: i64,
    at: i64,
    /// The batch's place in the group, and the row's in the batch.
    batch: u16,
    row: u32,
    /// False if it may be in the database already.
    is_newest: bool,
}

/// The rows of a transaction by the way that they go. Kept from one to the next
/// for its buffers.
#[derive(Debug, Default)]
pub(in super::super) struct Arranged {
    places: Vec<Place>,
    /// Straight into `readings`.
    pub fresh: CopyRows,
    /// In the place of what is there.
    pub replacing: CopyRows,
    /// Into `odd_readings`, likewise.
    pub odd: CopyRows,
    pub deduplicated: u64,
}

/// Batches and rows of a group.
pub(in super::super) fn weight(group: &Group) -> (usize, usize) {
    (group.len(), group.iter().map(|one| one.batch.rows.len()).sum())
}

/// The series of the group that the database has not been asked for, with the
/// place of their partitions.
pub(super) fn unknown(shared: &Shared, group: &Group) -> Vec<(usize, Wanted)> {
    let mut wanted = Vec::new();
    for one in group {
        let state = shared.partitions[one.partition].state();
        let mut slots: Vec<u32> = one
            .batch
            .slots
            .iter()
            .copied()
            .filter(|slot| state.series.known(*slot).id == 0)
            .collect();
        slots.sort_unstable();
        slots.dedup();
        wanted.extend(slots.iter().map(|slot| (one.partition, state.series.wanted(*slot))));
    }
    wanted
}

/// Keeps the numbers that the database gave.
pub(super) fn learn(shared: &Shared, wanted: &[(usize, Wanted)], ids: &[i64]) {
    let mut known = wanted.iter().zip(ids);
    let mut next = known.next();
    while let Some(((partition, _), _)) = next {
        let mut state = shared.partitions[*partition].state();
        while let Some(((of, one), id)) = next.filter(|((of, _), _)| of == partition) {
            debug_assert_eq!(of, partition);
            state.series.known_mut(one.slot).id = *id;
            next = known.next();
        }
    }
}

impl Arranged {
    /// Puts the rows of all batches in order of series and time, so that the
    /// pages of the index that they go to are next to one another.
    pub fn order(&mut self, shared: &Shared, group: &Group) {
        self.places.clear();
        for (number, one) in (0u16..).zip(group) {
            let state = shared.partitions[one.partition].state();
            let rows = one.batch.slots.iter().zip(&one.batch.rows.rows);
            self.places.extend((0u32..).zip(rows).map(|(row, (slot, reading))| {
                let known = state.series.known(*slot);
                let at = reading.observed_at;
                let is_newest = at > known.newest;
                Place { series: known.id, at, batch: number, row, is_newest }
            }));
        }
        self.places.sort_unstable();
        let came = self.places.len();
        // Of one series and time the last one stays.
        let mut kept = 0;
        for place in 0..came {
            let one = self.places[place];
            let next = self.places.get(place + 1);
            if next.is_some_and(|next| (next.series, next.at) == (one.series, one.at)) {
                continue;
            }
            self.places[kept] = one;
            kept += 1;
        }
        self.places.truncate(kept);
        self.deduplicated = (came - kept) as u64;
    }

    /// Times that need a span and may have one; of one span at least one time.
    pub fn without_span(&self, spans: &Spans, shared: &Shared) -> Vec<i64> {
        let width =
            if shared.is_timescale { shared.options.chunk_ms } else { shared.options.span_ms };
        let width = width.max(1);
        let mut missing: Vec<(i64, i64)> = Vec::new();
        let mut last = (0, 0);
        for place in &self.places {
            if (last.0..last.1).contains(&place.at) {
                continue;
            }
            let planned = spans.find(place.at);
            if let Some(found) = planned.or_else(|| spans.plan(place.at, width, &shared.options)) {
                last = found;
                if planned.is_none() && missing.len() < MAX_NEW_SPANS {
                    missing.push((found.0, place.at));
                }
            }
        }
        missing.sort_unstable();
        missing.dedup_by_key(|(from, _)| *from);
        missing.into_iter().map(|(_, at)| at).collect()
    }

    /// Writes each row to the COPY that it goes by.
    pub fn encode(&mut self, group: &Group, spans: &Spans, replaces: bool) {
        let Self { places, fresh, replacing, odd, .. } = self;
        for copy in [&mut *fresh, &mut *replacing, &mut *odd] {
            copy.clear();
        }
        let mut span = (0, 0);
        for place in &*places {
            let rows = &group[usize::from(place.batch)].batch.rows;
            let value: Value<'_> = values::value(rows, &rows.rows[place.row as usize]);
            if !(span.0..span.1).contains(&place.at) {
                span = spans.find(place.at).unwrap_or((0, 0));
            }
            let micros = Micros::of_ms(place.at);
            match micros.filter(|_| (span.0..span.1).contains(&place.at)) {
                Some(micros) if place.is_newest && !replaces => {
                    fresh.push(place.series, micros.0, value);
                }
                Some(micros) => replacing.push(place.series, micros.0, value),
                None => odd.push(place.series, place.at, value),
            }
        }
        for copy in [fresh, replacing, odd] {
            copy.finish();
        }
    }
}
