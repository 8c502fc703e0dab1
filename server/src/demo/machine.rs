//! The machines of the demo: what they measure as time goes by. A chiller cools
//! a circuit until its compressor trips and starts again; pumps, compressors and
//! the weather go on beside it. Pure: time comes in, values go out.

use serde_json::{Map, Value, json};

/// How long the chiller takes from one trip to the next.
pub(super) const CYCLE_S: f64 = 75.0;
/// When in a cycle its compressor trips.
const TRIP_AT_S: f64 = 8.0;
/// How long it takes until somebody has reset it.
const TRIPPED_S: f64 = 22.0;

/// Supply temperature that the chiller holds while it runs.
const SETPOINT_C: f64 = 7.0;
/// Where the circuit goes with nobody cooling it.
const UNCOOLED_C: f64 = 19.0;
/// Time constants of the water: warming without cooling, and being cooled.
const WARMING_S: f64 = 12.0;
const COOLING_S: f64 = 7.0;

/// Above this for five seconds, the demo's rule raises its alarm.
pub(super) const ALARM_LIMIT_C: f64 = 12.0;
/// It has to go back this much below the limit to clear.
pub(super) const ALARM_DEADBAND_C: f64 = 1.0;

/// A chiller with the inertia of its water.
#[derive(Clone, Debug)]
pub(super) struct Chiller {
    seconds: f64,
    supply_c: f64,
    return_c: f64,
    current_a: f64,
    starts: u32,
    was_tripped: bool,
}

impl Default for Chiller {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            supply_c: SETPOINT_C,
            return_c: SETPOINT_C + 5.0,
            current_a: 41.0,
            starts: 1,
            was_tripped: false,
        }
    }
}

impl Chiller {
    /// What it measures `step_s` later.
    pub(super) fn step(&mut self, step_s: f64) -> Map<String, Value> {
        self.seconds += step_s;
        let in_cycle = self.seconds % CYCLE_S;
        let tripped = (TRIP_AT_S..TRIP_AT_S + TRIPPED_S).contains(&in_cycle);
        if self.was_tripped && !tripped {
            self.starts += 1;
        }
        self.was_tripped = tripped;
        let (goal_c, constant_s) =
            if tripped { (UNCOOLED_C, WARMING_S) } else { (SETPOINT_C, COOLING_S) };
        self.supply_c += (goal_c - self.supply_c) * (1.0 - (-step_s / constant_s).exp());
        let load_k = if tripped { 1.5 } else { 5.0 };
        self.return_c += (self.supply_c + load_k - self.return_c) * (1.0 - (-step_s / 9.0).exp());
        let current_goal_a =
            if tripped { 0.0 } else { 34.0 + 2.2 * (self.supply_c - SETPOINT_C).min(9.0) + 3.0 };
        self.current_a += (current_goal_a - self.current_a) * (1.0 - (-step_s / 1.5).exp());
        let status = match (tripped, self.supply_c - SETPOINT_C > 1.0) {
            (true, _) => "tripped: high condenser pressure",
            (false, true) => "pulling down",
            (false, false) => "cooling",
        };
        let pressure_bar = if tripped { 24.5 } else { 14.0 + 0.12 * self.current_a };
        values(json!({
            "supply_temperature": round(self.supply_c + ripple(self.seconds, 3.1, 0.08), 2),
            "return_temperature": round(self.return_c + ripple(self.seconds, 4.7, 0.06), 2),
            "compressor_current": round(self.current_a.max(0.0), 1),
            "condenser_pressure": round(pressure_bar + ripple(self.seconds, 2.3, 0.15), 2),
            "running": !tripped,
            "starts": self.starts,
            "status": status,
        }))
    }
}

/// A pump that fills and drains a tank.
pub(super) fn pump(seconds: f64) -> Map<String, Value> {
    let level = 55.0 + 20.0 * (seconds / 17.0).sin();
    let on = (seconds / 17.0).cos() > 0.0;
    let flow = if on { 8.2 + ripple(seconds, 1.9, 0.3) } else { 0.0 };
    values(json!({
        "tank_level": round(level, 1),
        "flow": round(flow, 2),
        "pump_on": on,
    }))
}

/// The weather at another place.
pub(super) fn weather(seconds: f64) -> Map<String, Value> {
    values(json!({
        "outside_temperature": round(11.4 + ripple(seconds, 41.0, 1.2), 1),
        "humidity": round(72.0 + ripple(seconds, 29.0, 6.0), 0),
        "wind": { "speed": round(4.0 + ripple(seconds, 7.0, 2.0), 1), "from": "SW" },
    }))
}

/// An air compressor behind the gateway; `phase_s` sets two of them apart.
pub(super) fn compressor(seconds: f64, phase_s: f64) -> Map<String, Value> {
    let at = seconds + phase_s;
    let loaded = (at / 11.0).sin() > -0.2;
    values(json!({
        "pressure": round(7.1 + 0.35 * (at / 11.0).cos(), 2),
        "oil_temperature": round(78.0 + ripple(at, 23.0, 3.0), 1),
        "loaded": loaded,
    }))
}

/// A small wave, so that no two readings are the same.
fn ripple(seconds: f64, period_s: f64, amplitude: f64) -> f64 {
    let turn = std::f64::consts::TAU * seconds;
    amplitude * ((turn / period_s).sin() + 0.5 * (turn / (period_s * 0.37)).cos()) / 1.5
}

fn round(value: f64, places: i32) -> f64 {
    let scale = 10f64.powi(places);
    (value * scale).round() / scale
}

fn values(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chiller_stays_above_the_limit_long_enough_and_comes_back() {
        let mut chiller = Chiller::default();
        let supply: Vec<f64> =
            (0..300).map(|_| chiller.step(0.5)["supply_temperature"].as_f64().unwrap()).collect();
        // Two cycles: seconds of each one above the limit, and back below the
        // deadband before it ends.
        for cycle in supply.chunks(150) {
            let above = cycle.iter().filter(|value| **value > ALARM_LIMIT_C).count();
            assert!((16..60).contains(&above), "{above} half seconds above the limit");
            assert!(*cycle.last().unwrap() < ALARM_LIMIT_C - ALARM_DEADBAND_C);
            let back = cycle.iter().rposition(|value| *value > 11.0).unwrap();
            assert!(back < 110, "clears only after {back} half seconds");
        }
    }
}
