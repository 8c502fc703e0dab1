//! What a router publishes.

use super::super::encode::reason;
use super::super::frame::{self, Frame, Publish, Version};
use super::super::rejections;
use super::super::topics::Up;
use super::{Action, End, Flow, Now, Output, Refusal, Session};
use crate::decode::{self, Context, LeftOut, Nulls, Reason, Rejection};

impl Session {
    pub(super) fn publish(&mut self, frame: Frame<'_>, now: Now, out: &mut Output) -> Flow {
        match frame::publish(frame, self.version) {
            Ok(publish) => self.publish_read(publish, now, out),
            Err(frame::Malformed) => {
                out.end = Some(End::Malformed);
                Flow::Taken
            }
        }
    }

    pub(super) fn publish_read(
        &mut self,
        publish: Publish<'_>,
        now: Now,
        out: &mut Output,
    ) -> Flow {
        if publish.qos > 1 {
            out.end = Some(End::QosNotSupported);
            return Flow::Taken;
        }
        if publish.payload.len() > self.rules.payload.max_payload_bytes {
            out.end = Some(End::TooLarge);
            return Flow::Taken;
        }
        if publish.alias == 0 {
            return self.publish_to(publish.topic, publish, now, out);
        }
        match self.aliased(publish) {
            Ok(topic) => {
                let flow = self.publish_to(&topic, publish, now, out);
                self.keep_alias(publish.alias, topic);
                flow
            }
            Err(end) => {
                out.end = Some(end);
                Flow::Taken
            }
        }
    }

    /// The topic of a publish that names or uses an alias, taken out of the
    /// table; [`Session::keep_alias`] puts it back.
    fn aliased(&mut self, publish: Publish<'_>) -> Result<Box<[u8]>, End> {
        if publish.alias > self.rules.session.topic_alias_maximum {
            return Err(End::TopicAlias);
        }
        if !publish.topic.is_empty() {
            return Ok(publish.topic.into());
        }
        let slot = self.cold().aliases.get_mut(usize::from(publish.alias) - 1);
        slot.and_then(Option::take).ok_or(End::TopicAlias)
    }

    fn keep_alias(&mut self, alias: u16, topic: Box<[u8]>) {
        let index = usize::from(alias) - 1;
        let aliases = &mut self.cold().aliases;
        if aliases.len() <= index {
            aliases.resize(index + 1, None);
        }
        aliases[index] = Some(topic);
    }

    #[inline]
    fn publish_to(
        &mut self,
        topic: &[u8],
        publish: Publish<'_>,
        now: Now,
        out: &mut Output,
    ) -> Flow {
        let Some(up) = Up::parse(topic) else {
            self.refuse_topic(topic, publish, now, out);
            return Flow::Taken;
        };
        if self.version == Version::V5 && !self.has_rate_room(up, now) {
            self.refuse(Refusal::Rate, "over the rate".to_owned(), topic, publish, now, out);
            return Flow::Taken;
        }
        let (before, attributes_before) = (out.telemetry.len(), out.attributes.len());
        match self.dispatch(up, publish.payload, topic, now, out) {
            Ok(Flow::Wait) => return Flow::Wait,
            Ok(Flow::Taken) => {
                out.counts.taken[up.index()] += 1;
                out.counts.is_any = true;
                if publish.qos == 1 {
                    self.acks.add(publish.packet_id, reason::SUCCESS);
                } else {
                    out.qos_0_rows[0] += count(out.telemetry.len() - before);
                    out.qos_0_rows[1] += count(out.attributes.len() - attributes_before);
                }
            }
            Err(rejection) => {
                out.counts.note_clock(&rejection);
                let refusal = Refusal::Payload(rejection.reason);
                self.refuse(refusal, rejection.detail, topic, publish, now, out);
            }
        }
        if let Some(rates) = &mut self.rates {
            rates.take(up.is_telemetry(), out.telemetry.len() - before, now.us);
        }
        Flow::Taken
    }

    fn has_rate_room(&self, up: Up, now: Now) -> bool {
        let per_s = self.tenancy.tenant.settings.max_readings_per_s;
        (!up.is_telemetry() || self.tenancy.meter.has_room(per_s, now.us))
            && self.rates.as_ref().is_none_or(|rates| rates.has_room(up.is_telemetry(), now.us))
    }

    fn dispatch(
        &mut self,
        up: Up,
        payload: &[u8],
        topic: &[u8],
        now: Now,
        out: &mut Output,
    ) -> Result<Flow, Rejection> {
        let device = self.identity.device;
        match up {
            Up::Telemetry => {
                let before = out.telemetry.len();
                let context =
                    Context::new(&self.rules.payload, &self.tenancy.tenant.settings, now.wall);
                let (keys, rows) = (&mut self.keys, &mut out.telemetry);
                let left_out = decode::telemetry(payload, device, &context, keys, rows)?;
                out.counts.readings += count(out.telemetry.len() - before);
                for left_out in left_out {
                    self.note_left_out("", left_out, topic, payload, now, out);
                }
            }
            Up::Attributes => {
                let before = out.attributes.len();
                let context =
                    Context::new(&self.rules.payload, &self.tenancy.tenant.settings, now.wall);
                let (keys, rows) = (&mut self.keys, &mut out.attributes);
                decode::attributes(payload, device, Nulls::Skipped, &context, keys, rows)?;
                out.counts.attributes += count(out.attributes.len() - before);
                self.has_published_attributes = true;
            }
            Up::AttributesRequest { id, form } => self.attributes_request(id, form, payload)?,
            Up::RpcResponse { id } => self.rpc_response(id, payload, out)?,
            Up::RpcRequest { id, form } => self.rpc_request(id, form, payload, out)?,
            Up::GatewayConnect => return self.gateway_connect(payload, out),
            Up::GatewayDisconnect => self.gateway_disconnect(payload)?,
            Up::GatewayTelemetry | Up::GatewayAttributes => {
                return self.gateway_rows(up, payload, topic, now, out);
            }
            Up::GatewayAttributesRequest => {
                return self.gateway_attributes_request(payload, out);
            }
            Up::GatewayRpc => self.gateway_rpc_response(payload, out)?,
        }
        Ok(Flow::Taken)
    }

    fn refuse_topic(&mut self, topic: &[u8], publish: Publish<'_>, now: Now, out: &mut Output) {
        if std::str::from_utf8(topic).is_err() {
            out.end = Some(End::Malformed);
            return;
        }
        let words = "the topic is not one of the device or gateway API".to_owned();
        self.refuse(Refusal::TopicNotAllowed, words, topic, publish, now, out);
    }

    /// Counts a refused publish, keeps it for the operator and owes its PUBACK:
    /// an MQTT 3.1.1 client would otherwise send it again for ever.
    fn refuse(
        &mut self,
        refusal: Refusal,
        words: String,
        topic: &[u8],
        publish: Publish<'_>,
        now: Now,
        out: &mut Output,
    ) {
        let code = match refusal {
            Refusal::Payload(reason) if reason.is_quota() => reason::QUOTA_EXCEEDED,
            Refusal::Payload(_) => reason::PAYLOAD_FORMAT_INVALID,
            Refusal::Rate => reason::QUOTA_EXCEEDED,
            Refusal::TopicNotAllowed => topic_code(topic),
        };
        let is_malformed = code == reason::PAYLOAD_FORMAT_INVALID;
        if is_malformed && self.tenancy.tenant.settings.close_on_malformed {
            out.end = Some(End::MalformedPayload);
        } else if publish.qos == 1 {
            let said = self.reason_string(&words);
            self.acks.add_refused(publish.packet_id, code, said);
        }
        self.note_refusal(refusal, words, topic, publish.payload, now, out);
    }

    /// Counts the objects that a message was taken without and keeps one entry
    /// for all of a reason.
    pub(super) fn note_left_out(
        &self,
        whose: &str,
        left_out: LeftOut,
        topic: &[u8],
        payload: &[u8],
        now: Now,
        out: &mut Output,
    ) {
        let LeftOut { objects, rejection } = left_out;
        out.counts.note_clock(&rejection);
        let what = if rejection.reason == Reason::ReservedKey { "value" } else { "object" };
        let words = match objects {
            1 => format!("{whose}1 {what} left out: {}", rejection.detail),
            _ => format!("{whose}{objects} {what}s left out; the first: {}", rejection.detail),
        };
        let refusal = Refusal::Payload(rejection.reason);
        self.note_refusal(refusal, words, topic, payload, now, out);
        out.counts.refused[refusal.index()] += objects - 1;
    }

    /// Counts a refusal and keeps it for the operator.
    pub(super) fn note_refusal(
        &self,
        refusal: Refusal,
        words: String,
        topic: &[u8],
        payload: &[u8],
        now: Now,
        out: &mut Output,
    ) {
        out.counts.refused[refusal.index()] += 1;
        out.counts.is_any = true;
        let router = self.identity.router;
        let rejection = rejections::Rejection::new(now.wall, router, topic, words, payload);
        out.actions.push(Action::Reject(rejection));
    }
}

/// A topic with a wildcard or a null is no topic name; any other is merely not
/// this router's to publish to.
fn topic_code(topic: &[u8]) -> u8 {
    if topic.iter().any(|byte| matches!(byte, b'+' | b'#' | 0)) {
        reason::TOPIC_NAME_INVALID
    } else {
        reason::NOT_AUTHORIZED
    }
}

pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
