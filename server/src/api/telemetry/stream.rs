//! An answer that is made while it is sent: a blocking thread writes, the
//! connection takes, and only a few pieces lie between them.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for the client.
const WAITING_PIECES: usize = 2;

/// Where the encoders write. A client that has gone away is an error, which
/// ends the encoding.
#[derive(Debug)]
pub struct Pieces {
    buffer: BytesMut,
    sender: Sender<io::Result<Bytes>>,
}

/// The body that `encode` writes. If it fails, the connection is cut off, so
/// that a part is never taken for the whole.
pub fn body(encode: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, pieces) = channel(WAITING_PIECES);
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { buffer: BytesMut::new(), sender };
        let result = encode(&mut out).and_then(|()| out.send());
        if let Err(error) = result {
            // Nobody is there to be told if the client has gone away.
            let _ = out.sender.blocking_send(Err(error));
        }
    });
    Body::new(Streamed { pieces })
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = self.buffer.split().freeze();
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
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
    pieces: Receiver<io::Result<Bytes>>,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(self.get_mut().pieces.poll_recv(context));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }
}
