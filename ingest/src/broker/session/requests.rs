//! What a router asks: stored attributes, and calls of its own.

use std::collections::VecDeque;

use schema::DeviceId;
use serde_json::{Map, Value, json};

use super::super::options::{Rate, RateLimits};
use super::super::topics::{Down, Filter, Form};
use super::{Action, Output, Session};
use crate::decode::{self, Rejection};

/// A request for stored attributes.
#[derive(Debug)]
pub(crate) struct Question {
    pub device: DeviceId,
    pub scopes: Scopes,
    pub reply: ReplyTo,
    /// This session has published attributes itself, so what it is answered
    /// has to hold them.
    pub after_attributes: bool,
}

/// Which scopes are asked for: none, all keys of it, or some.
#[derive(Debug)]
pub(crate) struct Scopes {
    pub client: Option<Option<Vec<String>>>,
    pub shared: Option<Option<Vec<String>>>,
}

/// Where the answer goes.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    Own { id: u64, form: Form },
    Behind { id: i64, name: Box<str>, is_several: bool },
}

/// The values of one scope; empty where it was not asked for.
pub(crate) type Values = Vec<(String, Value)>;

/// The answer to a [`Question`].
#[derive(Debug)]
pub(crate) struct Answer {
    pub reply: ReplyTo,
    pub client: Values,
    pub shared: Values,
}

/// Requests that wait for the session's earlier publishes, or are being
/// answered.
#[derive(Debug, Default)]
pub(super) struct Held {
    waiting: VecDeque<(u64, Question)>,
    asked: usize,
}

impl Session {
    pub(super) fn attributes_request(
        &mut self,
        id: u64,
        form: Form,
        payload: &[u8],
    ) -> Result<(), Rejection> {
        let body = decode::attribute_request(payload)?;
        let scopes = match (body.client_keys, body.shared_keys) {
            // With neither list, all of both.
            (None, None) => Scopes { client: Some(None), shared: Some(None) },
            (client, shared) => Scopes { client: client.map(Some), shared: shared.map(Some) },
        };
        let reply = ReplyTo::Own { id, form };
        let after_attributes = self.has_published_attributes;
        self.hold(Question { device: self.identity.device, scopes, reply, after_attributes });
        Ok(())
    }

    /// Keeps a request until all that this session published before it, in the
    /// same socket read too, is durable.
    pub(super) fn hold(&mut self, question: Question) {
        // One more than the fence: the group that is open now.
        let fence = self.acks.fence() + 1;
        self.cold().held.waiting.push_back((fence, question));
    }

    pub(super) fn release_requests(&mut self, out: &mut Output) {
        let Some(cold) = &mut self.cold else { return };
        let is_idle = self.acks.groups() == 0;
        let answered = self.acks.answered();
        while let Some((fence, _)) = cold.held.waiting.front() {
            if !is_idle && *fence > answered {
                break;
            }
            let Some((_, question)) = cold.held.waiting.pop_front() else { break };
            cold.held.asked += 1;
            out.actions.push(Action::Ask(question));
        }
    }

    pub(super) fn held_requests(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.held.waiting.len() + cold.held.asked)
    }

    /// What came of [`Action::Ask`]. Without values the store could not be
    /// read: the router asks again, as after any lost answer.
    pub(crate) fn answer(&mut self, answer: Option<Answer>, out: &mut Output) {
        if let Some(cold) = &mut self.cold {
            cold.held.asked = cold.held.asked.saturating_sub(1);
        }
        let Some(Answer { reply, client, shared }) = answer else { return };
        match reply {
            ReplyTo::Own { id, form } => {
                let mut parts = Map::new();
                for (part, values) in [("client", client), ("shared", shared)] {
                    if !values.is_empty() {
                        parts.insert(part.to_owned(), Value::Object(values.into_iter().collect()));
                    }
                }
                self.reply(Down::AttributesResponse, form, id, &Value::Object(parts), out);
            }
            ReplyTo::Behind { id, name, is_several } => {
                let mut values: Map<String, Value> = client.into_iter().chain(shared).collect();
                let mut body = json!({"id": id, "device": &*name});
                if is_several {
                    body["values"] = Value::Object(values);
                } else if let Some(key) = values.keys().next().cloned() {
                    body["value"] = values.remove(&key).unwrap_or(Value::Null);
                }
                self.reply(Down::GatewayAttributesResponse, Form::Long, 0, &body, out);
            }
        }
    }

    /// A call by the router. One is known; any other is answered with an error,
    /// so that the caller does not wait for a timeout.
    pub(super) fn rpc_request(
        &mut self,
        id: u64,
        form: Form,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<(), Rejection> {
        let body = decode::rpc_request(payload)?;
        let answer = match &*body.method {
            "getSessionLimits" => self.session_limits(),
            method => json!({"error": format!("unknown method {method:?}")}),
        };
        self.reply(Down::RpcResponse, form, id, &answer, out);
        Ok(())
    }

    fn session_limits(&self) -> Value {
        let limits = &self.rules.session;
        let rates = rates_text(&limits.rates);
        json!({
            "maxPayloadSize": self.rules.payload.max_payload_bytes,
            "maxInflightMessages": limits.receive_maximum,
            "rateLimits": rates,
            // ThingsBoard and its Python SDK read the two groups the other way
            // round from one another, so they are equal.
            "gatewayRateLimits": rates,
        })
    }

    /// Sends an answer. ThingsBoard answers whether or not the client has
    /// subscribed, so that is what clients in the field may count on.
    fn reply(&mut self, down: Down, form: Form, id: u64, body: &Value, out: &mut Output) {
        let qos = self.granted(down, form).unwrap_or(0);
        let payload = body.to_string();
        // A full queue means a client that takes nothing: its answer is lost
        // with it.
        let _ = self.send(Filter { down, form }, id, qos, payload.as_bytes(), None, out);
    }
}

fn rates_text(rates: &RateLimits) -> Value {
    let text = |rates: &[Rate]| {
        let rates: Vec<_> =
            rates.iter().map(|rate| format!("{}:{}", rate.count, rate.seconds)).collect();
        rates.join(",")
    };
    json!({
        "messages": text(&rates.messages),
        "telemetryMessages": text(&rates.telemetry_messages),
        "telemetryDataPoints": text(&rates.telemetry_data_points),
    })
}
