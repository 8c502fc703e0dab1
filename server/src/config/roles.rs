//! What a node does of all that is to be done.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A part of the work, which nodes that share a journal in Kafka and a store in
/// PostgreSQL may divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes routers in.
    Ingest,
    /// Writes the history and the attributes; each partition is one node's.
    Recorder,
    /// Evaluates alarms; each partition is one node's.
    Alarms,
    /// Tells people, on one node at a time.
    Notifier,
    /// Sends readings to customers' platforms, on one node at a time.
    Forwarders,
    /// Answers the HTTP API. Health and metrics are answered by every node.
    Api,
}

impl Role {
    pub const ALL: [Self; 6] =
        [Self::Ingest, Self::Recorder, Self::Alarms, Self::Notifier, Self::Forwarders, Self::Api];

    /// The stable name in the configuration and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Recorder => "recorder",
            Self::Alarms => "alarms",
            Self::Notifier => "notifier",
            Self::Forwarders => "forwarders",
            Self::Api => "api",
        }
    }
}

/// The roles of a node, in the order of [`Role::ALL`]; in text separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles(Vec<Role>);

impl Default for Roles {
    fn default() -> Self {
        Self(Role::ALL.to_vec())
    }
}

impl Roles {
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether the node does all that there is.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.0.len() == Role::ALL.len()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|role| role.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named: Vec<&str> =
            text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let known = || Role::ALL.map(Role::as_str).join(", ");
        if let Some(name) =
            named.iter().find(|name| Role::ALL.iter().all(|it| it.as_str() != **name))
        {
            return Err(format!("{name:?} is no role; there are {}", known()));
        }
        if named.is_empty() {
            return Err(format!("a node has one role at least, of {}", known()));
        }
        Ok(Self(Role::ALL.into_iter().filter(|role| named.contains(&role.as_str())).collect()))
    }
}

impl Serialize for Roles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_named_once_in_one_order() {
        let roles: Roles = "alarms, ingest,alarms".parse().unwrap();
        assert_eq!(roles.to_string(), "ingest,alarms");
        assert!(roles.has(Role::Alarms) && !roles.has(Role::Recorder) && !roles.are_all());
        assert_eq!(Roles::default().to_string().parse(), Ok(Roles::default()));
        let error = "ingest,cook".parse::<Roles>().unwrap_err();
        assert!(error.starts_with("\"cook\" is no role; there are ingest, recorder"), "{error}");
        let error = " ,".parse::<Roles>().unwrap_err();
        assert!(error.starts_with("a node has one role at least"), "{error}");
    }
}
