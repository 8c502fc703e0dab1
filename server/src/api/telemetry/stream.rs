//! An answer that is made while it is sent: a blocking thread writes, the
//! connection takes, and only a few pieces lie between them. A thread never
//! waits for a client longer than it may: HTTP/2 lets one stream wait on a
//! connection that is well alive.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for the client.
const WAITING_PIECES: usize = 2;

/// Where the encoders write. A client that has gone away, or takes nothing, is
/// an error, which ends the encoding.
#[derive(Debug)]
pub struct Pieces {
    buffer: BytesMut,
    sender: Sender<Bytes>,
    runtime: Handle,
    write_stall: Duration,
}

/// The body that `encode` writes. If it fails, or no piece is taken for
/// `write_stall`, the connection is cut off, so that a part is never taken for
/// the whole.
pub fn body(
    write_stall: Duration,
    encode: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> Body {
    let (sender, pieces) = channel(WAITING_PIECES);
    let whole = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&whole);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { buffer: BytesMut::new(), sender, runtime, write_stall };
        match encode(&mut out).and_then(|()| out.send()) {
            // Before the sender goes, which is what the reader sees.
            Ok(()) => done.store(true, Ordering::Release),
            Err(error) => tracing::debug!(%error, "an answer was broken off"),
        }
    });
    Body::new(Streamed { pieces, whole })
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        let sent = self.runtime.block_on(timeout(self.write_stall, self.sender.send(piece)));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Streamed {
    pieces: Receiver<Bytes>,
    /// Whether the encoder came to its end. Without it, what came is a part,
    /// even if the encoder has panicked.
    whole: Arc<AtomicBool>,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.pieces.poll_recv(context)) {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None if this.whole.load(Ordering::Acquire) => None,
            None => Some(Err(io::Error::other("the answer was broken off"))),
        })
    }
}
