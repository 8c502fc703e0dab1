//! The server's HTTP API, as much of it as a load test needs: makes the fleet's
//! routers and alarm profile, and reads back what was stored and what happened.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// Routers in one request, the most that the API takes.
const IMPORT_ROUTERS: usize = 1_000;
/// Rows in one page of readings, the most that the API gives.
pub const PAGE_ROWS: usize = 100_000;
/// Devices in one page of a list.
const PAGE_DEVICES: usize = 1_000;
/// Events in one page, the most that the API gives.
const PAGE_EVENTS: usize = 1_000;
/// How long one answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// A server and a token of the whole installation.
#[derive(Clone, Debug)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    token: String,
}

/// A router that was made for this run.
#[derive(Clone, Debug, Deserialize)]
pub struct MadeRouter {
    pub id: u64,
    /// The device that the router itself is.
    pub device: u64,
    /// Its access token, which the API shows this once.
    pub token: String,
}

/// What the run's tenant may do.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    pub devices: u32,
    pub keys: u32,
}

/// A page of readings.
#[derive(Debug)]
pub struct Page {
    /// An Arrow stream.
    pub arrow: Vec<u8>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A series and a range of times, in milliseconds; `to_ms` is not in it.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    pub device: u64,
    pub key: &'a str,
    pub from_ms: i64,
    pub to_ms: i64,
}

impl Range<'_> {
    fn query(&self) -> Vec<(&'static str, String)> {
        vec![
            ("key", self.key.to_owned()),
            ("from", self.from_ms.to_string()),
            ("to", self.to_ms.to_string()),
        ]
    }
}

impl Api {
    /// An API at `base`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// If the HTTP client can't be made.
    pub fn new(base: &str, token: &str) -> anyhow::Result<Self> {
        // It is an error only if the process has one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build()?;
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { client, base, token: token.trim().to_owned() })
    }

    /// Whether the server says that it lives.
    pub async fn is_live(&self) -> bool {
        let answer = self.client.get(format!("{}/health/live", self.base)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Makes a tenant; its id.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn make_tenant(&self, name: &str, quota: Quota) -> anyhow::Result<u64> {
        let settings = json!({"max_devices": quota.devices, "max_keys": quota.keys});
        self.make("/tenants", json!({"name": name, "settings": settings})).await
    }

    /// Makes a location; its id.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn make_location(&self, tenant: u64, name: &str) -> anyhow::Result<u64> {
        self.make("/locations", json!({"tenant": tenant, "name": name})).await
    }

    /// Makes `count` routers that stand at the locations in turns.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn make_routers(
        &self,
        locations: &[u64],
        count: usize,
    ) -> anyhow::Result<Vec<MadeRouter>> {
        #[derive(Deserialize)]
        struct Imported {
            routers: Vec<MadeRouter>,
        }
        let mut made = Vec::with_capacity(count);
        while made.len() < count {
            let part = made.len()..count.min(made.len() + IMPORT_ROUTERS);
            let routers: Vec<Value> = part
                .clone()
                .map(|number| {
                    json!({
                        "location": locations[number % locations.len()],
                        "name": format!("router-{number:06}"),
                        "credentials": {"type": "access_token"},
                    })
                })
                .collect();
            let answer = self.post("/routers/import", &json!({"routers": routers})).await?;
            let imported: Imported = serde_json::from_value(answer)
                .context("the answer to an import of routers has another form")?;
            ensure!(imported.routers.len() == part.len(), "not all routers were made");
            made.extend(imported.routers);
        }
        Ok(made)
    }

    /// All devices of a tenant, as name and id.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn devices(&self, tenant: u64) -> anyhow::Result<Vec<(String, u64)>> {
        #[derive(Deserialize)]
        struct Item {
            id: u64,
            name: String,
        }
        #[derive(Deserialize)]
        struct List {
            items: Vec<Item>,
            next: Option<Value>,
        }
        let mut devices = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut query =
                vec![("tenant", tenant.to_string()), ("limit", PAGE_DEVICES.to_string())];
            query.extend(after.map(|after| ("after", after)));
            let answer = self.get("/devices", &query, "application/json").await?;
            let list: List = answer.json().await?;
            devices.extend(list.items.into_iter().map(|item| (item.name, item.id)));
            match list.next {
                Some(Value::String(next)) => after = Some(next),
                Some(Value::Number(next)) => after = Some(next.to_string()),
                _ => return Ok(devices),
            }
        }
    }

    /// Whether there is any reading in a range.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn has_reading(&self, range: Range<'_>) -> anyhow::Result<bool> {
        let mut query = range.query();
        query.push(("limit", "1".to_owned()));
        let path = format!("/devices/{}/telemetry", range.device);
        let answer: Value = self.get(&path, &query, "application/json").await?.json().await?;
        let readings = answer["readings"].as_array().context("no readings in the answer")?;
        Ok(!readings.is_empty())
    }

    /// A page of readings, oldest first.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn page(&self, range: Range<'_>, cursor: Option<&str>) -> anyhow::Result<Page> {
        let mut query = range.query();
        query.push(("order", "asc".to_owned()));
        query.push(("limit", PAGE_ROWS.to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
        let path = format!("/devices/{}/telemetry", range.device);
        let answer = self.get(&path, &query, ARROW).await?;
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        ensure!(kind == Some(ARROW), "{path} was asked for Arrow and answered {kind:?}");
        let next = match answer.headers().get("x-next-cursor") {
            Some(next) => Some(next.to_str().context("an unreadable cursor")?.to_owned()),
            None => None,
        };
        Ok(Page { arrow: answer.bytes().await?.to_vec(), next })
    }

    /// How many readings the server counts when it is asked for one bucket.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn count(&self, range: Range<'_>) -> anyhow::Result<u64> {
        let mut query = range.query();
        query.push(("bucket_ms", (range.to_ms - range.from_ms).to_string()));
        let path = format!("/devices/{}/telemetry", range.device);
        let answer: Value = self.get(&path, &query, "application/json").await?.json().await?;
        let buckets = answer["buckets"].as_array().context("no buckets in the answer")?;
        buckets.iter().map(|b| b["count"].as_u64().context("no count in a bucket")).sum()
    }

    /// Saves an alarm profile in TOML; its id, or none if it is saved, but not in
    /// force in the time that the server gives it.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn make_profile(&self, tenant: u64, toml: String) -> anyhow::Result<Option<u64>> {
        let path = format!("/alarm-profiles?tenant={tenant}");
        let request = self.client.post(format!("{}/api/v1{path}", self.base)).body(toml);
        let request = request.header("content-type", "application/toml").bearer_auth(&self.token);
        let answer = request.send().await?;
        if answer.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE {
            return Ok(None);
        }
        let answer: Value = checked(answer, &path).await?.json().await?;
        answer["id"].as_u64().context("no id in the answer to an alarm profile").map(Some)
    }

    /// A page of a tenant's events of some kinds, oldest first, as JSON.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn events(
        &self,
        tenant: u64,
        kinds: &str,
        after: Option<&str>,
    ) -> anyhow::Result<Vec<u8>> {
        let mut query = vec![
            ("tenant", tenant.to_string()),
            ("kind", kinds.to_owned()),
            ("order", "asc".to_owned()),
            ("limit", PAGE_EVENTS.to_string()),
        ];
        query.extend(after.map(|after| ("after", after.to_owned())));
        let answer = self.get("/events", &query, "application/json").await?;
        Ok(answer.bytes().await?.to_vec())
    }

    /// All metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// If the server doesn't answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let request = self.client.get(format!("{}/metrics", self.base)).bearer_auth(&self.token);
        Ok(request.send().await?.error_for_status()?.text().await?)
    }

    /// The value of a metric without labels.
    ///
    /// # Errors
    /// If the server doesn't answer or has no such metric.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.metrics().await?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .with_context(|| format!("the server has no metric {name}"))?;
        Ok(line.trim().parse()?)
    }

    /// The sum and the largest of a metric's values over its labels.
    ///
    /// # Errors
    /// If the server doesn't answer or has no such metric.
    pub async fn metric_over_labels(&self, name: &str) -> anyhow::Result<(f64, f64)> {
        let text = self.metrics().await?;
        let values = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')))
            .filter_map(|line| line.rsplit(' ').next())
            .map(str::parse)
            .collect::<Result<Vec<f64>, _>>()?;
        anyhow::ensure!(!values.is_empty(), "the server has no metric {name} with labels");
        Ok((values.iter().sum(), values.iter().copied().fold(f64::MIN, f64::max)))
    }

    /// Makes a document; its id.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn make(&self, path: &str, body: Value) -> anyhow::Result<u64> {
        let answer = self.post(path, &body).await?;
        answer["id"].as_u64().with_context(|| format!("no id in the answer to POST {path}"))
    }

    /// Changes a document.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.client.put(format!("{}/api/v1{path}", self.base)).json(body);
        let answer = request.bearer_auth(&self.token).send().await?;
        checked(answer, path).await?;
        Ok(())
    }

    /// Reads whatever stands at a path.
    ///
    /// # Errors
    /// If the server doesn't answer or refuses.
    pub async fn read(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.get(path, &[], "application/json").await?.json().await?)
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.client.post(format!("{}/api/v1{path}", self.base)).json(body);
        let answer = request.bearer_auth(&self.token).send().await?;
        Ok(checked(answer, path).await?.json().await?)
    }

    async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        accept: &str,
    ) -> anyhow::Result<reqwest::Response> {
        let request = self.client.get(format!("{}/api/v1{path}", self.base)).query(query);
        let answer = request.header("accept", accept).bearer_auth(&self.token).send().await?;
        checked(answer, path).await
    }
}

async fn checked(answer: reqwest::Response, path: &str) -> anyhow::Result<reqwest::Response> {
    let status = answer.status();
    if !status.is_success() {
        bail!("{path} answered {status}: {}", answer.text().await.unwrap_or_default());
    }
    Ok(answer)
}
