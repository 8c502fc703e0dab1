//! The e-mail channel: a message goes to one provider by SMTP, and what the
//! provider says of it comes back as an [`Outcome`].
//!
//! It keeps nothing and tries nothing again but a connection that has died while
//! it rested: when a message goes out again is the outbox's matter. It takes no
//! step that could make two mails of one hand-over: once content was sent no
//! other connection is tried, and where the answer is missing the outbox hands
//! the same message over later, under the same Message-ID.

mod classify;
mod mime;
mod options;
mod pool;
mod relay;

use std::time::{Duration, SystemTime};

use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub use self::options::{
    DEFAULT_MAX_CONNECTIONS, DEFAULT_TIMEOUT_MS, EmailError, EmailOptions, Tls,
};

use self::classify::{Stage, Trouble};
use self::mime::Sender;
use self::pool::Pool;
use self::relay::{Letter, Relay};
use crate::channel::{Outcome, Outgoing};

/// A connection that has rested must show that it is alive within this share of
/// the timeout, so that a fresh one has the rest.
const ALIVE_SHARE: u32 = 4;

/// Hands messages to one provider.
#[derive(Debug)]
pub struct EmailSender {
    relay: Relay,
    sender: Sender,
    /// Of everything between taking a connection and the last answer.
    timeout: Duration,
    slots: Semaphore,
    max_connections: usize,
    pool: Pool,
}

impl EmailSender {
    /// Checks the options and reads the certificates; it connects to nothing yet.
    ///
    /// # Errors
    /// A setting that no mail can be sent by, with its name.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(options: &EmailOptions) -> Result<Self, EmailError> {
        Ok(Self {
            relay: options.relay()?,
            sender: options.sender()?,
            timeout: options.timeout(),
            slots: Semaphore::new(options.max_connections as usize),
            max_connections: options.max_connections as usize,
            pool: Pool::new(),
        })
    }

    /// Messages that may be handed over at once; further ones wait.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// Hands a message over. It waits for a free connection as long as others
    /// need theirs; from then on it ends within the timeout.
    pub async fn send(&self, outgoing: &Outgoing) -> Outcome {
        let letter = match mime::letter(&self.sender, outgoing, SystemTime::now()) {
            Ok(letter) => letter,
            Err(unfit) => return Outcome::Refused { answer: unfit.to_string() },
        };
        let _slot = self.slots.acquire().await.expect("nobody closes the slots");
        let mut stage = Stage::Connect;
        match timeout(self.timeout, self.hand_over(&letter, &mut stage)).await {
            Ok(outcome) => outcome,
            // The connection went with the future: it is never used again.
            Err(_) => self.too_late(stage),
        }
    }

    /// Whether the provider can be reached and takes our credentials; where not,
    /// what a message would have met.
    ///
    /// # Errors
    /// Always an [`Outcome::Later`] of the whole provider.
    pub async fn check(&self) -> Result<(), Outcome> {
        let _slot = self.slots.acquire().await.expect("nobody closes the slots");
        let mut stage = Stage::Connect;
        match timeout(self.timeout, self.relay.connect(&mut stage)).await {
            Ok(Ok(connection)) => {
                self.pool.put(connection);
                Ok(())
            }
            Ok(Err(trouble)) => Err(classify::outcome(stage, &trouble)),
            Err(_) => Err(self.too_late(stage)),
        }
    }

    async fn hand_over(&self, letter: &Letter, stage: &mut Stage) -> Outcome {
        if let Some(connection) = self.rested().await {
            match self.attempt(connection, letter, stage).await {
                Err(trouble) if *stage < Stage::Content && is_end(&trouble) => self.pool.clear(),
                result => return outcome(*stage, result),
            }
        }
        let result = match self.relay.connect(stage).await {
            Ok(connection) => self.attempt(connection, letter, stage).await,
            Err(trouble) => Err(trouble),
        };
        outcome(*stage, result)
    }

    /// A connection that has rested and is alive.
    async fn rested(&self) -> Option<AsyncSmtpConnection> {
        let mut connection = self.pool.take()?;
        match timeout(self.timeout / ALIVE_SHARE, self.relay.reset(&mut connection)).await {
            Ok(Ok(())) => Some(connection),
            Ok(Err(_)) | Err(_) => {
                self.pool.clear();
                None
            }
        }
    }

    /// Hands the message over by this connection, and keeps the connection where
    /// it is fit for another.
    async fn attempt(
        &self,
        mut connection: AsyncSmtpConnection,
        letter: &Letter,
        stage: &mut Stage,
    ) -> Result<classify::Answer, Trouble> {
        let result = self.relay.hand_over(&mut connection, letter, stage).await;
        if !result.as_ref().is_err_and(is_end) {
            self.pool.put(connection);
        }
        result
    }

    fn too_late(&self, stage: Stage) -> Outcome {
        let why = format!("no answer within {} ms", self.timeout.as_millis());
        classify::outcome(stage, &Trouble::Silence(why))
    }
}

fn outcome(stage: Stage, result: Result<classify::Answer, Trouble>) -> Outcome {
    match result {
        Ok(answer) => classify::taken(&answer),
        Err(trouble) => classify::outcome(stage, &trouble),
    }
}

/// Whether the connection has come to its end with it.
fn is_end(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Silence(_) => true,
        Trouble::Answer(answer) => answer.code == 421,
    }
}
