//! A simulated router: a real MQTT 3.1.1 client on a real socket, with just the
//! packets that it needs. It publishes at QoS 1 and keeps what was not
//! acknowledged until it is, over reconnects too, as a router in the field does.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

/// Messages that wait for their acknowledgement; the oldest is sent first, and
/// no new one is made while it is full.
const MAX_WAITING: usize = 1_000;

const KEEP_ALIVE_S: u16 = 30;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// The largest packet that a broker of ours sends to these clients.
const MAX_PACKET_BYTES: usize = 1 << 20;

/// One message.
pub(super) struct Message {
    pub(super) topic: &'static str,
    pub(super) payload: String,
}

/// What the router publishes: messages to send once, then those of each step.
pub(super) trait Publishes: Send + 'static {
    fn at_connect(&mut self) -> Vec<Message>;
    fn step(&mut self, step_s: f64) -> Vec<Message>;
}

/// A router to be run.
pub(super) struct SimulatedRouter<P> {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) token: String,
    pub(super) every: Duration,
    pub(super) publishes: P,
    /// Messages that were acknowledged, of all routers.
    pub(super) acknowledged: Arc<AtomicU64>,
}

impl<P: Publishes> SimulatedRouter<P> {
    /// Publishes until it is told to stop, and disconnects.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut waiting = VecDeque::new();
        while !*stop.borrow() {
            if let Err(error) = self.session(&mut waiting, &mut stop).await {
                tracing::warn!(router = self.name, %error, "a simulated router lost its connection");
                tokio::select! {
                    () = sleep(RECONNECT_AFTER) => {}
                    () = stopped(&mut stop) => {}
                }
            }
        }
    }

    async fn session(
        &mut self,
        waiting: &mut VecDeque<(u16, Message)>,
        stop: &mut watch::Receiver<bool>,
    ) -> io::Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.into_split();
        writer.write_all(&connect(self.name, &self.token)).await?;
        let answer = timeout(ANSWER_TIMEOUT, read_packet(&mut reader)).await??;
        if answer.kind != 0x20 || answer.body.get(1) != Some(&0) {
            return Err(io::Error::other(format!("the broker refused: {:?}", answer.body)));
        }
        for (id, message) in waiting.iter() {
            writer.write_all(&publish(*id, message, true)).await?;
        }
        let mut next_id = waiting.back().map_or(1, |(id, _)| following(*id));
        let first = self.publishes.at_connect();
        send(&mut writer, waiting, &mut next_id, first).await?;
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_ping = Instant::now();
        let (packets_in, mut packets) = mpsc::channel(16);
        // Ends with this session, because it is dropped with it.
        let mut reading = JoinSet::new();
        reading.spawn(read_packets(reader, packets_in));
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if waiting.len() < MAX_WAITING {
                        let messages = self.publishes.step(self.every.as_secs_f64());
                        send(&mut writer, waiting, &mut next_id, messages).await?;
                    }
                    if last_ping.elapsed().as_secs() * 2 >= u64::from(KEEP_ALIVE_S) {
                        writer.write_all(&[0xc0, 0]).await?;
                        last_ping = Instant::now();
                    }
                }
                packet = packets.recv() => match packet {
                    Some(packet) => self.take(&packet?, waiting),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
                () = stopped(stop) => return writer.write_all(&[0xe0, 0]).await,
            }
        }
    }

    fn take(&self, packet: &Packet, waiting: &mut VecDeque<(u16, Message)>) {
        if packet.kind & 0xf0 == 0x40
            && let [high, low, ..] = packet.body[..]
        {
            let id = u16::from_be_bytes([high, low]);
            if waiting.front().is_some_and(|(first, _)| *first == id) {
                waiting.pop_front();
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody left who could say stop means stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A task of its own, so that half a packet isn't lost when a tick comes between.
async fn read_packets(mut reader: OwnedReadHalf, packets: mpsc::Sender<io::Result<Packet>>) {
    loop {
        let packet = read_packet(&mut reader).await;
        let ended = packet.is_err();
        if packets.send(packet).await.is_err() || ended {
            return;
        }
    }
}

async fn send(
    writer: &mut OwnedWriteHalf,
    waiting: &mut VecDeque<(u16, Message)>,
    next_id: &mut u16,
    messages: Vec<Message>,
) -> io::Result<()> {
    for message in messages {
        let id = *next_id;
        *next_id = following(id);
        let packet = publish(id, &message, false);
        waiting.push_back((id, message));
        writer.write_all(&packet).await?;
    }
    Ok(())
}

/// Packet ids begin anew behind 65,535; 0 is none.
fn following(id: u16) -> u16 {
    id.checked_add(1).unwrap_or(1)
}

struct Packet {
    kind: u8,
    body: Vec<u8>,
}

async fn read_packet(reader: &mut OwnedReadHalf) -> io::Result<Packet> {
    let kind = reader.read_u8().await?;
    let mut length = 0usize;
    for shift in [0, 7, 14, 21] {
        let byte = reader.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if length > MAX_PACKET_BYTES {
        return Err(io::Error::other("a packet is longer than the broker may send"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    Ok(Packet { kind, body })
}

/// CONNECT of MQTT 3.1.1: clean session, the token as user name, no password.
fn connect(client_id: &str, token: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend([4, 0x82]);
    body.extend(KEEP_ALIVE_S.to_be_bytes());
    text(&mut body, client_id);
    text(&mut body, token);
    packet(0x10, &body)
}

/// PUBLISH at QoS 1.
fn publish(id: u16, message: &Message, again: bool) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, message.topic);
    body.extend(id.to_be_bytes());
    body.extend(message.payload.as_bytes());
    packet(if again { 0x3a } else { 0x32 }, &body)
}

fn text(body: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("the demo's names are short");
    body.extend(length.to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let byte = u8::try_from(length % 128).expect("a remainder of 128 fits");
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_mqtt_3_1_1_says() {
        assert_eq!(
            connect("ab", "t"),
            [0x10, 17, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x82, 0, 30, 0, 2, b'a', b'b', 0, 1, b't']
        );
        let message = Message { topic: "t", payload: "x".repeat(200) };
        let bytes = publish(258, &message, false);
        assert_eq!(bytes[..8], [0x32, 0xcd, 1, 0, 1, b't', 1, 2]);
        assert_eq!(bytes.len(), 3 + 205);
    }
}
