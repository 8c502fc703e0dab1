//! The broker's metrics. Messages are counted once per socket read.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::session::{Counts, End, Refusal};
use super::topics::UP_KINDS;
use crate::metrics as names;

/// What became of a connection before it had a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Accepted,
    BadCredentials,
    Disabled,
    Busy,
    /// No CONNECT in time, or evicted by newer ones.
    Silent,
    /// What came was no CONNECT.
    NotMqtt,
    TlsFailed,
    /// Of its address, too many or too many wrong.
    AddressLimit,
    ConnectionLimit,
    /// A CONNECT that asks for what is not to be had.
    Refused,
}

impl Attempt {
    const ALL: [Self; 10] = [
        Self::Accepted,
        Self::BadCredentials,
        Self::Disabled,
        Self::Busy,
        Self::Silent,
        Self::NotMqtt,
        Self::TlsFailed,
        Self::AddressLimit,
        Self::ConnectionLimit,
        Self::Refused,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::BadCredentials => "bad_credentials",
            Self::Disabled => "disabled",
            Self::Busy => "busy",
            Self::Silent => "silent",
            Self::NotMqtt => "not_mqtt",
            Self::TlsFailed => "tls_failed",
            Self::AddressLimit => "address_limit",
            Self::ConnectionLimit => "connection_limit",
            Self::Refused => "refused",
        }
    }
}

/// Why rows that came at QoS 0, which nobody sends again, were not submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// The connection ended while its partition's queue was full, and stayed so.
    NoRoom,
    /// The journal could not take them.
    Failed,
}

impl GivenUp {
    const ALL: [Self; 2] = [Self::NoRoom, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::Failed => "journal_failed",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Metrics {
    pub connections: IntGaugeVec,
    pub unauthenticated: IntGauge,
    pub bytes_in: IntCounter,
    pub bytes_out: IntCounter,
    pub in_flight: IntGauge,
    pub paused: IntCounter,
    pub unread_publishes: IntCounter,
    pub verified_passwords: IntGauge,
    pub reloads: IntCounterVec,
    attempts: Vec<IntCounter>,
    ends: Vec<IntCounter>,
    given_up: Vec<IntCounter>,
    taken: Vec<IntCounter>,
    refused: Vec<IntCounter>,
    readings: IntCounter,
    attributes: IntCounter,
    downlink: IntCounter,
    calls: IntCounterVec,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let make = Make { registry };
        let protocols = &["protocol", "transport"];
        Ok(Self {
            connections: make.gauges(names::BROKER_CONNECTIONS, "Open sessions.", protocols)?,
            unauthenticated: make
                .gauge(names::BROKER_UNAUTHENTICATED, "Connections that have no session yet.")?,
            bytes_in: make.counter(names::BROKER_RECEIVED_BYTES_TOTAL, "Bytes read.")?,
            bytes_out: make.counter(names::BROKER_SENT_BYTES_TOTAL, "Bytes written.")?,
            in_flight: make.gauge(
                names::BROKER_SUBMISSIONS_IN_FLIGHT,
                "Socket reads on their way into the journal.",
            )?,
            paused: make.counter(
                names::BROKER_PAUSED_READS_TOTAL,
                "Times that a socket was not read because a limit was reached.",
            )?,
            unread_publishes: make.counter(
                names::BROKER_UNREAD_PUBLISHES_TOTAL,
                "QoS 0 publishes that were read and not looked at when their connection ended.",
            )?,
            given_up: make.each(
                names::BROKER_GIVEN_UP_ROWS_TOTAL,
                "Rows that came at QoS 0 and were not submitted, by reason.",
                "reason",
                GivenUp::ALL.map(GivenUp::as_str),
            )?,
            verified_passwords: make
                .gauge(names::BROKER_VERIFIED_PASSWORDS, "Passwords that are known to be right.")?,
            reloads: make.counters(
                names::BROKER_TLS_RELOADS_TOTAL,
                "Times that the TLS files were read again, by result.",
                "result",
            )?,
            attempts: make.each(
                names::BROKER_CONNECTS_TOTAL,
                "Connection attempts, by result.",
                "result",
                Attempt::ALL.map(Attempt::as_str),
            )?,
            ends: make.each(
                names::BROKER_DISCONNECTS_TOTAL,
                "Sessions that ended, by cause.",
                "cause",
                End::ALL.map(End::as_str),
            )?,
            taken: make.each(
                names::BROKER_PUBLISHES_TOTAL,
                "Publishes taken, by kind of topic.",
                "kind",
                UP_KINDS,
            )?,
            refused: make.each(
                names::BROKER_REFUSED_TOTAL,
                "Publishes and parts of them that were refused, by reason.",
                "reason",
                Refusal::names(),
            )?,
            readings: make.counter(names::BROKER_READINGS_TOTAL, "Readings taken.")?,
            attributes: make.counter(names::BROKER_ATTRIBUTES_TOTAL, "Attributes taken.")?,
            downlink: make.counter(names::BROKER_DOWNLINK_TOTAL, "Messages to routers.")?,
            calls: make.counters(
                names::BROKER_CALLS_TOTAL,
                "Calls to routers, by result.",
                "result",
            )?,
        })
    }

    pub(crate) fn attempt(&self, attempt: Attempt) {
        if let Some(place) = Attempt::ALL.iter().position(|&known| known == attempt) {
            self.attempts[place].inc();
        }
    }

    pub(crate) fn ended(&self, end: End) {
        if let Some(place) = End::ALL.iter().position(|&known| known == end) {
            self.ends[place].inc();
        }
    }

    pub(crate) fn give_up(&self, why: GivenUp, rows: u32) {
        if let Some(place) = GivenUp::ALL.iter().position(|&known| known == why) {
            add(&self.given_up[place], rows);
        }
    }

    pub(crate) fn call(&self, result: &str) {
        self.calls.with_label_values(&[result]).inc();
    }

    /// Adds what one socket read brought.
    pub(crate) fn add(&self, counts: &Counts) {
        let pairs = self.taken.iter().zip(&counts.taken);
        for (counter, &count) in pairs.chain(self.refused.iter().zip(&counts.refused)) {
            add(counter, count);
        }
        add(&self.readings, counts.readings);
        add(&self.attributes, counts.attributes);
        add(&self.downlink, counts.downlink);
    }
}

fn add(counter: &IntCounter, count: u32) {
    if count > 0 {
        counter.inc_by(u64::from(count));
    }
}

struct Make<'a> {
    registry: &'a Registry,
}

impl Make<'_> {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    /// One counter for each value of a label, there from the start.
    fn each(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'static str>,
    ) -> Result<Vec<IntCounter>, prometheus::Error> {
        let counters = self.counters(name, help, label)?;
        Ok(values.into_iter().map(|value| counters.with_label_values(&[value])).collect())
    }
}
