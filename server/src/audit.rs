//! Who came in, who was refused, and what people did that is no document: on
//! its way into the events.
//!
//! Logins and refusals are gathered here, so that a flood of them makes few
//! events: the first of a kind, address and reason is told at once, the others
//! of that minute together as a number, and past a named bound all further
//! ones as one number. What a person does is told before it is done, so that
//! nothing is done untold.

mod gathering;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ingest::broker::{Login, LoginOutcome};
use prometheus::{IntCounterVec, Opts, Registry};
use schema::{ApiToken, Author, Device, DeviceId, Router, TransitionId};
use serde_json::{Value, json};
use store::{AlarmStore, Directory, Entry, NewEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::gathering::{Fact, Gathering};
use crate::api::metrics::{SIGHTINGS_TOTAL, UNLISTED_TOTAL};
use crate::clock::now;

/// How often what was gathered is written.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Letters of the user name and of the client id of nobody we know that are
/// told; either may be a secret that was put into the wrong field.
const UNKNOWN_PREFIX_CHARS: usize = 4;

/// Digits of a secret's keyed hash that are told: enough to see that two
/// refusals were by the same one, and of no use to anybody.
const HASH_PREFIX_CHARS: usize = 8;

/// The longest client id that is told of a router.
const CLIENT_ID_CHARS: usize = 64;

/// Takes in what is to be told; clones share it.
#[derive(Clone, Debug)]
pub struct Audit {
    alarms: AlarmStore,
    gathering: Arc<Mutex<Gathering>>,
    seen: IntCounterVec,
    unlisted: IntCounterVec,
}

/// Carries to the events, until it is stopped or dropped.
#[derive(Debug)]
pub struct AuditTasks {
    audit: Audit,
    directory: Directory,
    tasks: Vec<JoinHandle<()>>,
}

/// An id that nothing else has; none if the system has no random bytes.
fn random_id() -> Option<TransitionId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(TransitionId(u128::from_le_bytes(bytes)))
}

fn beginning(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

impl Audit {
    /// Nothing gathered yet.
    pub fn register(alarms: &AlarmStore, registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name, help| IntCounterVec::new(Opts::new(name, help), &["kind"]);
        let seen = counter(SIGHTINGS_TOTAL, "Logins and refusals of API and MQTT.")?;
        let unlisted = counter(UNLISTED_TOTAL, "Logins and refusals told of in a number only.")?;
        registry.register(Box::new(seen.clone()))?;
        registry.register(Box::new(unlisted.clone()))?;
        let gathering = Arc::default();
        Ok(Self { alarms: alarms.clone(), gathering, seen, unlisted })
    }

    /// A person does something to a device. To be awaited before it is done.
    pub async fn deed(
        &self,
        kind: &str,
        author: &Author,
        id: DeviceId,
        device: &Device,
        body: Value,
    ) -> Result<(), store::alarms::AlarmStoreError> {
        let Some(event) = random_id() else {
            return Err(store::alarms::AlarmStoreError::Stored("no random bytes".to_owned()));
        };
        let event = NewEvent {
            id: event,
            tenant: Some(device.tenant),
            at: now(),
            kind: kind.to_owned(),
            location: Some(device.location),
            device: Some(id),
            document: Some(id.0),
            actor: None,
            provenance: schema::Provenance::default(),
            body,
        };
        self.alarms.record(vec![event.with_author(author)]).await
    }

    /// Something was done that concerns the installation as a whole.
    pub async fn of_installation(
        &self,
        kind: &str,
        author: &Author,
        body: Value,
    ) -> Result<(), store::alarms::AlarmStoreError> {
        let Some(id) = random_id() else {
            return Err(store::alarms::AlarmStoreError::Stored("no random bytes".to_owned()));
        };
        let event = NewEvent {
            id,
            tenant: None,
            at: now(),
            kind: kind.to_owned(),
            location: None,
            device: None,
            document: None,
            actor: None,
            provenance: schema::Provenance::default(),
            body,
        };
        self.alarms.record(vec![event.with_author(author)]).await
    }

    /// A token was used from an address.
    pub fn token_used(&self, token: &Entry<ApiToken>, from: IpAddr) {
        self.note(Fact {
            kind: "api_login",
            tenant: token.tenant,
            location: None,
            document: Some(token.id),
            address: Some(from.to_canonical()),
            reason: "",
            who: token.name.clone(),
            client_id: None,
        });
    }

    /// A request was refused: by whom is known where the token is, and is the
    /// beginning of its keyed hash where it is not.
    pub fn request_refused(
        &self,
        reason: &'static str,
        token: Option<&Entry<ApiToken>>,
        hash: Option<&str>,
        from: Option<IpAddr>,
    ) {
        let unknown = || hash.map(|hash| format!("token:{}…", beginning(hash, HASH_PREFIX_CHARS)));
        self.note(Fact {
            kind: "api_refused",
            tenant: token.and_then(|token| token.tenant),
            location: None,
            document: token.map(|token| token.id),
            address: from.map(|address| address.to_canonical()),
            reason,
            who: token.map(|token| token.name.clone()).or_else(unknown).unwrap_or_default(),
            client_id: None,
        });
    }

    fn login(&self, directory: &Directory, login: Login) {
        let Login { peer, lookup, client_id, outcome } = login;
        let found = lookup.as_deref().and_then(|key| directory.router_by_lookup_key(key));
        let router: Option<&Router> = found.as_deref().map(|entry| &entry.body);
        let (kind, reason) = match outcome {
            LoginOutcome::Accepted => ("mqtt_login", ""),
            LoginOutcome::Refused(reason) => ("mqtt_refused", reason),
        };
        let unknown = || lookup.as_deref().map(shown_lookup).unwrap_or_default();
        self.note(Fact {
            kind,
            tenant: router.map(|router| router.tenant),
            location: router.map(|router| router.location),
            document: found.as_ref().map(|entry| entry.id),
            address: Some(peer.to_canonical()),
            reason,
            who: router.map_or_else(unknown, |router| router.name.clone()),
            client_id: Some(shown_client_id(&client_id, router.is_some())),
        });
    }

    fn note(&self, fact: Fact) {
        let kind = fact.kind;
        self.seen.with_label_values(&[kind]).inc();
        let is_listed = self.gathering().note(fact, now());
        if !is_listed {
            self.unlisted.with_label_values(&[kind]).inc();
        }
    }

    fn gathering(&self) -> std::sync::MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is due; with `all`, the numbers of the minute that is not
    /// over, too.
    async fn write(&self, all: bool) {
        let due = self.gathering().take(now(), all);
        let events: Vec<NewEvent> =
            due.iter().filter_map(|fact| event(fact, random_id()?)).collect();
        if events.is_empty() {
            return;
        }
        if let Err(error) = self.alarms.record(events).await {
            tracing::error!(%error, "logins and refusals wait to be written");
            self.gathering().give_back(due);
        }
    }
}

fn event(fact: &gathering::Due, id: TransitionId) -> Option<NewEvent> {
    let Fact { kind, tenant, location, document, address, reason, who, client_id } = &fact.fact;
    let mut body = json!({ "count": fact.count });
    if !reason.is_empty() {
        body["reason"] = json!(reason);
    }
    if let Some(client_id) = client_id {
        body["client_id"] = json!(client_id);
    }
    if fact.count > 1 {
        body["since"] = json!(fact.since);
    }
    Some(NewEvent {
        id,
        tenant: *tenant,
        at: fact.at,
        kind: (*kind).to_owned(),
        location: *location,
        device: None,
        document: *document,
        actor: (!who.is_empty()).then(|| who.clone()),
        provenance: schema::Provenance { token: None, from: address.map(|a| a.to_string()) },
        body,
    })
}

fn shown_client_id(client_id: &str, is_of_router: bool) -> String {
    match is_of_router || client_id.is_empty() {
        true => beginning(client_id, CLIENT_ID_CHARS),
        false => format!("{}…", beginning(client_id, UNKNOWN_PREFIX_CHARS)),
    }
}

/// What a router is found by, as far as it is no secret.
fn shown_lookup(lookup: &str) -> String {
    match lookup.split_once(':') {
        Some(("user", user)) => format!("user:{}…", beginning(user, UNKNOWN_PREFIX_CHARS)),
        Some((kind @ ("token" | "fingerprint"), hash)) => {
            format!("{kind}:{}…", beginning(hash, HASH_PREFIX_CHARS))
        }
        _ => beginning(lookup, CLIENT_ID_CHARS),
    }
}

impl AuditTasks {
    /// Carries the directory's outbox, and writes what is gathered. `logins`
    /// are the broker's.
    #[must_use]
    pub fn start(
        audit: &Audit,
        directory: &Directory,
        logins: Option<mpsc::Receiver<Login>>,
    ) -> Self {
        let carrying = store::audit::keep_carrying(directory.clone(), audit.alarms.clone());
        let mut tasks = vec![tokio::spawn(carrying), tokio::spawn(write_on(audit.clone()))];
        if let Some(logins) = logins {
            tasks.push(tokio::spawn(take_in(audit.clone(), directory.clone(), logins)));
        }
        Self { audit: audit.clone(), directory: directory.clone(), tasks }
    }

    /// Writes all that is there.
    pub async fn stop(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            // Aborted is what it is meant to be.
            let _ = task.await;
        }
        self.audit.write(true).await;
        if let Err(error) = store::audit::carry(&self.directory, &self.audit.alarms).await {
            tracing::warn!(%error, "events of changes are carried at the next start");
        }
    }
}

impl Drop for AuditTasks {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn write_on(audit: Audit) {
    let mut ticks = tokio::time::interval(WRITE_INTERVAL);
    loop {
        ticks.tick().await;
        audit.write(false).await;
    }
}

async fn take_in(audit: Audit, directory: Directory, mut logins: mpsc::Receiver<Login>) {
    while let Some(login) = logins.recv().await {
        audit.login(&directory, login);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_never_whole() {
        assert_eq!(shown_lookup("user:correct-horse-battery"), "user:corr…");
        assert_eq!(shown_lookup("token:0123456789abcdef"), "token:01234567…");
        assert_eq!(shown_lookup("fingerprint:0123456789abcdef"), "fingerprint:01234567…");
        assert_eq!(shown_lookup("cn:press 1"), "cn:press 1");
        assert_eq!(shown_client_id("correct-horse-battery", false), "corr…");
        assert_eq!(shown_client_id("", false), "");
        assert_eq!(shown_client_id("press-1-of-acme", true), "press-1-of-acme");
    }
}
