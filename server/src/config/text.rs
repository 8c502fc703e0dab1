//! Settings that are written as text of a form of their own.

use std::net::SocketAddr;

use ingest::broker::Rate;
use schema::Networks;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address to listen on, or none; in text an empty string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

/// Rates that hold together, as ThingsBoard writes them: `10:1,300:60` is ten a
/// second and also three hundred a minute. Empty sets no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates(pub Vec<Rate>);

/// Host names, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(pub Vec<String>);

/// Networks, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedNetworks(pub Networks);

impl Serialize for AllowedNetworks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AllowedNetworks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.join(","))
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty());
        let is_name = |host: &str| !host.contains(|c: char| c.is_whitespace() || c == '/');
        hosts
            .map(|host| match is_name(host) {
                true => Ok(host.to_lowercase()),
                false => Err(D::Error::custom(format!("{host:?} is no host name"))),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(address) => serializer.collect_str(&address),
            None => serializer.serialize_str(""),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(D::Error::custom)
    }
}

impl Serialize for Rates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rates: Vec<String> =
            self.0.iter().map(|rate| format!("{}:{}", rate.count, rate.seconds)).collect();
        serializer.serialize_str(&rates.join(","))
    }
}

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let rate = |part: &str| {
            let (count, seconds) = part.split_once(':')?;
            let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number > 0);
            Some(Rate { count: number(count)?, seconds: number(seconds)? })
        };
        parts
            .map(|part| {
                rate(part).ok_or_else(|| D::Error::custom(format!("{part:?} is no COUNT:SECONDS")))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hosts_are_names_without_scheme_or_path() {
        let hosts: Hosts = serde_json::from_value(json!("Cloud.example.com, 10.0.0.1")).unwrap();
        assert_eq!(hosts.0, ["cloud.example.com", "10.0.0.1"]);
        assert_eq!(serde_json::to_value(&hosts).unwrap(), json!("cloud.example.com,10.0.0.1"));
        let error = serde_json::from_value::<Hosts>(json!("mqtt://a")).unwrap_err().to_string();
        assert!(error.contains("is no host name"), "{error}");
    }

    #[test]
    fn rates_are_written_as_thingsboard_does() {
        let rates: Rates = serde_json::from_value(json!("10:1, 300:60")).unwrap();
        assert_eq!(rates.0, [Rate { count: 10, seconds: 1 }, Rate { count: 300, seconds: 60 }]);
        assert_eq!(serde_json::to_value(&rates).unwrap(), json!("10:1,300:60"));
        assert_eq!(serde_json::from_value::<Rates>(json!("")).unwrap(), Rates::default());
        for wrong in ["10", "10:0", "0:1", "a:1", "10:1;5:2"] {
            let error = serde_json::from_value::<Rates>(json!(wrong)).unwrap_err().to_string();
            assert!(error.contains("is no COUNT:SECONDS"), "{wrong}: {error}");
        }
    }
}
