//! The forwarders of a run: one for each location, switched on and off together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::process::Address;
use crate::api::Api;
use crate::enrol::Enrolled;
use crate::template::key_name;

/// How long the accounts of forwarders may take to say what came of all.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests to the API at once.
const AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct Site {
    forwarders: Vec<u64>,
    enabled: bool,
}

impl Site {
    /// Makes a forwarder for each location, switched off.
    pub async fn make(
        api: &Api,
        enrolled: &Enrolled,
        hub: &Address,
        selected_keys: u32,
    ) -> anyhow::Result<Self> {
        let items: Vec<Value> =
            (0..selected_keys).map(|key| json!({ "key": key_name(key) })).collect();
        let documents: Vec<Value> = (0..)
            .zip(enrolled.places())
            .map(|(number, location): (u32, &u64)| {
                json!({
                    "tenant": enrolled.tenant(),
                    "name": format!("forwarder-{number:06}"),
                    "scope": { "location": location },
                    "enabled": false,
                    "platform": "aws_iot_core",
                    "settings": {
                        "authentication": "certificate",
                        "endpoint": "localhost",
                        "port": hub.port,
                        "ca": hub.ca,
                        "client_id": format!("site-{number:06}"),
                        "certificate": hub.certificate,
                    },
                    "secrets": { "private_key": hub.private_key },
                    "items": items,
                })
            })
            .collect();
        let made = of_each(documents, api, |api, document| async move {
            api.make("/forwarders", document).await
        });
        Ok(Self { forwarders: made.await?, enabled: false })
    }

    /// Switches all on or off, if they aren't.
    pub async fn enable(&mut self, api: &Api, enabled: bool) -> anyhow::Result<()> {
        if self.enabled != enabled {
            of_each(self.forwarders.clone(), api, move |api, id| async move {
                api.put(&format!("/forwarders/{id}"), &json!({ "enabled": enabled })).await
            })
            .await?;
            self.enabled = enabled;
        }
        Ok(())
    }

    /// Waits until all forwarders together say that so much was sent, and nothing
    /// is on its way: one that is switched off forgets what it has in hand. What
    /// they say in the end.
    pub async fn settled(&self, api: &Api, values: u64) -> anyhow::Result<u64> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let sent = of_each(self.forwarders.clone(), api, |api, id| async move {
                let found = api.read(&format!("/forwarders/{id}/accounting")).await?;
                found["sent"].as_u64().context("no `sent` in an accounting")
            });
            let sent = sent.await?.into_iter().sum();
            if sent >= values || Instant::now() > deadline {
                return Ok(sent);
            }
        }
    }
}

/// Asks the API for each input, some at once; the answers in the inputs' order.
async fn of_each<I, T, F>(
    inputs: Vec<I>,
    api: &Api,
    ask: impl Fn(Api, I) -> F,
) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let doors = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for (place, input) in inputs.into_iter().enumerate() {
        let (doors, answer) = (Arc::clone(&doors), ask(api.clone(), input));
        asked.spawn(async move {
            let _door = doors.acquire_owned().await?;
            answer.await.map(|answer| (place, answer))
        });
    }
    let mut answers = Vec::with_capacity(asked.len());
    while let Some(answer) = asked.join_next().await {
        answers.push(answer.context("a request's task fell over")??);
    }
    answers.sort_unstable_by_key(|(place, _)| *place);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}
