//! The demo's tenant, its places and routers: made by the HTTP API as anybody
//! would, then run as MQTT clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::machine::{Chiller, compressor, pump, weather};
use super::router::{Message, Publishes, SimulatedRouter};
use crate::client::{ApiClient, ClientError};
use crate::secret::Secret;

const TENANT: &str = "Demo";
const CHILLER: &str = "chiller-router";
const PUMP: &str = "pump-router";
const WEATHER: &str = "weather-router";
const GATEWAY: &str = "compressor-gateway";

const TELEMETRY: &str = "v1/devices/me/telemetry";
const ATTRIBUTES: &str = "v1/devices/me/attributes";
const GATEWAY_CONNECT: &str = "v1/gateway/connect";
const GATEWAY_TELEMETRY: &str = "v1/gateway/telemetry";

/// What was made, or was there from an earlier run.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) tenant: u64,
    pub(super) plant: u64,
    pub(super) chiller: Router,
    pump: Router,
    weather: Router,
    gateway: Router,
}

#[derive(Clone, Debug)]
pub(super) struct Router {
    /// The router's own device.
    pub(super) device: u64,
    pub(super) token: String,
}

/// Makes what isn't there yet.
pub(super) async fn provision(client: &ApiClient, secret: &Secret) -> anyhow::Result<Site> {
    let tenant = ensure(client, "/tenants", "", json!({ "name": TENANT })).await?;
    let tenant = id_of(&tenant)?;
    let of_tenant = format!("tenant={tenant}&");
    let mut places = Vec::new();
    for name in ["Plant room", "Roof"] {
        let body = json!({ "tenant": tenant, "name": name, "time_zone": "Europe/Amsterdam" });
        places.push(id_of(&ensure(client, "/locations", &of_tenant, body).await?)?);
    }
    let router = async |name: &str, location: u64| -> anyhow::Result<Router> {
        // The same at each run on this folder, so that routers that are there
        // already can be run again; nobody without the secret can know it.
        let mut token = secret.token_hash(&format!("demo router {name}"));
        token.truncate(32);
        let body = json!({
            "location": location,
            "name": name,
            "credentials": { "type": "access_token", "token": token },
        });
        let made = ensure(client, "/routers", &of_tenant, body).await?;
        let device = made["device"].as_u64().context("the API named no device of a router")?;
        Ok(Router { device, token })
    };
    Ok(Site {
        tenant,
        plant: places[0],
        chiller: router(CHILLER, places[0]).await?,
        pump: router(PUMP, places[0]).await?,
        weather: router(WEATHER, places[1]).await?,
        gateway: router(GATEWAY, places[0]).await?,
    })
}

/// What is made by `body`, or has its name already.
pub(super) async fn ensure(
    client: &ApiClient,
    path: &str,
    filter: &str,
    body: Value,
) -> anyhow::Result<Value> {
    let refused = match client.post(path, &body).await {
        Ok(made) => return Ok(made),
        Err(ClientError::Refused(problem)) if problem.status == 409 => problem,
        Err(error) => return Err(error).with_context(|| format!("making {path}")),
    };
    let name = body["name"].as_str().unwrap_or_default();
    let page = client.get(&format!("{path}?{filter}limit=1000")).await?;
    let items = page["items"].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().find(|item| item["name"] == name).cloned().ok_or(refused.into())
}

pub(super) fn id_of(document: &Value) -> anyhow::Result<u64> {
    document["id"].as_u64().context("the API answered without an id")
}

/// The routers, running.
#[derive(Debug)]
pub(super) struct Fleet {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    pub(super) acknowledged: Arc<AtomicU64>,
}

impl Fleet {
    pub(super) fn start(site: &Site, address: SocketAddr) -> Self {
        let (stop, stopped) = watch::channel(false);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let clock = Clock::default();
        let second = Duration::from_secs(1);
        spawn(
            &mut tasks,
            &stopped,
            SimulatedRouter {
                name: CHILLER,
                address,
                token: site.chiller.token.clone(),
                every: second / 2,
                publishes: ChillerRouter::default(),
                acknowledged: Arc::clone(&acknowledged),
            },
        );
        spawn(
            &mut tasks,
            &stopped,
            SimulatedRouter {
                name: PUMP,
                address,
                token: site.pump.token.clone(),
                every: second,
                publishes: PumpRouter(clock.clone()),
                acknowledged: Arc::clone(&acknowledged),
            },
        );
        spawn(
            &mut tasks,
            &stopped,
            SimulatedRouter {
                name: WEATHER,
                address,
                token: site.weather.token.clone(),
                every: second * 5,
                publishes: WeatherRouter(clock.clone()),
                acknowledged: Arc::clone(&acknowledged),
            },
        );
        spawn(
            &mut tasks,
            &stopped,
            SimulatedRouter {
                name: GATEWAY,
                address,
                token: site.gateway.token.clone(),
                every: second,
                publishes: Gateway(clock),
                acknowledged: Arc::clone(&acknowledged),
            },
        );
        Self { tasks, stop, acknowledged }
    }

    /// Disconnects all routers.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

fn spawn<P: Publishes>(
    tasks: &mut JoinSet<()>,
    stopped: &watch::Receiver<bool>,
    router: SimulatedRouter<P>,
) {
    tasks.spawn(router.run(stopped.clone()));
}

/// Seconds that a simulated machine has run.
#[derive(Clone, Debug, Default)]
struct Clock(f64);

impl Clock {
    fn step(&mut self, step_s: f64) -> f64 {
        self.0 += step_s;
        self.0
    }
}

#[derive(Default)]
struct ChillerRouter(Chiller);

impl Publishes for ChillerRouter {
    fn at_connect(&mut self) -> Vec<Message> {
        let about = json!({ "model": "WCH-120", "serial": "NL-04711", "firmware": "2.8.1" });
        vec![Message { topic: ATTRIBUTES, payload: about.to_string() }]
    }

    fn step(&mut self, step_s: f64) -> Vec<Message> {
        // With the device's own time, as a router that buffers would send it.
        let body = json!({ "ts": now_ms(), "values": self.0.step(step_s) });
        vec![Message { topic: TELEMETRY, payload: body.to_string() }]
    }
}

struct PumpRouter(Clock);

impl Publishes for PumpRouter {
    fn at_connect(&mut self) -> Vec<Message> {
        Vec::new()
    }

    fn step(&mut self, step_s: f64) -> Vec<Message> {
        let body = Value::Object(pump(self.0.step(step_s)));
        vec![Message { topic: TELEMETRY, payload: body.to_string() }]
    }
}

struct WeatherRouter(Clock);

impl Publishes for WeatherRouter {
    fn at_connect(&mut self) -> Vec<Message> {
        Vec::new()
    }

    fn step(&mut self, step_s: f64) -> Vec<Message> {
        let body = Value::Object(weather(self.0.step(step_s)));
        vec![Message { topic: TELEMETRY, payload: body.to_string() }]
    }
}

struct Gateway(Clock);

impl Publishes for Gateway {
    fn at_connect(&mut self) -> Vec<Message> {
        let connect = |device: &str| Message {
            topic: GATEWAY_CONNECT,
            payload: json!({ "device": device, "type": "air compressor" }).to_string(),
        };
        vec![connect("Compressor A"), connect("Compressor B")]
    }

    fn step(&mut self, step_s: f64) -> Vec<Message> {
        let seconds = self.0.step(step_s);
        let ts = now_ms();
        let body = json!({
            "Compressor A": [{ "ts": ts, "values": compressor(seconds, 0.0) }],
            "Compressor B": [{ "ts": ts, "values": compressor(seconds, 19.0) }],
        });
        vec![Message { topic: GATEWAY_TELEMETRY, payload: body.to_string() }]
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
