//! Decoding by tables of cases, against a slow oracle, and by mutated input.

mod device;
mod fuzz;
mod gateway;
mod oracle;
mod plain;
mod small_bodies;

use schema::{DeviceId, TenantId, TenantSettings, TimestampMs};

use super::*;
use crate::batch::KeyTable;

const NOW: TimestampMs = TimestampMs(1_764_000_000_000);
const ME: DeviceId = DeviceId(7);

/// A decoder's surroundings, with limits and settings that a case may change.
struct Bench {
    limits: Limits,
    settings: TenantSettings,
    table: KeyTable,
    keys: KeyCache,
    rows: Rows,
}

impl Bench {
    fn new() -> Self {
        let table = KeyTable::new();
        let keys = table.cache(TenantId(1), 64);
        let (limits, settings) = (Limits::default(), TenantSettings::default());
        Self { limits, settings, table, keys, rows: Rows::new() }
    }

    fn telemetry(&mut self, payload: &[u8]) -> Result<Vec<LeftOut>, Rejection> {
        let context = Context::new(&self.limits, &self.settings, NOW);
        telemetry(payload, ME, &context, &mut self.keys, &mut self.rows)
    }

    fn attributes(&mut self, payload: &[u8], nulls: Nulls) -> Result<(), Rejection> {
        let context = Context::new(&self.limits, &self.settings, NOW);
        attributes(payload, ME, nulls, &context, &mut self.keys, &mut self.rows)
    }

    fn gateway_telemetry(&mut self, payload: &[u8]) -> Result<GatewayParts, Rejection> {
        let context = Context::new(&self.limits, &self.settings, NOW);
        gateway_telemetry(payload, &context, &mut self.keys, &mut self.rows, answer)
    }

    fn gateway_attributes(&mut self, payload: &[u8]) -> Result<GatewayParts, Rejection> {
        let context = Context::new(&self.limits, &self.settings, NOW);
        gateway_attributes(payload, &context, &mut self.keys, &mut self.rows, answer)
    }

    /// Takes the rows out, a line each: `device key@time value`.
    fn take(&mut self) -> String {
        let mut names = Vec::new();
        self.table.extend_names(&mut names);
        let mut lines = Vec::new();
        for row in self.rows.as_slice() {
            let at = match row.observed_at {
                NOW => String::new(),
                TimestampMs(at) => format!("@{at}"),
            };
            let device = match row.device {
                ME => String::new(),
                other => format!("{other} "),
            };
            let value = self.rows.value(row).map_or("-".to_owned(), |value| format!("{value:?}"));
            lines.push(format!("{device}{}{at} {value}", names[row.key.index()]));
        }
        self.rows.clear();
        lines.join("; ")
    }
}

/// Devices `D1`, `D2`, … are known by their numbers, `new…` are unknown, all others refused.
fn answer(name: &str) -> DeviceAnswer {
    if name.starts_with("new") {
        return DeviceAnswer::Unknown;
    }
    match name.strip_prefix('D').and_then(|number| number.parse().ok()) {
        Some(number) => DeviceAnswer::Known(DeviceId(number)),
        None => {
            DeviceAnswer::Refused(Rejection::new(Reason::DeviceQuota, "the tenant has 2 devices"))
        }
    }
}

/// Row lines, or the rejection after an exclamation mark.
fn outcome(bench: &mut Bench, result: Result<Vec<LeftOut>, Rejection>) -> String {
    match result {
        Ok(left_out) => {
            let mut text = bench.take();
            for LeftOut { objects, rejection } in left_out {
                text += &format!(" ! {objects} {}", rejection.reason.as_str());
            }
            text
        }
        Err(rejection) => {
            assert!(bench.rows.is_empty(), "a rejected message left rows behind");
            format!("! {rejection}")
        }
    }
}
