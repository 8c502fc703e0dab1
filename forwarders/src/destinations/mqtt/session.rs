//! A connection at work: what is published goes out, what the platform has
//! acknowledged is told, and it is seen when the connection ends. Small, because
//! there may be thousands, most of which do nothing most of the time.

use std::io;
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::{Class, Failure};
use super::packet::{self, DISCONNECT, Incoming, PING};

/// The MQTT keep alive, and after how long without a word a ping is sent. The
/// platform's answer to it is awaited as long.
pub(super) const KEEP_ALIVE_S: u16 = 60;
const PING_AFTER: Duration = Duration::from_secs(40);

/// Bytes that are written at once.
const OUTPUT_BYTES: usize = 64 << 10;

/// What a connection that does nothing keeps of its output's room.
const KEPT_BYTES: usize = 1 << 10;

/// Acknowledgements that are read at once.
const INPUT_BYTES: usize = 512;

/// What the connection is asked to do.
#[derive(Debug)]
pub(super) enum Request {
    Publish {
        topic: String,
        body: String,
        acknowledged: oneshot::Sender<()>,
        /// Its place among those that are not acknowledged.
        place: OwnedSemaphorePermit,
    },
    /// Nothing is in flight, and nothing follows.
    Close,
}

/// A publish that is on its way.
#[derive(Debug)]
struct InFlight {
    id: u16,
    acknowledged: oneshot::Sender<()>,
    _place: OwnedSemaphorePermit,
}

/// A connection that the platform has accepted.
#[derive(Debug)]
pub(super) struct Session<S> {
    stream: S,
    input: Vec<u8>,
    output: Vec<u8>,
    in_flight: Vec<InFlight>,
    last_id: u16,
    ping_after: Duration,
    ping_at: Instant,
    is_pinged: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Says who the client is, and waits until the platform has accepted.
    pub async fn open(mut stream: S, connect: &[u8]) -> Result<Self, Failure> {
        let mut input = Vec::with_capacity(INPUT_BYTES);
        // What the platform has to say of a certificate comes when it is read, also
        // where writing fails first.
        let asked = write(&mut stream, connect).await;
        let code = loop {
            match stream.read_buf(&mut input).await {
                Ok(0) => {
                    return Err(asked.err().map_or_else(refused_silently, |e| unreachable(&e)));
                }
                Ok(_) => {}
                Err(error) => return Err(unreachable(&error)),
            }
            match packet::first(&input).map_err(|error| misspoken(&error))? {
                None => {}
                Some((Incoming::ConnAck { code }, length)) => {
                    input.drain(..length);
                    break code;
                }
                Some(_) => return Err(misspoken(&packet::Unexpected(input[0]))),
            }
        };
        match code {
            0 => Ok(Self {
                stream,
                input,
                output: Vec::new(),
                in_flight: Vec::new(),
                last_id: 0,
                ping_after: PING_AFTER,
                ping_at: Instant::now() + PING_AFTER,
                is_pinged: false,
            }),
            code => Err(refused(code)),
        }
    }

    /// Works until the connection ends, and says why it did.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Failure {
        loop {
            tokio::select! {
                read = self.stream.read_buf(&mut self.input) => match read {
                    Ok(0) => return closed("it ended the stream"),
                    Ok(_) => if let Err(failure) = self.hear() {
                        return failure;
                    },
                    Err(error) => return ended(&error),
                },
                request = requests.recv() => {
                    let Some(request) = request else { return closed("nobody needs it") };
                    let is_over = self.take(request, &mut requests);
                    if let Err(error) = self.flush().await {
                        return self.better(&error).await;
                    }
                    if is_over {
                        // The platform ends the connection too, or is not waited for.
                        let _ = self.stream.shutdown().await;
                        return closed("it was ended in order");
                    }
                },
                () = sleep_until(self.ping_at) => {
                    if self.is_pinged {
                        return closed("it does not answer any more");
                    }
                    self.is_pinged = true;
                    self.output.extend_from_slice(&PING);
                    if let Err(error) = self.flush().await {
                        return self.better(&error).await;
                    }
                },
            }
        }
    }

    /// Puts a request, and those that follow it, into the output; whether it was
    /// the last.
    fn take(&mut self, request: Request, requests: &mut mpsc::Receiver<Request>) -> bool {
        let mut next = Some(request);
        while let Some(request) = next {
            match request {
                Request::Close => {
                    self.output.extend_from_slice(&DISCONNECT);
                    return true;
                }
                Request::Publish { topic, body, acknowledged, place } => {
                    let id = self.free_id();
                    packet::append_publish(&topic, id, body.as_bytes(), &mut self.output);
                    self.in_flight.push(InFlight { id, acknowledged, _place: place });
                }
            }
            next = if self.output.len() < OUTPUT_BYTES { requests.try_recv().ok() } else { None };
        }
        false
    }

    /// An identifier that no publish on its way has; there are far more of them
    /// than places.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.iter().any(|it| it.id == self.last_id) {
                return self.last_id;
            }
        }
    }

    fn hear(&mut self) -> Result<(), Failure> {
        let mut read = 0;
        while let Some((incoming, length)) =
            packet::first(&self.input[read..]).map_err(|error| misspoken(&error))?
        {
            read += length;
            match incoming {
                Incoming::PubAck { id } => {
                    // Mostly the oldest; platforms need not keep the order.
                    if let Some(place) = self.in_flight.iter().position(|it| it.id == id) {
                        // An error says that nobody waits for it any more.
                        let _ = self.in_flight.remove(place).acknowledged.send(());
                    }
                }
                Incoming::PingResp => self.is_pinged = false,
                Incoming::ConnAck { .. } => {
                    return Err(misspoken(&packet::Unexpected(self.input[read - length])));
                }
            }
        }
        self.input.drain(..read);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        write(&mut self.stream, &self.output).await?;
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
        self.ping_at = Instant::now() + self.ping_after;
        Ok(())
    }

    /// Where writing fails, the platform may have said why before it closed.
    async fn better(&mut self, error: &io::Error) -> Failure {
        let said = timeout(Duration::from_secs(1), async {
            while self.stream.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            Ok::<(), io::Error>(())
        });
        match said.await {
            Ok(Err(said)) => ended(&said),
            _ => ended(error),
        }
    }
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// What became of a connection that was not accepted yet.
pub(super) fn unreachable(error: &io::Error) -> Failure {
    of_tls(error).unwrap_or_else(|| {
        Failure::new(Class::Retry, format!("the platform cannot be reached: {error}"))
    })
}

fn ended(error: &io::Error) -> Failure {
    of_tls(error).unwrap_or_else(|| closed(&error.to_string()))
}

fn closed(why: &str) -> Failure {
    Failure::new(Class::Retry, format!("the platform closed the connection: {why}"))
}

fn misspoken(error: &packet::Unexpected) -> Failure {
    Failure::new(Class::Retry, format!("the platform does not speak MQTT: {error}"))
}

fn refused_silently() -> Failure {
    let message = "the platform cannot be reached: it closed the connection before it answered";
    Failure::new(Class::Retry, message)
}

/// An answer to CONNECT other than 0.
fn refused(code: u8) -> Failure {
    let (class, message) = match code {
        2 => (Class::Pause, "the platform does not take the client or device id"),
        3 => (Class::Retry, "the platform is not available"),
        4 | 5 => (Class::Pause, "the platform does not take the credentials"),
        _ => (Class::Pause, "the platform refused the connection"),
    };
    Failure::new(class, message)
}

/// What TLS has to say, where it is TLS that failed.
fn of_tls(error: &io::Error) -> Option<Failure> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match error {
        // The platform's own word on our certificate; with TLS 1.3 it comes after
        // the handshake.
        rustls::Error::AlertReceived(alert) if is_of_certificate(*alert) => Some(Failure::new(
            Class::Pause,
            format!("the platform does not take the certificate ({error})"),
        )),
        rustls::Error::InvalidCertificate(_) => Some(Failure::new(
            Class::Retry,
            format!("the platform's certificate is not trusted ({error})"),
        )),
        _ => None,
    }
}

/// What platforms say of a certificate that they don't know, or that has ended.
fn is_of_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::DuplexStream;
    use tokio::sync::Semaphore;

    use super::*;

    const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

    /// A session that its platform, the other end, has accepted.
    async fn accepted() -> (Session<DuplexStream>, DuplexStream) {
        let (ours, mut platform) = tokio::io::duplex(1 << 10);
        platform.write_all(&ACCEPTED).await.unwrap();
        let session = Session::open(ours, b"connect").await.unwrap();
        let mut connect = [0; 7];
        platform.read_exact(&mut connect).await.unwrap();
        (session, platform)
    }

    async fn publish(
        requests: &mpsc::Sender<Request>,
        window: &Arc<Semaphore>,
    ) -> oneshot::Receiver<()> {
        let (acknowledged, is_acknowledged) = oneshot::channel();
        let place = Arc::clone(window).acquire_owned().await.unwrap();
        let (topic, body) = ("a".to_owned(), "b".to_owned());
        requests.send(Request::Publish { topic, body, acknowledged, place }).await.unwrap();
        is_acknowledged
    }

    #[tokio::test]
    async fn each_publish_is_told_by_its_own_acknowledgement_in_whatever_order_they_come() {
        let (session, mut platform) = accepted().await;
        let ((requests, asked), window) = (mpsc::channel(4), Arc::new(Semaphore::new(3)));
        let running = tokio::spawn(session.run(asked));
        let mut waiting = Vec::new();
        for _ in 0..3 {
            waiting.push(publish(&requests, &window).await);
        }
        let mut sent = [0; 3 * 8];
        platform.read_exact(&mut sent).await.unwrap();
        assert_eq!(sent[..8], *b"\x32\x06\0\x01a\0\x01b");
        assert_eq!((sent[14], sent[22]), (2, 3), "identifiers ascend");
        assert_eq!(window.available_permits(), 0);
        // The third, an unknown one, and half of the first.
        platform.write_all(&[0x40, 2, 0, 3, 0x40, 2, 0, 99, 0x40, 2]).await.unwrap();
        waiting.pop().unwrap().await.unwrap();
        assert!(waiting[0].try_recv().is_err());
        platform.write_all(&[0, 1]).await.unwrap();
        waiting.remove(0).await.unwrap();
        assert_eq!(window.available_permits(), 2);

        drop(platform);
        assert!(waiting.pop().unwrap().await.is_err(), "what was not acknowledged is told");
        let failure = running.await.unwrap();
        assert!(failure.message.starts_with("the platform closed the connection"), "{failure:?}");
        assert_eq!(window.available_permits(), 3);
    }

    #[tokio::test]
    async fn an_orderly_end_says_so_and_what_is_no_answer_ends_it_too() {
        let (session, mut platform) = accepted().await;
        let (requests, asked) = mpsc::channel(4);
        let running = tokio::spawn(session.run(asked));
        requests.send(Request::Close).await.unwrap();
        let mut end = Vec::new();
        platform.read_to_end(&mut end).await.unwrap();
        assert_eq!(end, DISCONNECT);
        running.await.unwrap();

        let (session, mut platform) = accepted().await;
        let (_requests, asked) = mpsc::channel(4);
        platform.write_all(&[0x30, 3, 0, 1, b'a']).await.unwrap();
        let failure = session.run(asked).await;
        assert!(failure.message.contains("0x30"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_silent_connection_is_pinged_and_given_up_when_nothing_answers() {
        let (mut session, mut platform) = accepted().await;
        session.ping_after = Duration::from_millis(30);
        session.ping_at = Instant::now();
        let (_requests, asked) = mpsc::channel(4);
        let running = tokio::spawn(session.run(asked));
        for _ in 0..3 {
            let mut ping = [0; 2];
            platform.read_exact(&mut ping).await.unwrap();
            assert_eq!(ping, PING);
            platform.write_all(&[0xd0, 0]).await.unwrap();
        }
        let mut ping = [0; 2];
        platform.read_exact(&mut ping).await.unwrap();
        let failure = running.await.unwrap();
        assert!(failure.message.contains("does not answer"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_says_why() {
        for (answer, part) in [
            (&[0x20, 2, 0, 5][..], "credentials"),
            (&[0x20, 2, 0, 2], "device id"),
            (&[0x40, 2, 0, 1], "0x40"),
            (&[0x20, 2], "before it answered"),
        ] {
            let (ours, mut platform) = tokio::io::duplex(1 << 10);
            platform.write_all(answer).await.unwrap();
            platform.shutdown().await.unwrap();
            let failure = Session::open(ours, b"connect").await.unwrap_err();
            assert!(failure.message.contains(part), "{failure:?}");
        }
    }

    #[test]
    fn what_only_a_person_can_change_pauses_and_the_rest_is_tried_again() {
        let classes = |code| refused(code).class;
        assert_eq!([1, 2, 4, 5].map(classes), [Class::Pause; 4]);
        assert_eq!(classes(3), Class::Retry);
        let tls = |error| unreachable(&io::Error::new(io::ErrorKind::InvalidData, error)).class;
        let alert = rustls::Error::AlertReceived;
        assert_eq!(tls(alert(AlertDescription::UnknownCA)), Class::Pause);
        assert_eq!(tls(alert(AlertDescription::InternalError)), Class::Retry);
        let certificate = rustls::CertificateError::UnknownIssuer;
        assert_eq!(tls(rustls::Error::InvalidCertificate(certificate)), Class::Retry);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(unreachable(&refused).message.contains("cannot be reached"));
    }
}
