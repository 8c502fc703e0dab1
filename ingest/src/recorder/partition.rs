//! One partition's recording.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use journal::{Entry, Journal, ReadError, Reader};
use schema::{DecodeError, PartitionId, Position, RecordKind, RecordRows, TimestampMs, Value};
use store::attributes::AttributesError;
use store::history::{HistoryError, HistoryWriter};
use store::{AttributeChange, Attributes, History, Scope};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::RecorderOptions;
use super::metrics::PartitionMetrics;

/// The name under which the journal keeps what is still needed here.
const HOLD: &str = "recorder";

/// What others may see of a partition's recording.
#[derive(Debug, Default)]
pub(super) struct Progress {
    position: AtomicU64,
    stopped: OnceLock<String>,
}

impl Progress {
    pub(super) fn position(&self) -> Position {
        Position(self.position.load(Ordering::Relaxed))
    }

    pub(super) fn stopped(&self) -> Option<String> {
        self.stopped.get().cloned()
    }
}

#[derive(Debug)]
pub(super) struct PartitionRecorder {
    pub journal: Journal,
    pub partition: PartitionId,
    pub history: History,
    pub attributes: Attributes,
    pub options: RecorderOptions,
    pub stopping: watch::Receiver<bool>,
    pub progress: Arc<Progress>,
    pub metrics: PartitionMetrics,
}

/// Why recording ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("asked to stop")]
    Asked,
    #[error("journal: {0}")]
    Journal(ReadError),
    #[error("journal record at position {position}: {source}")]
    Record { position: Position, source: DecodeError },
    #[error("history, record at position {position}: {source}")]
    History { position: Position, source: HistoryError },
    #[error("the history cannot be taken over: {0}")]
    Claim(HistoryError),
    #[error("attributes: {0}")]
    Attributes(AttributesError),
}

impl End {
    /// Another node has claimed the partition, and goes on with it.
    fn is_taken_over(&self) -> bool {
        matches!(self, Self::History { source: HistoryError::Fenced(_), .. })
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Asked,
            error => Self::Journal(error),
        }
    }
}

/// A defect of ours must not stop a partition without anybody seeing it.
impl Drop for PartitionRecorder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.stopped("the recorder's task panicked");
        }
    }
}

/// Tells the journal what a restart would need.
pub(super) fn hold(
    journal: &Journal,
    history: &History,
    attributes: &Attributes,
    partition: PartitionId,
) {
    let in_files = history.durable_position(partition);
    journal.hold(HOLD, partition, in_files.min(attributes.position(partition)));
}

impl PartitionRecorder {
    pub(super) async fn run(mut self) {
        match self.record().await {
            Ok(()) | Err(End::Asked) => {
                tracing::debug!(partition = %self.partition, "the recorder ends");
            }
            Err(end) => self.stay_stopped(&end).await,
        }
        self.journal.let_go(HOLD, self.partition);
        self.metrics.forget();
    }

    /// Tells why it stopped until the partition is another's.
    async fn stay_stopped(&mut self, end: &End) {
        if end.is_taken_over() {
            let partition = self.partition;
            tracing::warn!(%partition, reason = %end, "another node records the partition");
            self.progress.stopped.get_or_init(|| end.to_string());
        } else {
            self.stopped(&end.to_string());
        }
        // Whoever sends may be gone, which is the end as well.
        let _ = self.stopping.wait_for(|stopping| *stopping).await;
    }

    fn stopped(&self, reason: &str) {
        tracing::error!(
            partition = %self.partition,
            reason,
            "recording has stopped; readings stay in the journal but are not seen in queries"
        );
        self.metrics.stopped.set(1);
        self.progress.stopped.get_or_init(|| reason.to_owned());
    }

    async fn record(&mut self) -> Result<(), End> {
        let mut writer = self.claim().await?;
        self.take_over_attributes().await?;
        // The first record that either of the two has still to take, and what one
        // of them has reached.
        let (in_history, in_attributes) =
            (writer.position(), self.attributes.position(self.partition));
        let (start, reached) = (in_history.min(in_attributes), in_history.max(in_attributes));
        self.hold();
        self.progress.position.store(start.0, Ordering::Relaxed);
        let mut stopping = self.stopping.clone();
        let mut reader = tokio::select! {
            opened = self.journal.reader_from(self.partition, start, reached) => opened?,
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
        };
        let mut tick = tokio::time::interval(Duration::from_millis(self.options.hold_interval_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = Vec::new();
        let mut pause = Pause::new(&self.options);
        loop {
            let entry = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
                _ = tick.tick() => None,
                entry = reader.next() => Some(entry),
            };
            match entry {
                None => {}
                Some(Ok(entry)) => {
                    pause = Pause::new(&self.options);
                    self.take_all(entry, &mut reader, &mut writer, &mut changes).await?;
                }
                Some(Err(error)) if error.is_retryable() => self.wait(&mut pause, &error).await?,
                Some(Err(error)) => return Err(error.into()),
            }
            self.apply(reader.position(), &mut changes).await?;
            self.hold();
            self.note(reader.position());
            // A partition with a backlog lets the others have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// Records `entry` and what is there behind it, up to the limit of a batch.
    async fn take_all(
        &mut self,
        entry: Entry,
        reader: &mut Reader,
        writer: &mut HistoryWriter,
        changes: &mut Vec<AttributeChange>,
    ) -> Result<(), End> {
        let mut next = Some(entry);
        let mut taken = 0;
        while let Some(entry) = next.take() {
            self.take(&entry, writer, changes).await?;
            self.age(entry.appended_at);
            taken += 1;
            if taken < self.options.max_batch_records {
                // An error comes again at the next turn, where it is dealt with.
                next = reader.try_next().unwrap_or_default();
            }
        }
        Ok(())
    }

    async fn take(
        &mut self,
        entry: &Entry,
        writer: &mut HistoryWriter,
        changes: &mut Vec<AttributeChange>,
    ) -> Result<(), End> {
        let position = entry.position;
        let scope = match entry.kind {
            RecordKind::Readings => None,
            RecordKind::ClientAttributes => Some(Scope::Client),
            RecordKind::SharedAttributes => Some(Scope::Shared),
            RecordKind::Commands => return self.pass_over(writer, position).await,
        };
        let rows = entry.record_rows().map_err(|source| End::Record { position, source })?;
        self.metrics.rows.inc_by(u64::from(entry.rows));
        let Some(scope) = scope else { return self.write(writer, position, &rows).await };
        if position >= self.attributes.position(self.partition) {
            changes.extend((0..rows.len()).map(|row| change(&rows, row, scope)));
        }
        self.pass_over(writer, position).await
    }

    async fn write(
        &mut self,
        writer: &mut HistoryWriter,
        position: Position,
        rows: &RecordRows,
    ) -> Result<(), End> {
        if position < writer.position() {
            return Ok(());
        }
        let mut pause = Pause::new(&self.options);
        loop {
            tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => return Err(End::Asked),
                () = writer.ready() => {}
            }
            match writer.write(position, rows) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retryable() => self.wait(&mut pause, &error).await?,
                Err(source) => return Err(End::History { position, source }),
            }
        }
    }

    /// Tells the history that this record holds nothing for it.
    async fn pass_over(&self, writer: &mut HistoryWriter, position: Position) -> Result<(), End> {
        let mut pause = Pause::new(&self.options);
        while position >= writer.position() {
            match writer.advance(position.next()) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retryable() => self.wait(&mut pause, &error).await?,
                Err(source) => return Err(End::History { position, source }),
            }
        }
        Ok(())
    }

    async fn apply(&self, next: Position, changes: &mut Vec<AttributeChange>) -> Result<(), End> {
        if next <= self.attributes.position(self.partition) {
            return Ok(());
        }
        let changes = std::mem::take(changes);
        let mut pause = Pause::new(&self.options);
        loop {
            match self.attributes.apply(self.partition, next, changes.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retryable() => self.wait(&mut pause, &error).await?,
                Err(error) => return Err(End::Attributes(error)),
            }
        }
    }

    /// Claims the history's partition, so that a former owner writes no more.
    async fn claim(&mut self) -> Result<HistoryWriter, End> {
        let mut pause = Pause::new(&self.options);
        loop {
            match self.history.writer(self.partition).await {
                Ok(writer) => return Ok(writer),
                Err(error) if error.is_retryable() => self.wait(&mut pause, &error).await?,
                Err(error) => return Err(End::Claim(error)),
            }
        }
    }

    async fn take_over_attributes(&mut self) -> Result<(), End> {
        let mut pause = Pause::new(&self.options);
        loop {
            match self.attributes.take_over(self.partition).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retryable() => self.wait(&mut pause, &error).await?,
                Err(error) => return Err(End::Attributes(error)),
            }
        }
    }

    fn hold(&self) {
        hold(&self.journal, &self.history, &self.attributes, self.partition);
    }

    fn note(&self, position: Position) {
        self.progress.position.store(position.0, Ordering::Relaxed);
        let behind = self.journal.bounds(self.partition).next.0.saturating_sub(position.0);
        self.metrics.position.set(i64::try_from(position.0).unwrap_or(i64::MAX));
        self.metrics.lag_records.set(i64::try_from(behind).unwrap_or(i64::MAX));
        if behind == 0 {
            self.metrics.lag_seconds.set(0.0);
        }
    }

    fn age(&self, appended_at: TimestampMs) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let appended = Duration::from_millis(u64::try_from(appended_at.0).unwrap_or(0));
        self.metrics.lag_seconds.set(since_1970.saturating_sub(appended).as_secs_f64());
    }

    /// Waits before another attempt; each pause is twice as long as the last.
    async fn wait(
        &self,
        pause: &mut Pause,
        error: &(dyn std::error::Error + Sync),
    ) -> Result<(), End> {
        self.metrics.retries.inc();
        if !pause.logged {
            pause.logged = true;
            let partition = self.partition;
            tracing::warn!(%partition, %error, "recording waits and will try again");
        }
        let mut stopping = self.stopping.clone();
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => Err(End::Asked),
            () = tokio::time::sleep(pause.next()) => Ok(()),
        }
    }
}

/// Pauses between attempts.
struct Pause {
    next: Duration,
    longest: Duration,
    logged: bool,
}

impl Pause {
    fn new(options: &RecorderOptions) -> Self {
        let next = Duration::from_millis(options.retry_min_ms);
        Self { next, longest: Duration::from_millis(options.retry_max_ms), logged: false }
    }

    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

fn change(rows: &RecordRows, row: usize, scope: Scope) -> AttributeChange {
    AttributeChange {
        device: rows.origin(row).device,
        scope,
        key: rows.key(row).to_owned(),
        value: rows.value(row).map(json),
        at: rows.observed_at(row),
    }
}

/// A nested value was checked to be JSON when it was decoded; if a later
/// reader should disagree, its text is kept as text rather than lost.
fn json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Number(number) => number.into(),
        Value::Integer(integer) => integer.into(),
        Value::Boolean(boolean) => boolean.into(),
        Value::Text(text) => text.into(),
        Value::Json(json) => serde_json::from_str(json).unwrap_or_else(|_| json.into()),
    }
}
