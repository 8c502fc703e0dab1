//! A client of MQTT 3.1.1, and a little of MQTT 5, by hand, for tests that look at what comes down.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANSWER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
}

fn field(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&length[..], text.as_bytes()].concat()
}

impl Wire {
    /// Connects; the return code of a refusal is the error.
    pub async fn connect(address: &str, user: &str, password: Option<&str>) -> Result<Self, u8> {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut wire = Self { stream };
        let flags = if password.is_some() { 0xc2 } else { 0x82 };
        let mut body = [field("MQTT"), vec![4, flags, 0, 60], field("wire"), field(user)].concat();
        body.extend(password.map(field).unwrap_or_default());
        wire.send(0x10, &body).await;
        match wire.receive().await {
            Some((0x20, answer)) if answer[1] == 0 => Ok(wire),
            Some((0x20, answer)) => Err(answer[1]),
            other => panic!("{other:?} came instead of a CONNACK"),
        }
    }

    /// Connects by MQTT 5.
    pub async fn connect_v5(address: &str, user: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut wire = Self { stream };
        let body = [field("MQTT"), vec![5, 0x82, 0, 60, 0], field("wire"), field(user)].concat();
        wire.send(0x10, &body).await;
        let (first, answer) = wire.receive().await.expect("a CONNACK");
        assert_eq!((first, answer[1]), (0x20, 0), "CONNACK");
        wire
    }

    /// The reason of the DISCONNECT with which the server ends the connection.
    pub async fn goodbye(&mut self) -> u8 {
        let (first, body) = self.receive().await.expect("a DISCONNECT");
        assert_eq!(first, 0xe0, "DISCONNECT");
        let reason = body[0];
        self.ended().await;
        reason
    }

    async fn send(&mut self, first: u8, body: &[u8]) {
        let mut packet = vec![first];
        let mut rest = body.len();
        loop {
            let digit = u8::try_from(rest % 128).unwrap();
            rest /= 128;
            packet.push(if rest > 0 { digit | 0x80 } else { digit });
            if rest == 0 {
                break;
            }
        }
        packet.extend(body);
        self.stream.write_all(&packet).await.unwrap();
    }

    /// The next packet; none when the connection has ended.
    async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let first = self.stream.read_u8().await.ok()?;
            let (mut length, mut shift) = (0, 0);
            loop {
                let digit = self.stream.read_u8().await.ok()?;
                length |= usize::from(digit & 0x7f) << shift;
                shift += 7;
                if digit & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((first, body))
        };
        timeout(ANSWER, read).await.expect("nothing came in time")
    }

    /// Waits until the server has ended the connection.
    pub async fn ended(&mut self) {
        while self.receive().await.is_some() {}
    }

    pub async fn subscribe(&mut self, filter: &str) {
        self.send(0x82, &[vec![0, 1], field(filter), vec![0]].concat()).await;
        assert_eq!(self.receive().await, Some((0x90, vec![0, 1, 0])), "SUBACK");
    }

    pub async fn publish(&mut self, topic: &str, payload: &str) {
        self.send(0x30, &[&field(topic)[..], payload.as_bytes()].concat()).await;
    }

    /// The next publish that comes down at QoS 0: its topic and payload.
    pub async fn published(&mut self) -> (String, String) {
        let (first, body) = self.receive().await.expect("the connection has ended");
        assert_eq!(first & 0xf6, 0x30, "a publish at QoS 0");
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&body[2..2 + length]), text(&body[2 + length..]))
    }
}
