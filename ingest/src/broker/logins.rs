//! Who came in and who was refused, for whoever keeps an audit history. The
//! broker tells it and goes on: nobody's connection waits for the telling, and
//! what there is no room for is counted.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, Registry};
use tokio::sync::mpsc;

use super::connect::Refused;
use crate::auth::AuthError;
use crate::metrics as names;

/// Logins that wait to be taken in.
pub const LOGIN_QUEUE: usize = 10_000;

/// A CONNECT and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub peer: IpAddr,
    /// What the router is found by (`schema::Credentials::lookup_key`), where
    /// something was presented. A token stands in it as its keyed hash.
    pub lookup: Option<String>,
    /// As the client sent it.
    pub client_id: String,
    pub outcome: LoginOutcome,
}

/// What became of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    Accepted,
    /// With the reason; a stable name.
    Refused(&'static str),
}

#[derive(Debug)]
pub(crate) struct Logins {
    sender: mpsc::Sender<Login>,
    receiver: Mutex<Option<mpsc::Receiver<Login>>>,
    untold: IntCounter,
}

impl Logins {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let untold = IntCounter::new(
            names::BROKER_LOGINS_UNTOLD_TOTAL,
            "Logins and refusals that the audit history had no room for.",
        )?;
        registry.register(Box::new(untold.clone()))?;
        let (sender, receiver) = mpsc::channel(LOGIN_QUEUE);
        Ok(Self { sender, receiver: Mutex::new(Some(receiver)), untold })
    }

    /// The other end, once.
    pub fn take(&self) -> Option<mpsc::Receiver<Login>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn tell(&self, login: Login) {
        if self.sender.try_send(login).is_err() {
            self.untold.inc();
        }
    }
}

/// The stable name of a refusal for the sake of credentials.
pub(crate) fn reason_of(error: AuthError) -> &'static str {
    match error {
        AuthError::BadCredentials => "bad_credentials",
        AuthError::NoCredentials => "no_credentials",
        AuthError::Disabled => "disabled",
        AuthError::Busy => "busy",
    }
}

/// The stable name of a refusal of what a CONNECT asks for.
pub(crate) fn reason_of_refusal(refused: Refused) -> &'static str {
    match refused {
        Refused::NotMqtt => "not_mqtt",
        Refused::Version => "version",
        Refused::ClientId => "client_id",
        Refused::BadCredentials => "bad_credentials",
        Refused::NotAuthorized => "not_authorized",
        Refused::Busy => "busy",
        Refused::Qos => "qos",
        Refused::WillTopic => "will_topic",
        Refused::TooLarge => "too_large",
        Refused::AuthenticationMethod => "authentication_method",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_counted_and_delays_nobody() {
        let logins = Logins::register(&Registry::new()).unwrap();
        let login = Login {
            peer: IpAddr::from([127, 0, 0, 1]),
            lookup: None,
            client_id: String::new(),
            outcome: LoginOutcome::Accepted,
        };
        for _ in 0..LOGIN_QUEUE + 3 {
            logins.tell(login.clone());
        }
        assert_eq!(logins.untold.get(), 3);
        assert_eq!(logins.take().map(|receiver| receiver.len()), Some(LOGIN_QUEUE));
        assert!(logins.take().is_none());
    }
}
