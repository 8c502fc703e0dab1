//! One MQTT session, without socket, clock or task.
//!
//! Second step of a reading: packets become rows, one group per socket read,
//! and the PUBACKs that are owed for them. The connection feeds it bytes, times
//! and completions, and does what its [`Output`] says. It never waits: where it
//! needs something from outside (an unknown device, stored attributes) it says
//! so in an [`Action`] and goes on when it is told the answer.

mod acks;
mod devices;
mod downlink;
mod gateway;
mod goodbye;
mod output;
mod publish;
mod rates;
mod requests;
mod subscriptions;

#[cfg(test)]
mod tests;

use std::num::NonZeroU16;
use std::sync::Arc;

use hashbrown::HashMap;
use schema::{DeviceId, LocationId, PartitionId, RouterId, Tenant, TenantId, TimestampMs};
use smallvec::SmallVec;
use store::Entry;

pub(crate) use downlink::{Call, Delivered, PushRefused};
pub(crate) use gateway::device_refusal;
pub(crate) use output::{Action, Counts, End, Output, Refusal, Wanted};
pub(crate) use rates::TenantMeter;
pub(crate) use requests::{Answer, Question, Values};

use self::acks::Acks;
use self::devices::Devices;
use self::downlink::Downlink;
use self::rates::Rates;
use self::requests::Held;
use super::encode;
use super::frame::{self, Frame, FrameError, Version, packet};
use super::options::SessionLimits;
use super::topics::Filter;
use crate::batch::KeyCache;
use crate::limits::Limits;

/// Who the session belongs to; fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub tenant: TenantId,
    pub location: LocationId,
    pub router: RouterId,
    /// The router's own device.
    pub device: DeviceId,
    pub partition: PartitionId,
}

/// What the tenant may do, replaced when its document changes.
#[derive(Clone, Debug)]
pub(crate) struct Tenancy {
    pub tenant: Arc<Entry<Tenant>>,
    pub meter: Arc<TenantMeter>,
}

/// What all sessions of the node share.
#[derive(Debug)]
pub(crate) struct Rules {
    pub session: SessionLimits,
    pub payload: Limits,
    pub max_packet_bytes: usize,
}

/// The two clocks, as the connection read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub wall: TimestampMs,
    /// Microseconds on a clock that only goes forward.
    pub us: u64,
}

/// What CONNECT settled.
#[derive(Debug)]
pub(crate) struct Connected {
    pub version: Version,
    pub identity: Identity,
    /// As enforced: the client's, or ours if that is shorter. 0 is none.
    pub keep_alive_s: u16,
    /// Of the client; 1 and more.
    pub receive_maximum: NonZeroU16,
    pub topic_alias_maximum: u16,
    /// Of the client; `usize::MAX` where it set none.
    pub max_packet_bytes: usize,
    pub wants_reason_strings: bool,
    pub will: Option<Will>,
}

/// What is published when the connection ends without a DISCONNECT. Its topic
/// was checked at CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub topic: Box<[u8]>,
    pub payload: Box<[u8]>,
}

/// Whether a packet was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Taken,
    /// It will be offered again once what it needs is known.
    Wait,
}

/// The session's state. What an idle one does not need is in `cold`.
#[derive(Debug)]
pub(crate) struct Session {
    rules: Arc<Rules>,
    tenancy: Tenancy,
    identity: Identity,
    version: Version,
    keep_alive_s: u16,
    /// The largest packet that may bear a Reason String; 0 where the client
    /// wants none.
    max_reasoned_bytes: usize,
    is_resolving: bool,
    /// This connection has published attributes, so a request waits for them.
    has_published_attributes: bool,
    last_seen_us: u64,
    /// Nothing is taken before this time: MQTT 3.1.1 over its rate.
    paused_until_us: u64,
    acks: Acks,
    keys: KeyCache,
    rates: Option<Box<Rates>>,
    subscriptions: SmallVec<[(Filter, u8); 4]>,
    downlink: Downlink,
    cold: Option<Box<Cold>>,
}

/// What only some sessions have.
#[derive(Debug, Default)]
struct Cold {
    /// Topics behind the client's aliases, by alias - 1.
    aliases: Vec<Option<Box<[u8]>>>,
    /// Devices behind the router that have spoken or were connected.
    devices: Devices,
    /// Names that the message being offered again may not use.
    refused: HashMap<Box<str>, crate::decode::Rejection>,
    held: Held,
    will: Option<Will>,
}

impl Session {
    pub(crate) fn new(
        rules: Arc<Rules>,
        tenancy: Tenancy,
        connected: Connected,
        keys: KeyCache,
        now: Now,
    ) -> Self {
        let rates = Rates::new(&rules.session.rates);
        let downlink = Downlink::new(&connected);
        let cold =
            connected.will.map(|will| Box::new(Cold { will: Some(will), ..Cold::default() }));
        Self {
            rules,
            tenancy,
            identity: connected.identity,
            version: connected.version,
            keep_alive_s: connected.keep_alive_s,
            max_reasoned_bytes: match connected.wants_reason_strings {
                true => connected.max_packet_bytes,
                false => 0,
            },
            is_resolving: false,
            has_published_attributes: false,
            last_seen_us: now.us,
            paused_until_us: 0,
            acks: Acks::default(),
            keys,
            rates,
            subscriptions: SmallVec::new(),
            downlink,
            cold,
        }
    }

    /// Takes whole packets from the front of `input` and returns how many bytes
    /// they were. What is left is offered again, with more behind it or, when
    /// [`Session::may_take`] was false, as it is.
    pub(crate) fn receive(&mut self, input: &[u8], now: Now, out: &mut Output) -> usize {
        self.last_seen_us = now.us;
        let mut consumed = 0;
        while out.end.is_none() && self.may_take(now.us) && self.has_row_room(out) {
            match frame::next_frame(&input[consumed..], self.rules.max_packet_bytes) {
                Ok(Some(frame)) => {
                    let whole = &input[consumed..consumed + frame.size];
                    if self.packet(frame, whole, now, out) == Flow::Wait {
                        break;
                    }
                    consumed += frame.size;
                }
                Ok(None) => break,
                Err(FrameError::TooLarge) => out.end = Some(End::TooLarge),
                Err(FrameError::Length) => out.end = Some(End::Malformed),
            }
        }
        self.close_group(now, out);
        consumed
    }

    #[inline]
    fn packet(&mut self, frame: Frame<'_>, whole: &[u8], now: Now, out: &mut Output) -> Flow {
        if frame.first_byte >> 4 == packet::PUBLISH {
            return self.publish(frame, now, out);
        }
        self.other_packet(frame, whole, out);
        Flow::Taken
    }

    fn other_packet(&mut self, frame: Frame<'_>, whole: &[u8], out: &mut Output) {
        const PUBACK: u8 = 0x40;
        const SUBSCRIBE: u8 = 0x82;
        const UNSUBSCRIBE: u8 = 0xa2;
        const PINGREQ: u8 = 0xc0;
        const DISCONNECT: u8 = 0xe0;
        match frame.first_byte {
            PINGREQ if frame.body.is_empty() => encode::pingresp(&mut out.bytes),
            PUBACK => self.client_puback(frame.body, out),
            SUBSCRIBE => self.subscribe(whole, out),
            UNSUBSCRIBE => self.unsubscribe(whole, out),
            DISCONNECT => self.client_disconnect(frame.body, out),
            // CONNECT a second time, the parts of QoS 2, what only a server
            // sends, and what is no packet at all.
            _ => out.end = Some(End::ProtocolError),
        }
    }

    fn client_disconnect(&mut self, body: &[u8], out: &mut Output) {
        const WITH_WILL: u8 = 0x04;
        out.end = Some(match (self.version, body.first()) {
            (Version::V3, Some(_)) => End::Malformed,
            (Version::V5, Some(&WITH_WILL)) => End::ClientWithWill,
            // MQTT 5: a reason above 0x80 is an abnormal end as well.
            (Version::V5, Some(&code)) if code >= 0x80 => End::ClientWithWill,
            _ => End::Client,
        });
    }

    /// Ends the group of one socket read: what was decoded is to be submitted.
    fn close_group(&mut self, now: Now, out: &mut Output) {
        let readings = out.telemetry.len();
        let rows = readings + out.attributes.len();
        let is_submitted = rows > 0;
        self.acks.close_group(rows, is_submitted, self.version, &mut out.bytes);
        out.is_submitted = is_submitted;
        let per_s = self.tenancy.tenant.settings.max_readings_per_s;
        self.tenancy.meter.take(per_s, readings, now.us);
        if self.version == Version::V3 {
            if per_s > 0 {
                self.paused_until_us = self.paused_until_us.max(self.tenancy.meter.open_at_us());
            }
            if let Some(rates) = &self.rates {
                self.paused_until_us = self.paused_until_us.max(rates.open_at_us());
            }
        }
        self.release_requests(out);
    }

    /// The oldest group that was submitted is durable.
    pub(crate) fn completed(&mut self, out: &mut Output) {
        self.acks.completed(self.version, &mut out.bytes);
        self.release_requests(out);
    }

    /// Whether more packets would be taken; if not, the socket is not read.
    #[inline]
    pub(crate) fn may_take(&self, now_us: u64) -> bool {
        let limits = &self.rules.session;
        !self.is_resolving
            && self.paused_until_us <= now_us
            && self.acks.publishes() < self.max_publishes()
            && self.acks.groups() < limits.max_inflight_submissions
            && self.acks.rows() < limits.max_inflight_rows
            && self.held_requests() < limits.max_pending_requests
    }

    /// An MQTT 5 client was told its bound; a 3.1.1 client has ours.
    ///
    /// A client that sends more than its Receive Maximum breaks the protocol,
    /// which lets the server end the connection for it (0x93). It is slowed
    /// instead: what is above the bound is not taken, and the socket is not read
    /// until earlier publishes are answered. So nothing is lost, not even at
    /// QoS 0, and no more is held than the bound and what one socket read has
    /// brought beyond it.
    fn max_publishes(&self) -> usize {
        match self.version {
            Version::V3 => self.rules.session.max_inflight_publishes,
            Version::V5 => usize::from(self.rules.session.receive_maximum),
        }
    }

    #[inline]
    fn has_row_room(&self, out: &Output) -> bool {
        let rows = self.acks.rows() + out.telemetry.len() + out.attributes.len();
        rows < self.rules.session.max_inflight_rows
    }

    /// When the session is to be asked again if nothing happens before: its
    /// keep alive, or the end of a pause.
    pub(crate) fn deadline_us(&self, now_us: u64) -> Option<u64> {
        if self.paused_until_us > now_us {
            return Some(self.paused_until_us);
        }
        (self.keep_alive_s > 0).then(|| self.last_seen_us + keep_alive_us(self.keep_alive_s))
    }

    /// Whether the client has been silent for too long. A client that we don't
    /// read from can't be heard and is not silent.
    pub(crate) fn timeout(&mut self, now_us: u64, is_read: bool) -> Option<End> {
        if !is_read {
            self.last_seen_us = now_us;
        }
        let is_silent =
            self.keep_alive_s > 0 && self.last_seen_us + keep_alive_us(self.keep_alive_s) <= now_us;
        is_silent.then_some(End::KeepAlive)
    }

    /// Publishes the will, if there is one and `end` calls for it. Returns true
    /// if it has to be called again once its device is resolved.
    pub(crate) fn publish_will(&mut self, end: End, now: Now, out: &mut Output) -> bool {
        let Some(cold) = &mut self.cold else { return false };
        let Some(will) = cold.will.take().filter(|_| end.publishes_will()) else { return false };
        let publish = frame::Publish {
            qos: 0,
            packet_id: 0,
            topic: &will.topic,
            alias: 0,
            payload: &will.payload,
        };
        let flow = self.publish_read(publish, now, out);
        self.close_group(now, out);
        if flow == Flow::Wait {
            self.cold().will = Some(will);
        }
        flow == Flow::Wait
    }

    /// The tenant's document has changed.
    pub(crate) fn set_tenancy(&mut self, tenancy: Tenancy) {
        self.tenancy = tenancy;
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Submitted groups and refused ones behind them that are not answered yet.
    #[cfg(test)]
    pub(crate) fn unanswered_groups(&self) -> usize {
        self.acks.groups()
    }

    fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }
}

/// One and a half times what the client named, as the protocol has it.
fn keep_alive_us(keep_alive_s: u16) -> u64 {
    u64::from(keep_alive_s) * 1_500_000
}
