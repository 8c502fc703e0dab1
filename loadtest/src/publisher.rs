//! One router: offers messages, notes what is acknowledged, and after a broken
//! connection comes back and sends again what was not.
//!
//! The hot path of the load: one poll reads all acknowledgements that are
//! there, patches as many packets as the window allows, and writes them at
//! once. It must cost far less than what the server does with them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hdrhistogram::Histogram;
use rand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};

use crate::connect::{Accepted, Login, Stream, Target, connect};
use crate::flight::Flight;
use crate::ledger::Ledger;
use crate::packets::{self, Packet, QoS, Version, parse};
use crate::plan::{Lane, Plan};
use crate::shared::{Control, Phase, Shared, count};
use crate::template::Template;

/// Bytes of acknowledgements that are read at once: a thousand of them.
const INPUT_BYTES: usize = 4 * 1024;
/// Bytes that are gathered before they are written.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Waits between attempts to connect double from the first to the second.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_millis(250);
/// After the server has said no, which it will go on saying.
const REFUSED_RETRY: Duration = Duration::from_secs(2);

/// The load that every connection carries.
#[derive(Clone, Debug)]
pub struct Load {
    pub plan: Plan,
    pub version: Version,
    pub qos: QoS,
    /// Messages under way on one connection at most, at QoS 1.
    pub window: u16,
    /// Microseconds between two messages of one connection; 0 sends as fast as
    /// the window allows.
    pub interval_us: f64,
    /// Messages that each connection offers before it stops; none is no limit.
    pub messages_per_connection: Option<u64>,
}

/// What a connection leaves behind.
#[derive(Debug)]
pub struct Finished {
    pub number: u32,
    pub ledger: Ledger,
    /// Offered at QoS 1 and neither acknowledged nor refused.
    pub unanswered: u64,
}

/// One router and its connection, through all of its reconnects.
#[derive(Debug)]
pub struct Publisher {
    number: u32,
    /// Where in the interval its messages lie, so that they don't all come at once.
    phase_us: f64,
    load: Arc<Load>,
    shared: Arc<Shared>,
    target: Arc<Target>,
    login: Login,
    live: Template,
    buffered: Template,
    ledger: Ledger,
    flight: Flight,
}

/// The present connection.
struct Wire {
    stream: Stream,
    input: Box<[u8; INPUT_BYTES]>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
    /// Messages under way at most: the window or the server's Receive Maximum.
    limit: usize,
    timer: Pin<Box<Sleep>>,
    armed_us: u64,
    last_sent_us: u64,
}

/// What to do when a connection has ended.
enum Next {
    Leave,
    ReturnAtOnce,
    Retry,
}

/// Why a connection ended.
enum End {
    Drained,
    Broken(String),
}

impl Publisher {
    #[must_use]
    pub fn new(
        number: u32,
        phase: f64,
        load: Arc<Load>,
        shared: Arc<Shared>,
        target: Arc<Target>,
        login: Login,
    ) -> Self {
        let template = |lane| Template::new(&load.plan, lane, number, load.version, load.qos);
        Self {
            number,
            phase_us: phase * load.interval_us,
            live: template(Lane::Live),
            buffered: template(Lane::Buffered),
            flight: Flight::new(load.window),
            ledger: Ledger::default(),
            load,
            shared,
            target,
            login,
        }
    }

    /// Runs until the fleet stops or drains. `doors` limits how many connect at
    /// once at the start; a reconnect waits for nobody.
    pub async fn run(
        mut self,
        mut control: watch::Receiver<Control>,
        doors: Arc<Semaphore>,
    ) -> Finished {
        let mut first = true;
        // Of several addresses the next one is any: one node's routers go to all others.
        let mut turn = self.number;
        let mut retry = FIRST_RETRY;
        loop {
            let now = *control.borrow_and_update();
            if now.phase == Phase::Stop || (now.phase == Phase::Drain && self.flight.is_empty()) {
                break;
            }
            let door = if first { doors.acquire().await.ok() } else { None };
            let connected = tokio::select! {
                connected = connect(&self.target, turn, &self.login) => connected,
                () = stopped(&mut control) => break,
            };
            drop(door);
            turn = rand::rng().random();
            let wait = match connected {
                Ok(accepted) => {
                    first = false;
                    retry = FIRST_RETRY;
                    match self.serve(accepted, &mut control).await {
                        Next::Leave => break,
                        Next::ReturnAtOnce => None,
                        Next::Retry => Some(FIRST_RETRY),
                    }
                }
                Err(error) => {
                    count(&self.shared.counters.connect_failures, 1);
                    self.shared.reason(format!("connect: {error}"));
                    retry = if error.is_lasting() {
                        REFUSED_RETRY
                    } else {
                        (retry * 2).min(LAST_RETRY)
                    };
                    Some(retry.mul_f64(rand::rng().random_range(0.5..1.0)))
                }
            };
            if let Some(wait) = wait {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stopped(&mut control) => break,
                }
            }
        }
        let unanswered = self.flight.waiting().count() as u64;
        Finished { number: self.number, ledger: self.ledger, unanswered }
    }

    /// Uses a connection until it ends.
    async fn serve(&mut self, accepted: Accepted, control: &mut watch::Receiver<Control>) -> Next {
        let counters = &Arc::clone(&self.shared).counters;
        count(&counters.connects, 1);
        count(&counters.connected, 1);
        self.flight.ground();
        let storm = control.borrow().storm;
        let mut wire = Wire::new(accepted, self.load.window, self.shared.now_us());
        let done = loop {
            let now = *control.borrow_and_update();
            if now.phase == Phase::Stop {
                break Next::Leave;
            }
            if now.storm != storm {
                break Next::ReturnAtOnce;
            }
            tokio::select! {
                end = poll_fn(|cx| self.poll(&mut wire, now.phase, cx)) => match end {
                    End::Drained => {
                        // The server may be gone by now, which takes nothing from the result.
                        let _ = wire.stream.write_all(&packets::DISCONNECT).await;
                        let _ = wire.stream.shutdown().await;
                        break Next::Leave;
                    }
                    End::Broken(reason) => {
                        count(&counters.breaks, 1);
                        self.shared.reason(reason);
                        break Next::Retry;
                    }
                },
                changed = control.changed() => if changed.is_err() {
                    break Next::Leave;
                },
            }
        };
        counters.connected.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        done
    }

    fn poll(&mut self, wire: &mut Wire, phase: Phase, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Err(reason) = self.read(wire, cx) {
                return Poll::Ready(End::Broken(reason));
            }
            let full = self.fill(wire, phase);
            match wire.write(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(reason)) => return Poll::Ready(End::Broken(reason)),
                Poll::Ready(Ok(())) => {}
            }
            if full {
                continue;
            }
            if phase == Phase::Drain && self.flight.is_empty() {
                return Poll::Ready(End::Drained);
            }
            if !self.timer_fired(wire, phase, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Takes in all that has come.
    fn read(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Result<(), String> {
        loop {
            let mut buffer = ReadBuf::new(&mut wire.input[wire.filled..]);
            match Pin::new(&mut wire.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(format!("read: {}", error.kind())),
                Poll::Ready(Ok(())) => {}
            }
            let read = buffer.filled().len();
            if read == 0 {
                return Err("closed by the server".to_owned());
            }
            wire.filled += read;
            self.take(wire)?;
        }
    }

    /// Takes in the whole packets of the input, and keeps what is left.
    fn take(&mut self, wire: &mut Wire) -> Result<(), String> {
        let counters = &self.shared.counters;
        let now_us = self.shared.now_us();
        let mut latencies = self.shared.latencies();
        let (mut at, mut acknowledged) = (0, 0);
        // Messages that were written together mostly come back together.
        let (mut same_us, mut same) = (0, 0);
        while let Some((packet, length)) =
            parse(self.load.version, &wire.input[at..wire.filled]).map_err(|e| e.to_string())?
        {
            at += length;
            match packet {
                Packet::PubAck { packet_id, reason } => {
                    let Some(landed) = self.flight.land(packet_id) else {
                        self.shared.reason("acknowledged what was not under way");
                        continue;
                    };
                    count(&counters.acknowledged_out_of_order, u64::from(!landed.in_order));
                    if reason >= packets::FIRST_FAILURE {
                        self.ledger.refuse();
                        count(&counters.refused, 1);
                        self.shared.reason(format!("refused with {reason:#04x}"));
                        continue;
                    }
                    self.ledger.acknowledge(landed.message);
                    acknowledged += 1;
                    if landed.sent_us != same_us {
                        record(&mut latencies, now_us, same_us, same);
                        (same_us, same) = (landed.sent_us, 0);
                    }
                    same += 1;
                }
                Packet::Publish { packet_id, .. } => {
                    count(&counters.received, 1);
                    packet_id.inspect(|&id| packets::append_puback(id, &mut wire.output));
                }
                Packet::Disconnect { reason } => {
                    return Err(format!("disconnected by the server with {reason:#04x}"));
                }
                Packet::ConnAck { .. } | Packet::SubAck { .. } => {}
                Packet::PingResp | Packet::Other(_) => {}
            }
        }
        record(&mut latencies, now_us, same_us, same);
        drop(latencies);
        if acknowledged > 0 {
            count(&counters.acknowledged, acknowledged);
        }
        wire.input.copy_within(at..wire.filled, 0);
        wire.filled -= at;
        if wire.filled == INPUT_BYTES {
            return Err(format!("a packet of more than {INPUT_BYTES} bytes came down"));
        }
        Ok(())
    }

    /// Gathers what may be sent now; true if there is more than fits at once.
    fn fill(&mut self, wire: &mut Wire, phase: Phase) -> bool {
        let now_us = self.shared.now_us();
        let before = wire.output.len();
        let (mut offered, mut again) = (0, 0);
        let mut full = false;
        while self.flight.under_way() < wire.limit
            && let Some((message, packet_id)) = self.flight.relaunch()
        {
            self.append(message, packet_id, true, &mut wire.output);
            again += 1;
        }
        if phase == Phase::Load {
            let allowed = self.due(now_us).saturating_sub(self.ledger.offered());
            while offered < allowed
                && (self.load.qos == QoS::AtMostOnce
                    || (self.flight.under_way() < wire.limit && self.flight.has_room()))
            {
                if wire.output.len() >= OUTPUT_BYTES {
                    full = true;
                    break;
                }
                let message = self.ledger.offer();
                let packet_id = match self.load.qos {
                    QoS::AtMostOnce => 0,
                    QoS::AtLeastOnce => self.flight.launch(message, now_us),
                };
                self.append(message, packet_id, false, &mut wire.output);
                offered += 1;
            }
        }
        if self.login.keep_alive_s > 0
            && before == wire.output.len()
            && now_us >= wire.last_sent_us + self.ping_after_us()
        {
            wire.output.extend_from_slice(&packets::PINGREQ);
        }
        if wire.output.len() > before {
            wire.last_sent_us = now_us;
        }
        if offered + again > 0 {
            count(&self.shared.counters.offered, offered);
            count(&self.shared.counters.sent_again, again);
        }
        full
    }

    fn append(&self, message: u64, packet_id: u16, again: bool, out: &mut Vec<u8>) {
        let what = self.load.plan.message(message);
        let template = match what.lane {
            Lane::Live => &self.live,
            Lane::Buffered => &self.buffered,
        };
        template.append(&self.load.plan, what, packet_id, again, out);
    }

    /// How many messages the schedule asks for up to now.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    #[allow(clippy::cast_sign_loss, reason = "times of a run fit a double, and aren't negative")]
    fn due(&self, now_us: u64) -> u64 {
        let most = self.load.messages_per_connection.unwrap_or(u64::MAX);
        if self.load.interval_us <= 0.0 {
            return most;
        }
        let since_us = now_us.saturating_sub(self.shared.load_from_us()) as f64 - self.phase_us;
        if since_us < 0.0 { 0 } else { most.min((since_us / self.load.interval_us) as u64 + 1) }
    }

    /// When the next message is due by the schedule.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    #[allow(clippy::cast_sign_loss, reason = "times of a run fit a double, and aren't negative")]
    fn next_due_us(&self) -> u64 {
        let after = self.phase_us + self.load.interval_us * self.ledger.offered() as f64;
        self.shared.load_from_us().saturating_add(after.ceil() as u64)
    }

    fn ping_after_us(&self) -> u64 {
        u64::from(self.login.keep_alive_s) * 500_000
    }

    /// Waits for the next message of the schedule or the next ping; true if it
    /// is time for it.
    fn timer_fired(&self, wire: &mut Wire, phase: Phase, cx: &mut Context<'_>) -> bool {
        let mut wanted_us = u64::MAX;
        let may_send = self.flight.under_way() < wire.limit && self.flight.has_room();
        let more = self.load.messages_per_connection.is_none_or(|n| self.ledger.offered() < n);
        if phase == Phase::Load && self.load.interval_us > 0.0 && may_send && more {
            wanted_us = self.next_due_us();
        }
        if self.login.keep_alive_s > 0 {
            wanted_us = wanted_us.min(wire.last_sent_us + self.ping_after_us());
        }
        if wanted_us == u64::MAX {
            return false;
        }
        if wire.armed_us != wanted_us {
            wire.armed_us = wanted_us;
            let wait_us = wanted_us.saturating_sub(self.shared.now_us());
            wire.timer.as_mut().reset(Instant::now() + Duration::from_micros(wait_us));
        }
        if wire.timer.as_mut().poll(cx).is_ready() {
            wire.armed_us = 0;
            return true;
        }
        false
    }
}

/// Records messages that were sent together and are back now.
fn record(latencies: &mut Histogram<u64>, now_us: u64, sent_us: u64, messages: u64) {
    // The histogram would take the time of no message as its greatest.
    if messages > 0 {
        latencies.saturating_record_n(now_us.saturating_sub(sent_us), messages);
    }
}

async fn stopped(control: &mut watch::Receiver<Control>) {
    // An error means that the fleet is gone, which is the same.
    let _ = control.wait_for(|control| control.phase == Phase::Stop).await;
}

impl Wire {
    fn new(accepted: Accepted, window: u16, now_us: u64) -> Self {
        let mut input = Box::new([0; INPUT_BYTES]);
        let filled = accepted.rest.len().min(INPUT_BYTES);
        input[..filled].copy_from_slice(&accepted.rest[..filled]);
        Self {
            stream: accepted.stream,
            input,
            filled,
            output: Vec::new(),
            written: 0,
            limit: usize::from(window.min(accepted.receive_maximum)),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed_us: 0,
            last_sent_us: now_us,
        }
    }

    /// Writes all that is gathered.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let said = |error: std::io::Error| format!("write: {}", error.kind());
        while self.written < self.output.len() {
            let rest = &self.output[self.written..];
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(written)) => self.written += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(said(error))),
            }
        }
        self.output.clear();
        self.written = 0;
        Pin::new(&mut self.stream).poll_flush(cx).map_err(said)
    }
}
