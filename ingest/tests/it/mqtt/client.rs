//! A client that writes its packets by hand, right or wrong.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::DEADLINE;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) struct Client {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    is_v5: bool,
}

/// What CONNECT is made of.
pub(super) struct Hello<'a> {
    pub is_v5: bool,
    pub id: &'a str,
    pub user: Option<&'a str>,
    pub password: Option<&'a str>,
    pub keep_alive_s: u16,
    pub will: Option<(&'a str, &'a str)>,
}

impl<'a> Hello<'a> {
    pub(super) fn token(token: &'a str) -> Self {
        let user = Some(token);
        Self { is_v5: false, id: token, user, password: None, keep_alive_s: 60, will: None }
    }

    pub(super) fn v5(self) -> Self {
        Self { is_v5: true, ..self }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut flags = 2;
        let mut body = text("MQTT");
        body.push(if self.is_v5 { 5 } else { 4 });
        flags |= if self.user.is_some() { 0x80 } else { 0 };
        flags |= if self.password.is_some() { 0x40 } else { 0 };
        flags |= if self.will.is_some() { 0x04 } else { 0 };
        body.push(flags);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.is_v5 {
            body.push(0);
        }
        body.extend(text(self.id));
        if let Some((topic, payload)) = self.will {
            if self.is_v5 {
                body.push(0);
            }
            body.extend(text(topic));
            body.extend(text(payload));
        }
        self.user.into_iter().chain(self.password).for_each(|part| body.extend(text(part)));
        packet(0x10, &body)
    }
}

impl Client {
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub(super) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), input: Vec::new(), is_v5: false }
    }

    /// Connects and returns the body of CONNACK.
    pub(super) async fn hello(&mut self, hello: &Hello<'_>) -> Vec<u8> {
        self.is_v5 = hello.is_v5;
        self.send(&hello.bytes()).await;
        let (first_byte, body) = self.next().await.expect("no CONNACK");
        assert_eq!(first_byte, 0x20);
        body
    }

    /// Connects and is accepted.
    pub(super) async fn connected(address: SocketAddr, hello: &Hello<'_>) -> Self {
        let mut client = Self::open(address).await;
        let ack = client.hello(hello).await;
        assert_eq!(ack[..2], [0, 0], "{ack:02x?}");
        client
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        tokio::time::timeout(DEADLINE, self.stream.write_all(bytes)).await.unwrap().unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends what the other end may not want any more.
    pub(super) async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Whether the other end is still there to be sent to.
    pub(super) async fn could_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    pub(super) async fn publish(&mut self, topic: &str, id: u16, payload: &str) {
        let bytes = publish(self.is_v5, topic, id, payload);
        self.send(&bytes).await;
    }

    /// Publishes and waits for the PUBACK; returns its reason.
    pub(super) async fn acknowledged(&mut self, topic: &str, payload: &str) -> u8 {
        self.publish(topic, 7, payload).await;
        let (first_byte, body) = self.next().await.expect("no PUBACK");
        assert_eq!((first_byte, &body[..2]), (0x40, &[0, 7][..]));
        body.get(2).copied().unwrap_or(0)
    }

    pub(super) async fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        let mut body = vec![0, 9];
        if self.is_v5 {
            body.push(0);
        }
        body.extend(text(filter));
        body.push(qos);
        self.send(&packet(0x82, &body)).await;
        let (first_byte, body) = self.next().await.expect("no SUBACK");
        assert_eq!(first_byte, 0x90);
        *body.last().unwrap()
    }

    /// The next packet; none when the other end has closed.
    pub(super) async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("no packet came")
    }

    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first_byte, start, end)) = whole(&self.input) {
                let body = self.input[start..end].to_vec();
                self.input.drain(..end);
                return Some((first_byte, body));
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next packet, a PUBLISH: topic, packet id, payload.
    pub(super) async fn message(&mut self) -> (String, u16, String) {
        let (first_byte, body) = self.next().await.expect("no PUBLISH");
        assert_eq!(first_byte >> 4, 3, "{first_byte:02x} {body:02x?}");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        let mut rest = &body[2 + length..];
        let mut id = 0;
        if first_byte & 6 > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        if self.is_v5 {
            rest = &rest[1 + usize::from(rest[0])..];
        }
        (topic, id, String::from_utf8(rest.to_vec()).unwrap())
    }

    pub(super) async fn puback(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    /// All that had to be answered before this has been.
    pub(super) async fn ping(&mut self) {
        self.send(b"\xc0\x00").await;
        assert_eq!(self.next().await, Some((0xd0, Vec::new())));
    }

    /// The connection ends; returns the reason that MQTT 5 is told.
    pub(super) async fn ended(&mut self) -> Option<u8> {
        match self.next().await {
            None => None,
            Some((0xe0, body)) => {
                assert_eq!(self.next().await, None);
                body.first().copied()
            }
            Some(other) => panic!("{other:02x?}"),
        }
    }
}

fn whole(input: &[u8]) -> Option<(u8, usize, usize)> {
    let mut length = 0;
    for (index, byte) in input.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let start = index + 2;
            return (input.len() >= start + length).then_some((input[0], start, start + length));
        }
    }
    None
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first_byte];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

pub(super) fn publish(is_v5: bool, topic: &str, id: u16, payload: &str) -> Vec<u8> {
    let mut body = text(topic);
    if id > 0 {
        body.extend(id.to_be_bytes());
    }
    if is_v5 {
        body.push(0);
    }
    body.extend_from_slice(payload.as_bytes());
    packet(if id > 0 { 0x32 } else { 0x30 }, &body)
}
