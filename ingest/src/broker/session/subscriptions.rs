//! SUBSCRIBE and UNSUBSCRIBE: only the filters of the contract, by `rmqtt-codec`.

use bytes::BytesMut;
use rmqtt_codec::types::QoS;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::super::frame::Version;
use super::super::topics::{Down, Filter, Form, MAX_SUBSCRIPTIONS};
use super::{Action, End, Output, Session};

impl Session {
    pub(super) fn subscribe(&mut self, whole: &[u8], out: &mut Output) {
        let mut input = BytesMut::from(whole);
        let packet = match self.version {
            Version::V3 => match v3::Codec::new(0).decode(&mut input) {
                Ok(Some((v3::Packet::Subscribe { packet_id, topic_filters }, _))) => {
                    let status = topic_filters
                        .iter()
                        .map(|(filter, qos)| match self.subscribe_to(filter, *qos, out) {
                            Ok(qos) => v3::SubscribeReturnCode::Success(qos),
                            Err(_) => v3::SubscribeReturnCode::Failure,
                        })
                        .collect();
                    Packet::V3(v3::Packet::SubscribeAck { packet_id, status })
                }
                _ => return out.end = Some(End::Malformed),
            },
            Version::V5 => match v5::Codec::new(0, 0).decode(&mut input) {
                Ok(Some((v5::Packet::Subscribe(subscribe), _))) => {
                    let status = self.subscribe_v5(&subscribe, out);
                    Packet::V5(v5::Packet::SubscribeAck(v5::SubscribeAck {
                        packet_id: subscribe.packet_id,
                        properties: Vec::new(),
                        reason_string: None,
                        status,
                    }))
                }
                _ => return out.end = Some(End::Malformed),
            },
        };
        packet.write(&mut out.bytes);
    }

    fn subscribe_v5(
        &mut self,
        subscribe: &v5::Subscribe,
        out: &mut Output,
    ) -> Vec<v5::SubscribeAckReason> {
        use v5::SubscribeAckReason as Reason;
        let filters = subscribe.topic_filters.iter();
        filters
            .map(|(filter, options)| {
                if subscribe.id.is_some() {
                    // CONNACK said that they are not to be had.
                    return Reason::SubscriptionIdentifiersNotSupported;
                }
                match self.subscribe_to(filter, options.qos, out) {
                    Ok(QoS::AtMostOnce) => Reason::GrantedQos0,
                    Ok(_) => Reason::GrantedQos1,
                    Err(reason) => reason,
                }
            })
            .collect()
    }

    fn subscribe_to(
        &mut self,
        text: &str,
        qos: QoS,
        out: &mut Output,
    ) -> Result<QoS, v5::SubscribeAckReason> {
        use v5::SubscribeAckReason as Reason;
        let Some(filter) = Filter::parse(text) else {
            return Err(if text.starts_with("$share/") {
                Reason::SharedSubscriptionNotSupported
            } else if is_filter(text) {
                Reason::NotAuthorized
            } else {
                Reason::TopicFilterInvalid
            });
        };
        let qos = qos.less_value(QoS::AtLeastOnce);
        self.subscriptions.retain(|(known, _)| *known != filter);
        debug_assert!(self.subscriptions.len() < MAX_SUBSCRIPTIONS);
        self.subscriptions.push((filter, qos.value()));
        match filter.down {
            Down::Attributes => {
                let device = self.identity.device;
                out.actions.push(Action::FetchUndelivered { device });
            }
            Down::GatewayAttributes => self.fetch_undelivered_behind(out),
            _ => {}
        }
        Ok(qos)
    }

    pub(super) fn unsubscribe(&mut self, whole: &[u8], out: &mut Output) {
        let mut input = BytesMut::from(whole);
        let packet = match self.version {
            Version::V3 => match v3::Codec::new(0).decode(&mut input) {
                Ok(Some((v3::Packet::Unsubscribe { packet_id, topic_filters }, _))) => {
                    for filter in &topic_filters {
                        self.unsubscribe_from(filter);
                    }
                    Packet::V3(v3::Packet::UnsubscribeAck { packet_id })
                }
                _ => return out.end = Some(End::Malformed),
            },
            Version::V5 => match v5::Codec::new(0, 0).decode(&mut input) {
                Ok(Some((v5::Packet::Unsubscribe(unsubscribe), _))) => {
                    let filters = unsubscribe.topic_filters.iter();
                    let status = filters
                        .map(|filter| match self.unsubscribe_from(filter) {
                            true => v5::UnsubscribeAckReason::Success,
                            false => v5::UnsubscribeAckReason::NoSubscriptionExisted,
                        })
                        .collect();
                    Packet::V5(v5::Packet::UnsubscribeAck(v5::UnsubscribeAck {
                        packet_id: unsubscribe.packet_id,
                        properties: Vec::new(),
                        reason_string: None,
                        status,
                    }))
                }
                _ => return out.end = Some(End::Malformed),
            },
        };
        packet.write(&mut out.bytes);
    }

    fn unsubscribe_from(&mut self, text: &str) -> bool {
        let Some(filter) = Filter::parse(text) else { return false };
        let before = self.subscriptions.len();
        self.subscriptions.retain(|(known, _)| *known != filter);
        self.subscriptions.len() < before
    }

    /// The QoS granted to one filter.
    pub(super) fn granted(&self, down: Down, form: Form) -> Option<u8> {
        let filter = Filter { down, form };
        self.subscriptions.iter().find(|(known, _)| *known == filter).map(|&(_, qos)| qos)
    }

    /// The filter, of whatever form, on which the router takes such messages,
    /// and its QoS. One of two that overlap, so that nothing comes twice.
    pub(super) fn subscribed(&self, down: Down) -> Option<(Filter, u8)> {
        self.subscriptions.iter().find(|(filter, _)| filter.down == down).copied()
    }
}

/// Whether the text is a topic filter at all (MQTT 5, 4.7.1).
fn is_filter(text: &str) -> bool {
    let levels = text.split('/').count();
    !text.is_empty()
        && !text.contains('\0')
        && text.split('/').enumerate().all(|(index, level)| match level {
            "+" => true,
            "#" => index + 1 == levels,
            _ => !level.contains(['+', '#']),
        })
}

enum Packet {
    V3(v3::Packet),
    V5(v5::Packet),
}

impl Packet {
    fn write(self, out: &mut Vec<u8>) {
        let mut bytes = BytesMut::new();
        let written = match self {
            Self::V3(packet) => v3::Codec::new(0).encode(packet, &mut bytes),
            Self::V5(packet) => v5::Codec::new(0, 0).encode(packet, &mut bytes),
        };
        written.expect("an acknowledgement of a packet in bounds is in bounds");
        out.extend_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::is_filter;

    #[test]
    fn filters_have_wildcards_only_as_whole_levels() {
        for text in ["a", "+", "#", "a/+/b", "a/#", "/", "$SYS/#"] {
            assert!(is_filter(text), "{text}");
        }
        for text in ["", "a#", "#/a", "a+/b", "a/b+", "a\0"] {
            assert!(!is_filter(text), "{text}");
        }
    }
}
