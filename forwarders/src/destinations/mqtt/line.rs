//! The connections of one identity, one after the other: made when something is
//! to be sent, made anew before its credentials end, and not insisted on where
//! somebody else takes the same place.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::{Class, Failure, Sent};
use super::link::{Link, Login};
use super::tenure::Tenure;
use crate::engine::{Account, Context};

/// The least time from one attempt to connect to the next: AWS takes one a second
/// of a client id.
const CONNECT_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Line {
    begun: Instant,
    /// When the next attempt to connect may be made.
    connect_at: Instant,
    link: Option<(Link, Instant)>,
    tenure: Tenure,
    /// Who else may be the reason where connections are ended again and again; a
    /// sentence's end.
    suspicion: &'static str,
}

impl Line {
    pub fn new(suspicion: &'static str) -> Self {
        let (now, tenure) = (Instant::now(), Tenure::default());
        Self { begun: now, connect_at: now, link: None, tenure, suspicion }
    }

    /// Sees to a connection that holds for a batch. One that is older than `life`
    /// is ended first: between two batches nothing is in flight, so that no
    /// acknowledgement is lost.
    pub async fn connect(
        &mut self,
        context: &Context,
        life: Option<Duration>,
        login: impl FnOnce() -> Login,
    ) -> Result<(), Failure> {
        if let Some((link, since)) = self.link.take() {
            if !link.is_up() {
                self.ended(since);
            } else if life.is_some_and(|life| since.elapsed() >= life) {
                link.close().await;
            } else {
                self.link = Some((link, since));
                return Ok(());
            }
        }
        if let Some(pause) = self.tenure.pause(self.begun.elapsed()) {
            return Err(self.displaced(pause));
        }
        sleep_until(self.connect_at).await;
        context.connect_turn().await;
        self.connect_at = Instant::now() + CONNECT_EVERY;
        let link = Link::connect(&login(), context.reach()).await?;
        self.link = Some((link, Instant::now()));
        Ok(())
    }

    /// Publishes on the connection; see [`Link::publish`].
    pub async fn publish(
        &mut self,
        messages: Vec<(String, String, usize)>,
        account: &Account,
    ) -> Sent {
        let Some((link, since)) = &self.link else { return Sent::failed(Failure::timed_out()) };
        let mut sent = link.publish(messages, account).await;
        if sent.failure.is_some() {
            let (was_ended, since) = (!link.is_up(), *since);
            // What was not acknowledged is sent again by a new connection.
            self.link = None;
            if was_ended {
                self.ended(since);
                if let Some(pause) = self.tenure.pause(self.begun.elapsed()) {
                    sent.failure = Some(self.displaced(pause));
                }
            }
        }
        sent
    }

    pub async fn close(&mut self) {
        if let Some((link, _)) = self.link.take() {
            link.close().await;
        }
    }

    fn ended(&mut self, since: Instant) {
        self.tenure.ended(since.elapsed(), self.begun.elapsed());
    }

    fn displaced(&self, pause: Duration) -> Failure {
        let (times, suspicion) = (self.tenure.ended_early(), self.suspicion);
        let message = format!(
            "the platform has closed the connection {times} times in a row soon after it was \
             made; {suspicion}"
        );
        Failure { retry_after: Some(pause), ..Failure::new(Class::Displaced, message) }
    }
}
