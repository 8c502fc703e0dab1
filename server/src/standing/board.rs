//! All locations' statuses at one moment, for counts and filters. It is made at
//! most once a second, however many ask, and in time for the metrics.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntGaugeVec, Opts, Registry};
use schema::{LocationId, TenantId, TimestampMs, partition_of};
use store::{Entry, ListQuery};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{LocationStatus, Sources, Standing, Tally};

/// Locations by status.
const LOCATIONS: &str = "baken_locations";

/// How old an answer may be.
const MAX_AGE: Duration = Duration::from_secs(1);

/// How often the metric follows while nobody asks.
const METRIC_INTERVAL: Duration = Duration::from_secs(5);

/// With very many locations the pause is at least so many times as long as the
/// counting took.
const METRIC_PAUSE: u32 = 100;

/// All statuses at one moment.
#[derive(Debug)]
pub struct Board {
    made: Instant,
    pub at: TimestampMs,
    /// By location, in the order of ids.
    pub statuses: BTreeMap<LocationId, (TenantId, LocationStatus)>,
    counts: HashMap<TenantId, [u64; LocationStatus::ALL.len()]>,
}

impl Board {
    /// Of a tenant, or of all; in the order of [`LocationStatus::ALL`].
    #[must_use]
    pub fn counts(&self, tenant: Option<TenantId>) -> [u64; LocationStatus::ALL.len()] {
        let mut sum = [0; LocationStatus::ALL.len()];
        for (id, counts) in &self.counts {
            if tenant.is_none_or(|tenant| tenant == *id) {
                sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        }
        sum
    }
}

/// Tells how locations stand. Clones share the board.
#[derive(Clone, Debug)]
pub struct Standings {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sources: Arc<Sources>,
    board: Mutex<Option<Arc<Board>>>,
    gauge: IntGaugeVec,
    task: StdMutex<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl Standings {
    /// `hosts` are the names under which routers reach this cloud.
    ///
    /// # Errors
    /// When the metric is registered already.
    pub fn start(
        store: &store::Store,
        presence: Arc<ingest::Presence>,
        alarms: Arc<alarms::AlarmWorkers>,
        recorder: Arc<ingest::recorder::Recorder>,
        (hosts, partitions): (Vec<String>, u16),
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let gauge = IntGaugeVec::new(Opts::new(LOCATIONS, "Locations by status"), &["status"])?;
        registry.register(Box::new(gauge.clone()))?;
        for status in LocationStatus::ALL {
            gauge.with_label_values(&[status.as_str()]).set(0);
        }
        let directory = store.directory().clone();
        let sources = Sources { directory, presence, alarms, recorder, hosts, partitions };
        let shared = Arc::new(Shared {
            sources: Arc::new(sources),
            board: Mutex::new(None),
            gauge,
            task: StdMutex::new(None),
        });
        // Weak, so that the task does not keep what it looks at.
        let weak = Arc::downgrade(&shared);
        let task = tokio::spawn(async move {
            while let Some(shared) = weak.upgrade() {
                let begun = Instant::now();
                Self { shared }.board().await;
                let pause = METRIC_INTERVAL.max(begun.elapsed() * METRIC_PAUSE);
                tokio::time::sleep(pause).await;
            }
        });
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(Self { shared })
    }

    /// How these locations stand now.
    #[must_use]
    pub fn of(&self, locations: &[Arc<Entry<schema::Location>>]) -> Vec<Standing> {
        let sources = &self.shared.sources;
        let stopped = sources.stopped();
        locations.iter().map(|location| sources.location(location, &stopped)).collect()
    }

    /// All locations, as they stood at most a second ago.
    ///
    /// # Panics
    /// If making it panicked, which would be a defect.
    pub async fn board(&self) -> Arc<Board> {
        let mut kept = self.shared.board.lock().await;
        if let Some(board) = kept.as_ref().filter(|board| board.made.elapsed() < MAX_AGE) {
            return Arc::clone(board);
        }
        let sources = Arc::clone(&self.shared.sources);
        let made = tokio::task::spawn_blocking(move || Arc::new(sources.board()));
        let board = made.await.expect("counting locations does not panic");
        for (status, count) in LocationStatus::ALL.into_iter().zip(board.counts(None)) {
            let gauge = self.shared.gauge.with_label_values(&[status.as_str()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        *kept = Some(Arc::clone(&board));
        board
    }
}

impl Sources {
    fn board(&self) -> Board {
        let stopped = self.stopped();
        let mut tallies: HashMap<LocationId, Tally> = HashMap::new();
        let mut query = ListQuery::default();
        loop {
            let page = self.directory.routers(&query);
            for router in page.items {
                tallies.entry(router.location).or_default().add(self.router(&router).0);
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let ms = since.unwrap_or_default().as_millis();
        let mut board = Board {
            made: Instant::now(),
            at: TimestampMs(i64::try_from(ms).unwrap_or(i64::MAX)),
            statuses: BTreeMap::new(),
            counts: HashMap::new(),
        };
        query.after = None;
        loop {
            let page = self.directory.locations(&query);
            for location in page.items {
                let id = LocationId(location.id);
                let partition = partition_of(location.tenant, id, self.partitions);
                let tally = tallies.get(&id).copied().unwrap_or_default();
                let status = tally.status(stopped.contains(&partition));
                board.statuses.insert(id, (location.tenant, status));
                let counts = board.counts.entry(location.tenant).or_default();
                counts[status as usize] += 1;
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return board,
            }
        }
    }
}
