//! Connections that rest between messages, so that a message in a row costs no
//! handshakes and no second login.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Rests no longer; a provider closes what rests for minutes, and firewalls
/// forget it without a word.
const MAX_REST: Duration = Duration::from_secs(30);

/// For the provider's answer to our farewell.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

struct Resting {
    connection: AsyncSmtpConnection,
    since: Instant,
}

type Shelf = Arc<Mutex<Vec<Resting>>>;

/// It holds as many as its user returns, which opens a bounded number.
pub(super) struct Pool {
    shelf: Shelf,
    sweeper: JoinHandle<()>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} resting)", lock(&self.shelf).len())
    }
}

impl Pool {
    /// Needs a tokio runtime.
    pub fn new() -> Self {
        let shelf = Shelf::default();
        let sweeper = tokio::spawn(sweep(Arc::clone(&shelf)));
        Self { shelf, sweeper }
    }

    /// The one that has rested the least, where there is one.
    pub fn take(&self) -> Option<AsyncSmtpConnection> {
        let mut shelf = lock(&self.shelf);
        let resting = shelf.pop()?;
        (resting.since.elapsed() < MAX_REST).then_some(resting.connection)
    }

    /// Keeps a connection for the next message.
    pub fn put(&self, connection: AsyncSmtpConnection) {
        lock(&self.shelf).push(Resting { connection, since: Instant::now() });
    }

    /// Closes all: where one is dead, those that have rested longer are as well.
    pub fn clear(&self) {
        lock(&self.shelf).clear();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// No code panics while it holds the lock.
fn lock(shelf: &Shelf) -> MutexGuard<'_, Vec<Resting>> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes leave of what has rested long enough.
async fn sweep(shelf: Shelf) {
    let mut ticks = interval(MAX_REST / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let tired: Vec<Resting> =
            lock(&shelf).extract_if(.., |resting| resting.since.elapsed() >= MAX_REST).collect();
        for mut resting in tired {
            // What comes of a farewell changes nothing.
            let _ = timeout(QUIT_TIMEOUT, resting.connection.quit()).await;
        }
    }
}
