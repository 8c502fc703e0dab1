//! The address of a service outside the process.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The address of a service outside the process, or none; in text an empty
/// string. A password in it is kept, and never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// The address with its secrets: for whoever opens the connection, and for
    /// nobody to see.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn masked(&self) -> String {
        // The authority of an address with several hosts is no URL to every
        // parser, so it is cut by hand: up to the last `@` before the path.
        let Some((scheme, rest)) = self.0.split_once("://") else { return self.0.clone() };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let Some(at) = rest[..end].rfind('@') else { return self.0.clone() };
        match rest[..at].split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[at..]),
            None => self.0.clone(),
        }
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceUrl").field(&self.masked()).finish()
    }
}

impl Serialize for ServiceUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

impl<'de> Deserialize<'de> for ServiceUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Only whether it is an address at all; what it says is for the part
        // that opens it. The error must not repeat the text.
        let is_address = text.split_once("://").is_some_and(|(scheme, rest)| {
            let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
            !scheme.is_empty() && is_scheme && !rest.is_empty()
        });
        if text.is_empty() || is_address {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("it is no address of the form scheme://host"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_password_in_an_address_is_kept_and_never_shown() {
        for (text, shown) in [
            ("postgres://u:p@ss@db:5432/baken", "postgres://u:***@db:5432/baken"),
            ("kafka://u:secret@a:9092,b:9092/x?tls=true", "kafka://u:***@a:9092,b:9092/x?tls=true"),
            ("postgres://u@db/baken", "postgres://u@db/baken"),
            ("kafka://a:9092,b:9092/x", "kafka://a:9092,b:9092/x"),
            ("", ""),
        ] {
            let url: ServiceUrl = serde_json::from_value(json!(text)).unwrap();
            assert_eq!(url.expose(), text);
            assert_eq!(serde_json::to_value(&url).unwrap(), json!(shown));
            assert_eq!(format!("{url:?}"), format!("ServiceUrl({shown:?})"));
        }
        let error = serde_json::from_value::<ServiceUrl>(json!("u:secret@db")).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
