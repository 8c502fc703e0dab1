//! What the process takes of its machine, under the names that every
//! Prometheus dashboard knows, and which build it is.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, GaugeVec, Opts, Registry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::ServerConfig;

/// Always 1; the labels say which build runs.
pub const BUILD_INFO: &str = "baken_build_info";

/// Always 1; the labels say which node this is and what it does.
pub const NODE_INFO: &str = "baken_node_info";

/// Ticks a second in `/proc/self/stat`; part of Linux' stable interface.
const TICKS_PER_S: f64 = 100.0;

/// CPU, memory, files and threads of this process, read at each scrape.
#[derive(Debug)]
struct Host {
    cpu_seconds: Counter,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    open_files: Gauge,
    threads: Gauge,
    start_time: Gauge,
    data_dir: PathBuf,
    data_free: Gauge,
    data_size: Gauge,
}

/// Bytes that may still be written to the file system of the data folder, and its
/// size.
pub const DATA_FREE: &str = "baken_data_free_bytes";
pub const DATA_SIZE: &str = "baken_data_size_bytes";

/// What this node is called: as configured, or else as the machine is.
pub fn node_name(server: &ServerConfig) -> String {
    match server.node.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        name => name.to_owned(),
    }
}

/// Registers the metrics of the process, and says who it is.
pub fn register(server: &ServerConfig, registry: &Registry) -> Result<(), prometheus::Error> {
    let node = node_name(server);
    let labels = ["node", "version", "roles"];
    let info = GaugeVec::new(Opts::new(NODE_INFO, "Which node this is"), &labels)?;
    let roles = server.roles.to_string();
    info.with_label_values(&[node.as_str(), env!("CARGO_PKG_VERSION"), roles.as_str()]).set(1.0);
    registry.register(Box::new(info))?;
    let build = GaugeVec::new(Opts::new(BUILD_INFO, "Which build runs"), &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    registry.register(Box::new(build))?;
    let host = Host {
        cpu_seconds: Counter::new("process_cpu_seconds_total", "CPU time taken, in seconds")?,
        resident_bytes: Gauge::new("process_resident_memory_bytes", "Memory in RAM")?,
        virtual_bytes: Gauge::new("process_virtual_memory_bytes", "Address space")?,
        open_files: Gauge::new("process_open_fds", "Open files and sockets")?,
        threads: Gauge::new("process_threads", "Threads")?,
        start_time: Gauge::new("process_start_time_seconds", "When it started, since 1970")?,
        data_dir: server.data_dir.clone(),
        data_free: Gauge::new(DATA_FREE, "What is left to write in the data folder's file system")?,
        data_size: Gauge::new(DATA_SIZE, "The size of the data folder's file system")?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    host.start_time.set(now.as_secs_f64().round());
    registry.register(Box::new(host))
}

/// Files and sockets beside those of routers.
const OTHER_FILES: u64 = 2_048;

/// Lets the process have as many files and sockets as the system grants it; the
/// usual limit of 1,024 would end a fleet at the first thousand routers.
pub fn raise_file_limit(max_connections: u32) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let limit = getrlimit(Resource::Nofile).current;
    let needed = u64::from(max_connections) + OTHER_FILES;
    if limit.is_some_and(|limit| limit < needed) {
        tracing::warn!(
            limit,
            needed,
            "the system grants fewer open files than mqtt.limits.max_connections may need"
        );
    }
}

impl Host {
    fn gauges(&self) -> [&Gauge; 7] {
        [
            &self.resident_bytes,
            &self.virtual_bytes,
            &self.open_files,
            &self.threads,
            &self.start_time,
            &self.data_free,
            &self.data_size,
        ]
    }

    fn read(&self) {
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu) {
            let more = seconds - self.cpu_seconds.get();
            if more > 0.0 {
                self.cpu_seconds.inc_by(more);
            }
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let number = |name| status_number(&status, name);
            self.resident_bytes.set(number("VmRSS:").unwrap_or(0.0) * 1024.0);
            self.virtual_bytes.set(number("VmSize:").unwrap_or(0.0) * 1024.0);
            self.threads.set(number("Threads:").unwrap_or(0.0));
        }
        // One that does not answer leaves what was known.
        if let Ok(disk) = rustix::fs::statvfs(&self.data_dir) {
            #[allow(clippy::cast_precision_loss, reason = "bytes of a disk fit 53 bits well")]
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize) as f64;
            self.data_free.set(bytes(disk.f_bavail));
            self.data_size.set(bytes(disk.f_blocks));
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            let count = u32::try_from(files.count()).unwrap_or(u32::MAX);
            self.open_files.set(f64::from(count));
        }
    }
}

impl Collector for Host {
    fn desc(&self) -> Vec<&Desc> {
        let mut all = self.cpu_seconds.desc();
        all.extend(self.gauges().into_iter().flat_map(Collector::desc));
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        let mut all = self.cpu_seconds.collect();
        all.extend(self.gauges().into_iter().flat_map(Collector::collect));
        all
    }
}

/// User and system time out of `/proc/self/stat`, in seconds. The name in
/// brackets may hold anything, so fields are counted from its end.
fn cpu(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

fn status_number(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_says_of_this_process() {
        let registry = Registry::new();
        register(&ServerConfig::default(), &registry).unwrap();
        let families = registry.gather();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            family.get_metric()[0].get_gauge().get_value()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_open_fds") >= 3.0);
    }

    #[test]
    fn a_process_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1";
        assert_eq!(cpu(stat), Some(2.0));
    }
}
