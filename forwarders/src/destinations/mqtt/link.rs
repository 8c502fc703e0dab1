//! A connection by MQTT 3.1.1 over TLS. It is made when something is to be sent
//! and not made again by itself: whether and when is the engine's to decide.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, Broker, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet,
    PublishNotice, PublishOptions, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::{Class, Failure, Sent};
use crate::engine::Account;
use crate::reach::{self, Reach};

/// How long a connection may take to be made and accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long all acknowledgements of a batch may take.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(20);

/// The MQTT keep alive.
const KEEP_ALIVE_S: u16 = 60;

/// Requests to the connection's task that wait.
const QUEUE: usize = 16;

/// Messages that are not acknowledged at once; what AWS allows.
const WINDOW: u16 = 100;

/// The largest packet in and out.
const MAX_PACKET_BYTES: usize = 300 << 10;

/// Who connects to where.
#[derive(Clone)]
pub(crate) struct Login {
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub tls: Arc<ClientConfig>,
}

/// How a connection stands.
#[derive(Clone, Debug)]
enum LinkState {
    Connecting,
    Up,
    Down(Failure),
}

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Link {
    client: AsyncClient,
    state: watch::Receiver<LinkState>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Connects, and waits until the platform has accepted.
    pub async fn connect(login: &Login, reach: &Reach) -> Result<Self, Failure> {
        let addresses = timeout(CONNECT_TIMEOUT, reach.resolve(&login.host, login.port)).await;
        let addresses = addresses.map_err(|_| Failure::timed_out())?;
        let addresses = addresses.map_err(|error| {
            let class = if reach::is_not_allowed(&error) { Class::Pause } else { Class::Retry };
            Failure::new(class, format!("the platform cannot be reached: {error}"))
        })?;
        let broker = Broker::tcp(login.host.clone(), login.port);
        let mut options = MqttOptions::new(login.client_id.clone(), broker);
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(
                &login.tls,
            ))))
            .set_keep_alive(KEEP_ALIVE_S)
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES)
            .set_inflight(WINDOW)
            .set_clean_session(true)
            // The name still stands in the TLS handshake; where it leads has been
            // looked up.
            .set_socket_connector(move |_, _| {
                let addresses = addresses.clone();
                async move { TcpStream::connect(&addresses[..]).await }
            });
        match (&login.user, &login.password) {
            (Some(user), Some(password)) => {
                options.set_credentials(user.clone(), password.clone());
            }
            (Some(user), None) => {
                options.set_username(user.clone());
            }
            (None, _) => {}
        }
        let built = AsyncClient::builder(options).capacity(QUEUE).try_build();
        let (client, events) =
            built.map_err(|error| Failure::new(Class::Pause, format!("{error}")))?;
        let (sender, mut state) = watch::channel(LinkState::Connecting);
        let task = tokio::spawn(follow(events, sender));
        let link = Self { client, state: state.clone(), task };
        let settled = state.wait_for(|state| !matches!(state, LinkState::Connecting));
        let settled = timeout(CONNECT_TIMEOUT, settled).await;
        let settled = settled.map_err(|_| Failure::timed_out())?;
        match settled.map(|state| state.clone()) {
            Ok(LinkState::Up) => Ok(link),
            Ok(LinkState::Down(failure)) => Err(failure),
            Ok(LinkState::Connecting) | Err(_) => Err(broken()),
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), LinkState::Up)
    }

    /// Publishes at QoS 1, and waits for all acknowledgements. The answer is how
    /// many of the messages, from the front, were acknowledged, and why the next
    /// was not. Messages bear how many values each stands for.
    pub async fn publish(&self, messages: Vec<(String, String, usize)>, account: &Account) -> Sent {
        let mut notices: Vec<(PublishNotice, usize)> = Vec::with_capacity(messages.len());
        let mut failure = None;
        for (topic, body, values) in messages {
            let _place = account.permit(1).await;
            let options = PublishOptions::at_least_once();
            match self.client.publish_tracked(topic, body, options).await {
                Ok(notice) => notices.push((notice, values)),
                Err(error) => {
                    failure = Some(self.why(&error.to_string()));
                    break;
                }
            }
        }
        let mut done = 0;
        let all = async {
            for (notice, values) in notices {
                if let Err(error) = notice.wait_completion_async().await {
                    return Some(self.why(&error.to_string()));
                }
                done += values;
            }
            None
        };
        let missing = timeout(ACKNOWLEDGE_TIMEOUT, all).await;
        let missing = missing.unwrap_or_else(|_| {
            let message = "the platform did not acknowledge in time";
            Some(Failure::new(Class::Retry, message))
        });
        Sent { done, refused: Vec::new(), failure: missing.or(failure) }
    }

    /// Ends the connection as MQTT wants it ended. Nothing is in flight.
    pub async fn close(mut self) {
        if self.client.disconnect().await.is_ok() {
            let down = self.state.wait_for(|state| matches!(state, LinkState::Down(_)));
            let _ = timeout(Duration::from_secs(2), down).await;
        }
    }

    fn why(&self, error: &str) -> Failure {
        match &*self.state.borrow() {
            LinkState::Down(failure) => failure.clone(),
            _ => Failure::new(Class::Retry, format!("a message was not acknowledged: {error}")),
        }
    }
}

fn broken() -> Failure {
    Failure::new(Class::Retry, "the connection to the platform broke")
}

/// Drives a connection to its end.
async fn follow(mut events: EventLoop, state: watch::Sender<LinkState>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                state.send_replace(LinkState::Up);
            }
            Ok(_) => {}
            Err(error) => {
                let was_up = matches!(*state.borrow(), LinkState::Up);
                state.send_replace(LinkState::Down(failure(&error, was_up)));
                return;
            }
        }
    }
}

/// A connection's end in words, and what to do about it.
fn failure(error: &ConnectionError, was_up: bool) -> Failure {
    if let ConnectionError::ConnectionRefused(code) = error {
        let (class, message) = match code {
            ConnectReturnCode::ServiceUnavailable => {
                (Class::Retry, "the platform is not available")
            }
            ConnectReturnCode::BadClientId => {
                (Class::Pause, "the platform does not take the client or device id")
            }
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                (Class::Pause, "the platform does not take the credentials")
            }
            _ => (Class::Pause, "the platform refused the connection"),
        };
        return Failure::new(class, message);
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    // The platform's own word on our certificate; with TLS 1.3 it comes after
    // the handshake.
    if text.contains("fatal alert") {
        let message = format!("the platform does not take the certificate ({text})");
        return Failure::new(Class::Pause, message);
    }
    if text.contains("invalid peer certificate") {
        return Failure::new(
            Class::Retry,
            format!("the platform's certificate is not trusted ({text})"),
        );
    }
    let what = if was_up {
        "the platform closed the connection"
    } else {
        "the platform cannot be reached"
    };
    Failure::new(Class::Retry, format!("{what}: {text}"))
}
