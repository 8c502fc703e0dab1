//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::packets::{QoS, Version};
use crate::swing::{self, Swing};

/// Drives a fleet of simulated routers and audits that nothing was lost.
///
/// Every reading follows from a number, so after a run all are read back by the
/// HTTP API and compared with what was offered and what was acknowledged. Ends
/// with 0 if all is well, 1 if it isn't, 2 if it couldn't be found out.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, max_term_width = 100)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Loads a server and audits it. Ends with 1 if the audit finds a fault.
    ///
    /// The figures of --json: `offered`, `acknowledged`, `stored`, `missing`
    /// (acknowledged, not stored), `doubled`, `wrong`, `unexpected` and
    /// `out_of_order` are readings (one value of one key at one time);
    /// `messages_…` and `rate_per_s` (acknowledged a second while the load
    /// lasts; at QoS 0 sent) are MQTT messages; `…_cpu_us_per_message` is
    /// processor time of the program and of the kernel for it, in microseconds
    /// for each such message: the server's until its history has caught up, and
    /// `…_under_load` until the load ends. `puback_latency` runs from a
    /// message's first sending to its PUBACK. With alarms, `transitions` says how
    /// what was raised, made worse and cleared compares with what the stored
    /// readings must have brought about, and `time_to_alarm` how long that took
    /// from the socket read to the commit.
    Run(RunOptions),
    /// Kills the server with SIGKILL at random moments of a load, starts it
    /// again each time, and audits at the end. The figures are those of `run`.
    /// With alarms, the server then starts once more on the same journal without
    /// any, and `replay` says how those raised in one go compare with those
    /// raised through the kills, by their ids and in every field.
    Crash(CrashOptions),
    /// Kills the server with SIGKILL when many readings are only in its journal
    /// and its memory, starts it again under the same load, and says how soon it
    /// serves and how fast it catches up; then audits. Without --rate the load
    /// takes all of the machine, and nothing is left to catch up with.
    Backlog(BacklogOptions),
    /// Starts nodes as processes over a real Kafka and a real PostgreSQL, kills
    /// them, the brokers and the database with SIGKILL at random moments of a
    /// load, and audits at the end. The figures are those of `crash`; `kills` are
    /// those of nodes and `faults` the others. The server's processor time is that
    /// of all nodes together, without Kafka's and PostgreSQL's own. A node that
    /// ends by itself fails the run. With alarms, the nodes then start once more on
    /// the same journal without any, and `replay` compares.
    #[command(mut_arg("rate", |arg| arg.default_value("2000")))]
    Cluster(ClusterOptions),
    /// Measures what forwarders to a customer's platform cost, in memory for each
    /// connection and in the rate of ingest, and audits that what they selected
    /// arrived.
    ///
    /// Every router stands at a location of its own with one forwarder, by MQTT
    /// over TLS to a double of AWS IoT Core, which is a process of its own. Rounds
    /// with and without the forwarders take turns. The figures of --json bear
    /// their units; a reading is one value of one key, and `values_…` are those
    /// that were selected. Ends with 1 if one of them is missing, double, out of
    /// order or wrong; whether the figures are good is for the reader to say.
    Forwarders(ForwarderLoadOptions),
    /// The double of `forwarders`, which starts it.
    #[command(hide = true)]
    Hub,
    /// Holds idle connections and says what each costs the server in memory.
    Idle(IdleOptions),
}

#[derive(Debug, Args)]
pub struct RunOptions {
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub trouble: TroubleOptions,
    /// How long the load lasts.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// How long it has lasted before that, audited but not measured: devices
    /// behind a router are made by their first reading, which costs more.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub warm_up_s: f64,
    #[command(flatten)]
    pub outcome: OutcomeOptions,
}

#[derive(Debug, Args)]
pub struct CrashOptions {
    /// How often the server is killed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub kills: u32,
    /// How long the load lasts in all.
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    pub seconds: f64,
    /// The server's program; by default `baken` beside this one.
    #[arg(long, value_name = "FILE")]
    pub baken: Option<PathBuf>,
    /// Keep the server's folder, and say where it is.
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub outcome: OutcomeOptions,
}

#[derive(Debug, Args)]
pub struct BacklogOptions {
    /// Readings that are in no history file when the server is killed.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub readings: u64,
    /// How long the load goes on after the server has caught up.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,
    /// The server's program; by default `baken` beside this one.
    #[arg(long, value_name = "FILE")]
    pub baken: Option<PathBuf>,
    /// Keep the server's folder, and say where it is.
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub outcome: OutcomeOptions,
}

#[derive(Debug, Args)]
pub struct ClusterOptions {
    /// Nodes, each with all roles.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub nodes: u32,
    /// Who is killed; without it nobody is.
    #[arg(long, value_name = "KINDS", value_enum, value_delimiter = ',')]
    pub kill: Vec<Victim>,
    /// How long the load lasts in all.
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    pub seconds: f64,
    /// How long it has lasted before that, audited but not measured.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub warm_up_s: f64,
    /// How far two kills of a kind are apart, in the mean; those of the database
    /// are twice as far.
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    pub fault_every_s: f64,
    /// Kafka brokers; a partition has three copies at most, of which more than
    /// half must have a record.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub brokers: u32,
    /// Partitions of the journal's topic.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub partitions: u32,
    /// The script that starts Kafka and PostgreSQL.
    #[arg(long, value_name = "FILE", default_value = "deploy/test-services")]
    pub services: PathBuf,
    /// The server's program; by default `baken` beside this one.
    #[arg(long, value_name = "FILE")]
    pub baken: Option<PathBuf>,
    /// Stop each node in order in the course of the load, one after another, and
    /// start it again as this program: a rolling upgrade, or a rolling restart
    /// where it is the same.
    #[arg(long, value_name = "FILE", conflicts_with = "kill")]
    pub upgrade_to: Option<PathBuf>,
    /// Keep the nodes' folders, and say where they are.
    #[arg(long)]
    pub keep: bool,
    /// Don't raise all alarms once more in one go.
    #[arg(long)]
    pub no_replay: bool,
    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub outcome: OutcomeOptions,
}

impl ClusterOptions {
    /// Whether brokers or the database are killed.
    #[must_use]
    pub fn kills_services(&self) -> bool {
        self.kill.iter().any(|victim| *victim != Victim::Nodes)
    }
}

/// Who can be killed in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Victim {
    Nodes,
    Brokers,
    Postgres,
}

#[derive(Debug, Args)]
pub struct IdleOptions {
    #[command(flatten)]
    pub server: ServerOptions,
    /// How many connections.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub connections: u32,
    /// MQTT's version.
    #[arg(long, value_name = "VERSION", value_enum, default_value_t = VersionOption::V311)]
    pub mqtt_version: VersionOption,
    /// How long they are held once all are there.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Addresses of the loopback network that connections come from in turns:
    /// one address has about 28,000 ports. 0 lets the system choose.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub sources: u8,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Threads of the load test.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
}

#[derive(Debug, Args)]
pub struct ForwarderLoadOptions {
    /// Forwarders, each with a location and a router of its own.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub forwarders: u32,
    /// Readings a second of all routers together; 0 is as fast as the window
    /// allows.
    #[arg(long, value_name = "N", default_value_t = 500_000.0)]
    pub readings_per_s: f64,
    /// Telemetry keys in a message.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub keys: u32,
    /// How many of them are forwarded, in one message.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub selected_keys: u32,
    /// How long a round lasts.
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    pub seconds: f64,
    /// How often there is a round with forwarders and one without.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How long the load lasts once before, measured by nothing.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub warm_up_s: f64,
    /// How long what was selected may take to arrive after a round.
    #[arg(long, value_name = "S", default_value_t = 120.0)]
    pub catch_up_s: f64,
    /// The server's program; by default `baken` beside this one.
    #[arg(long, value_name = "FILE")]
    pub baken: Option<PathBuf>,
    /// Keep the server's folder, and say where it is.
    #[arg(long)]
    pub keep: bool,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Threads of the load test.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
}

impl ForwarderLoadOptions {
    /// Says what can't be, beyond what the command line's parser sees.
    ///
    /// # Errors
    /// If the options contradict one another.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.selected_keys <= self.keys, "--selected-keys must not be above --keys");
        ensure!(self.readings_per_s >= 0.0, "--readings-per-s must not be negative");
        for (name, seconds) in [("seconds", self.seconds), ("warm-up-s", self.warm_up_s)] {
            ensure!((0.0..=600.0).contains(&seconds), "--{name} must be from 0 to 600");
        }
        ensure!(self.rounds <= 30, "--rounds must be at most 30");
        Ok(())
    }
}

/// Which server; by default one that is started for this run.
#[derive(Debug, Args)]
pub struct ServerOptions {
    /// Start this program in a folder of its own; by default `baken` beside
    /// this one, unless --server is given.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "mqtt"])]
    pub baken: Option<PathBuf>,
    /// The API of a server that runs already, such as http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", requires_all = ["mqtt", "token"])]
    pub server: Option<String>,
    /// The MQTT address of a server that runs already. Without --server it is
    /// any broker, and nothing is audited.
    #[arg(long, value_name = "HOST:PORT", value_parser = resolve)]
    pub mqtt: Option<SocketAddr>,
    /// A token of the whole installation.
    #[arg(long, value_name = "TOKEN", env = "BAKEN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The server's process, for its processor time and memory; by default its
    /// /metrics are asked.
    #[arg(long, value_name = "PID", requires = "mqtt")]
    pub server_pid: Option<u32>,
    /// Connect by TLS.
    #[arg(long)]
    pub tls: bool,
    /// The certificates to trust, PEM; needed with --tls and --mqtt.
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub ca: Option<PathBuf>,
    /// The name in the server's certificate.
    #[arg(long, value_name = "NAME", default_value = "127.0.0.1")]
    pub tls_name: String,
    /// Keep the folder of the server that was started, and say where it is.
    #[arg(long)]
    pub keep: bool,
}

/// What is sent.
#[derive(Clone, Debug, Args)]
pub struct LoadOptions {
    /// Connections, each a router of its own.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub connections: u32,
    /// Messages a second of all connections together; 0 is as fast as the
    /// window allows.
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub rate: f64,
    /// Telemetry keys in a message.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keys: u32,
    /// Times with values in a message; above 1 the payload is an array.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub times: u32,
    /// Devices behind each router, in turns (gateway API); 0 lets each router
    /// speak for itself. Series are connections × devices × keys.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub devices: u32,
    /// Quality of service: 0 or 1. At 0 nothing is acknowledged, so nothing can
    /// be missing.
    #[arg(long, value_name = "QOS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub qos: u8,
    /// Messages of one connection that may wait for their PUBACK.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,
    /// MQTT's version.
    #[arg(long, value_name = "VERSION", value_enum, default_value_t = VersionOption::V311)]
    pub mqtt_version: VersionOption,
    /// Each how-many-th message is a batch of old readings, as a router sends
    /// after it was away; 0 for none, else at least 2.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub buffered_every: u32,
    /// Times with values in such a batch.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub buffered_times: u32,
    /// How long ago a device's first reading was; the others follow a
    /// millisecond apart, whatever the rate.
    #[arg(long, value_name = "S", default_value_t = 86_400)]
    pub age_s: u32,
    /// Locations that the routers stand at in turns.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub locations: u32,
    /// Percent of the readings that raise or clear an alarm of a profile that is
    /// saved for them; a quarter as many change its severity. Buffered batches
    /// come late and raise nothing. All alarms are audited.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub alarms_share: f64,
    /// The same as alarms raised a second, of a load with a --rate.
    #[arg(long, value_name = "N", default_value_t = 0.0, conflicts_with = "alarms_share")]
    pub alarms_per_s: f64,
    /// Keep alive; 0 is none.
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub keep_alive_s: u16,
    /// Threads of the load test.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
}

/// What goes wrong beside the load.
#[derive(Clone, Debug, Args)]
pub struct TroubleOptions {
    /// Drop all connections and reconnect at once, each so many seconds; 0 never.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub storm_every_s: f64,
    /// Clients that publish malformed payloads.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub malformed: u32,
    /// Clients that publish payloads far over the limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub oversized: u32,
    /// Clients that ask and never read the answers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub slow_readers: u32,
    /// Clients that send bytes that are no MQTT.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub garbage: u32,
    /// Clients that connect and say nothing.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub silent: u32,
}

/// How the end is judged and where it is written.
#[derive(Clone, Debug, Args)]
pub struct OutcomeOptions {
    /// How long the last PUBACKs may take after the load.
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub drain_s: u64,
    /// How long the history may take to show all that was acknowledged.
    #[arg(long, value_name = "S", default_value_t = 300)]
    pub catch_up_s: u64,
    /// Read nothing back, and judge nothing.
    #[arg(long)]
    pub no_audit: bool,
    /// What all random choices follow from; printed. By default from the clock.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum VersionOption {
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5")]
    V5,
}

impl From<VersionOption> for Version {
    fn from(version: VersionOption) -> Self {
        match version {
            VersionOption::V311 => Self::V311,
            VersionOption::V5 => Self::V5,
        }
    }
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = address.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| format!("{address} has no address"))
}

impl LoadOptions {
    /// What the command line is without a word.
    ///
    /// # Panics
    /// Never: no option is required.
    #[must_use]
    pub fn usual() -> Self {
        let line = Options::try_parse_from(["loadtest", "run"]).expect("no option is required");
        match line.command {
            Command::Run(run) => run.load,
            _ => unreachable!("the command is `run`"),
        }
    }

    /// Says what can't be, beyond what the command line's parser sees.
    ///
    /// # Errors
    /// If the options contradict one another.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.connections > 0, "--connections must be at least 1");
        ensure!((1..=10_000).contains(&self.keys), "--keys must be from 1 to 10000");
        ensure!(self.times > 0, "--times must be at least 1");
        ensure!(self.buffered_every != 1, "--buffered-every must be 0 or at least 2");
        ensure!(self.buffered_times > 0, "--buffered-times must be at least 1");
        ensure!(self.devices < 1_000_000, "--devices must be below 1000000");
        ensure!(self.rate >= 0.0, "--rate must not be negative");
        ensure!(self.alarms_share >= 0.0, "--alarms-share must not be negative");
        ensure!(self.alarms_per_s >= 0.0, "--alarms-per-s must not be negative");
        ensure!(
            self.alarms_per_s == 0.0 || (self.rate > 0.0 && self.buffered_every == 0),
            "--alarms-per-s needs a --rate, and no buffered batches"
        );
        let crossing = self.crossing_per_million();
        ensure!(
            crossing <= f64::from(Swing::MAX_PER_MILLION),
            "so many alarms are more than every second reading of the keys that have limits"
        );
        let asked = self.alarms_share > 0.0 || self.alarms_per_s > 0.0;
        ensure!(!asked || crossing >= 1.0, "so few alarms are less than one in a million readings");
        Ok(())
    }

    /// How values cross the limits of alarms.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be from 0 to a million"
    )]
    pub fn swing(&self) -> Swing {
        Swing::new(self.crossing_per_million().round() as u32)
    }

    /// Readings of a watched key that raise or clear, of a million of them.
    fn crossing_per_million(&self) -> f64 {
        let watched = f64::from(swing::watched_keys(self.keys));
        let share = if self.alarms_per_s > 0.0 {
            // What is raised is cleared.
            2.0 * self.alarms_per_s / (self.rate * f64::from(self.times) * f64::from(self.keys))
        } else {
            self.alarms_share / 100.0
        };
        share * f64::from(self.keys) / watched * 1e6
    }

    /// The quality of service.
    #[must_use]
    pub fn qos(&self) -> QoS {
        if self.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
        let line = "loadtest crash --kills 3 --seconds 5 --json out.json";
        let options = Options::try_parse_from(line.split(' ')).unwrap();
        let Command::Crash(crash) = options.command else { panic!("{options:?}") };
        assert_eq!((crash.kills, crash.load.connections), (3, 100));
        let line = "loadtest cluster --nodes 3 --kill nodes,brokers,postgres --seconds 5";
        let options = Options::try_parse_from(line.split(' ')).unwrap();
        let Command::Cluster(cluster) = options.command else { panic!("{options:?}") };
        let all = [Victim::Nodes, Victim::Brokers, Victim::Postgres];
        assert_eq!((cluster.nodes, &cluster.kill[..]), (3, &all[..]));
        assert!((cluster.load.rate - 2_000.0).abs() < 1e-9, "{}", cluster.load.rate);
        let line = "loadtest forwarders --forwarders 20 --keys 3 --selected-keys 4";
        let options = Options::try_parse_from(line.split(' ')).unwrap();
        let Command::Forwarders(forwarders) = options.command else { panic!("{options:?}") };
        assert!(forwarders.check().is_err(), "more are selected than there are");
        let line = "loadtest run --server http://127.0.0.1:1 --token t";
        assert!(Options::try_parse_from(line.split(' ')).is_err(), "--mqtt is missing");
    }

    fn load(words: &str) -> LoadOptions {
        let line = format!("loadtest run {words}");
        let options = Options::try_parse_from(line.trim_end().split(' ')).unwrap();
        let Command::Run(run) = options.command else { panic!("{options:?}") };
        run.load
    }

    #[test]
    fn a_share_of_alarms_is_one_of_all_readings() {
        assert_eq!(load("").swing(), Swing::default());
        assert_eq!(load("--alarms-share 2").swing(), Swing::new(20_000));
        // Three of six keys have limits, so that each crosses twice as often.
        assert_eq!(load("--keys 6 --alarms-share 2").swing(), Swing::new(40_000));
        // 50 raised and 50 cleared of 15,000 readings.
        assert_eq!(load("--rate 5000 --alarms-per-s 50").swing(), Swing::new(6_667));
        for wrong in [
            "--alarms-share 60",
            "--keys 300 --alarms-share 2",
            "--alarms-share -1",
            "--alarms-share 0.00001",
            "--alarms-per-s 50",
            "--rate 10 --alarms-per-s 50",
            "--rate 5000 --alarms-per-s 50 --buffered-every 3",
        ] {
            let words = wrong.replace("share -1", "share=-1");
            assert!(load(&words).check().is_err(), "{wrong}");
        }
        assert!(load("--keys 6 --alarms-share 2").check().is_ok());
    }
}
