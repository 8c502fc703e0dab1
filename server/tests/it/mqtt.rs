//! The few MQTT 3.1.1 packets that these tests need, by hand, so that they don't
//! stand on the code that they test.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANSWER: Duration = Duration::from_secs(60);

pub struct Mqtt {
    stream: TcpStream,
    next_id: u8,
}

impl Mqtt {
    pub async fn connect(address: &str, token: &str) -> Self {
        let (stream, answer) = Self::present(address, "it", token).await;
        assert_eq!(answer, [0x20, 2, 0, 0], "CONNACK");
        Self { stream, next_id: 1 }
    }

    /// Presents a token that is refused.
    pub async fn refused(address: &str, client_id: &str, token: &str) {
        let (_, answer) = Self::present(address, client_id, token).await;
        assert_eq!(answer, [0x20, 2, 0, 5], "CONNACK");
    }

    async fn present(address: &str, client_id: &str, token: &str) -> (TcpStream, [u8; 4]) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0x82, 0, 60];
        for field in [client_id, token] {
            body.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
            body.extend(field.as_bytes());
        }
        stream
            .write_all(&[&[0x10, u8::try_from(body.len()).unwrap()], &body[..]].concat())
            .await
            .unwrap();
        let mut answer = [0; 4];
        timeout(ANSWER, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        (stream, answer)
    }

    /// Publishes telemetry at QoS 1 and waits for its PUBACK.
    pub async fn telemetry(&mut self, payload: &str) {
        self.publish("v1/devices/me/telemetry", payload).await;
    }

    /// The same on another topic.
    pub async fn publish(&mut self, topic: &str, payload: &str) {
        let id = self.send(topic, payload).await;
        let mut answer = [0; 4];
        timeout(ANSWER, self.stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, [0x40, 2, 0, id], "PUBACK");
    }

    /// The same without waiting; the id that the PUBACK would have.
    pub async fn send_telemetry(&mut self, payload: &str) -> u8 {
        self.send("v1/devices/me/telemetry", payload).await
    }

    async fn send(&mut self, topic: &str, payload: &str) -> u8 {
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(1);
        let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
        body.extend(topic.as_bytes());
        body.extend([0, id]);
        body.extend(payload.as_bytes());
        let mut packet = vec![0x32];
        let mut length = body.len();
        while length >= 128 {
            packet.push(u8::try_from(length % 128).unwrap() | 0x80);
            length /= 128;
        }
        packet.push(u8::try_from(length).unwrap());
        packet.extend(body);
        self.stream.write_all(&packet).await.unwrap();
        id
    }
}
