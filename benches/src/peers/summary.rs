//! Medians of the rounds, and how they compare.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::Options;
use crate::contender::Kind;
use crate::round::Round;

/// What is written to the file.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub machine: Machine,
    pub load: LoadShape,
    /// Of all rounds, for each server.
    pub medians: BTreeMap<Kind, Medians>,
    pub ratios: BTreeMap<&'static str, f64>,
    pub rounds: Vec<Round>,
}

#[derive(Debug, Serialize)]
pub struct Machine {
    pub processors: usize,
    pub model: String,
}

#[derive(Debug, Serialize)]
pub struct LoadShape {
    pub qos: u8,
    pub connections: u32,
    pub window: u16,
    pub keys_per_message: u32,
    pub seconds: f64,
    pub rounds: u32,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Medians {
    pub rate_per_s: f64,
    pub server_cpu_us_per_message: f64,
    pub server_cpu_us_per_message_under_load: f64,
    pub loadtest_cpu_us_per_message: f64,
    pub puback_p99_ms: f64,
    /// Share of the acknowledged messages that reached the consumer.
    pub consumed_share: f64,
}

/// Takes the medians and their ratios.
pub fn summarise(options: &Options, kinds: &[Kind], rounds: Vec<Round>) -> Summary {
    let medians: BTreeMap<Kind, Medians> =
        kinds.iter().map(|&kind| (kind, medians(&rounds, kind))).collect();
    let mut ratios = BTreeMap::new();
    let mut ratio = |name, of: Kind, figure: fn(&Medians) -> f64| {
        if let (Some(baken), Some(other)) = (medians.get(&Kind::Baken), medians.get(&of)) {
            ratios.insert(name, figure(baken) / figure(other));
        }
    };
    ratio("baken_to_mosquitto_rate", Kind::Mosquitto, |m| m.rate_per_s);
    ratio("baken_to_mosquitto_qos0_rate", Kind::MosquittoQos0, |m| m.rate_per_s);
    ratio("baken_to_rumqttd_rate", Kind::Rumqttd, |m| m.rate_per_s);
    ratio("baken_to_mosquitto_cpu", Kind::Mosquitto, |m| m.server_cpu_us_per_message);
    ratio("baken_to_mosquitto_qos0_cpu", Kind::MosquittoQos0, |m| m.server_cpu_us_per_message);
    ratio("baken_to_rumqttd_cpu", Kind::Rumqttd, |m| m.server_cpu_us_per_message);
    Summary {
        machine: machine(),
        load: LoadShape {
            qos: 1,
            connections: options.connections,
            window: options.window,
            keys_per_message: options.keys,
            seconds: options.seconds,
            rounds: options.rounds,
        },
        medians,
        ratios,
        rounds,
    }
}

impl Summary {
    pub fn text(&self) -> String {
        let mut text = String::from("medians\n");
        for (kind, medians) in &self.medians {
            // Writing to a string can't fail.
            let _ = writeln!(
                text,
                "  {:<31} {:>8.0} messages/s  {:>6.2} µs of server CPU a message  consumed {:.1} %",
                kind.to_string(),
                medians.rate_per_s,
                medians.server_cpu_us_per_message,
                medians.consumed_share * 100.0
            );
        }
        for (name, ratio) in &self.ratios {
            let _ = writeln!(text, "  {name:<31} {ratio:>8.2}");
        }
        text
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of a round fit a double")]
fn medians(rounds: &[Round], kind: Kind) -> Medians {
    let of = |figure: fn(&Round) -> f64| {
        median(rounds.iter().filter(|round| round.kind == kind).map(figure).collect())
    };
    Medians {
        rate_per_s: of(|round| round.rate_per_s),
        server_cpu_us_per_message: of(|round| round.server_cpu_us_per_message),
        server_cpu_us_per_message_under_load: of(|r| r.server_cpu_us_per_message_under_load),
        loadtest_cpu_us_per_message: of(|round| round.loadtest_cpu_us_per_message),
        puback_p99_ms: of(|round| round.puback_p99_ms),
        consumed_share: of(|round| round.consumed as f64 / round.acknowledged as f64),
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

fn machine() -> Machine {
    let model = std::fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown".to_owned(), |(_, model)| model.to_owned());
    Machine { processors: std::thread::available_parallelism().map_or(1, usize::from), model }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![9.0, 1.0, 5.0, 7.0]), 6.0);
        assert!(median(Vec::new()).is_nan());
    }
}
