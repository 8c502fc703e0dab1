//! What a router publishes for the devices behind it.

use hashbrown::HashMap;
use schema::DeviceId;

use super::super::topics::{Down, Form, Up};
use super::devices::Devices;
use super::publish::count;
use super::requests::{Question, ReplyTo, Scopes};
use super::{Action, Flow, Now, Output, Refusal, Session, Wanted};
use crate::decode::{self, Context, DeviceAnswer, GatewayParts, Reason, Rejection};

impl Session {
    /// Rows of a `telemetry` or `attributes` message. Names that are not known
    /// are asked for, and the message is offered again.
    pub(super) fn gateway_rows(
        &mut self,
        up: Up,
        payload: &[u8],
        topic: &[u8],
        now: Now,
        out: &mut Output,
    ) -> Result<Flow, Rejection> {
        let cold = self.cold.get_or_insert_default();
        let device = |name: &str| answer(&mut cold.devices, &cold.refused, name);
        let context = Context::new(&self.rules.payload, &self.tenancy.tenant.settings, now.wall);
        let (telemetry, attributes) = (out.telemetry.len(), out.attributes.len());
        let keys = &mut self.keys;
        let parts = if up == Up::GatewayTelemetry {
            decode::gateway_telemetry(payload, &context, keys, &mut out.telemetry, device)
        } else {
            decode::gateway_attributes(payload, &context, keys, &mut out.attributes, device)
        };
        let GatewayParts { unknown, rejected, left_out } = match parts {
            Ok(parts) => parts,
            Err(rejection) => {
                cold.refused.clear();
                return Err(rejection);
            }
        };
        if !unknown.is_empty() {
            let wanted = unknown.into_iter().map(|name| Wanted { name, device_type: None });
            self.ask_for(wanted.collect(), out);
            return Ok(Flow::Wait);
        }
        cold.refused.clear();
        for (name, rejection) in rejected {
            out.counts.note_clock(&rejection);
            let words = format!("{name}: {}", rejection.detail);
            let refusal = Refusal::Payload(rejection.reason);
            self.note_refusal(refusal, words, topic, payload, now, out);
        }
        for (name, left_out) in left_out {
            self.note_left_out(&format!("{name}: "), left_out, topic, payload, now, out);
        }
        out.counts.readings += count(out.telemetry.len() - telemetry);
        out.counts.attributes += count(out.attributes.len() - attributes);
        self.has_published_attributes |= out.attributes.len() > attributes;
        Ok(Flow::Taken)
    }

    pub(super) fn gateway_connect(
        &mut self,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<Flow, Rejection> {
        let body = decode::connect(payload)?;
        self.device_or_ask(&body.device, body.device_type.as_deref(), out)
            .map(|device| if device.is_some() { Flow::Taken } else { Flow::Wait })
    }

    /// The device no longer takes calls and attributes through this router.
    pub(super) fn gateway_disconnect(&mut self, payload: &[u8]) -> Result<(), Rejection> {
        let body = decode::disconnect(payload)?;
        if let Some(cold) = &mut self.cold {
            cold.devices.remove(&body.device);
        }
        Ok(())
    }

    pub(super) fn gateway_attributes_request(
        &mut self,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<Flow, Rejection> {
        let body = decode::gateway_attribute_request(payload)?;
        let Some(device) = self.device_or_ask(&body.device, None, out)? else {
            return Ok(Flow::Wait);
        };
        let scopes = if body.client {
            Scopes { client: Some(Some(body.keys)), shared: None }
        } else {
            Scopes { client: None, shared: Some(Some(body.keys)) }
        };
        let name = body.device.into();
        let reply = ReplyTo::Behind { id: body.id, name, is_several: body.several };
        let after_attributes = self.has_published_attributes;
        self.hold(Question { device, scopes, reply, after_attributes });
        Ok(Flow::Taken)
    }

    pub(super) fn gateway_rpc_response(
        &mut self,
        payload: &[u8],
        out: &mut Output,
    ) -> Result<(), Rejection> {
        let body = decode::gateway_rpc_response(payload)?;
        let answer = body.data.map_or("null", |data| data.get());
        if let Ok(id) = u64::try_from(body.id) {
            self.call_answered(id, Some(&body.device), answer, out);
        }
        Ok(())
    }

    /// The device of this name, or none when it was asked for.
    fn device_or_ask(
        &mut self,
        name: &str,
        device_type: Option<&str>,
        out: &mut Output,
    ) -> Result<Option<DeviceId>, Rejection> {
        let cold = self.cold();
        match answer(&mut cold.devices, &cold.refused, name) {
            DeviceAnswer::Known(device) => Ok(Some(device)),
            DeviceAnswer::Refused(rejection) => {
                cold.refused.clear();
                Err(rejection)
            }
            DeviceAnswer::Unknown => {
                let device_type = device_type.map(str::to_owned);
                self.ask_for(vec![Wanted { name: name.to_owned(), device_type }], out);
                Ok(None)
            }
        }
    }

    fn ask_for(&mut self, wanted: Vec<Wanted>, out: &mut Output) {
        self.is_resolving = true;
        out.actions.push(Action::Resolve(wanted));
    }

    /// What came of [`Action::Resolve`]. The input is then offered again.
    pub(crate) fn resolved(
        &mut self,
        answers: Vec<(String, Result<DeviceId, Rejection>)>,
        out: &mut Output,
    ) {
        self.is_resolving = false;
        let limit = self.rules.session.max_cached_devices;
        let takes_attributes = self.granted(Down::GatewayAttributes, Form::Long).is_some();
        let cold = self.cold();
        if cold.devices.len() + answers.len() > limit {
            cold.devices.clear();
        }
        for (name, answer) in answers {
            match answer {
                Ok(device) => {
                    if takes_attributes {
                        out.actions.push(Action::FetchUndelivered { device });
                    }
                    cold.devices.insert(&name, device);
                }
                Err(rejection) => {
                    cold.refused.insert(name.into_boxed_str(), rejection);
                }
            }
        }
    }

    /// The directory has changed: forgets the devices that `keep` does not know
    /// under their name any more.
    pub(crate) fn retain_devices(&mut self, keep: impl Fn(&str, DeviceId) -> bool) {
        if let Some(cold) = &mut self.cold {
            cold.devices.retain(keep);
        }
    }

    /// The name under which a device is known here.
    pub(super) fn name_of(&self, device: DeviceId) -> Option<&str> {
        let devices = &self.cold.as_ref()?.devices;
        devices.iter().find(|(_, known)| *known == device).map(|(name, _)| name)
    }

    /// Asks for what the devices behind the router have missed.
    pub(super) fn fetch_undelivered_behind(&self, out: &mut Output) {
        for (_, device) in self.cold.iter().flat_map(|cold| cold.devices.iter()) {
            out.actions.push(Action::FetchUndelivered { device });
        }
    }
}

fn answer(
    devices: &mut Devices,
    refused: &HashMap<Box<str>, Rejection>,
    name: &str,
) -> DeviceAnswer {
    if let Some(device) = devices.find(name) {
        DeviceAnswer::Known(device)
    } else if let Some(rejection) = refused.get(name) {
        DeviceAnswer::Refused(rejection.clone())
    } else {
        DeviceAnswer::Unknown
    }
}

/// How a refusal of the directory is counted and answered.
pub(crate) fn device_refusal(error: &store::DirectoryError) -> Rejection {
    let reason = match error {
        store::DirectoryError::DeviceQuota { .. } => Reason::DeviceQuota,
        _ => Reason::DeviceRefused,
    };
    Rejection::new(reason, error.to_string())
}
