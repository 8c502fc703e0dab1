//! What a destination is given beside its configuration.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::account::{Account, Accounts};
use crate::destinations::{AccountLimits, Fault, http_client};
use crate::pace::Bucket;
use crate::reach::Reach;
use crate::tls;

/// Shared by all destinations, but for the account.
#[derive(Clone, Debug)]
pub struct Context {
    pub account: Arc<Account>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    begun: Instant,
    accounts: Accounts,
    reach: Reach,
    connects: Mutex<Bucket>,
    /// For connections without a client's certificate, by the authority that they
    /// trust.
    tls: Mutex<HashMap<Option<String>, Arc<rustls::ClientConfig>>>,
    /// By the authority that they trust; one for all that trust the usual ones.
    clients: Mutex<HashMap<Option<String>, reqwest::Client>>,
}

impl Shared {
    pub fn new(connects_per_s: u32, reach: Reach) -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            accounts: Accounts::default(),
            reach,
            tls: Mutex::default(),
            connects: Mutex::new(Bucket::new(connects_per_s, connects_per_s)),
            clients: Mutex::default(),
        })
    }

    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    pub fn context(self: &Arc<Self>, limits: &AccountLimits) -> Context {
        Context { account: self.accounts.get(limits), shared: Arc::clone(self) }
    }
}

impl Context {
    /// Waits for the turn to make a connection: after an outage all forwarders
    /// of a process would make theirs at once.
    pub async fn connect_turn(&self) {
        let wait = {
            let mut connects = self.shared.connects.lock().unwrap_or_else(PoisonError::into_inner);
            connects.take(1, self.shared.begun.elapsed())
        };
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
    }

    /// Where it may connect to.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.shared.reach
    }

    /// The TLS of connections without a client's certificate that trust the usual
    /// authorities, or only `ca`. They share it, and with it its memory.
    ///
    /// # Errors
    /// [`Fault`] for an authority that can't be used.
    pub fn tls(&self, ca: Option<&str>) -> Result<Arc<rustls::ClientConfig>, Fault> {
        let mut configs = self.shared.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let name = ca.map(str::to_owned);
        if let Some(config) = configs.get(&name) {
            return Ok(Arc::clone(config));
        }
        let config = tls::client_config(ca, None, &[]);
        let config = config.map_err(|error| Fault::new("settings.ca", format!("{error}.")))?;
        let config = Arc::new(config);
        configs.insert(name, Arc::clone(&config));
        Ok(config)
    }

    /// An HTTP client that trusts the usual authorities, or only `ca`.
    ///
    /// # Errors
    /// [`Fault`] for an authority that can't be used.
    pub fn http_client(&self, ca: Option<&str>) -> Result<reqwest::Client, Fault> {
        let mut clients = self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let name = ca.map(str::to_owned);
        if let Some(client) = clients.get(&name) {
            return Ok(client.clone());
        }
        let client = http_client(ca, &self.shared.reach)?;
        clients.insert(name, client.clone());
        Ok(client)
    }
}
