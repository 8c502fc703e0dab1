//! What a process has used, from the kernel's own books.

use std::io;
use std::path::Path;

/// The kernel counts processor time of a process in hundredths of a second,
/// on every architecture that Baken is built for (`USER_HZ`).
const TICK_US: u64 = 10_000;

/// Open files for more connections than one machine can hold.
const WANTED_FILES: u64 = 1 << 20;

/// Open files of a server beside its connections.
const OTHER_FILES: u64 = 150;

/// What a process has used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, of the program and of the kernel for it.
    pub cpu_us: u64,
    /// Memory that is in RAM now.
    pub rss_bytes: u64,
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, next| Self {
            cpu_us: sum.cpu_us + next.cpu_us,
            rss_bytes: sum.rss_bytes + next.rss_bytes,
        })
    }
}

/// What the process `pid` has used.
///
/// # Errors
/// If there is no such process.
pub fn of(pid: u32) -> io::Result<Usage> {
    read(&Path::new("/proc").join(pid.to_string()))
}

/// Processor time of a process, of its children that live, and of those that it
/// has waited for: PostgreSQL has a process for each connection.
///
/// # Errors
/// If there is no such process.
pub fn family_cpu_us(pid: u32) -> io::Result<u64> {
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc");
    let own = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut all = field_sum(&own, 11, 4).ok_or_else(unreadable)?;
    for entry in std::fs::read_dir("/proc")? {
        // A process may end while it is looked at.
        let Ok(stat) = std::fs::read_to_string(entry?.path().join("stat")) else { continue };
        if field_sum(&stat, 1, 1) == Some(u64::from(pid)) {
            all += ticks(&stat).unwrap_or(0);
        }
    }
    Ok(all * TICK_US)
}

/// What this process has used.
///
/// # Errors
/// If the system has no `/proc`.
pub fn own() -> io::Result<Usage> {
    read(Path::new("/proc/self"))
}

fn read(folder: &Path) -> io::Result<Usage> {
    let stat = std::fs::read_to_string(folder.join("stat"))?;
    let status = std::fs::read_to_string(folder.join("status"))?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc");
    Ok(Usage {
        cpu_us: ticks(&stat).ok_or_else(unreadable)? * TICK_US,
        // A process that has ended has no memory.
        rss_bytes: rss_kib(&status).unwrap_or(0) * 1024,
    })
}

/// Fields 14 and 15.
fn ticks(stat: &str) -> Option<u64> {
    field_sum(stat, 11, 2)
}

/// The sum of fields behind the second, which is a name that may hold spaces and
/// brackets.
fn field_sum(stat: &str, skipped: usize, count: usize) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(skipped);
    (0..count).map(|_| fields.next()?.parse::<u64>().ok()).sum()
}

fn rss_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Lets this process, and the server that it starts, have as many open files as
/// the system allows it: more than the limit that it was given if it may lift
/// that, which takes a privilege.
///
/// # Errors
/// If the system refuses.
pub fn raise_file_limit() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let both = |limit| Rlimit { current: limit, maximum: limit };
    let given = getrlimit(Resource::Nofile).maximum;
    if given.is_some_and(|given| given < WANTED_FILES)
        && setrlimit(Resource::Nofile, both(Some(WANTED_FILES))).is_ok()
    {
        return Ok(());
    }
    Ok(setrlimit(Resource::Nofile, both(given))?)
}

/// Whether so many connections fit the limit of open files, which holds for a
/// server that is started here too.
///
/// # Errors
/// If they don't; says what the limit is.
pub fn check_file_limit(connections: u32) -> io::Result<()> {
    use rustix::process::{Resource, getrlimit};
    fits(connections, getrlimit(Resource::Nofile).current)
}

fn fits(connections: u32, limit: Option<u64>) -> io::Result<()> {
    let needed = u64::from(connections) + OTHER_FILES;
    match limit {
        Some(limit) if limit < needed => Err(io::Error::other(format!(
            "{connections} connections need {needed} open files, but the limit is {limit} \
             (ulimit -Hn)"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_books_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!((field_sum(stat, 1, 1), field_sum(stat, 50, 1)), (Some(1), None));
        assert!(family_cpu_us(std::process::id()).is_ok());
        assert_eq!(rss_kib("Name:\tx\nVmRSS:\t    5480 kB\n"), Some(5480));
        let own = own().unwrap();
        assert!(own.rss_bytes > 0);
        assert_eq!(of(std::process::id()).unwrap().rss_bytes > 0, own.rss_bytes > 0);
        assert!(of(u32::MAX).is_err());
    }

    #[test]
    fn more_connections_than_open_files_are_refused_by_name() {
        assert!(fits(850, Some(1_000)).is_ok());
        assert!(fits(u32::MAX, None).is_ok());
        let error = fits(851, Some(1_000)).unwrap_err().to_string();
        assert!(error.starts_with("851 connections need 1001 open files"), "{error}");
    }
}
