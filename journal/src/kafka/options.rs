//! Where the Kafka brokers are and how the journal uses them: options with their
//! defaults, and their form as an address.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rdkafka::ClientConfig;

use crate::{MAX_PARTITIONS, OpenError};

/// The longest name of a topic, less what we put behind it.
const MAX_TOPIC_BYTES: usize = 200;

/// More would only make routers wait.
const MAX_LINGER_MS: u16 = 1_000;

/// How a client proves who it is. Names as Kafka has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

/// How the journal uses Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaOptions {
    /// This process's name at the brokers, in their logs and quotas. Roles of two
    /// processes are divided alike where the names differ.
    pub client_id: String,
    /// `host:port`, separated by commas; any of them tells of all.
    pub brokers: String,
    /// The topic of the journal; what else we publish has topics whose names
    /// begin with it.
    pub topic: String,
    /// Of a topic that is made. One that is there keeps its number for life, and
    /// is refused if it has another.
    pub partitions: u16,
    /// Copies of each record; a topic with fewer is refused.
    pub replication_factor: u16,
    /// Copies that are written before a record counts as durable.
    pub min_insync_replicas: u16,
    /// How long Kafka keeps records at least.
    pub retention_ms: u64,
    /// The largest record that the topic takes.
    pub max_record_bytes: usize,
    /// Bytes of all partitions that may wait for the brokers; past it submitters
    /// wait.
    pub queue_bytes: usize,
    /// Bytes of the newest records that are kept in memory for readers.
    pub tail_bytes: usize,
    /// Bytes that a reader that is behind takes at once.
    pub read_ahead_bytes: usize,
    /// How long a record waits for others of its partition to go with it;
    /// routers wait for their PUBACK as long.
    pub linger_ms: u16,
    /// A member of a group that says nothing for so long has died.
    pub session_timeout_ms: u32,
    pub tls: bool,
    /// The authorities to trust, in PEM; none takes the system's.
    pub ca_file: Option<PathBuf>,
    pub sasl: Option<SaslMechanism>,
    pub user: String,
    pub password: Secret,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            client_id: "baken".to_owned(),
            brokers: String::new(),
            topic: "baken".to_owned(),
            partitions: 64,
            replication_factor: 3,
            min_insync_replicas: 2,
            retention_ms: 7 * 24 * 3_600_000,
            max_record_bytes: 8 << 20,
            queue_bytes: 64 << 20,
            tail_bytes: 256 << 20,
            read_ahead_bytes: 4 << 20,
            linger_ms: 1,
            session_timeout_ms: 6_000,
            tls: false,
            ca_file: None,
            sasl: None,
            user: String::new(),
            password: Secret::default(),
        }
    }
}

impl FromStr for SaslMechanism {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "plain" => Ok(Self::Plain),
            "scram-sha-256" => Ok(Self::ScramSha256),
            "scram-sha-512" => Ok(Self::ScramSha512),
            _ => Err(()),
        }
    }
}

impl SaslMechanism {
    fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

fn wrong(option: &'static str, reason: impl Into<String>) -> OpenError {
    OpenError::Option { option, reason: reason.into() }
}

impl KafkaOptions {
    /// Reads `kafka://[user[:password]@]host:port[,host:port…]/TOPIC[?option=value&…]`.
    /// The options are `partitions`, `replication_factor`, `min_insync_replicas`,
    /// `retention_hours`, `tls` (`true` or `false`), `ca_file`, and `sasl`
    /// (`plain`, `scram-sha-256` or `scram-sha-512`, which is the default where
    /// there is a user).
    ///
    /// # Errors
    /// [`OpenError::Option`] names the part that is wrong, and never the password.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        let mut options = Self::default();
        let rest = url
            .strip_prefix("kafka://")
            .ok_or_else(|| wrong("url", "it must begin with kafka://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, topic) = place.split_once('/').unwrap_or((place, ""));
        let brokers = match authority.rsplit_once('@') {
            None => authority,
            Some((who, brokers)) => {
                let (user, password) = who.split_once(':').unwrap_or((who, ""));
                options.user = percent_decoded("user", user)?;
                options.password = Secret(percent_decoded("password", password)?);
                options.sasl = Some(SaslMechanism::ScramSha512);
                brokers
            }
        };
        brokers.clone_into(&mut options.brokers);
        if !topic.is_empty() {
            topic.clone_into(&mut options.topic);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| wrong("url", "options are NAME=VALUE"))?;
            options.set(name, value)?;
        }
        options.check()?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), OpenError> {
        fn number<T: FromStr>(option: &'static str, value: &str) -> Result<T, OpenError> {
            value.parse().map_err(|_| wrong(option, format!("{value:?} is no number in its range")))
        }
        match name {
            "partitions" => self.partitions = number("partitions", value)?,
            "replication_factor" => {
                self.replication_factor = number("replication_factor", value)?;
            }
            "min_insync_replicas" => {
                self.min_insync_replicas = number("min_insync_replicas", value)?;
            }
            "retention_hours" => {
                let hours: u32 = number("retention_hours", value)?;
                self.retention_ms = u64::from(hours) * 3_600_000;
            }
            "linger_ms" => self.linger_ms = number("linger_ms", value)?,
            "tls" => {
                self.tls = value.parse().map_err(|_| wrong("tls", "it is true or false"))?;
            }
            "ca_file" => self.ca_file = Some(percent_decoded("ca_file", value)?.into()),
            "sasl" => {
                let known = "it is plain, scram-sha-256 or scram-sha-512";
                self.sasl = Some(value.parse().map_err(|()| wrong("sasl", known))?);
            }
            other => return Err(wrong("url", format!("there is no option {other:?}"))),
        }
        Ok(())
    }

    /// Whether the options fit one another.
    ///
    /// # Errors
    /// [`OpenError::Option`] names the one that doesn't.
    pub fn check(&self) -> Result<(), OpenError> {
        let is_broker = |broker: &str| {
            let port = broker.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
            port.is_some_and(|(host, port)| !host.is_empty() && port.is_ok())
        };
        if !self.brokers.split(',').all(is_broker) {
            return Err(wrong(
                "brokers",
                format!("{:?} must be host:port,host:port", self.brokers),
            ));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=MAX_TOPIC_BYTES).contains(&self.topic.len()) || !self.topic.bytes().all(is_name) {
            let allowed = "letters, digits, dots, hyphens and underscores";
            return Err(wrong("topic", format!("{:?} must be {allowed}", self.topic)));
        }
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(wrong("partitions", format!("1 to {MAX_PARTITIONS}")));
        }
        if self.replication_factor == 0 {
            return Err(wrong("replication_factor", "1 or more"));
        }
        if !(1..=self.replication_factor).contains(&self.min_insync_replicas) {
            let most = self.replication_factor;
            return Err(wrong("min_insync_replicas", format!("1 to replication_factor, {most}")));
        }
        if self.linger_ms > MAX_LINGER_MS {
            return Err(wrong("linger_ms", format!("0 to {MAX_LINGER_MS}")));
        }
        if self.queue_bytes < self.max_record_bytes {
            return Err(wrong("queue_bytes", "as much as max_record_bytes at least"));
        }
        if self.sasl.is_some() && self.user.is_empty() {
            return Err(wrong("sasl", "it needs a user in the address"));
        }
        if self.ca_file.is_some() && !self.tls {
            return Err(wrong("ca_file", "it needs tls=true"));
        }
        Ok(())
    }

    /// What all clients have in common.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", &self.client_id);
        config.set("socket.keepalive.enable", "true");
        config.set("allow.auto.create.topics", "false");
        // A broker that comes back is found soon.
        config.set("reconnect.backoff.max.ms", "2000");
        config.set("topic.metadata.refresh.interval.ms", "30000");
        config.set(
            "security.protocol",
            match (self.tls, self.sasl.is_some()) {
                (false, false) => "plaintext",
                (true, false) => "ssl",
                (false, true) => "sasl_plaintext",
                (true, true) => "sasl_ssl",
            },
        );
        if let Some(file) = &self.ca_file {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
        if let Some(mechanism) = self.sasl {
            config.set("sasl.mechanism", mechanism.as_str());
            config.set("sasl.username", &self.user);
            config.set("sasl.password", &self.password.0);
        }
        config
    }
}

fn percent_decoded(option: &'static str, text: &str) -> Result<String, OpenError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push(u8::try_from(high * 16 + low).unwrap_or(0)),
            _ => return Err(wrong(option, "% must be followed by two hexadecimal digits")),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong(option, "it is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> String {
        KafkaOptions::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn an_address_says_where_the_brokers_are_and_how_they_are_used() {
        let options = KafkaOptions::parse("kafka://a:9092,[::1]:9093/plant").unwrap();
        assert_eq!((&*options.brokers, &*options.topic), ("a:9092,[::1]:9093", "plant"));
        assert_eq!((options.sasl, options.tls), (None, false));
        let url = "kafka://eva:p%40ss@a:9092/x?partitions=8&replication_factor=1&\
                   min_insync_replicas=1&retention_hours=2&linger_ms=9&tls=true&ca_file=/etc/ca.pem";
        let options = KafkaOptions::parse(url).unwrap();
        assert_eq!(options.sasl, Some(SaslMechanism::ScramSha512));
        assert_eq!((&*options.user, &options.password), ("eva", &Secret("p@ss".to_owned())));
        assert_eq!((options.partitions, options.retention_ms), (8, 7_200_000));
        assert_eq!(options.linger_ms, 9);
        assert!(!format!("{options:?}").contains("p@ss"));
        let config = options.client();
        assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
    }

    #[test]
    fn what_is_wrong_is_named_and_a_password_is_not_shown() {
        for (url, what) in [
            ("amqp://a:1/x", "url"),
            ("kafka://a/x", "brokers"),
            ("kafka://a:9092/x y", "topic"),
            ("kafka://a:9092/x?partitions=0", "partitions"),
            ("kafka://a:9092/x?partitions=many", "partitions"),
            ("kafka://a:9092/x?replication_factor=1&min_insync_replicas=2", "min_insync_replicas"),
            ("kafka://a:9092/x?linger_ms=1001", "linger_ms"),
            ("kafka://a:9092/x?sasl=plain", "sasl"),
            ("kafka://a:9092/x?ca_file=/x", "ca_file"),
            ("kafka://a:9092/x?color=red", "url"),
            ("kafka://u:hunter2%4@a:9092/x", "password"),
        ] {
            let error = told(url);
            assert!(error.starts_with(&format!("journal option {what}: ")), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
