//! Messages to the router: shared attributes and calls.
//!
//! At the QoS that was granted, with packet ids of our own, never more unanswered
//! than the client's Receive Maximum and never larger than its Maximum Packet
//! Size. What does not fit now waits in a bounded queue.

use std::collections::VecDeque;

use schema::DeviceId;
use serde_json::{Map, Value, json};

use super::super::encode::Publication;
use super::super::frame::Version;
use super::super::topics::{Down, Filter, Form};
use super::{Action, Connected, End, Output, Session};
use crate::decode::{self, Rejection};

/// The most QoS 1 messages that wait for a PUBACK of a client, whatever its
/// Receive Maximum: it bounds what a session holds.
const MAX_UNANSWERED: u16 = 32;

/// A changed shared attribute; no value is a deletion.
pub(crate) type SharedChange = (String, Option<Value>);

/// Shared attributes that a device has got, for the store to note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub device: DeviceId,
    pub upto: u64,
}

/// A call to a device of this session.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The caller's number, given back with the answer.
    pub call: u64,
    pub device: DeviceId,
    pub method: String,
    pub params: Value,
    /// When the caller stops waiting.
    pub expires_us: u64,
}

/// Why a message could not be given to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushRefused {
    /// The router has not subscribed to it.
    NotSubscribed,
    /// The device behind the router is not connected to it.
    NotConnected,
    /// Too much waits for this client already.
    Full,
    /// Larger than the client takes.
    TooLarge,
}

#[derive(Debug)]
struct Waiting {
    filter: Filter,
    id: u64,
    payload: Box<[u8]>,
    delivered: Option<Delivered>,
}

#[derive(Debug)]
struct OpenCall {
    id: u64,
    call: u64,
    /// The name of a device behind the router.
    name: Option<Box<str>>,
    expires_us: u64,
}

#[derive(Debug)]
pub(super) struct Downlink {
    max_packet_bytes: usize,
    receive_maximum: u16,
    topic_alias_maximum: u16,
    next_packet_id: u16,
    /// One bit for each alias that the client has been told.
    aliases_told: u16,
    next_call_id: u32,
    unanswered: Vec<(u16, Option<Delivered>)>,
    waiting: VecDeque<Waiting>,
    calls: Vec<OpenCall>,
}

impl Downlink {
    pub(super) fn new(connected: &Connected) -> Self {
        Self {
            max_packet_bytes: connected.max_packet_bytes,
            receive_maximum: connected.receive_maximum.get().min(MAX_UNANSWERED),
            topic_alias_maximum: connected.topic_alias_maximum,
            next_packet_id: 0,
            aliases_told: 0,
            next_call_id: 0,
            unanswered: Vec::new(),
            waiting: VecDeque::new(),
            calls: Vec::new(),
        }
    }

    fn take_packet_id(&mut self) -> u16 {
        loop {
            self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(1);
            let id = self.next_packet_id;
            // At most MAX_UNANSWERED are taken, so a free one is near.
            if !self.unanswered.iter().any(|&(taken, _)| taken == id) {
                return id;
            }
        }
    }

    /// The alias of a topic that repeats, and whether the client knows it.
    fn alias(&mut self, filter: Filter) -> Option<(u16, bool)> {
        let alias = match (filter.down, filter.form) {
            (Down::Attributes, Form::Long) => 1,
            (Down::Attributes, Form::Short) => 2,
            (Down::Attributes, Form::ShortJson) => 3,
            (Down::GatewayAttributes, _) => 4,
            (Down::GatewayAttributesResponse, _) => 5,
            (Down::GatewayRpc, _) => 6,
            (Down::AttributesResponse | Down::RpcRequest | Down::RpcResponse, _) => return None,
        };
        let is_told = self.aliases_told & (1 << alias) != 0;
        (alias <= self.topic_alias_maximum).then_some((alias, is_told))
    }
}

impl Session {
    /// Sends a message, or has it wait for the client's PUBACKs.
    pub(super) fn send(
        &mut self,
        filter: Filter,
        id: u64,
        qos: u8,
        payload: &[u8],
        delivered: Option<Delivered>,
        out: &mut Output,
    ) -> Result<(), PushRefused> {
        let mut topic = String::new();
        filter.write_topic(id, &mut topic);
        let largest = Publication { topic: &topic, alias: 1, packet_id: 1, payload };
        if largest.size(self.version) > self.downlink.max_packet_bytes {
            return Err(PushRefused::TooLarge);
        }
        if qos == 0 {
            self.write(filter, &topic, 0, payload, out);
            out.actions.extend(delivered.map(Action::Delivered));
            return Ok(());
        }
        let downlink = &mut self.downlink;
        if downlink.unanswered.len() < usize::from(downlink.receive_maximum)
            && downlink.waiting.is_empty()
        {
            let packet_id = downlink.take_packet_id();
            downlink.unanswered.push((packet_id, delivered));
            self.write(filter, &topic, packet_id, payload, out);
            return Ok(());
        }
        if downlink.waiting.len() >= self.rules.session.max_downlink_queue {
            return Err(PushRefused::Full);
        }
        downlink.waiting.push_back(Waiting { filter, id, payload: payload.into(), delivered });
        Ok(())
    }

    fn write(
        &mut self,
        filter: Filter,
        topic: &str,
        packet_id: u16,
        payload: &[u8],
        out: &mut Output,
    ) {
        let (alias, topic) = match (self.version, self.downlink.alias(filter)) {
            (Version::V3, _) | (Version::V5, None) => (0, topic),
            (Version::V5, Some((alias, true))) => (alias, ""),
            (Version::V5, Some((alias, false))) => {
                self.downlink.aliases_told |= 1 << alias;
                (alias, topic)
            }
        };
        Publication { topic, alias, packet_id, payload }.write(&mut out.bytes, self.version);
        out.counts.downlink += 1;
        out.counts.is_any = true;
    }

    /// A PUBACK of the client: what waited behind it goes out.
    pub(super) fn client_puback(&mut self, body: &[u8], out: &mut Output) {
        let ((Version::V3, [high, low]) | (Version::V5, [high, low, ..])) = (self.version, body)
        else {
            out.end = Some(End::Malformed);
            return;
        };
        let packet_id = u16::from_be_bytes([*high, *low]);
        let unanswered = &mut self.downlink.unanswered;
        // One that is not known is left alone, as the protocol asks.
        let Some(place) = unanswered.iter().position(|&(id, _)| id == packet_id) else { return };
        let (_, delivered) = unanswered.swap_remove(place);
        out.actions.extend(delivered.map(Action::Delivered));
        if let Some(next) = self.downlink.waiting.pop_front() {
            let packet_id = self.downlink.take_packet_id();
            self.downlink.unanswered.push((packet_id, next.delivered));
            let mut topic = String::new();
            next.filter.write_topic(next.id, &mut topic);
            self.write(next.filter, &topic, packet_id, &next.payload, out);
        }
    }

    /// Gives the router shared attributes that have changed.
    pub(crate) fn push_shared(
        &mut self,
        device: DeviceId,
        changes: &[SharedChange],
        delivered: Option<Delivered>,
        out: &mut Output,
    ) -> Result<(), PushRefused> {
        let body = shared_body(changes);
        if device == self.identity.device {
            let (filter, qos) =
                self.subscribed(Down::Attributes).ok_or(PushRefused::NotSubscribed)?;
            return self.send(filter, 0, qos, body.to_string().as_bytes(), delivered, out);
        }
        let (filter, qos) =
            self.subscribed(Down::GatewayAttributes).ok_or(PushRefused::NotSubscribed)?;
        let name = self.name_of(device).ok_or(PushRefused::NotConnected)?;
        let body = json!({"device": name, "data": body});
        self.send(filter, 0, qos, body.to_string().as_bytes(), delivered, out)
    }

    /// Gives the router a call to one of its devices.
    pub(crate) fn push_call(
        &mut self,
        call: Call,
        now_us: u64,
        out: &mut Output,
    ) -> Result<(), PushRefused> {
        self.downlink.calls.retain(|open| open.expires_us > now_us);
        if self.downlink.calls.len() >= self.rules.session.max_pending_calls {
            return Err(PushRefused::Full);
        }
        let id = u64::from(self.downlink.next_call_id);
        let mut name = None;
        let Call { method, params, .. } = call;
        let (filter, qos, body) = if call.device == self.identity.device {
            let (filter, qos) =
                self.subscribed(Down::RpcRequest).ok_or(PushRefused::NotSubscribed)?;
            (filter, qos, json!({"method": method, "params": params}))
        } else {
            let (filter, qos) =
                self.subscribed(Down::GatewayRpc).ok_or(PushRefused::NotSubscribed)?;
            let device = self.name_of(call.device).ok_or(PushRefused::NotConnected)?;
            name = Some(device.into());
            let call = json!({"id": id, "method": method, "params": params});
            (filter, qos, json!({"device": device, "data": call}))
        };
        self.send(filter, id, qos, body.to_string().as_bytes(), None, out)?;
        // ThingsBoard's ids are of 32 bits, and some clients keep them so.
        self.downlink.next_call_id = self.downlink.next_call_id.wrapping_add(1) & 0x7fff_ffff;
        let open = OpenCall { id, call: call.call, name, expires_us: call.expires_us };
        self.downlink.calls.push(open);
        Ok(())
    }

    pub(super) fn rpc_response(
        &mut self,
        id: u64,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<(), Rejection> {
        let answer = decode::json(payload)?;
        self.call_answered(id, None, answer.get(), out);
        Ok(())
    }

    /// An answer to a call nobody waits for any more is taken and forgotten.
    pub(super) fn call_answered(
        &mut self,
        id: u64,
        name: Option<&str>,
        answer: &str,
        out: &mut Output,
    ) {
        let calls = &mut self.downlink.calls;
        let place = calls.iter().position(|open| open.id == id && open.name.as_deref() == name);
        if let Some(place) = place {
            let call = calls.swap_remove(place).call;
            out.actions.push(Action::CallAnswered { call, answer: answer.into() });
        }
    }
}

/// `{k:v}` with `"deleted":[k]` where there are any.
fn shared_body(changes: &[SharedChange]) -> Value {
    let mut body = Map::new();
    let mut deleted = Vec::new();
    for (key, value) in changes {
        match value {
            Some(value) => {
                body.insert(key.clone(), value.clone());
            }
            None => deleted.push(Value::String(key.clone())),
        }
    }
    if !deleted.is_empty() {
        body.insert("deleted".to_owned(), Value::Array(deleted));
    }
    Value::Object(body)
}
