//! The topics of ThingsBoard's device and gateway API, both ways.
//!
//! A closed set: what a router may publish to and subscribe to is listed here
//! and nowhere else. Pure; compares bytes, so that no topic has to be checked
//! for UTF-8 before it is known.

/// How a topic is written. The short forms are ThingsBoard's; `/j` says JSON,
/// which is what is spoken here in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `v1/devices/me/…`.
    Long,
    /// `v2/…`.
    Short,
    /// `v2/…/j`.
    ShortJson,
}

/// What a router publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Up {
    Telemetry,
    Attributes,
    AttributesRequest { id: u64, form: Form },
    RpcResponse { id: u64 },
    RpcRequest { id: u64, form: Form },
    GatewayConnect,
    GatewayDisconnect,
    GatewayTelemetry,
    GatewayAttributes,
    GatewayAttributesRequest,
    GatewayRpc,
}

/// The kinds of [`Up`], as a metric counts them.
pub(crate) const UP_KINDS: [&str; 11] = [
    "telemetry",
    "attributes",
    "attributes_request",
    "rpc_response",
    "rpc_request",
    "gateway_connect",
    "gateway_disconnect",
    "gateway_telemetry",
    "gateway_attributes",
    "gateway_attributes_request",
    "gateway_rpc",
];

impl Up {
    /// The topic that is published to; none outside the contract.
    #[inline]
    pub(crate) fn parse(topic: &[u8]) -> Option<Self> {
        if let Some(rest) = topic.strip_prefix(b"v1/devices/me/") {
            return Self::device(rest);
        }
        if let Some(rest) = topic.strip_prefix(b"v1/gateway/") {
            return Some(match rest {
                b"telemetry" => Self::GatewayTelemetry,
                b"attributes" => Self::GatewayAttributes,
                b"connect" => Self::GatewayConnect,
                b"disconnect" => Self::GatewayDisconnect,
                b"attributes/request" => Self::GatewayAttributesRequest,
                b"rpc" => Self::GatewayRpc,
                _ => return None,
            });
        }
        Self::short(topic.strip_prefix(b"v2/")?)
    }

    fn device(rest: &[u8]) -> Option<Self> {
        match rest {
            b"telemetry" => Some(Self::Telemetry),
            b"attributes" => Some(Self::Attributes),
            _ => {
                let form = Form::Long;
                if let Some(id) = rest.strip_prefix(b"attributes/request/") {
                    Some(Self::AttributesRequest { id: decimal(id)?, form })
                } else if let Some(id) = rest.strip_prefix(b"rpc/response/") {
                    Some(Self::RpcResponse { id: decimal(id)? })
                } else if let Some(id) = rest.strip_prefix(b"rpc/request/") {
                    Some(Self::RpcRequest { id: decimal(id)?, form })
                } else {
                    None
                }
            }
        }
    }

    fn short(rest: &[u8]) -> Option<Self> {
        match rest {
            b"t" | b"t/j" => return Some(Self::Telemetry),
            b"a" | b"a/j" => return Some(Self::Attributes),
            _ => {}
        }
        let numbered = |prefix: &[u8]| {
            let rest = rest.strip_prefix(prefix)?;
            match rest.strip_prefix(b"j/") {
                Some(id) => Some((decimal(id)?, Form::ShortJson)),
                None => Some((decimal(rest)?, Form::Short)),
            }
        };
        if let Some((id, form)) = numbered(b"a/req/") {
            Some(Self::AttributesRequest { id, form })
        } else if let Some((id, _)) = numbered(b"r/res/") {
            Some(Self::RpcResponse { id })
        } else {
            numbered(b"r/req/").map(|(id, form)| Self::RpcRequest { id, form })
        }
    }

    /// The place in [`UP_KINDS`].
    #[inline]
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Telemetry => 0,
            Self::Attributes => 1,
            Self::AttributesRequest { .. } => 2,
            Self::RpcResponse { .. } => 3,
            Self::RpcRequest { .. } => 4,
            Self::GatewayConnect => 5,
            Self::GatewayDisconnect => 6,
            Self::GatewayTelemetry => 7,
            Self::GatewayAttributes => 8,
            Self::GatewayAttributesRequest => 9,
            Self::GatewayRpc => 10,
        }
    }

    /// Whether it says something of a device, and asks nothing: such a message
    /// may be left as a will.
    pub(crate) fn may_be_will(self) -> bool {
        match self {
            Self::Telemetry
            | Self::Attributes
            | Self::GatewayTelemetry
            | Self::GatewayAttributes
            | Self::GatewayDisconnect => true,
            Self::AttributesRequest { .. }
            | Self::RpcResponse { .. }
            | Self::RpcRequest { .. }
            | Self::GatewayConnect
            | Self::GatewayAttributesRequest
            | Self::GatewayRpc => false,
        }
    }

    /// Whether the message is telemetry in the sense of the rate limits.
    pub(crate) fn is_telemetry(self) -> bool {
        matches!(self, Self::Telemetry | Self::GatewayTelemetry)
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What comes down on a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    /// Shared attributes of the router's own device.
    Attributes,
    /// Answers to its attribute requests.
    AttributesResponse,
    /// Calls to its own device.
    RpcRequest,
    /// Answers to its own calls.
    RpcResponse,
    /// Shared attributes of a device behind it.
    GatewayAttributes,
    GatewayAttributesResponse,
    /// Calls to a device behind it.
    GatewayRpc,
}

/// A filter that may be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub down: Down,
    pub form: Form,
}

/// Every filter of the contract. `{N}` of a topic stands where `+` stands here.
const FILTERS: [(&str, Down, Form); 15] = [
    ("v1/devices/me/attributes", Down::Attributes, Form::Long),
    ("v1/devices/me/attributes/response/+", Down::AttributesResponse, Form::Long),
    ("v1/devices/me/rpc/request/+", Down::RpcRequest, Form::Long),
    ("v1/devices/me/rpc/response/+", Down::RpcResponse, Form::Long),
    ("v1/gateway/attributes", Down::GatewayAttributes, Form::Long),
    ("v1/gateway/attributes/response", Down::GatewayAttributesResponse, Form::Long),
    ("v1/gateway/rpc", Down::GatewayRpc, Form::Long),
    ("v2/a", Down::Attributes, Form::Short),
    ("v2/a/j", Down::Attributes, Form::ShortJson),
    ("v2/a/res/+", Down::AttributesResponse, Form::Short),
    ("v2/a/res/j/+", Down::AttributesResponse, Form::ShortJson),
    ("v2/r/req/+", Down::RpcRequest, Form::Short),
    ("v2/r/req/j/+", Down::RpcRequest, Form::ShortJson),
    ("v2/r/res/+", Down::RpcResponse, Form::Short),
    ("v2/r/res/j/+", Down::RpcResponse, Form::ShortJson),
];

/// The most filters that one session can hold: all of them.
pub(crate) const MAX_SUBSCRIPTIONS: usize = FILTERS.len();

impl Filter {
    /// The filter behind its text; none outside the contract.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let &(_, down, form) = FILTERS.iter().find(|(known, ..)| *known == text)?;
        Some(Self { down, form })
    }

    /// Writes the topic that a message on this filter is published to; `id` is
    /// put where the filter has a wildcard.
    pub(crate) fn write_topic(self, id: u64, topic: &mut String) {
        let (text, ..) = FILTERS
            .iter()
            .find(|&&(_, down, form)| (down, form) == (self.down, self.form))
            .expect("a filter is only made from the table");
        topic.clear();
        match text.strip_suffix('+') {
            Some(prefix) => {
                topic.push_str(prefix);
                topic.push_str(&id.to_string());
            }
            None => topic.push_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_the_contract_are_known() {
        let cases: [(&str, Up); 17] = [
            ("v1/devices/me/telemetry", Up::Telemetry),
            ("v2/t", Up::Telemetry),
            ("v2/t/j", Up::Telemetry),
            ("v1/devices/me/attributes", Up::Attributes),
            ("v2/a", Up::Attributes),
            ("v2/a/j", Up::Attributes),
            (
                "v1/devices/me/attributes/request/7",
                Up::AttributesRequest { id: 7, form: Form::Long },
            ),
            ("v2/a/req/j/7", Up::AttributesRequest { id: 7, form: Form::ShortJson }),
            ("v1/devices/me/rpc/response/1", Up::RpcResponse { id: 1 }),
            ("v1/devices/me/rpc/request/1", Up::RpcRequest { id: 1, form: Form::Long }),
            ("v2/r/req/9", Up::RpcRequest { id: 9, form: Form::Short }),
            ("v1/gateway/telemetry", Up::GatewayTelemetry),
            ("v1/gateway/attributes", Up::GatewayAttributes),
            ("v1/gateway/attributes/request", Up::GatewayAttributesRequest),
            ("v1/gateway/rpc", Up::GatewayRpc),
            ("v1/gateway/connect", Up::GatewayConnect),
            ("v1/gateway/disconnect", Up::GatewayDisconnect),
        ];
        for (topic, up) in cases {
            assert_eq!(Up::parse(topic.as_bytes()), Some(up), "{topic}");
        }
    }

    #[test]
    fn all_else_is_not_allowed() {
        for topic in [
            "",
            "v1",
            "v1/devices/me",
            "v1/devices/me/telemetry/",
            "v1/devices/you/telemetry",
            "v1/devices/me/attributes/request/",
            "v1/devices/me/attributes/request/x",
            "v1/devices/me/rpc/request/+",
            "v1/devices/me/rpc/response/99999999999999999999",
            "v1/gateway",
            "v1/gateway/claim",
            "v2/t/p",
            "v2/a/req/j/",
            "V1/gateway/rpc",
            "$SYS/x",
        ] {
            assert_eq!(Up::parse(topic.as_bytes()), None, "{topic}");
        }
        for filter in ["#", "+", "v1/devices/me/#", "v1/devices/me/rpc/request/1", "v2/fw/+", ""] {
            assert_eq!(Filter::parse(filter), None, "{filter}");
        }
    }

    #[test]
    fn a_filter_names_the_topic_it_is_delivered_on() {
        let mut topic = String::new();
        for (text, ..) in FILTERS {
            Filter::parse(text).unwrap().write_topic(42, &mut topic);
            assert_eq!(topic, text.replace('+', "42"));
        }
    }
}
