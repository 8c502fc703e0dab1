//! What an MQTT 5 client is told when its connection ends.

use std::borrow::Cow;

use super::super::encode::{self, reason};
use super::{End, Rules, Session};

impl Session {
    /// The DISCONNECT that the client gets, if it gets any.
    pub(crate) fn goodbye(&self, end: End, out: &mut Vec<u8>) {
        if let Some(code) = end.reason_code() {
            let words = self.reason_string(&end.words(&self.rules));
            encode::disconnect(out, self.version, code, words.as_deref());
        }
    }

    /// Words for a Reason String; none where the client wants or takes none.
    pub(super) fn reason_string(&self, words: &str) -> Option<Box<str>> {
        encode::reason_string(words, self.max_reasoned_bytes)
    }
}

impl End {
    /// The reason code of the DISCONNECT that an MQTT 5 client gets; none where
    /// it is the client that has gone.
    pub(crate) fn reason_code(self) -> Option<u8> {
        Some(match self {
            Self::Client | Self::ClientWithWill | Self::Socket | Self::WriteStall => return None,
            Self::KeepAlive => reason::KEEP_ALIVE_TIMEOUT,
            Self::Malformed => reason::MALFORMED_PACKET,
            Self::ProtocolError => reason::PROTOCOL_ERROR,
            Self::TopicAlias => reason::TOPIC_ALIAS_INVALID,
            Self::QosNotSupported => reason::QOS_NOT_SUPPORTED,
            Self::TooLarge => reason::PACKET_TOO_LARGE,
            Self::MalformedPayload => reason::PAYLOAD_FORMAT_INVALID,
            Self::JournalFailed => reason::SERVER_UNAVAILABLE,
            Self::TakenOver => reason::SESSION_TAKEN_OVER,
            Self::Revoked => reason::ADMINISTRATIVE_ACTION,
            Self::Shutdown => reason::SERVER_SHUTTING_DOWN,
            Self::Moved => reason::USE_ANOTHER_SERVER,
        })
    }

    /// Why it ends, for a person who reads the client's messages.
    fn words(self, rules: &Rules) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Client | Self::ClientWithWill => "goodbye",
            Self::Socket => "the connection was lost",
            Self::WriteStall => "nothing that was sent was taken",
            Self::KeepAlive => "nothing came for one and a half times the keep alive",
            Self::Malformed => "a packet breaks the grammar of MQTT",
            Self::ProtocolError => "a packet that may not be sent here",
            Self::TopicAlias => {
                let most = rules.session.topic_alias_maximum;
                return format!("a topic alias that was not set, or is above {most}").into();
            }
            Self::QosNotSupported => "QoS 2 is not supported; publish at QoS 1",
            Self::TooLarge => {
                let (packet, payload) = (rules.max_packet_bytes, rules.payload.max_payload_bytes);
                return format!(
                    "packet larger than {packet} bytes, or payload larger than {payload} bytes"
                )
                .into();
            }
            Self::MalformedPayload => {
                "a payload is malformed, for which the tenant's settings end the connection"
            }
            Self::JournalFailed => {
                "nothing can be stored at present; send again what was not acknowledged"
            }
            Self::TakenOver => "another session of this client took over",
            Self::Revoked => "the router was disabled or deleted, or its credentials changed",
            Self::Shutdown => "the server shuts down",
            Self::Moved => "the server is about to stop; connect again, to another one",
        })
    }
}
